import type { Code, Mnemonic, OpCodeInfo } from "iced-x86";
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

const ESCAPE_BYTES = [0, 1, 2, 2, 2, 2, 2, 2, 2];

/** Bytes of opcode, ModRM and immediates, and of the prefixes that the mode does not change. */
function fixedBytes(info: OpCodeInfo, encoding: Form["encoding"], slots: readonly Slot[]): number {
  let bytes = info.opCodeLength;
  for (const slot of slots) bytes += slot.bytes;
  if (slots.some((slot) => slot.modrm) || info.groupIndex >= 0 || info.rmGroupIndex >= 0) bytes++;
  if (encoding === "evex") return bytes + 6;
  // The two-byte VEX prefix has no W and only the 0F map.
  if (encoding === "vex") return bytes + (info.table > 1 || info.W === 1 ? 4 : 3);
  if (encoding !== "legacy") return bytes + 3;
  return bytes + (ESCAPE_BYTES[info.table] ?? 0) + (info.mandatoryPrefix > 1 ? 1 : 0);
}

type Sizes = Pick<Form, "operandSize" | "addressSize"> & { readonly default64: boolean; readonly fixed: number };

function costIn(bits: Bits, { operandSize, addressSize, default64, fixed }: Sizes): number {
  const addressPrefix = addressSize !== 0 && addressSize !== bits ? 1 : 0;
  if (operandSize === 0) return fixed + addressPrefix;
  if (operandSize === 64) return fixed + addressPrefix + (default64 ? 0 : 1);
  return fixed + addressPrefix + (operandSize === (bits === 64 && !default64 ? 32 : bits) ? 0 : 1);
}

const NO_VECTOR = {
  broadcastBytes: 0,
  broadcastCount: 0,
  masking: false,
  zeroing: false,
  maskRequired: false,
  rounding: false,
  suppressExceptions: false,
} as const;

/** What only EVEX forms can have. */
function readVector(info: OpCodeInfo): Pick<Form, keyof typeof NO_VECTOR> {
  const { MemorySize, MemorySizeExt } = iced();
  const broadcastBytes = info.canBroadcast ? MemorySizeExt.elementSize(info.broadcastMemorySize) : 0;
  return {
    broadcastBytes,
    broadcastCount: broadcastBytes === 0 ? 0 : broadcastCount(MemorySize[info.broadcastMemorySize]!, broadcastBytes),
    masking: info.canUseOpMaskRegister,
    zeroing: info.canUseZeroingMasking,
    maskRequired: info.requireOpMaskRegister,
    rounding: info.canUseRoundingControl,
    suppressExceptions: info.canSuppressAllExceptions,
  };
}

const ENCODINGS: readonly (Form["encoding"] | undefined)[] = ["legacy", "vex", "evex", "xop", "3dnow"];

/** Reads one form. Every getter is a call into WebAssembly, so each is asked once and only where it can matter. */
function readForm(code: Code): Form | undefined {
  const { CodeExt, MemorySize, MemorySizeExt } = iced();
  const info = CodeExt.opCode(code);
  try {
    const encoding = ENCODINGS[info.encoding];
    if (encoding === undefined || !info.isInstruction) return undefined;
    const allSlots: Slot[] = [];
    for (let i = 0, count = info.opCount; i < count; i++) allSlots.push(slotFor(info.opKind(i)));
    // String instructions take no operands in NASM; MASKMOVQ hides only the address.
    const string = allSlots.some(({ implied }) => implied !== undefined && implied !== "rdiSegment");
    const slots = string ? [] : allSlots.filter((slot) => slot.implied === undefined);
    const { memorySize } = info;
    const sizes = { operandSize: info.operandSize, addressSize: info.addressSize };
    const default64 = info.defaultOpSize64 || info.forceOpSize64;
    const costs = { ...sizes, default64, fixed: fixedBytes(info, encoding, allSlots) };
    return {
      code,
      slots,
      allSlots,
      ...sizes,
      encoding,
      modes: { 16: info.mode16, 32: info.mode32, 64: info.mode64 },
      memoryBytes: memorySize === 0 ? 0 : MemorySizeExt.size(memorySize),
      farMemory: memorySize >= MemorySize.SegPtr16 && memorySize <= MemorySize.SegPtr64,
      ...(encoding === "evex" ? readVector(info) : NO_VECTOR),
      vsib: allSlots.some(({ memory }) => memory?.startsWith("vsib")),
      rare: info.decoderOption !== 0,
      waits: info.fwait,
      cost: { 16: costIn(16, costs), 32: costIn(32, costs), 64: costIn(64, costs) },
    };
  } finally {
    info.free();
  }
}

/** `Broadcast512_Float32` repeats a 4-byte element 16 times; `Broadcast512_2xFloat16` repeats a pair. */
function broadcastCount(name: string, elementBytes: number): number {
  const parts = /^Broadcast(\d+)_(2x)?/.exec(name);
  if (!parts) return 0;
  return Number(parts[1]) / 8 / (parts[2] ? Math.max(4, elementBytes) : elementBytes);
}

let codesByName: Map<string, Code[]> | undefined;

/** iced's codes grouped by mnemonic in lower case, in table order. */
export function codesByMnemonic(): ReadonlyMap<string, readonly Code[]> {
  if (codesByName) return codesByName;
  const { Code, Instruction, Mnemonic } = iced();
  const byNumber = new Map<Mnemonic, Code[]>();
  const instruction = new Instruction();
  for (let code = 0; Code[code] !== undefined; code++) {
    instruction.code = code;
    const { mnemonic } = instruction;
    const group = byNumber.get(mnemonic);
    if (group) group.push(code);
    else byNumber.set(mnemonic, [code]);
  }
  instruction.free();
  codesByName = new Map();
  for (const [mnemonic, codes] of byNumber) codesByName.set(Mnemonic[mnemonic]!.toLowerCase(), codes);
  // Pseudo-instructions and holes of the table, not mnemonics.
  for (const name of ["invalid", "db", "dw", "dd", "dq", "zero_bytes", "reservednop"]) codesByName.delete(name);
  return codesByName;
}

const formsByCode = new Map<Code, Form | undefined>();

/** The form of one of iced's codes, read off its tables once; nothing for what is no instruction (or Knights Corner's MVEX). */
export function formOf(code: Code): Form | undefined {
  if (formsByCode.has(code)) return formsByCode.get(code);
  const form = readForm(code);
  formsByCode.set(code, form);
  return form;
}
