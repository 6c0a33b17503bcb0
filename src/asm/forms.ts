import type { Code } from "iced-x86";
import { field, flag, RECORD, vector } from "./formtable.ts";
import { FORM_TABLE } from "./generated/forms.ts";
import { iced } from "./iced.ts";
import { type Slot, slotFor } from "./slots.ts";

export type Bits = 16 | 32 | 64;

/** One encoding of one mnemonic, as iced's opcode table describes it. */
export interface Form {
  readonly code: Code;
  /** The operands a source writes. */
  readonly slots: readonly Slot[];
  /** All operands iced wants, the implied ones among them. */
  readonly allSlots: readonly Slot[];
  /** Operand size in bits that the opcode demands through prefixes, 0 for none. */
  readonly operandSize: number;
  /** Address size in bits that the opcode demands, 0 for none. */
  readonly addressSize: number;
  readonly encoding: "legacy" | "vex" | "evex" | "xop" | "3dnow";
  readonly modes: { readonly 16: boolean; readonly 32: boolean; readonly 64: boolean };
  /** Bytes of the memory operand, 0 when the table does not say. */
  readonly memoryBytes: number;
  /** Bytes of one element of a broadcast memory operand, 0 when it cannot be one. */
  readonly broadcastBytes: number;
  /** Elements of a broadcast memory operand. */
  readonly broadcastCount: number;
  /** The memory operand is a far pointer. */
  readonly farMemory: boolean;
  readonly masking: boolean;
  readonly zeroing: boolean;
  readonly maskRequired: boolean;
  readonly rounding: boolean;
  readonly suppressExceptions: boolean;
  readonly vsib: boolean;
  /** Decoders know it only on request: instructions of one stepping or one extinct processor. */
  readonly rare: boolean;
  /** A 9B byte comes first, before any prefix. */
  readonly waits: boolean;
  /** Bytes of everything but memory operands, by mode: the order in which forms are tried. */
  readonly cost: { readonly 16: number; readonly 32: number; readonly 64: number };
}

type Sizes = Pick<Form, "operandSize" | "addressSize"> & { readonly default64: boolean; readonly fixed: number };

function costIn(bits: Bits, { operandSize, addressSize, default64, fixed }: Sizes): number {
  const addressPrefix = addressSize !== 0 && addressSize !== bits ? 1 : 0;
  if (operandSize === 0) return fixed + addressPrefix;
  if (operandSize === 64) return fixed + addressPrefix + (default64 ? 0 : 1);
  return fixed + addressPrefix + (operandSize === (bits === 64 && !default64 ? 32 : bits) ? 0 : 1);
}

const ENCODINGS: readonly (Form["encoding"] | undefined)[] = ["legacy", "vex", "evex", "xop", "3dnow"];

let table: Uint8Array | undefined;

function formTable(): Uint8Array {
  table ??= Uint8Array.fromBase64(FORM_TABLE);
  return table;
}

function readForm(code: Code): Form | undefined {
  const bytes = formTable().subarray(code * RECORD, (code + 1) * RECORD);
  const at = (offset: number): number => bytes[offset]!;
  const encoding = ENCODINGS[at(field.encoding)];
  if (encoding === undefined) return undefined;
  const allSlots: Slot[] = [];
  for (let i = 0; i < at(field.operandCount); i++) allSlots.push(slotFor(at(field.operands + i)));
  // String instructions take no operands in NASM; MASKMOVQ hides only the address.
  const string = allSlots.some(({ implied }) => implied !== undefined && implied !== "rdiSegment");
  const [flags, vectorFlags] = [at(field.flags), at(field.vector)];
  const sizes = { operandSize: at(field.operandSize) * 8, addressSize: at(field.addressSize) * 8 };
  const costs = { ...sizes, default64: (flags & flag.default64) !== 0, fixed: at(field.fixedBytes) };
  return {
    code,
    slots: string ? [] : allSlots.filter((slot) => slot.implied === undefined),
    allSlots,
    ...sizes,
    encoding,
    modes: { 16: (flags & flag.mode16) !== 0, 32: (flags & flag.mode32) !== 0, 64: (flags & flag.mode64) !== 0 },
    memoryBytes: at(field.memoryBytes) | (at(field.memoryBytes + 1) << 8),
    broadcastBytes: at(field.broadcastBytes),
    broadcastCount: at(field.broadcastCount),
    farMemory: (flags & flag.farMemory) !== 0,
    masking: (vectorFlags & vector.masking) !== 0,
    zeroing: (vectorFlags & vector.zeroing) !== 0,
    maskRequired: (vectorFlags & vector.maskRequired) !== 0,
    rounding: (vectorFlags & vector.rounding) !== 0,
    suppressExceptions: (vectorFlags & vector.suppressExceptions) !== 0,
    vsib: allSlots.some(({ memory }) => memory?.startsWith("vsib")),
    rare: (flags & flag.rare) !== 0,
    waits: (flags & flag.waits) !== 0,
    cost: { 16: costIn(16, costs), 32: costIn(32, costs), 64: costIn(64, costs) },
  };
}

let codesByName: Map<string, Code[]> | undefined;

/** iced's codes grouped by mnemonic in lower case, in table order. */
export function codesByMnemonic(): ReadonlyMap<string, readonly Code[]> {
  if (codesByName) return codesByName;
  const bytes = formTable();
  const byNumber = new Map<number, Code[]>();
  for (let at = 0, code: Code = 0; at < bytes.length; at += RECORD, code++) {
    const mnemonic = bytes[at]! | (bytes[at + 1]! << 8);
    const group = byNumber.get(mnemonic);
    if (group) group.push(code);
    else byNumber.set(mnemonic, [code]);
  }
  const { Mnemonic } = iced();
  codesByName = new Map();
  for (const [mnemonic, codes] of byNumber) codesByName.set(Mnemonic[mnemonic]!.toLowerCase(), codes);
  // Pseudo-instructions and holes of the table, not mnemonics.
  for (const name of ["invalid", "db", "dw", "dd", "dq", "zero_bytes", "reservednop"]) codesByName.delete(name);
  return codesByName;
}

const formsByCode = new Map<Code, Form | undefined>();

/** The form of one of iced's codes, as its opcode table has it; nothing for what is no instruction (or Knights Corner's MVEX). */
export function formOf(code: Code): Form | undefined {
  if (formsByCode.has(code)) return formsByCode.get(code);
  const form = readForm(code);
  formsByCode.set(code, form);
  return form;
}
