import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assemble } from "../../../src/asm/index.ts";
import { nasm, runNasm } from "./nasm.ts";
import { programs } from "./programs.ts";

const needsNasm = nasm ? "" : " (skipped: nasm is not installed)";

describe("assemble() on directive programs", () => {
  test.skipIf(!nasm)(
    `assemble() gives NASM's bytes for every one of them${needsNasm}`,
    () => {
      let count = 0;
      const wrong: string[] = [];
      for (const [name, source] of programs()) {
        const oracle = runNasm(source);
        let mine: string;
        try {
          mine = assemble(source).bytes.toHex();
        } catch (error) {
          mine = error instanceof Error ? error.message : String(error);
        }
        const theirs = oracle.bytes ? oracle.bytes.toHex() : [...oracle.errors].join("; ");
        if (mine !== theirs) wrong.push(`${name}\nnasm ${theirs}\nwe   ${mine}\n${source}`);
        count++;
      }
      expect(wrong).toEqual([]);
      expect(count).toBeGreaterThan(350);
    },
    60_000,
  );

  const guests = join(import.meta.dir, "../../../guests");
  test.skipIf(!nasm)(
    `assemble() gives NASM's bytes for every guest of the project${needsNasm}`,
    () => {
      for (const file of new Bun.Glob("**/*.asm").scanSync(guests)) {
        const path = join(guests, file);
        const source = readFileSync(path, "utf8");
        const mine = assemble(source, { file: path, includePaths: [guests] }).bytes.toHex();
        const oracle = runNasm(source, { directory: join(path, "..") });
        expect(`${file} ${mine}`).toBe(`${file} ${oracle.bytes?.toHex() ?? [...oracle.errors].join("; ")}`);
      }
    },
    60_000,
  );
});
