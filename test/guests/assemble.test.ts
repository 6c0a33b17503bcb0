import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { assembleGuest, guestNames, guestPath } from "../../guests/assemble.ts";

const nasm = Bun.which("nasm");
const skip = nasm === null ? " (skipped: no nasm on this host)" : "";

describe("guests/*.bin", () => {
  test("are what their sources assemble to; if not, 'bun run guests' remakes them", () => {
    for (const name of guestNames()) {
      expect(existsSync(guestPath(name, "bin")), `${name}.bin is missing`).toBe(true);
      expect([...assembleGuest(name)], `${name}.bin`).toEqual([...readFileSync(guestPath(name, "bin"))]);
    }
  });

  test.skipIf(nasm === null)(`are what NASM makes of them, without a warning${skip}`, () => {
    const folder = mkdtempSync(`${tmpdir()}/vmexit-guests-`);
    try {
      for (const name of guestNames()) {
        const output = `${folder}/${name}.bin`;
        const run = Bun.spawnSync(["nasm", "-w+all", "-Werror", "-f", "bin", "-o", output, guestPath(name, "asm")]);
        expect(run.stderr.toString()).toBe("");
        expect([...readFileSync(output)], `${name}.bin`).toEqual([...readFileSync(guestPath(name, "bin"))]);
      }
    } finally {
      rmSync(folder, { recursive: true });
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
