import type { Cursor } from "./cursor.ts";
import { Complaint } from "./diagnostics.ts";
import type { Bits } from "./forms.ts";
import type { Operand } from "./operand.ts";
import { RegisterClass, registers } from "./registers.ts";

/** Prefixes written before a mnemonic. */
export interface Prefixes {
  /** F2 or F3, 0 for none. */
  repeat: number;
  lock: boolean;
  wait: boolean;
  /** A segment override byte, 0 for none. */
  segment: number;
  operandSize: Bits | undefined;
  addressSize: Bits | undefined;
  encoding: "vex" | "evex" | undefined;
  preventVex2: boolean;
}

/** No prefix at all; shared, never written to. */
export const NO_PREFIXES: Readonly<Prefixes> = {
  repeat: 0,
  lock: false,
  wait: false,
  segment: 0,
  operandSize: undefined,
  addressSize: undefined,
  encoding: undefined,
  preventVex2: false,
};

const REPEATS: ReadonlyMap<string, number> = new Map(
  Object.entries({
    rep: 0xf3,
    repe: 0xf3,
    repz: 0xf3,
    repne: 0xf2,
    repnz: 0xf2,
    xacquire: 0xf2,
    xrelease: 0xf3,
    bnd: 0xf2,
  }),
);

const SEGMENT_BYTES: Readonly<Record<string, number>> = { es: 0x26, cs: 0x2e, ss: 0x36, ds: 0x3e, fs: 0x64, gs: 0x65 };

/** The override byte of a segment register. */
function segmentByte(name: string): number {
  return SEGMENT_BYTES[name] ?? 0;
}

const SIZES: Readonly<Record<string, Bits>> = { "16": 16, "32": 32, "64": 64 };

/** True for a word that can stand before a mnemonic. */
export function isPrefix(word: string): boolean {
  return (
    REPEATS.has(word) || word === "lock" || word === "notrack" || word === "nobnd" || /^[ao](16|32|64)$/.test(word)
  );
}

function readBraced(cursor: Cursor, into: Prefixes): boolean {
  const name = cursor.word(1);
  const known = name === "vex" || name === "vex2" || name === "vex3" || name === "evex";
  if (!cursor.at("{") || !known) return false;
  cursor.position += 2;
  cursor.expect("}", "to close the prefix");
  into.encoding = name === "evex" ? "evex" : "vex";
  into.preventVex2 = name === "vex3";
  return true;
}

/** Reads all prefixes at the cursor; a segment register counts as one when an instruction follows it. */
export function readPrefixes(cursor: Cursor, isInstruction: (word: string) => boolean): Prefixes {
  let found: Prefixes | undefined;
  for (;;) {
    if (cursor.at("{")) {
      const into = found ?? { ...NO_PREFIXES };
      if (!readBraced(cursor, into)) return found ?? NO_PREFIXES;
      found = into;
      continue;
    }
    const word = cursor.word();
    if (word === undefined) return found ?? NO_PREFIXES;
    const following = cursor.word(1);
    const segment = registers().get(word)?.cls === RegisterClass.segment;
    const wait =
      (word === "wait" || word === "fwait") &&
      following !== undefined &&
      (isInstruction(following) || isPrefix(following));
    if (!isPrefix(word) && !wait && !(segment && following !== undefined)) return found ?? NO_PREFIXES;
    found ??= { ...NO_PREFIXES };
    if (wait) found.wait = true;
    else if (segment) found.segment = segmentByte(word);
    else if (word === "lock") found.lock = true;
    else if (word === "notrack") found.segment = 0x3e;
    else if (REPEATS.has(word)) found.repeat = REPEATS.get(word)!;
    else if (word.startsWith("o")) found.operandSize = SIZES[word.slice(1)];
    else if (word.startsWith("a")) found.addressSize = SIZES[word.slice(1)];
    cursor.next();
  }
}

/** Prefix bytes in NASM's order, before what the encoder writes itself. */
export function prefixBytes(prefixes: Readonly<Prefixes>, operands: readonly Operand[]): number[] {
  const bytes: number[] = [];
  if (prefixes.wait) bytes.push(0x9b);
  if (prefixes.repeat !== 0) bytes.push(prefixes.repeat);
  if (prefixes.lock) bytes.push(0xf0);
  let { segment } = prefixes;
  for (const operand of operands) {
    if (operand.kind !== "memory" || !operand.segment) continue;
    const override = segmentByte(operand.segment.name);
    if (segment !== 0 && segment !== override) {
      throw new Complaint("Two different segment overrides", operand.place, "keep one");
    }
    segment = override;
  }
  if (segment !== 0) bytes.push(segment);
  return bytes;
}
