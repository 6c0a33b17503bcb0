import { Mnemonic, Register } from "../decoder/names.ts";
import { type Bits, Family } from "../flags/kinds.ts";
import { Seg, SegIndex, State } from "../state.ts";
import { moveControl, moveDebug } from "../system/control-emitters.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { gprBits } from "../translate/insn.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import {
  type CoreEmitter,
  operandBits,
  operandLocal,
  popOperand,
  pushOperand,
  readPlaceInto,
  signExtend,
} from "./operands.ts";

function isSegment(register: Register): boolean {
  return register >= Register.ES && register <= Register.GS;
}
function isControl(register: Register): boolean {
  return register >= Register.CR0 && register <= Register.CR15;
}
function isDebug(register: Register): boolean {
  return register >= Register.DR0 && register <= Register.DR15;
}

function mov(e: RegionEmitter): void {
  const { insn } = e;
  const first = insn.isRegister(0) ? insn.register(0) : Register.None;
  const second = insn.isRegister(1) ? insn.register(1) : Register.None;
  if (isSegment(first)) {
    pushOperand(e, 1, 16);
    loadSegment(e, first - Register.ES);
    return;
  }
  if (isSegment(second)) {
    e.loadState(Mem.i64_load32_u, State.segments + (second - Register.ES) * Seg.size + Seg.selector);
    popOperand(e, 0, insn.isMemory(0) ? 16 : gprBits(first));
    return;
  }
  if (isControl(first) || isControl(second)) {
    moveControl(e);
    return;
  }
  if (isDebug(first) || isDebug(second)) {
    moveDebug(e);
    return;
  }
  const bits = operandBits(e, 0);
  pushOperand(e, 1, bits);
  popOperand(e, 0, bits);
}

/**
 * Pops a selector (i64) into a segment register. In real and virtual-8086 mode that is a shift; in protected mode the
 * descriptor is read by the run loop's helper, and the block ends where the mode may change.
 */
export function loadSegment(e: RegionEmitter, segment: number): void {
  const c = e.code;
  const selector = e.temp(Type.i64);
  c.i64(0xffff);
  c.op(Op.i64_and);
  c.set(selector);
  if (e.mode.real && segment !== SegIndex.ss) {
    const slot = State.segments + segment * Seg.size;
    e.stateAddress();
    c.get(selector);
    e.storeState(Mem.i64_store32, slot + Seg.selector);
    e.stateAddress();
    c.get(selector);
    c.i64(4);
    c.op(Op.i64_shl);
    e.storeState(Mem.i64_store, slot + Seg.base);
    return;
  }
  c.i32(segment);
  c.get(selector);
  c.op(Op.i32_wrap_i64);
  e.endSystem("loadSegment", [Type.i32, Type.i32]);
}

function movExtended(signed: boolean): CoreEmitter {
  return (e) => {
    const from = operandBits(e, 1);
    pushOperand(e, 1, from);
    if (signed) signExtend(e, from);
    e.setGpr(e.insn.register(0));
  };
}

function lea(e: RegionEmitter): void {
  e.pushEffective(e.addressBits());
  e.setGpr(e.insn.register(0));
}

function xchg(e: RegionEmitter): void {
  const bits = operandBits(e, 1);
  const a = e.temp(Type.i64);
  const b = e.temp(Type.i64);
  const place = readPlaceInto(e, 0, bits, a);
  e.gpr(e.insn.register(1));
  e.code.set(b);
  e.writePlace(place, b);
  e.code.get(a);
  e.setGpr(e.insn.register(1));
}

function cmov(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const value = operandLocal(e, 1, bits);
  c.get(value);
  e.gpr(e.insn.register(0));
  e.condition(e.insn.raw.conditionCode);
  c.op(Op.select);
  e.setGpr(e.insn.register(0));
}

function setcc(e: RegionEmitter): void {
  e.condition(e.insn.raw.conditionCode);
  e.code.op(Op.i64_extend_i32_u);
  popOperand(e, 0, 8);
}

function accumulatorOf(bits: Bits): Register {
  return bits === 8 ? Register.AL : bits === 16 ? Register.AX : bits === 32 ? Register.EAX : Register.RAX;
}

function cmpxchg(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const accumulator = e.temp(Type.i64);
  const old = e.temp(Type.i64);
  const written = e.temp(Type.i64);
  const place = readPlaceInto(e, 0, bits, old);
  e.gpr(accumulatorOf(bits));
  c.set(accumulator);
  e.gpr(e.insn.register(1));
  c.get(old);
  c.get(accumulator);
  c.get(old);
  c.op(Op.i64_eq);
  c.op(Op.select);
  c.set(written);
  c.get(accumulator);
  c.get(old);
  c.op(Op.i64_ne);
  c.if();
  c.get(old);
  e.setGpr(accumulatorOf(bits));
  if (place.kind === "memory") {
    c.else();
  } else {
    c.else();
    e.writePlace(place, written);
  }
  c.end();
  if (place.kind === "memory") e.writePlace(place, written);
  c.get(accumulator);
  c.set(e.main.a);
  c.get(old);
  c.set(e.main.b);
  c.get(accumulator);
  c.get(old);
  c.op(Op.i64_sub);
  if (bits < 64) {
    c.i64((1n << BigInt(bits)) - 1n);
    c.op(Op.i64_and);
  }
  c.set(e.main.r);
  e.useFlags(Family.sub, bits);
}

/** CMPXCHG8B and CMPXCHG16B: only ZF changes. */
function cmpxchgPair(bits: 32 | 64): CoreEmitter {
  return (e) => {
    const c = e.code;
    const [a, d, b, cx] =
      bits === 32
        ? [Register.EAX, Register.EDX, Register.EBX, Register.ECX]
        : [Register.RAX, Register.RDX, Register.RBX, Register.RCX];
    const bytes = bits / 8;
    const place = e.memoryPlace(bits === 64 ? e.address({ align: 16 }) : e.address(), bytes * 2);
    const low = e.temp(Type.i64);
    const high = e.temp(Type.i64);
    const equal = e.temp(Type.i32);
    e.readPlace(place, 0, bytes);
    c.tee(low);
    e.gpr(a);
    c.op(Op.i64_eq);
    e.readPlace(place, bytes, bytes);
    c.tee(high);
    e.gpr(d);
    c.op(Op.i64_eq);
    c.op(Op.i32_and);
    c.set(equal);
    e.flags();
    c.i32(~0x40);
    c.op(Op.i32_and);
    c.get(equal);
    c.i32(6);
    c.op(Op.i32_shl);
    c.op(Op.i32_or);
    e.setFlags();
    c.get(equal);
    c.op(Op.i32_eqz);
    c.if();
    c.get(low);
    e.setGpr(a);
    c.get(high);
    e.setGpr(d);
    c.else();
    e.gpr(b);
    c.set(low);
    e.gpr(cx);
    c.set(high);
    c.end();
    e.writePlace(place, low, 0, bytes);
    e.writePlace(place, high, bytes, bytes);
  };
}

function xlat(e: RegionEmitter): void {
  e.load(e.address(), 1);
  e.setGpr(Register.AL);
}

/** LDS, LES, LFS, LGS, LSS: offset, then selector, from memory. */
function loadFarPointer(segment: number): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = gprBits(e.insn.register(0));
    const bytes = (bits / 8) as 2 | 4 | 8;
    const offset = e.temp(Type.i64);
    const selector = e.temp(Type.i64);
    e.checkRead(e.address(), bytes + 2, bytes);
    e.load(e.address(), bytes);
    c.set(offset);
    e.load(e.address(), 2, bytes);
    c.set(selector);
    if (e.mode.real && segment !== SegIndex.ss) {
      c.get(selector);
      loadSegment(e, segment);
      c.get(offset);
      e.setGpr(e.insn.register(0));
      return;
    }
    e.stateAddress();
    c.get(offset);
    e.storeState(Mem.i64_store, State.scratch);
    c.i32(segment);
    c.get(selector);
    c.op(Op.i32_wrap_i64);
    c.i32((e.insn.register(0) - registerBase(bits)) | (bits << 8));
    e.endSystem("loadFarPointer", [Type.i32, Type.i32, Type.i32]);
  };
}

function registerBase(bits: Bits): Register {
  return bits === 16 ? Register.AX : bits === 32 ? Register.EAX : Register.RAX;
}

/** Instructions that change nothing here: hints, and orders of memory accesses that are in order anyway. */
function nothing(): void {}

/** MOVNTI: an ordinary store. */
function movnti(e: RegionEmitter): void {
  const bits = operandBits(e, 1);
  pushOperand(e, 1, bits);
  popOperand(e, 0, bits);
}

/** CLFLUSH and kin: the address is checked like a load. */
function touch(e: RegionEmitter): void {
  e.load(e.address(), 1);
  e.code.op(Op.drop);
}

const CMOV = [
  Mnemonic.Cmova,
  Mnemonic.Cmovae,
  Mnemonic.Cmovb,
  Mnemonic.Cmovbe,
  Mnemonic.Cmove,
  Mnemonic.Cmovg,
  Mnemonic.Cmovge,
  Mnemonic.Cmovl,
  Mnemonic.Cmovle,
  Mnemonic.Cmovne,
  Mnemonic.Cmovno,
  Mnemonic.Cmovnp,
  Mnemonic.Cmovns,
  Mnemonic.Cmovo,
  Mnemonic.Cmovp,
  Mnemonic.Cmovs,
];
const SETCC = [
  Mnemonic.Seta,
  Mnemonic.Setae,
  Mnemonic.Setb,
  Mnemonic.Setbe,
  Mnemonic.Sete,
  Mnemonic.Setg,
  Mnemonic.Setge,
  Mnemonic.Setl,
  Mnemonic.Setle,
  Mnemonic.Setne,
  Mnemonic.Setno,
  Mnemonic.Setnp,
  Mnemonic.Setns,
  Mnemonic.Seto,
  Mnemonic.Setp,
  Mnemonic.Sets,
];
const HINTS = [
  Mnemonic.Nop,
  Mnemonic.Pause,
  Mnemonic.Prefetcht0,
  Mnemonic.Prefetcht1,
  Mnemonic.Prefetcht2,
  Mnemonic.Prefetchnta,
  Mnemonic.Prefetchw,
  Mnemonic.Prefetchwt1,
  Mnemonic.Prefetch,
  Mnemonic.Endbr32,
  Mnemonic.Endbr64,
  Mnemonic.Lfence,
  Mnemonic.Sfence,
  Mnemonic.Mfence,
  Mnemonic.Reservednop,
  Mnemonic.Prefetchit0,
  Mnemonic.Prefetchit1,
  Mnemonic.Cldemote,
  Mnemonic.Rdsspd,
  Mnemonic.Rdsspq,
];

export const moves: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Mov, mov],
  [Mnemonic.Movzx, movExtended(false)],
  [Mnemonic.Movsx, movExtended(true)],
  [Mnemonic.Movsxd, movExtended(true)],
  [Mnemonic.Lea, lea],
  [Mnemonic.Xchg, xchg],
  [Mnemonic.Cmpxchg, cmpxchg],
  [Mnemonic.Cmpxchg8b, cmpxchgPair(32)],
  [Mnemonic.Cmpxchg16b, cmpxchgPair(64)],
  [Mnemonic.Xlatb, xlat],
  [Mnemonic.Lds, loadFarPointer(SegIndex.ds)],
  [Mnemonic.Les, loadFarPointer(SegIndex.es)],
  [Mnemonic.Lfs, loadFarPointer(SegIndex.fs)],
  [Mnemonic.Lgs, loadFarPointer(SegIndex.gs)],
  [Mnemonic.Lss, loadFarPointer(SegIndex.ss)],
  [Mnemonic.Movnti, movnti],
  [Mnemonic.Clflush, touch],
  [Mnemonic.Clflushopt, touch],
  [Mnemonic.Clwb, touch],
  ...CMOV.map((m) => [m, cmov] as const),
  ...SETCC.map((m) => [m, setcc] as const),
  ...HINTS.map((m) => [m, nothing] as const),
];
