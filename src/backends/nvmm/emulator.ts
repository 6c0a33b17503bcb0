import type { Instruction, Mnemonic, Register } from "iced-x86";
import {
  NVMM_X64_SEG_CS,
  NVMM_X64_SEG_DS,
  NVMM_X64_SEG_ES,
  NVMM_X64_SEG_FS,
  NVMM_X64_SEG_GS,
  NVMM_X64_SEG_SS,
  NVMM_X64_STATE_FPU,
  NVMM_X64_STATE_MSRS,
  NVMM_X64_STATE_SEGS,
  type NvmmX64StateSeg,
  SEG_ATTRIB,
} from "../../../ffi/nvmm/state.ts";
import * as alu from "./alu.ts";
import type { MemoryResult, Store } from "./assist.ts";
import type { NvmmState } from "./state.ts";

type Iced = typeof import("iced-x86");

/** The instruction behind a MEMORY exit, and what executing it needs. */
export interface EmulatedInstruction {
  readonly state: NvmmState;
  /** Bytes from RIP on. */
  readonly code: Uint8Array;
  /** Answers to its first loads from unbacked memory. */
  readonly answers: readonly Uint8Array[];
  /** Guest memory from a linear address to the end of its page; undefined where nothing backs it for this access. */
  hostMemory(gva: bigint, isWrite: boolean): Uint8Array | undefined;
  /** Undefined for an address that is not mapped. */
  translate(gva: bigint): number | undefined;
}

const RAX = 0;
const RCX = 1;
const RSP = 4;
const RSI = 6;
const RDI = 7;
const RIP = 16;
const RFLAGS = 17;
const DIRECTION = 0x400n;
const EFER_LMA = 1n << 10n;
/** libnvmm's error number for what it cannot execute. */
const ENODEV = 19;
const EFAULT = 14;

/** Ends the execution of an instruction half-way: nothing of it is kept. */
class Unfinished {
  readonly result: MemoryResult;
  constructor(result: MemoryResult) {
    this.result = result;
  }
}

let iced: Iced | undefined;

/**
 * Executes the instruction, or its next iteration when it is repeated: integer instructions and SSE moves with a memory operand, beyond
 * what libnvmm's assist knows. Stores to backed memory and registers change only when all its loads were answered.
 */
export function emulate(what: EmulatedInstruction): MemoryResult {
  iced ??= require("iced-x86") as Iced; // about 30 ms: only a guest that needs it pays
  try {
    return new Emulation(iced, what).execute();
  } catch (ended) {
    if (ended instanceof Unfinished) return ended.result;
    throw ended;
  }
}

type BinaryTable = ReadonlyMap<Mnemonic, { readonly run: alu.AluOperation; readonly writes: boolean }>;
let tables:
  | { binary: BinaryTable; moves: ReadonlySet<Mnemonic>; vectorMoves: ReadonlyMap<Mnemonic, number> }
  | undefined;

function makeTables({ Mnemonic: m }: Iced): NonNullable<typeof tables> {
  const change = (run: alu.AluOperation) => ({ run, writes: true });
  const compare = (run: alu.AluOperation) => ({ run, writes: false });
  return {
    binary: new Map([
      [m.Add, change(alu.add)],
      [m.Adc, change(alu.adc)],
      [m.Sub, change(alu.sub)],
      [m.Sbb, change(alu.sbb)],
      [m.And, change(alu.and)],
      [m.Or, change(alu.or)],
      [m.Xor, change(alu.xor)],
      [m.Inc, change(alu.inc)],
      [m.Dec, change(alu.dec)],
      [m.Neg, change(alu.neg)],
      [m.Not, change(alu.not)],
      [m.Shl, change(alu.shl)],
      [m.Sal, change(alu.shl)],
      [m.Shr, change(alu.shr)],
      [m.Sar, change(alu.sar)],
      [m.Rol, change(alu.rol)],
      [m.Ror, change(alu.ror)],
      [m.Cmp, compare(alu.sub)],
      [m.Test, compare(alu.and)],
      [m.Bt, compare(alu.bt)],
      [m.Bts, change(alu.bts)],
      [m.Btr, change(alu.btr)],
      [m.Btc, change(alu.btc)],
    ]),
    moves: new Set([m.Mov, m.Movzx, m.Movsx, m.Movsxd, m.Movnti]),
    // Bytes that reach or come from memory.
    vectorMoves: new Map([
      [m.Movups, 16],
      [m.Movaps, 16],
      [m.Movupd, 16],
      [m.Movapd, 16],
      [m.Movdqu, 16],
      [m.Movdqa, 16],
      [m.Movntdq, 16],
      [m.Movntps, 16],
      [m.Movntpd, 16],
      [m.Movntdqa, 16],
      [m.Lddqu, 16],
      [m.Movss, 4],
      [m.Movd, 4],
      [m.Movq, 8],
      [m.Movsd, 8],
    ]),
  };
}

class Emulation {
  readonly #iced: Iced;
  readonly #what: EmulatedInstruction;
  readonly #state: NvmmState;
  readonly #instruction: Instruction;
  readonly #bits: 16 | 32 | 64;
  #answered = 0;
  /** In order; applied when the instruction is through. */
  readonly #stores: { gva: bigint; data: Uint8Array }[] = [];
  /** Register changes, applied at the end too. */
  readonly #writes: (() => void)[] = [];

  constructor(library: Iced, what: EmulatedInstruction) {
    this.#iced = library;
    this.#what = what;
    this.#state = what.state;
    const { segs, msrs } = what.state.fetch(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_MSRS);
    const { attrib } = segs[NVMM_X64_SEG_CS] as NvmmX64StateSeg;
    const flag = ([low]: readonly [number, number]) => ((attrib >> low) & 1) === 1;
    const long = ((msrs[0] as bigint) & EFER_LMA) !== 0n && flag(SEG_ATTRIB.l);
    this.#bits = long ? 64 : flag(SEG_ATTRIB.def) ? 32 : 16;
    const decoder = new library.Decoder(this.#bits, what.code, library.DecoderOptions.None);
    decoder.ip = what.state.readGpr(RIP);
    this.#instruction = decoder.decode();
    decoder.free();
  }

  execute(): MemoryResult {
    tables ??= makeTables(this.#iced);
    const { mnemonic } = this.#instruction;
    const repeats = this.#dispatch(mnemonic);
    if (!repeats) this.#writes.push(() => this.#state.writeGpr(RIP, this.#nextIp()));
    for (const write of this.#writes) write();
    return { done: true, stores: this.#applyStores() };
  }

  /** Returns whether the instruction goes on with a further iteration. */
  #dispatch(mnemonic: Mnemonic): boolean {
    const { binary, moves, vectorMoves } = tables as NonNullable<typeof tables>;
    const { Mnemonic: m, ConditionCode } = this.#iced;
    const operation = binary.get(mnemonic);
    const vectorBytes = vectorMoves.get(mnemonic);
    if (moves.has(mnemonic)) this.#move(mnemonic === m.Movsx || mnemonic === m.Movsxd);
    else if (operation !== undefined) this.#binary(operation);
    else if (mnemonic === m.Imul) this.#multiply();
    else if (mnemonic === m.Xchg || mnemonic === m.Xadd) this.#exchange(mnemonic === m.Xadd);
    else if (mnemonic === m.Cmpxchg) this.#compareExchange();
    else if (mnemonic === m.Movbe) this.#moveSwapped();
    else if (mnemonic === m.Push) this.#push();
    else if (mnemonic === m.Pop) this.#pop();
    else if (this.#isString(mnemonic)) return this.#string();
    else if (vectorBytes !== undefined) this.#vector(vectorBytes);
    else if (this.#instruction.conditionCode !== ConditionCode.None) this.#conditional();
    else throw new Unfinished({ done: undefined, errno: ENODEV });
    return false;
  }

  // ---- instructions

  #move(signed: boolean): void {
    const from = this.#read(1);
    const bits = this.#operandBits(1);
    this.#write(0, signed ? BigInt.asIntN(bits, from) : from);
  }

  #moveSwapped(): void {
    const bytes = this.#operandBits(0) / 8;
    this.#write(0, toNumber(toBytes(this.#read(1), bytes).reverse()));
  }

  #binary({ run, writes }: { run: alu.AluOperation; writes: boolean }): void {
    const bits = this.#operandBits(0);
    const b = this.#instruction.opCount > 1 ? alu.truncate(this.#read(1), bits) : 0n;
    this.#beyond(bits, b);
    const { value, rflags } = run(this.#read(0), b, bits, this.#state.readGpr(RFLAGS));
    if (writes) this.#write(0, value);
    this.#writes.push(() => this.#state.writeGpr(RFLAGS, rflags));
  }

  /** IMUL with two or three operands; the form into RDX:RAX is left out. */
  #multiply(): void {
    const { opCount } = this.#instruction;
    if (opCount < 2) throw new Unfinished({ done: undefined, errno: ENODEV });
    const bits = this.#operandBits(0);
    const [a, b] = opCount === 2 ? [this.#read(0), this.#read(1)] : [this.#read(1), this.#read(2)];
    const { value, rflags } = alu.imul(a, alu.truncate(b, bits), bits, this.#state.readGpr(RFLAGS));
    this.#write(0, value);
    this.#writes.push(() => this.#state.writeGpr(RFLAGS, rflags));
  }

  /** BT and its kin with a register as bit number reach beyond their operand; none of them is left to a guess. */
  #beyond(bits: number, bit: bigint): void {
    const { Mnemonic: m, OpKind } = this.#iced;
    const tests = [m.Bt, m.Bts, m.Btr, m.Btc].includes(this.#instruction.mnemonic);
    if (tests && this.#instruction.opKind(1) === OpKind.Register && bit >= BigInt(bits)) {
      throw new Unfinished({ done: undefined, errno: ENODEV });
    }
  }

  #exchange(adds: boolean): void {
    const bits = this.#operandBits(0);
    const [a, b] = [this.#read(0), this.#read(1)];
    const sum = alu.add(a, b, bits, this.#state.readGpr(RFLAGS));
    this.#write(1, a);
    this.#write(0, adds ? sum.value : b);
    if (adds) this.#writes.push(() => this.#state.writeGpr(RFLAGS, sum.rflags));
  }

  #compareExchange(): void {
    const bits = this.#operandBits(0);
    const [target, from] = [this.#read(0), this.#read(1)];
    const accumulator = alu.truncate(this.#state.readGpr(RAX), bits);
    const { rflags } = alu.sub(accumulator, target, bits, this.#state.readGpr(RFLAGS));
    const equal = accumulator === target;
    // The processor writes the destination in any case.
    this.#write(0, equal ? from : target);
    if (!equal) this.#writeGpr(RAX, bits, false, target);
    this.#writes.push(() => this.#state.writeGpr(RFLAGS, rflags));
  }

  /** SETcc and CMOVcc. */
  #conditional(): void {
    const holds = this.#condition();
    if (this.#instruction.opCount === 1) this.#write(0, holds ? 1n : 0n);
    else if (this.#instruction.opCount === 2) {
      const from = this.#read(1);
      this.#write(0, holds ? from : this.#read(0));
    } else throw new Unfinished({ done: undefined, errno: ENODEV });
  }

  #condition(): boolean {
    const rflags = this.#state.readGpr(RFLAGS);
    const set = (flag: bigint): boolean => (rflags & flag) !== 0n;
    const { ConditionCode: c } = this.#iced;
    const less = set(alu.SF) !== set(alu.OF);
    const conditions = new Map([
      [c.o, set(alu.OF)],
      [c.b, set(alu.CF)],
      [c.e, set(alu.ZF)],
      [c.be, set(alu.CF) || set(alu.ZF)],
      [c.s, set(alu.SF)],
      [c.p, set(alu.PF)],
      [c.l, less],
      [c.le, less || set(alu.ZF)],
    ]);
    const code = this.#instruction.conditionCode;
    return conditions.get(code) ?? !conditions.get(this.#opposite(code));
  }

  #opposite(code: number): number {
    const { ConditionCode: c } = this.#iced;
    const opposites = new Map([
      [c.no, c.o],
      [c.ae, c.b],
      [c.ne, c.e],
      [c.a, c.be],
      [c.ns, c.s],
      [c.np, c.p],
      [c.ge, c.l],
      [c.g, c.le],
    ]);
    return opposites.get(code) ?? code;
  }

  #push(): void {
    const value = this.#read(0);
    const bytes = Math.abs(this.#instruction.stackPointerIncrement);
    const rsp = this.#stackPointer(-bytes);
    this.#store(this.#linear(NVMM_X64_SEG_SS, rsp.offset), toBytes(value, bytes));
    this.#writes.push(() => this.#state.writeGpr(RSP, rsp.register));
  }

  #pop(): void {
    const bytes = this.#instruction.stackPointerIncrement;
    const value = toNumber(this.#load(this.#linear(NVMM_X64_SEG_SS, this.#stackPointer(0).offset), bytes));
    const rsp = this.#stackPointer(bytes);
    // In this order: POP RSP leaves what it popped.
    this.#writes.push(() => this.#state.writeGpr(RSP, rsp.register));
    this.#write(0, value);
  }

  /** RSP moved, as an offset into the stack segment and as the whole register. */
  #stackPointer(by: number): { offset: bigint; register: bigint } {
    const ss = this.#state.fetch(NVMM_X64_STATE_SEGS).segs[NVMM_X64_SEG_SS] as NvmmX64StateSeg;
    const wide = ((ss.attrib >> SEG_ATTRIB.def[0]) & 1) === 1;
    const bits = this.#bits === 64 ? 64 : wide ? 32 : 16;
    const rsp = this.#state.readGpr(RSP);
    const offset = alu.truncate(rsp + BigInt(by), bits);
    return { offset, register: (rsp & ~((1n << BigInt(bits)) - 1n)) | offset };
  }

  #isString(mnemonic: Mnemonic): boolean {
    const { Mnemonic: m } = this.#iced;
    const { Movsb, Movsw, Movsd, Movsq, Stosb, Stosw, Stosd, Stosq, Lodsb, Lodsw, Lodsd, Lodsq } = m;
    const { Cmpsb, Cmpsw, Cmpsd, Cmpsq, Scasb, Scasw, Scasd, Scasq } = m;
    if (this.#instruction.isStringInstruction) {
      return [
        ...[Movsb, Movsw, Movsd, Movsq, Stosb, Stosw, Stosd, Stosq, Lodsb, Lodsw, Lodsd, Lodsq],
        ...[Cmpsb, Cmpsw, Cmpsd, Cmpsq, Scasb, Scasw, Scasd, Scasq],
      ].includes(mnemonic);
    }
    return false;
  }

  /** One element of MOVS, STOS, LODS, CMPS or SCAS. Returns whether more follow. */
  #string(): boolean {
    const instruction = this.#instruction;
    const repeated = instruction.hasRepPrefix || instruction.hasRepnePrefix;
    const bits = this.#addressBits();
    const count = alu.truncate(this.#state.readGpr(RCX), bits);
    if (repeated && count === 0n) return false;
    const flags = this.#stringElement();
    const elementBytes = this.#operandBits(0) / 8;
    const step = (this.#state.readGpr(RFLAGS) & DIRECTION) !== 0n ? -elementBytes : elementBytes;
    for (const register of this.#stringPointers()) this.#bump(register, bits, BigInt(step));
    if (!repeated) return false;
    this.#bump(RCX, bits, -1n);
    const wanted = instruction.hasRepnePrefix ? 0n : alu.ZF;
    return count > 1n && (flags === undefined || (flags & alu.ZF) === wanted);
  }

  /** Moves or compares the element; the new flags when it compares. */
  #stringElement(): bigint | undefined {
    const { Mnemonic: m } = this.#iced;
    const { mnemonic } = this.#instruction;
    const compares = [m.Cmpsb, m.Cmpsw, m.Cmpsd, m.Cmpsq, m.Scasb, m.Scasw, m.Scasd, m.Scasq].includes(mnemonic);
    if (!compares) {
      this.#write(0, this.#read(1));
      return undefined;
    }
    const bits = this.#operandBits(0);
    const { rflags } = alu.sub(this.#read(0), this.#read(1), bits, this.#state.readGpr(RFLAGS));
    this.#writes.push(() => this.#state.writeGpr(RFLAGS, rflags));
    return rflags;
  }

  #stringPointers(): number[] {
    const kinds = [0, 1].map((index) => this.#instruction.opKind(index));
    const { OpKind: k } = this.#iced;
    const pointers: number[] = [];
    if (kinds.some((kind) => [k.MemorySegSI, k.MemorySegESI, k.MemorySegRSI].includes(kind))) pointers.push(RSI);
    if (kinds.some((kind) => [k.MemoryESDI, k.MemoryESEDI, k.MemoryESRDI].includes(kind))) pointers.push(RDI);
    return pointers;
  }

  #bump(register: number, bits: number, by: bigint): void {
    const moved = alu.truncate(this.#state.readGpr(register) + by, bits);
    this.#writeGpr(register, bits, false, moved);
  }

  /** SSE moves between a register and memory; a load of part of a register clears the rest. */
  #vector(bytes: number): void {
    const { OpKind, Register: R } = this.#iced;
    const instruction = this.#instruction;
    const toMemory = instruction.opKind(0) !== OpKind.Register;
    const register = instruction.opRegister(toMemory ? 1 : 0) - R.XMM0;
    if (register < 0 || register > 15) throw new Unfinished({ done: undefined, errno: ENODEV });
    const { fpu } = this.#state.fetch(NVMM_X64_STATE_FPU);
    const held = (fpu.fx_xmm[register] as { xmm_bytes: Uint8Array }).xmm_bytes;
    const gva = this.#address(toMemory ? 0 : 1);
    if (toMemory) {
      this.#store(gva, held.slice(0, bytes));
      return;
    }
    const loaded = new Uint8Array(16);
    loaded.set(this.#load(gva, bytes));
    this.#writes.push(() => {
      this.#state.change(NVMM_X64_STATE_FPU);
      held.set(loaded);
    });
  }

  // ---- operands

  #operandBits(index: number): number {
    const { OpKind, RegisterExt, MemorySizeExt } = this.#iced;
    const kind = this.#instruction.opKind(index);
    if (kind === OpKind.Register) return RegisterExt.size(this.#instruction.opRegister(index)) * 8;
    return MemorySizeExt.size(this.#instruction.memorySize) * 8;
  }

  #read(index: number): bigint {
    const { OpKind } = this.#iced;
    const instruction = this.#instruction;
    const kind = instruction.opKind(index);
    if (kind === OpKind.Register) return this.#readRegister(instruction.opRegister(index));
    if (kind >= OpKind.Immediate8 && kind <= OpKind.Immediate32to64) return instruction.immediate(index);
    return toNumber(this.#load(this.#address(index), this.#operandBits(index) / 8));
  }

  #write(index: number, value: bigint): void {
    const { OpKind, RegisterExt, Register: R } = this.#iced;
    const bits = this.#operandBits(index);
    const truncated = alu.truncate(value, bits);
    if (this.#instruction.opKind(index) !== OpKind.Register) {
      this.#store(this.#address(index), toBytes(truncated, bits / 8));
      return;
    }
    const register = this.#instruction.opRegister(index);
    if (!RegisterExt.isGPR(register)) throw new Unfinished({ done: undefined, errno: ENODEV });
    const high = register >= R.AH && register <= R.BH;
    this.#writeGpr(RegisterExt.number(register) - (high ? 4 : 0), bits, high, truncated);
  }

  #writeGpr(index: number, bits: number, high: boolean, value: bigint): void {
    this.#writes.push(() => {
      const old = this.#state.readGpr(index);
      if (bits >= 32) this.#state.writeGpr(index, value);
      else if (high) this.#state.writeGpr(index, (old & ~0xff00n) | (value << 8n));
      else this.#state.writeGpr(index, (old & ~((1n << BigInt(bits)) - 1n)) | value);
    });
  }

  #readRegister(register: Register): bigint {
    const { RegisterExt, Register: R } = this.#iced;
    if (RegisterExt.isSegmentRegister(register)) {
      const { segs } = this.#state.fetch(NVMM_X64_STATE_SEGS);
      return BigInt((segs[segmentIndex(this.#iced, register)] as NvmmX64StateSeg).selector);
    }
    if (!RegisterExt.isGPR(register)) throw new Unfinished({ done: undefined, errno: ENODEV });
    const high = register >= R.AH && register <= R.BH;
    const value = this.#state.readGpr(RegisterExt.number(register) - (high ? 4 : 0));
    return alu.truncate(high ? value >> 8n : value, RegisterExt.size(register) * 8);
  }

  /** Linear address of a memory operand. */
  #address(index: number): bigint {
    const { OpKind: k, RegisterExt, Register: R } = this.#iced;
    const instruction = this.#instruction;
    const kind = instruction.opKind(index);
    const bits = this.#addressBits();
    const offset = (register: number) => alu.truncate(this.#state.readGpr(register), bits);
    if ([k.MemoryESDI, k.MemoryESEDI, k.MemoryESRDI].includes(kind)) return this.#linear(NVMM_X64_SEG_ES, offset(RDI));
    const segment = segmentIndex(this.#iced, instruction.memorySegment);
    if ([k.MemorySegSI, k.MemorySegESI, k.MemorySegRSI].includes(kind)) return this.#linear(segment, offset(RSI));
    if (kind !== k.Memory) throw new Unfinished({ done: undefined, errno: ENODEV });
    let sum = instruction.memoryDisplacement;
    const { memoryBase, memoryIndex } = instruction;
    // A RIP-relative displacement is the address already.
    if (memoryBase !== R.None && memoryBase !== R.RIP && memoryBase !== R.EIP) sum += this.#readRegister(memoryBase);
    if (memoryIndex !== R.None) {
      if (!RegisterExt.isGPR(memoryIndex)) throw new Unfinished({ done: undefined, errno: ENODEV });
      sum += this.#readRegister(memoryIndex) * BigInt(instruction.memoryIndexScale);
    }
    return this.#linear(segment, alu.truncate(sum, bits));
  }

  #addressBits(): number {
    const { OpKind: k, RegisterExt, Register: R } = this.#iced;
    const instruction = this.#instruction;
    const kinds = Array.from({ length: instruction.opCount }, (_, index) => instruction.opKind(index));
    if (kinds.some((kind) => [k.MemorySegSI, k.MemoryESDI].includes(kind))) return 16;
    if (kinds.some((kind) => [k.MemorySegESI, k.MemoryESEDI].includes(kind))) return 32;
    if (kinds.some((kind) => [k.MemorySegRSI, k.MemoryESRDI].includes(kind))) return 64;
    for (const register of [instruction.memoryBase, instruction.memoryIndex]) {
      if (register !== R.None) return RegisterExt.size(register) * 8;
    }
    return instruction.memoryDisplSize === 0 ? this.#bits : Math.min(64, instruction.memoryDisplSize * 8);
  }

  #linear(segment: number, offset: bigint): bigint {
    const { base } = this.#state.fetch(NVMM_X64_STATE_SEGS).segs[segment] as NvmmX64StateSeg;
    if (this.#bits !== 64) return alu.truncate(base + offset, 32);
    const based = segment === NVMM_X64_SEG_FS || segment === NVMM_X64_SEG_GS;
    return alu.truncate(based ? base + offset : offset, 64);
  }

  #nextIp(): bigint {
    return alu.truncate(this.#instruction.nextIP, this.#bits === 64 ? 64 : 32);
  }

  // ---- memory

  /** Reads page by page, at most 8 bytes at a time where a device answers. */
  #load(gva: bigint, bytes: number): Uint8Array {
    const data = new Uint8Array(bytes);
    for (let at = 0; at < bytes; ) {
      const from = gva + BigInt(at);
      const part = Math.min(bytes - at, 4096 - Number(from & 0xfffn));
      const memory = this.#what.hostMemory(from, false);
      const step = memory === undefined ? Math.min(part, 8) : part;
      data.set(memory?.subarray(0, step) ?? this.#ask(from, step), at);
      at += step;
    }
    return data;
  }

  #ask(gva: bigint, bytes: number): Uint8Array {
    const answer = this.#what.answers[this.#answered++];
    if (answer !== undefined) return answer.subarray(0, bytes);
    throw new Unfinished({ done: false, gpa: this.#gpa(gva), bytes });
  }

  #store(gva: bigint, data: Uint8Array): void {
    this.#gpa(gva);
    this.#stores.push({ gva, data });
  }

  #gpa(gva: bigint): number {
    const gpa = this.#what.translate(gva);
    if (gpa === undefined) throw new Unfinished({ done: undefined, errno: EFAULT });
    return gpa;
  }

  /** Writes what memory backs; the rest are the instruction's stores to devices. */
  #applyStores(): Store[] {
    const devices: Store[] = [];
    for (const { gva, data } of this.#stores) {
      for (let at = 0; at < data.length; ) {
        const to = gva + BigInt(at);
        const part = Math.min(data.length - at, 4096 - Number(to & 0xfffn));
        const memory = this.#what.hostMemory(to, true);
        const step = memory === undefined ? Math.min(part, 8) : part;
        const piece = data.slice(at, at + step);
        if (memory === undefined) devices.push({ gpa: this.#gpa(to), data: piece });
        else memory.set(piece);
        at += step;
      }
    }
    return devices;
  }
}

function segmentIndex({ Register: R }: Iced, register: Register): number {
  const indices = new Map([
    [R.ES, NVMM_X64_SEG_ES],
    [R.CS, NVMM_X64_SEG_CS],
    [R.SS, NVMM_X64_SEG_SS],
    [R.DS, NVMM_X64_SEG_DS],
    [R.FS, NVMM_X64_SEG_FS],
    [R.GS, NVMM_X64_SEG_GS],
  ]);
  return indices.get(register) ?? NVMM_X64_SEG_DS;
}

function toNumber(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return value;
}

function toBytes(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
