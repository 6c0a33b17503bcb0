import { expect, test } from "bun:test";
import { Code, Instruction, Mnemonic, RflagsBits } from "iced-x86";
import { UNDEFINED_FLAGS } from "./undefined-flags.ts";

const BITS: readonly (readonly [number, number])[] = [
  [RflagsBits.OF, 0x800],
  [RflagsBits.SF, 0x80],
  [RflagsBits.ZF, 0x40],
  [RflagsBits.AF, 0x10],
  [RflagsBits.CF, 0x1],
  [RflagsBits.PF, 0x4],
];

/** Flags that iced says every form of a mnemonic leaves undefined, from its own reading of the manual. */
function undefinedByIced(): Map<string, number> {
  const flags = new Map<string, number>();
  const raw = new Instruction();
  for (const code of Object.values(Code)) {
    if (typeof code !== "number") continue;
    raw.code = code;
    const word = Mnemonic[raw.mnemonic] as string;
    const of = BITS.reduce((mask, [bit, flag]) => ((raw.rflagsUndefined & bit) !== 0 ? mask | flag : mask), 0);
    flags.set(word, (flags.get(word) ?? 0) | of);
  }
  raw.free();
  return flags;
}

test("UNDEFINED_FLAGS masks no flag that iced's table defines", () => {
  const iced = undefinedByIced();
  for (const { words, flags, reason } of UNDEFINED_FLAGS)
    for (const [word, known] of iced)
      if (words.test(word)) expect(`${word} (${reason}): ${flags & ~known}`).toBe(`${word} (${reason}): 0`);
});
