import type { OpCodeOperandKind, Register } from "iced-x86";
import { iced } from "./iced.ts";
import { RegisterClass as R } from "./registers.ts";

/** How an immediate slot stores its value, and which values it takes. */
export type ImmediateKind =
  | "imm4"
  | "imm8"
  | "one"
  | "imm8sex16"
  | "imm8sex32"
  | "imm8sex64"
  | "imm16"
  | "imm32"
  | "imm32sex64"
  | "imm64";

/** What a memory slot needs of the operand: any address, only a bare offset, or a vector index of the given width. */
export type MemoryKind = "any" | "offset" | "vsib128" | "vsib256" | "vsib512";

/** One operand position of an instruction form. */
export interface Slot {
  /** RegisterClass bits taken, 0 for none. */
  readonly registers: number;
  /** The only register taken, 0 (None) when any of the class will do. */
  readonly fixed: Register;
  readonly memory: MemoryKind | undefined;
  readonly immediate: ImmediateKind | undefined;
  /** A relative branch target, by the bytes its displacement takes. */
  readonly branch: 1 | 2 | 4 | undefined;
  /** XBEGIN's target, which iced wants at the width of the mode. */
  readonly transaction: boolean;
  readonly far: boolean;
  /** Implied by the mnemonic (`[rsi]` of LODSB): NASM does not write it. */
  readonly implied: "rsi" | "rdi" | "rdiSegment" | "rbx" | undefined;
  /** Encoded in ModRM (reg, rm or memory). */
  readonly modrm: boolean;
  /** Bytes of the immediate or displacement. */
  readonly bytes: number;
  /** How a form listing shows it: `r/m32`, `imm8`. */
  readonly label: string;
}

const NOTHING = {
  registers: 0,
  fixed: 0 as Register,
  memory: undefined,
  immediate: undefined,
  branch: undefined,
  transaction: false,
  far: false,
  implied: undefined,
  modrm: false,
  bytes: 0,
} as const;

const CLASS_NAMES: Readonly<Record<string, [number, string]>> = {
  r8: [R.r8, "r8"],
  r16: [R.r16, "r16"],
  r32: [R.r32, "r32"],
  r64: [R.r64, "r64"],
  seg: [R.segment, "segment register"],
  cr: [R.control, "cr"],
  dr: [R.debug, "dr"],
  tr: [R.test, "tr"],
  mm: [R.mmx, "mm"],
  xmm: [R.xmm, "xmm"],
  xmmp3: [R.xmm, "xmm"],
  ymm: [R.ymm, "ymm"],
  zmm: [R.zmm, "zmm"],
  zmmp3: [R.zmm, "zmm"],
  k: [R.mask, "k"],
  kp1: [R.mask, "k"],
  bnd: [R.bound, "bnd"],
  tmm: [R.tile, "tmm"],
};

const FIXED: Readonly<Record<string, number>> = {
  es: R.segment,
  cs: R.segment,
  ss: R.segment,
  ds: R.segment,
  fs: R.segment,
  gs: R.segment,
  al: R.r8,
  cl: R.r8,
  ax: R.r16,
  dx: R.r16,
  eax: R.r32,
  rax: R.r64,
  st0: R.fpu,
};

const IMMEDIATES: Readonly<Record<string, [ImmediateKind, number, string]>> = {
  imm4_m2z: ["imm4", 0, "imm4"],
  imm8: ["imm8", 1, "imm8"],
  imm8_const_1: ["one", 0, "1"],
  imm8sex16: ["imm8sex16", 1, "imm8"],
  imm8sex32: ["imm8sex32", 1, "imm8"],
  imm8sex64: ["imm8sex64", 1, "imm8"],
  imm16: ["imm16", 2, "imm16"],
  imm32: ["imm32", 4, "imm32"],
  imm32sex64: ["imm32sex64", 4, "imm32"],
  imm64: ["imm64", 8, "imm64"],
};

/** Reads a slot off the name of iced's operand kind, which says everything: `r32_or_mem`, `xmm_vvvv`, `imm8sex16`. */
function readSlot(name: string): Slot {
  const { Register } = iced();
  const immediate = IMMEDIATES[name];
  if (immediate) return { ...NOTHING, immediate: immediate[0], bytes: immediate[1], label: immediate[2] };
  const fixed = FIXED[name];
  if (fixed !== undefined) {
    const code = Register[name.toUpperCase() as keyof typeof Register];
    return { ...NOTHING, registers: fixed, fixed: code, label: name };
  }
  const branch = /^(?:br(?:16|32|64)|xbegin|brdisp)_([124])$/.exec(name);
  if (branch) {
    const bytes = Number(branch[1]) as 1 | 2 | 4;
    return { ...NOTHING, branch: bytes, bytes, transaction: name.startsWith("xbegin"), label: `rel${bytes * 8}` };
  }
  const far = /^farbr([24])_2$/.exec(name);
  if (far) return { ...NOTHING, far: true, bytes: Number(far[1]) + 2, label: `seg:off${Number(far[1]) * 8}` };
  const implied = { seg_rSI: "rsi", es_rDI: "rdi", seg_rDI: "rdiSegment", seg_rBX_al: "rbx" } as const;
  if (name in implied) return { ...NOTHING, implied: implied[name as keyof typeof implied], label: "implied" };
  if (name === "mem_offs") return { ...NOTHING, memory: "offset", label: "[offset]" };
  const vsib = /^mem_vsib(?:32|64)([xyz])$/.exec(name);
  if (vsib) {
    const memory = ({ x: "vsib128", y: "vsib256", z: "vsib512" } as const)[vsib[1] as "x" | "y" | "z"];
    return { ...NOTHING, memory, modrm: true, label: `vm(${vsib[1]}mm)` };
  }
  if (/^mem(_mpx|_mib)?$/.test(name) || name === "sibmem")
    return { ...NOTHING, memory: "any", modrm: true, label: "m" };
  if (name === "sti_opcode") return { ...NOTHING, registers: R.fpu, label: "st(i)" };
  const [prefix = "", ...rest] = name.split("_");
  const known = CLASS_NAMES[prefix];
  if (!known) throw new Error(`iced-x86 has an operand kind this assembler does not know: ${name}`);
  const orMemory = rest[0] === "or";
  const modrm = rest[0] !== "opcode" && rest[0] !== "vvvv" && rest[0] !== "is4" && rest[0] !== "is5";
  const bytes = rest[0] === "is4" || rest[0] === "is5" ? 1 : 0;
  const label = orMemory ? `${known[1]}/m` : known[1];
  return { ...NOTHING, registers: known[0], memory: orMemory ? "any" : undefined, modrm, bytes, label };
}

const slots: Slot[] = [];

/** The slot for one of iced's operand kinds. */
export function slotFor(kind: OpCodeOperandKind): Slot {
  slots[kind] ??= readSlot(iced().OpCodeOperandKind[kind]!);
  return slots[kind];
}
