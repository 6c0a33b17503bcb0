import {
  Decoder,
  DecoderOptions,
  Encoder,
  Formatter,
  FormatterSyntax,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  OpKind,
  Register,
  RflagsBits,
} from "iced-x86";
import type { Form, FormIndex } from "./forms.ts";
import { WAYS, type Way } from "./guest.ts";
import { CODE, DATA, HLT, SLOT, SLOT_BYTES } from "./layout.ts";
import type { Random } from "./random.ts";
import { baseOf, CODE_SELECTORS, CODE32, CODE64, SELECTORS, slotOffset, type World } from "./worlds.ts";

/** How an instruction addresses its memory operand. Registers by number, −1 for none. */
export interface MemoryOperand {
  readonly base: number;
  readonly index: number;
  /** The index is a vector register. */
  readonly vector: boolean;
  readonly scale: number;
  readonly displacement: bigint;
  readonly bits: 16 | 32 | 64;
  /** ES, CS, SS, DS, FS, GS. */
  readonly segment: number;
  /** 0 where iced has no size: state images. */
  readonly bytes: number;
}

/** An instruction ready to run. */
export interface Encoded {
  readonly form: Form;
  readonly world: World;
  /** How the guest runs it; the result is the same. */
  readonly way: Way;
  /** Filled up with HLT. */
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly text: string;
  readonly memory: MemoryOperand | undefined;
  /** Operands that are general registers: number and bits, undefined for others. */
  readonly registers: readonly ({ readonly number: number; readonly bits: number } | undefined)[];
  readonly repeat: boolean;
  /** Bits of the address of string instructions. */
  readonly addressBits: 16 | 32 | 64;
  readonly immediate: number;
  /** Arithmetic flags at their places in RFLAGS, as iced has them. */
  readonly flags: FlagUse;
  /** Of a sequence: its instructions, and the flags undefined behind the last one and behind any. */
  readonly sequence?: { readonly parts: readonly Encoded[]; readonly atEnd: number; readonly ever: number };
}

/** What an instruction does with the arithmetic flags. */
export interface FlagUse {
  readonly read: number;
  readonly written: number;
  readonly undefined: number;
}

const FLAG_BITS: readonly (readonly [number, number])[] = [
  [RflagsBits.OF, 0x800],
  [RflagsBits.SF, 0x80],
  [RflagsBits.ZF, 0x40],
  [RflagsBits.AF, 0x10],
  [RflagsBits.CF, 0x1],
  [RflagsBits.PF, 0x4],
];

function rflags(bits: number): number {
  return FLAG_BITS.reduce((mask, [bit, flag]) => ((bits & bit) !== 0 ? mask | flag : mask), 0);
}

function flagUse(raw: Instruction): FlagUse {
  return {
    read: rflags(raw.rflagsRead),
    written: rflags(raw.rflagsWritten | raw.rflagsCleared | raw.rflagsSet),
    undefined: rflags(raw.rflagsUndefined),
  };
}

/** A place to jump to, as a linear address: nearly always in the page of code, never inside the instruction itself. */
export function jumpTarget(random: Random): number {
  const kind = random.below(16);
  if (kind === 0) return DATA + random.below(0x1000);
  if (kind === 1) return CODE + 0x1000 + random.below(0x1000);
  const at = random.below(0xfb0);
  return CODE + (at < 0x7f0 ? at : at + 0x50);
}

const GPR: Readonly<Record<number, Register>> = { 8: Register.AL, 16: Register.AX, 32: Register.EAX, 64: Register.RAX };
const FIXED: Readonly<Record<string, Register>> = {
  al: Register.AL,
  cl: Register.CL,
  ax: Register.AX,
  dx: Register.DX,
  eax: Register.EAX,
  rax: Register.RAX,
  es: Register.ES,
  cs: Register.CS,
  ss: Register.SS,
  ds: Register.DS,
  fs: Register.FS,
  gs: Register.GS,
  st0: Register.ST0,
};
const SEGMENTS = [Register.ES, Register.CS, Register.SS, Register.DS, Register.FS, Register.GS];
const STRINGS: Readonly<Record<string, Readonly<Record<number, OpKind>>>> = {
  seg_rSI: { 16: OpKind.MemorySegSI, 32: OpKind.MemorySegESI, 64: OpKind.MemorySegRSI },
  seg_rDI: { 16: OpKind.MemorySegDI, 32: OpKind.MemorySegEDI, 64: OpKind.MemorySegRDI },
  es_rDI: { 16: OpKind.MemoryESDI, 32: OpKind.MemoryESEDI, 64: OpKind.MemoryESRDI },
};
const REPEATABLE = /^(Movs|Stos|Lods|Cmps|Scas|Ins|Outs)[bwdq]$/;

const BIT_STRINGS = /^Bt[src]?$/;
/** Instructions that AMD lets read their operand before it refuses LOCK, and MOV, which LOCK makes one of CR8. */
const LOCK_MEANS = /^(Ver[rw]|Lldt|Ltr|Lar|Lsl|Mov)$/;

interface Choice {
  readonly raw: Instruction;
  readonly form: Form;
  readonly world: World;
  readonly random: Random;
  readonly addressBits: 16 | 32 | 64;
}

/** Prefixes that may stand before any instruction, some of which make another of it, or none. */
const PREFIXES = [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];
const REX = [0x40, 0x41, 0x44, 0x48, 0x4f];

/** One encoding of eight gets more prefixes than it needs. */
function withPrefixes(buffer: Uint8Array, world: World, random: Random): Uint8Array {
  if (!random.chance(8)) return buffer;
  const more: number[] = [];
  for (let i = random.below(3); i >= 0; i--)
    more.push(random.pick(world.bits === 64 && random.chance(4) ? REX : PREFIXES));
  return new Uint8Array([...more, ...buffer]);
}

/**
 * Encodes a form with operands and prefixes chosen by `random`. Undefined for a choice that cannot be encoded.
 * @param others Form of a code in the same mode, for what prefixes may make of this one.
 */
export function encode(form: Form, world: World, random: Random, others: FormIndex): Encoded | undefined {
  const raw = new Instruction();
  raw.code = form.opcode.code;
  const other = { 16: 32, 32: 16, 64: 32 } as const;
  const addressBits = random.below(4) === 0 ? other[world.bits] : world.bits;
  const choice = { raw, form, world, random, addressBits };
  for (const [i, kind] of form.opcode.kinds.entries()) setOperand(choice, i, kind);
  setPrefixes(choice);
  const encoder = new Encoder(world.bits);
  try {
    encoder.encode(raw, slotOffset(world));
    const buffer = withPrefixes(encoder.takeBuffer(), world, random);
    const encoded = describe(form, world, buffer, others);
    return encoded === undefined ? undefined : { ...encoded, way: random.pick(WAYS) };
  } catch {
    return undefined;
  } finally {
    encoder.free();
    raw.free();
  }
}

function setPrefixes({ raw, form, random }: Choice): void {
  const { opcode } = form;
  // LOCK where it may not stand is #UD.
  const lockable = opcode.canLock && form.memory;
  raw.hasLockPrefix = lockable ? random.below(3) === 0 : !LOCK_MEANS.test(opcode.word) && random.below(40) === 0;
  if (REPEATABLE.test(opcode.word) && random.below(2) === 0) {
    if (random.below(2) === 0) raw.hasRepPrefix = true;
    else raw.hasRepnePrefix = true;
  }
  const segmented = form.memory || opcode.kinds.some((k) => k.startsWith("seg_r"));
  if (segmented && random.below(4) === 0) raw.segmentPrefix = random.pick(SEGMENTS);
}

function setOperand(c: Choice, i: number, kind: string): void {
  const { raw, form } = c;
  if (kind.startsWith("mem_vsib")) setVectorMemory(c, i, kind);
  else if (kind === "mem_offs") setAbsolute(c, i);
  else if (kind.startsWith("mem") || (kind.includes("_or_mem") && form.memory)) setMemory(c, i);
  else if (kind.startsWith("imm")) setImmediate(c, i, kind);
  else if (kind.startsWith("br")) setBranch(c, i, kind);
  else if (kind.startsWith("farbr")) setFarBranch(c, i, kind);
  else if (kind in STRINGS) raw.setOpKind(i, STRINGS[kind]?.[c.addressBits] as OpKind);
  else if (kind === "seg_rBX_al") {
    raw.setOpKind(i, OpKind.Memory);
    raw.memoryBase = (GPR[c.addressBits] as Register) + 3;
    raw.memoryIndex = Register.AL;
  } else {
    raw.setOpKind(i, OpKind.Register);
    raw.setOpRegister(i, registerFor(c, kind));
  }
}

function registerFor({ world, random, form }: Choice, kind: string): Register {
  const fixed = FIXED[kind];
  if (fixed !== undefined) return fixed;
  const count = world.bits === 64 ? 16 : 8;
  const number = random.below(count);
  if (kind.startsWith("xmm")) return Register.XMM0 + number;
  if (kind.startsWith("ymm")) return Register.YMM0 + number;
  if (kind.startsWith("mm")) return Register.MM0 + (number & 7);
  if (kind.startsWith("sti")) return Register.ST0 + (number & 7);
  if (kind === "seg_reg") return random.pick(SEGMENTS);
  if (kind === "cr_reg") return random.pick([Register.CR0, Register.CR2, Register.CR3, Register.CR4]);
  if (kind === "dr_reg") return Register.DR0 + (number & 7);
  if (kind === "tr_reg") return Register.TR0 + (number & 7);
  if (kind.startsWith("r64")) return Register.RAX + number;
  if (kind.startsWith("r32")) return Register.EAX + number;
  if (kind.startsWith("r16")) return Register.AX + number;
  if (!kind.startsWith("r8")) throw new TypeError(`Unexpected operand kind "${kind}" of ${form.name}`);
  // AL to BL, AH to BH, SPL to R15L.
  if (world.bits !== 64 || random.below(3) === 0) return Register.AL + random.below(8);
  return Register.SPL + random.below(12);
}

function displacement(random: Random, bits: number): bigint {
  const kind = random.below(4);
  if (kind === 0) return 0n;
  if (kind < 3 || bits === 16) return BigInt(random.below(256) - 128);
  return BigInt(random.next());
}

/** A linear address for operands without a register: fixed by the encoding. */
function fixedOffset({ world, random, raw }: Choice): bigint {
  const segment = SEGMENTS.indexOf(raw.segmentPrefix);
  const base = world.bases[segment < 0 ? 3 : segment] as bigint;
  return BigInt(DATA + 0x800 + random.below(0x1000)) - base;
}

function setAbsolute(c: Choice, i: number): void {
  const { raw, random, addressBits } = c;
  raw.setOpKind(i, OpKind.Memory);
  if (random.below(4) === 0) raw.segmentPrefix = random.pick(SEGMENTS);
  raw.memoryDisplSize = addressBits / 8;
  raw.memoryDisplacement = BigInt.asUintN(addressBits, fixedOffset(c));
}

function setMemory(c: Choice, i: number): void {
  const { raw, random, addressBits, world } = c;
  raw.setOpKind(i, OpKind.Memory);
  if (addressBits === 16) {
    const [base, index] = random.pick(SHORT);
    raw.memoryBase = base;
    raw.memoryIndex = index;
    raw.memoryDisplSize = random.below(2) === 0 ? 0 : random.below(2) + 1;
    if (raw.memoryDisplSize !== 0) raw.memoryDisplacement = BigInt.asUintN(16, displacement(random, 16));
    return;
  }
  const kind = random.below(16);
  if (kind === 0 && world.bits === 64) {
    raw.memoryBase = addressBits === 64 ? Register.RIP : Register.EIP;
    raw.memoryDisplSize = addressBits / 8;
    raw.memoryDisplacement = fixedOffset(c);
    return;
  }
  if (kind === 1) {
    raw.memoryDisplSize = addressBits / 8;
    raw.memoryDisplacement = BigInt.asUintN(addressBits, fixedOffset(c));
    return;
  }
  const first = GPR[addressBits] as Register;
  const count = world.bits === 64 ? 16 : 8;
  const base = random.below(count);
  raw.memoryBase = first + base;
  setDisplacement(c);
  if (kind < 8) return;
  const index = random.below(count);
  if (index === 4 || index === base) return;
  raw.memoryIndex = first + index;
  raw.memoryIndexScale = 1 << random.below(4);
}

const SHORT: readonly (readonly [Register, Register])[] = [
  [Register.BX, Register.SI],
  [Register.BX, Register.DI],
  [Register.BP, Register.SI],
  [Register.BP, Register.DI],
  [Register.SI, Register.None],
  [Register.DI, Register.None],
  [Register.BP, Register.None],
  [Register.BX, Register.None],
];

function setDisplacement({ raw, random, addressBits }: Choice): void {
  const value = displacement(random, addressBits);
  if (value === 0n) return;
  const short = value >= -128n && value < 128n;
  raw.memoryDisplSize = short && random.below(4) > 0 ? 1 : addressBits / 8;
  raw.memoryDisplacement = BigInt.asUintN(64, value);
}

function setVectorMemory(c: Choice, i: number, kind: string): void {
  const { raw, random, world } = c;
  const addressBits = c.addressBits === 16 ? 32 : c.addressBits;
  const count = world.bits === 64 ? 16 : 8;
  raw.setOpKind(i, OpKind.Memory);
  raw.memoryBase = (GPR[addressBits] as Register) + random.below(count);
  raw.memoryIndex = (kind.endsWith("y") ? Register.YMM0 : Register.XMM0) + random.below(count);
  raw.memoryIndexScale = 1 << random.below(4);
  if (random.below(2) === 0) {
    raw.memoryDisplSize = 1;
    raw.memoryDisplacement = BigInt.asUintN(64, BigInt(random.below(256) - 128));
  }
}

const IMMEDIATES: Readonly<Record<string, OpKind>> = {
  imm8: OpKind.Immediate8,
  imm8_const_1: OpKind.Immediate8,
  imm8sex16: OpKind.Immediate8to16,
  imm8sex32: OpKind.Immediate8to32,
  imm8sex64: OpKind.Immediate8to64,
  imm16: OpKind.Immediate16,
  imm32: OpKind.Immediate32,
  imm32sex64: OpKind.Immediate32to64,
  imm64: OpKind.Immediate64,
};

function setImmediate({ raw, random, form }: Choice, i: number, kind: string): void {
  const far = form.opcode.word === "Retf";
  const second = kind === "imm8" && i > 0 && raw.opKind(i - 1) === OpKind.Immediate16;
  const opKind = second ? OpKind.Immediate8_2nd : IMMEDIATES[kind];
  if (opKind === undefined) throw new TypeError(`Unexpected operand kind "${kind}"`);
  raw.setOpKind(i, opKind);
  const value = BigInt.asIntN(64, random.value());
  if (second) raw.immediate8_2nd = Number(value & 0x3fn);
  else if (kind === "imm8_const_1") raw.immediate8 = 1;
  else if (opKind === OpKind.Immediate8) raw.immediate8 = Number(value & 0xffn);
  // RETF of much: processors differ in what they check first.
  else if (opKind === OpKind.Immediate16) raw.immediate16 = Number(value & (far ? 0xf8n : 0xffffn));
  else if (opKind === OpKind.Immediate32) raw.immediate32 = Number(value & 0xffff_ffffn);
  else if (opKind === OpKind.Immediate64) raw.immediate64 = BigInt.asUintN(64, value);
  else if (opKind === OpKind.Immediate8to16) raw.immediate8to16 = Number(BigInt.asIntN(8, value));
  else if (opKind === OpKind.Immediate8to32) raw.immediate8to32 = Number(BigInt.asIntN(8, value));
  else if (opKind === OpKind.Immediate8to64) raw.immediate8to64 = BigInt.asIntN(8, value);
  else raw.immediate32to64 = BigInt.asIntN(32, value);
}

function setBranch({ raw, world, random }: Choice, i: number, kind: string): void {
  const near = kind.endsWith("_1");
  const linear = near ? SLOT + random.pick([-1, 1]) * (20 + random.below(80)) : jumpTarget(random);
  const target = BigInt(linear) - (world.bases[1] as bigint);
  if (kind.startsWith("br16")) {
    raw.setOpKind(i, OpKind.NearBranch16);
    raw.nearBranch16 = Number(target & 0xffffn);
  } else if (kind.startsWith("br32")) {
    raw.setOpKind(i, OpKind.NearBranch32);
    raw.nearBranch32 = Number(target & 0xffff_ffffn);
  } else {
    raw.setOpKind(i, OpKind.NearBranch64);
    raw.nearBranch64 = target;
  }
}

/** A selector of code for the most part, and an offset that fits its base. */
export function farTarget(random: Random, world: World): { selector: number; offset: number } {
  let selector = random.pick(random.below(3) > 0 ? CODE_SELECTORS : SELECTORS);
  // Going to 64-bit code by a stack with a base or of 16 bits: the manuals do not say which width the pushes have.
  if (world.needsLocal && selector >> 3 === CODE64 >> 3) selector = CODE32;
  return { selector, offset: (jumpTarget(random) - Number(baseOf(selector))) >>> 0 };
}

function setFarBranch({ raw, random, world }: Choice, i: number, kind: string): void {
  const { selector, offset } = farTarget(random, world);
  raw.farBranchSelector = selector;
  if (kind === "farbr2_2") {
    raw.setOpKind(i, OpKind.FarBranch16);
    raw.farBranch16 = offset & 0xffff;
  } else {
    raw.setOpKind(i, OpKind.FarBranch32);
    raw.farBranch32 = offset;
  }
}

/** Number and width of a general register. AH to BH count as AX to BX. */
function generalRegister(r: Register): { number: number; bits: number } | undefined {
  if (r >= Register.RAX && r <= Register.R15) return { number: r - Register.RAX, bits: 64 };
  if (r >= Register.EAX && r <= Register.R15D) return { number: r - Register.EAX, bits: 32 };
  if (r >= Register.AX && r <= Register.R15W) return { number: r - Register.AX, bits: 16 };
  if (r >= Register.AL && r <= Register.BH) return { number: (r - Register.AL) & 3, bits: 8 };
  if (r >= Register.SPL && r <= Register.R15L) return { number: r - Register.SPL + 4, bits: 8 };
  return undefined;
}

const VECTOR_FIRST = (r: Register) => (r >= Register.YMM0 ? Register.YMM0 : Register.XMM0);

function memoryOf(raw: Instruction, world: World): MemoryOperand | undefined {
  let has = false;
  for (let i = 0; i < raw.opCount; i++) has ||= raw.opKind(i) === OpKind.Memory;
  if (!has) return undefined;
  const base = generalRegister(raw.memoryBase);
  const index = raw.isVsib ? undefined : generalRegister(raw.memoryIndex);
  const size = raw.memoryDisplSize;
  const relative = raw.memoryBase === Register.RIP || raw.memoryBase === Register.EIP;
  const bits = relative
    ? raw.memoryBase === Register.RIP
      ? 64
      : 32
    : (base?.bits ?? index?.bits ?? (size === 2 ? 16 : size === 4 ? 32 : size === 8 ? 64 : world.bits));
  return {
    base: base?.number ?? -1,
    index: raw.isVsib ? raw.memoryIndex - VECTOR_FIRST(raw.memoryIndex) : (index?.number ?? -1),
    vector: raw.isVsib,
    scale: raw.memoryIndexScale,
    displacement: raw.memoryDisplacement,
    bits: bits as 16 | 32 | 64,
    segment: raw.memorySegment - Register.ES,
    bytes: MemorySizeExt.size(raw.memorySize),
  };
}

const ADDRESS_BITS: readonly (readonly [16 | 32 | 64, readonly OpKind[]])[] = [
  [16, [OpKind.MemorySegSI, OpKind.MemorySegDI, OpKind.MemoryESDI]],
  [32, [OpKind.MemorySegESI, OpKind.MemorySegEDI, OpKind.MemoryESEDI]],
];

function stringBits(raw: Instruction, world: World): 16 | 32 | 64 {
  for (let i = 0; i < raw.opCount; i++)
    for (const [bits, kinds] of ADDRESS_BITS) if (kinds.includes(raw.opKind(i))) return bits;
  return world.bits;
}

/** Reads back what was encoded: undefined when the decoder takes it for another form. */
export function describe(wanted: Form, world: World, buffer: Uint8Array, others: FormIndex): Encoded | undefined {
  if (buffer.length > 15) return undefined;
  // An address size prefix may make the instruction shorter, or longer by what lies behind it.
  const bytes = new Uint8Array(SLOT_BYTES).fill(HLT);
  bytes.set(buffer);
  const decoder = new Decoder(world.bits, bytes.subarray(0, 15), DecoderOptions.None);
  decoder.ip = slotOffset(world);
  const raw = decoder.decode();
  try {
    // What prefixes made invalid is to be #UD.
    const memory = memoryOf(raw, world);
    const invalid = raw.mnemonic === Mnemonic.INVALID;
    const form = invalid && isPrefixed(buffer) ? wanted : others.find(raw.code, world.bits, memory !== undefined);
    if (form === undefined || isSystemCall(raw) || isVendors(raw, world, buffer)) return undefined;
    // Fifteen bytes that are invalid may also be too many.
    if (invalid && raw.length === 15) return undefined;
    if (!invalid) bytes.fill(HLT, raw.length);
    // One register cannot hold both.
    if (memory !== undefined && memory.base >= 0 && memory.base === memory.index && !memory.vector) return undefined;
    // A bit string's index has to be a small one, which no part of an address is.
    const index = BIT_STRINGS.test(form.opcode.word) ? generalRegister(raw.op1Register)?.number : undefined;
    if (index !== undefined && (index === memory?.base || index === memory?.index)) return undefined;
    // EDX:EAX asks for components, of which the host has more than the guest.
    const components = /^X(save|rstor)/.test(form.opcode.word);
    if (components && [memory?.base, memory?.index].some((r) => r === 0 || r === 2)) return undefined;
    return {
      form,
      world,
      way: "whole",
      bytes,
      length: invalid ? buffer.length : raw.length,
      text: format(raw),
      memory,
      registers: Array.from({ length: raw.opCount }, (_, i) =>
        raw.opKind(i) === OpKind.Register ? generalRegister(raw.opRegister(i)) : undefined,
      ),
      repeat: raw.hasRepPrefix || raw.hasRepnePrefix,
      addressBits: stringBits(raw, world),
      immediate: immediateOf(raw),
      flags: flagUse(raw),
    };
  } finally {
    raw.free();
    decoder.free();
  }
}

/** INT 80h is the one gate of Linux that user code may use. */
function isSystemCall(raw: Instruction): boolean {
  return raw.mnemonic === Mnemonic.Int && raw.immediate8 === 0x80;
}

/** Near branches with 66h in 64-bit mode, as in `EXCLUSIONS`; prefixes that mean nothing by the manual, and something to AMD. */
function isVendors(raw: Instruction, world: World, buffer: Uint8Array): boolean {
  const repeated = buffer.subarray(0, raw.length).some((b) => b === 0xf2 || b === 0xf3);
  if (raw.isLoopcc && repeated) return true;
  // F3 REX.B 90 is XCHG R8, RAX, which iced takes for PAUSE.
  if (raw.mnemonic === Mnemonic.Pause && raw.length > 2 && world.bits === 64) return true;
  const near =
    raw.isJccShortOrNear || raw.isJmpShortOrNear || raw.isCallNear || raw.isLoop || raw.isLoopcc || raw.isJcxShort;
  const indirect = raw.isJmpNearIndirect || raw.isCallNearIndirect || raw.mnemonic === Mnemonic.Ret;
  return world.bits === 64 && (near || indirect) && buffer.subarray(0, raw.length).includes(0x66);
}

function isPrefixed(buffer: Uint8Array): boolean {
  const [first = 0] = buffer;
  return first === 0xf0 || PREFIXES.includes(first) || (first & 0xf0) === 0x40;
}

function immediateOf(raw: Instruction): number {
  for (let i = 0; i < raw.opCount; i++) if (raw.opKind(i) === OpKind.Immediate8) return raw.immediate8;
  return 0;
}

const formatter = new Formatter(FormatterSyntax.Nasm);
function format(raw: Instruction): string {
  return formatter.format(raw);
}

/** Linear address of an operand that no register moves. */
export function fixedAddress(m: MemoryOperand, world: World): number {
  return Number(BigInt.asUintN(m.bits, m.displacement) + (world.bases[m.segment] as bigint));
}
