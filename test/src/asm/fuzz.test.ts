import { describe, expect, test } from "bun:test";
import { AsmError, assemble } from "../../../src/asm/index.ts";
import { BOMBS } from "./bombs.ts";
import { mutant } from "./mutate.ts";

const SEEDS = Number(process.env.VMEXIT_FUZZ ?? 1500);

describe("assemble() on hostile input", () => {
  test(`assemble() returns or throws AsmError for ${SEEDS} mutated programs`, () => {
    let assembled = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const source = mutant(seed);
      try {
        const bits = ([16, 32, 64] as const)[seed % 3]!;
        const program = assemble(source, { bits, limits: { outputBytes: 1 << 20, statements: 200_000 } });
        program.listing();
        assembled++;
      } catch (error) {
        if (error instanceof AsmError && error.diagnostics.length > 0) continue;
        throw new Error(`seed ${seed} got something else than AsmError`, { cause: error });
      }
    }
    expect(assembled).toBeGreaterThan(0);
  }, 60_000);

  for (const [name, source] of Object.entries(BOMBS)) {
    test(`assemble() ends with ${name}`, () => {
      try {
        expect(assemble(source, { limits: { outputBytes: 1 << 22, statements: 1_000_000 } }).bytes.length).toBeLessThan(
          1 << 22,
        );
      } catch (error) {
        expect(error).toBeInstanceOf(AsmError);
        expect((error as AsmError).message.length).toBeLessThan(200_000);
      }
    }, 20_000);
  }
});
