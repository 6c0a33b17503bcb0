import * as iced from "iced-x86";
import {
  Code,
  CodeExt,
  Encoder,
  FlowControl,
  Instruction,
  OpCodeOperandKind as K,
  Mnemonic,
  OpKind,
  Register,
} from "iced-x86";
import type { Registry } from "../../../../../src/backends/soft/translate/context.ts";
import type { Random } from "./random.ts";

/** One way to write an instruction: register or memory where the form leaves the choice. */
export interface Form {
  readonly name: string;
  readonly code: Code;
  readonly mnemonic: Mnemonic;
  readonly kinds: readonly number[];
  readonly memory: boolean;
  /** Bytes of the memory operand, 0 for none. */
  readonly lock: boolean;
}

/** What the kernel, the clock or the stub itself would change, or what differs between processors by design. */
const EXCLUDED = new Set<Mnemonic>([
  Mnemonic.Rdtsc,
  Mnemonic.Rdtscp,
  Mnemonic.Rdrand,
  Mnemonic.Rdseed,
  Mnemonic.Rdpid,
  Mnemonic.Rdpmc,
  Mnemonic.Cpuid,
  Mnemonic.Xgetbv,
  Mnemonic.Syscall,
  Mnemonic.Sysenter,
  Mnemonic.Popf,
  Mnemonic.Popfq,
  Mnemonic.Pushf,
  Mnemonic.Pushfq,
  Mnemonic.Rdfsbase,
  Mnemonic.Rdgsbase,
  Mnemonic.Wrfsbase,
  Mnemonic.Wrgsbase,
  Mnemonic.Sgdt,
  Mnemonic.Sidt,
  Mnemonic.Sldt,
  Mnemonic.Smsw,
  Mnemonic.Str,
  Mnemonic.Lar,
  Mnemonic.Lsl,
  Mnemonic.Verr,
  Mnemonic.Verw,
  Mnemonic.Std,
  Mnemonic.Enter,
  // Reads descriptors.
  Mnemonic.Lss,
  Mnemonic.Lfs,
  Mnemonic.Lgs,
]);

/** iced's CPUID features that are integer instructions. */
const INTEGER_FEATURES = new Set(
  [
    "INTEL8086",
    "INTEL186",
    "INTEL286",
    "INTEL386",
    "INTEL486",
    "X64",
    "CMOV",
    "CX8",
    "CMPXCHG16B",
    "MOVBE",
    "POPCNT",
    "LZCNT",
    "BMI1",
    "BMI2",
    "ADX",
    "SSE4_2",
    "SSE2",
    "MULTIBYTENOP",
    "ADX",
  ].map((name) => iced.CpuidFeature[name as keyof typeof iced.CpuidFeature]),
);

/** Integer forms of 64-bit mode that the registry knows. */
export function integerForms(registry: Registry): Form[] {
  const forms: Form[] = [];
  const raw = new Instruction();
  for (const [name, code] of Object.entries(Code)) {
    if (typeof code !== "number") continue;
    raw.code = code;
    const { mnemonic } = raw;
    if (!registry.codes.has(code) && !registry.mnemonics.has(mnemonic)) continue;
    // AMD raises #UD for the register form of PREFETCH, Intel does not.
    if (name.endsWith("_0F0D")) continue;
    if (EXCLUDED.has(mnemonic) || raw.isPrivileged || raw.flowControl !== FlowControl.Next) continue;
    const features = [...raw.cpuidFeatures()];
    if (!features.every((f) => INTEGER_FEATURES.has(f))) continue;
    const info = CodeExt.opCode(code);
    const kinds = Array.from({ length: info.opCount }, (_, i) => info.opKind(i));
    const usable = info.mode64 && info.encoding <= 1 && kinds.every(isInteger) && !name.startsWith("VEX_K");
    const canLock = info.canUseLockPrefix;
    info.free();
    if (!usable) continue;
    const either = kinds.some(isEither);
    const memoryOnly = kinds.some((k) => k === K.mem || k === K.mem_offs);
    if (either) forms.push({ name, code, mnemonic, kinds, memory: false, lock: false });
    if (either || memoryOnly)
      forms.push({ name: `${name} (memory)`, code, mnemonic, kinds, memory: true, lock: false });
    if ((either || memoryOnly) && canLock) {
      forms.push({ name: `${name} (locked)`, code, mnemonic, kinds, memory: true, lock: true });
    }
    if (!either && !memoryOnly) forms.push({ name, code, mnemonic, kinds, memory: false, lock: false });
  }
  raw.free();
  return forms;
}

const EITHER = new Set<number>([K.r8_or_mem, K.r16_or_mem, K.r32_or_mem, K.r64_or_mem]);
const R8 = new Set<number>([K.r8_or_mem, K.r8_reg, K.r8_opcode]);
const R16 = new Set<number>([K.r16_or_mem, K.r16_reg, K.r16_rm, K.r16_opcode]);
const R32 = new Set<number>([K.r32_or_mem, K.r32_reg, K.r32_rm, K.r32_opcode, K.r32_vvvv]);
const R64 = new Set<number>([K.r64_or_mem, K.r64_reg, K.r64_rm, K.r64_opcode, K.r64_vvvv]);
const FIXED: Record<number, Register> = {
  [K.al]: Register.AL,
  [K.cl]: Register.CL,
  [K.ax]: Register.AX,
  [K.dx]: Register.DX,
  [K.eax]: Register.EAX,
  [K.rax]: Register.RAX,
};
const STRING: Record<number, OpKind> = {
  [K.seg_rSI]: OpKind.MemorySegRSI,
  [K.es_rDI]: OpKind.MemoryESRDI,
  [K.seg_rDI]: OpKind.MemorySegRDI,
};
const IMMEDIATES: Record<number, OpKind> = {
  [K.imm8]: OpKind.Immediate8,
  [K.imm8_const_1]: OpKind.Immediate8,
  [K.imm8sex16]: OpKind.Immediate8to16,
  [K.imm8sex32]: OpKind.Immediate8to32,
  [K.imm8sex64]: OpKind.Immediate8to64,
  [K.imm16]: OpKind.Immediate16,
  [K.imm32]: OpKind.Immediate32,
  [K.imm32sex64]: OpKind.Immediate32to64,
  [K.imm64]: OpKind.Immediate64,
};

function isEither(kind: number): boolean {
  return EITHER.has(kind);
}
function isInteger(kind: number): boolean {
  return (
    R8.has(kind) ||
    R16.has(kind) ||
    R32.has(kind) ||
    R64.has(kind) ||
    kind === K.mem ||
    kind === K.seg_rBX_al ||
    kind in FIXED ||
    kind in STRING ||
    kind in IMMEDIATES
  );
}

/** An encoded instruction and how its memory operand is addressed. */
export interface Encoded {
  readonly form: Form;
  readonly bytes: Uint8Array;
  /** Numbers of base and index register, −1 for none; the others say what else makes the address. */
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: number;
  /** Bits a bit string's register may address: kept small. Its number, or −1. */
  readonly bitIndex: number;
  readonly repeat: boolean;
  /** Flags the manual leaves undefined, at their places in RFLAGS. */
  readonly undefinedFlags: number;
  readonly text: string;
}

const BIT_STRINGS = new Set<Mnemonic>([Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc]);
const REPEATABLE = new Set<Mnemonic>([
  Mnemonic.Movsb,
  Mnemonic.Movsw,
  Mnemonic.Movsd,
  Mnemonic.Movsq,
  Mnemonic.Stosb,
  Mnemonic.Stosw,
  Mnemonic.Stosd,
  Mnemonic.Stosq,
  Mnemonic.Lodsb,
  Mnemonic.Lodsw,
  Mnemonic.Lodsd,
  Mnemonic.Lodsq,
  Mnemonic.Cmpsb,
  Mnemonic.Cmpsw,
  Mnemonic.Cmpsd,
  Mnemonic.Cmpsq,
  Mnemonic.Scasb,
  Mnemonic.Scasw,
  Mnemonic.Scasd,
  Mnemonic.Scasq,
]);

/** Encodes a form with registers, address and immediates chosen by `random`. Undefined for a choice that cannot be encoded. */
export function encode(form: Form, random: Random): Encoded | undefined {
  const raw = new Instruction();
  raw.code = form.code;
  const memory = { base: -1, index: -1, scale: 1, displacement: 0 };
  let bitIndex = -1;
  for (const [i, kind] of form.kinds.entries()) {
    if (kind === K.mem || (isEither(kind) && form.memory)) setMemory(raw, i, memory, random);
    else if (kind in IMMEDIATES) setImmediate(raw, i, kind, random);
    else if (kind in STRING) raw.setOpKind(i, STRING[kind] as OpKind);
    else if (kind === K.seg_rBX_al) {
      raw.setOpKind(i, OpKind.Memory);
      raw.memoryBase = Register.RBX;
      raw.memoryIndex = Register.AL;
      memory.base = 3;
    } else {
      const number = random.below(16);
      raw.setOpKind(i, OpKind.Register);
      raw.setOpRegister(i, registerOf(kind, number, random));
      if (i === 1 && form.memory && BIT_STRINGS.has(form.mnemonic) && !(kind in FIXED)) bitIndex = number;
    }
  }
  if (bitIndex === 4 || (bitIndex >= 0 && (bitIndex === memory.base || bitIndex === memory.index))) return undefined;
  raw.hasLockPrefix = form.lock;
  const repeat = REPEATABLE.has(form.mnemonic) && random.below(2) === 0;
  if (repeat) {
    if (random.below(2) === 0) raw.hasRepPrefix = true;
    else raw.hasRepnePrefix = true;
  }
  const encoder = new Encoder(64);
  try {
    encoder.encode(raw, 0n);
    const bytes = encoder.takeBuffer();
    return { form, bytes, ...memory, bitIndex, repeat, undefinedFlags: undefinedFlags(bytes), text: textOf(bytes) };
  } catch {
    return undefined;
  } finally {
    encoder.free();
    raw.free();
  }
}

function decode<T>(bytes: Uint8Array, use: (raw: Instruction) => T): T {
  const decoder = new iced.Decoder(64, bytes, iced.DecoderOptions.None);
  const raw = decoder.decode();
  try {
    return use(raw);
  } finally {
    raw.free();
    decoder.free();
  }
}

function textOf(bytes: Uint8Array): string {
  return decode(bytes, (raw) => {
    const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
    const text = formatter.format(raw);
    formatter.free();
    return text;
  });
}

const BITS: readonly (readonly [number, number])[] = [
  [iced.RflagsBits.OF, 0x800],
  [iced.RflagsBits.SF, 0x80],
  [iced.RflagsBits.ZF, 0x40],
  [iced.RflagsBits.AF, 0x10],
  [iced.RflagsBits.CF, 0x1],
  [iced.RflagsBits.PF, 0x4],
];

function undefinedFlags(bytes: Uint8Array): number {
  return decode(bytes, (raw) =>
    BITS.reduce((mask, [bit, flag]) => ((raw.rflagsUndefined & bit) !== 0 ? mask | flag : mask), 0),
  );
}

function setMemory(
  raw: Instruction,
  i: number,
  memory: { base: number; index: number; scale: number; displacement: number },
  random: Random,
): void {
  raw.setOpKind(i, OpKind.Memory);
  memory.base = random.below(16);
  raw.memoryBase = Register.RAX + memory.base;
  if (random.below(3) === 0) {
    memory.index = random.below(16);
    if (memory.index === 4 || memory.index === memory.base) memory.index = -1;
    else {
      raw.memoryIndex = Register.RAX + memory.index;
      memory.scale = 1 << random.below(4);
      raw.memoryIndexScale = memory.scale;
    }
  }
  if (random.below(2) === 0) {
    memory.displacement = random.below(256) - 128;
    raw.memoryDisplacement = BigInt(memory.displacement);
    raw.memoryDisplSize = 8;
  }
}

function setImmediate(raw: Instruction, i: number, kind: number, random: Random): void {
  const opKind = IMMEDIATES[kind] as OpKind;
  raw.setOpKind(i, opKind);
  const value = BigInt.asIntN(64, random.value());
  if (kind === K.imm8_const_1) raw.immediate8 = 1;
  else if (opKind === OpKind.Immediate8) raw.immediate8 = Number(value & 0xffn);
  else if (opKind === OpKind.Immediate16) raw.immediate16 = Number(value & 0xffffn);
  else if (opKind === OpKind.Immediate32) raw.immediate32 = Number(value & 0xffff_ffffn);
  else if (opKind === OpKind.Immediate64) raw.immediate64 = BigInt.asUintN(64, value);
  else if (opKind === OpKind.Immediate8to16) raw.immediate8to16 = Number(BigInt.asIntN(8, value));
  else if (opKind === OpKind.Immediate8to32) raw.immediate8to32 = Number(BigInt.asIntN(8, value));
  else if (opKind === OpKind.Immediate8to64) raw.immediate8to64 = BigInt.asIntN(8, value);
  else raw.immediate32to64 = BigInt.asIntN(32, value);
}

function registerOf(kind: number, number: number, random: Random): Register {
  if (kind in FIXED) return FIXED[kind] as Register;
  if (R64.has(kind)) return Register.RAX + number;
  if (R32.has(kind)) return Register.EAX + number;
  if (R16.has(kind)) return Register.AX + number;
  // AL to BL, AH to BH, SPL to R15L.
  return random.below(3) === 0 ? Register.AL + random.below(8) : Register.SPL + random.below(12);
}
