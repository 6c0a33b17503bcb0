import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { assembleGuest, guestNames, guestPath } from "../../guests/assemble.ts";

const nasm = Bun.which("nasm");
const skip = nasm === null ? " (skipped: no nasm on this host)" : "";

describe("guests/*.bin", () => {
  test.skipIf(nasm === null)(`are what their sources assemble to; if not, 'bun run guests' remakes them${skip}`, () => {
    for (const name of guestNames()) {
      expect(existsSync(guestPath(name, "bin")), `${name}.bin is missing`).toBe(true);
      expect([...readFileSync(guestPath(name, "bin"))], `${name}.bin`).toEqual([...assembleGuest(name)]);
    }
  });
});

describe("guests/*.asm", () => {
  test.each(guestNames())(
    "%s says what it proves, how it is entered, what the host does and what comes of it",
    (name) => {
      const lines = readFileSync(guestPath(name, "asm"), "utf8").split("\n");
      expect(lines[0]).toStartWith(`; ${name}.asm: `);
      const header = lines.slice(0, lines.indexOf("")).join("\n");
      for (const heading of ["Proves", "Entry", "Host", "Expects"])
        expect(header).toMatch(new RegExp(`^; ${heading} +\\S`, "m"));
      for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(120);
    },
  );
});
