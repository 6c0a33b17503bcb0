import { Mnemonic, Register } from "../decoder/names.ts";
import { type Bits, Family } from "../flags/kinds.ts";
import { State, Vector } from "../state.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { Mem, Op, Type, Wide } from "../wasm/opcodes.ts";
import {
  type CoreEmitter,
  operandBits,
  operandLocal,
  popOperand,
  pushOperand,
  readPlaceInto,
  signExtend,
  truncate,
} from "./operands.ts";

/** a and b into the flag locals, in an order in which a fault of either leaves the old flags alone. */
function loadBoth(e: RegionEmitter, bits: Bits, writes: boolean) {
  const a = e.temp(Type.i64);
  const place = writes ? readPlaceInto(e, 0, bits, a) : undefined;
  if (!writes) {
    pushOperand(e, 0, bits);
    e.code.set(a);
  }
  const b = operandLocal(e, 1, bits);
  return { a, b, place };
}

function setMain(e: RegionEmitter, a: number | undefined, b: number | undefined, r: number): void {
  const c = e.code;
  for (const [from, to] of [
    [a, e.main.a],
    [b, e.main.b],
    [r, e.main.r],
  ] as const) {
    if (from === undefined) continue;
    c.get(from);
    c.set(to);
  }
}

/** ADD, ADC, SUB, SBB, CMP. */
function sum(family: Family, writes = true): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const { a, b, place } = loadBoth(e, bits, writes);
    const r = e.temp(Type.i64);
    const op = family === Family.add || family === Family.adc ? Op.i64_add : Op.i64_sub;
    c.get(a);
    c.get(b);
    c.op(op);
    if (family === Family.adc || family === Family.sbb) {
      e.carryFlag();
      c.op(Op.i64_extend_i32_u);
      c.op(op);
    }
    truncate(e, bits);
    c.set(r);
    if (place !== undefined) e.writePlace(place, r);
    setMain(e, a, b, r);
    e.useFlags(family, bits);
  };
}

type BinaryOp = typeof Op.i64_and | typeof Op.i64_or | typeof Op.i64_xor;

function logic(op: BinaryOp, writes = true): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const { a, b, place } = loadBoth(e, bits, writes);
    const r = e.temp(Type.i64);
    c.get(a);
    c.get(b);
    c.op(op);
    c.set(r);
    if (place !== undefined) e.writePlace(place, r);
    setMain(e, undefined, undefined, r);
    e.useFlags(Family.logic, bits);
  };
}

function step(family: typeof Family.inc | typeof Family.dec): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const a = e.temp(Type.i64);
    const r = e.temp(Type.i64);
    const place = readPlaceInto(e, 0, bits, a);
    c.get(a);
    c.i64(1);
    c.op(family === Family.inc ? Op.i64_add : Op.i64_sub);
    truncate(e, bits);
    c.set(r);
    e.writePlace(place, r);
    e.keepFlags([Family.inc, Family.dec]);
    setMain(e, undefined, undefined, r);
    e.useFlags(family, bits);
  };
}

function neg(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const b = e.temp(Type.i64);
  const r = e.temp(Type.i64);
  const place = readPlaceInto(e, 0, bits, b);
  c.i64(0);
  c.get(b);
  c.op(Op.i64_sub);
  truncate(e, bits);
  c.set(r);
  e.writePlace(place, r);
  c.i64(0);
  c.set(e.main.a);
  setMain(e, undefined, b, r);
  e.useFlags(Family.sub, bits);
}

function not(e: RegionEmitter): void {
  const bits = operandBits(e, 0);
  const a = e.temp(Type.i64);
  const place = readPlaceInto(e, 0, bits, a);
  e.code.get(a);
  e.code.i64(-1);
  e.code.op(Op.i64_xor);
  truncate(e, bits);
  e.code.set(a);
  e.writePlace(place, a);
}

function xadd(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const { a, b, place } = loadBoth(e, bits, true);
  const r = e.temp(Type.i64);
  c.get(a);
  c.get(b);
  c.op(Op.i64_add);
  truncate(e, bits);
  c.set(r);
  // The source register first, so that XADD of a register with itself leaves the sum.
  if (place !== undefined && place.kind === "register") {
    c.get(a);
    e.setGpr(e.insn.register(1));
    e.writePlace(place, r);
  } else if (place !== undefined) {
    e.writePlace(place, r);
    c.get(a);
    e.setGpr(e.insn.register(1));
  }
  setMain(e, a, b, r);
  e.useFlags(Family.add, bits);
}

/** ADCX and ADOX: an addition that reads and writes one flag only. */
function addOneFlag(flag: "CF" | "OF"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const mask = flag === "CF" ? 0x1 : 0x800;
    const shift = flag === "CF" ? 0 : 11;
    const a = operandLocal(e, 0, bits);
    const b = operandLocal(e, 1, bits);
    const flags = e.temp(Type.i32);
    const carry = e.temp(Type.i64);
    const r = e.temp(Type.i64);
    e.flags();
    c.tee(flags);
    c.i32(shift);
    c.op(Op.i32_shr_u);
    c.i32(1);
    c.op(Op.i32_and);
    c.op(Op.i64_extend_i32_u);
    c.set(carry);
    c.get(a);
    c.get(b);
    c.op(Op.i64_add);
    c.get(carry);
    c.op(Op.i64_add);
    truncate(e, bits);
    c.set(r);
    // Carry out: the sum is below a, or equal to it with a carry in and b all ones.
    c.get(r);
    c.get(a);
    c.op(Op.i64_lt_u);
    c.get(r);
    c.get(a);
    c.op(Op.i64_eq);
    c.get(carry);
    c.op(Op.i32_wrap_i64);
    c.op(Op.i32_and);
    c.op(Op.i32_or);
    c.i32(shift);
    c.op(Op.i32_shl);
    c.get(flags);
    c.i32(~mask);
    c.op(Op.i32_and);
    c.op(Op.i32_or);
    e.setFlags();
    c.get(r);
    popOperand(e, 0, bits);
  };
}

/** Leaves RDX:RAX (by width) = two halves in locals. */
function storePair(e: RegionEmitter, bits: Bits, low: number, high: number): void {
  const c = e.code;
  if (bits === 8) {
    c.get(low);
    c.i64(0xffn);
    c.op(Op.i64_and);
    c.get(high);
    c.i64(8);
    c.op(Op.i64_shl);
    c.op(Op.i64_or);
    e.setGpr(accumulator(16));
    return;
  }
  c.get(low);
  e.setGpr(accumulator(bits));
  c.get(high);
  e.setGpr(data(bits));
}

function accumulator(bits: Bits): Register {
  return bits === 8 ? Register.AL : bits === 16 ? Register.AX : bits === 32 ? Register.EAX : Register.RAX;
}
function data(bits: Bits): Register {
  return bits === 16 ? Register.DX : bits === 32 ? Register.EDX : Register.RDX;
}

/** The product of two locals as two halves of `bits` each. */
function product(e: RegionEmitter, bits: Bits, a: number, b: number, signed: boolean): { low: number; high: number } {
  const c = e.code;
  const low = e.temp(Type.i64);
  const high = e.temp(Type.i64);
  c.get(a);
  if (signed) signExtend(e, bits);
  c.get(b);
  if (signed) signExtend(e, bits);
  if (bits === 64) {
    c.wide(signed ? Wide.i64_mul_wide_s : Wide.i64_mul_wide_u);
    c.set(high);
    c.set(low);
    return { low, high };
  }
  c.op(Op.i64_mul);
  c.tee(low);
  c.i64(bits);
  c.op(Op.i64_shr_u);
  truncate(e, bits);
  c.set(high);
  c.get(low);
  truncate(e, bits);
  c.set(low);
  return { low, high };
}

/** CF and OF by whether the high half says more than the low one; ZF, SF, PF by the low half as AMD and Intel leave them. */
function multiplyFlags(e: RegionEmitter, bits: Bits, low: number, high: number, signed: boolean): void {
  const c = e.code;
  c.get(high);
  if (signed) {
    signExtend(e, bits);
    c.get(low);
    signExtend(e, bits);
    c.i64(63);
    c.op(Op.i64_shr_s);
  } else c.i64(0);
  c.op(Op.i64_ne);
  c.op(Op.i64_extend_i32_u);
  c.tee(e.main.a);
  c.set(e.main.b);
  c.get(low);
  c.set(e.main.r);
  e.useFlags(Family.result, bits);
}

function multiply(signed: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    if (e.insn.operands === 1) {
      const bits = operandBits(e, 0);
      const b = operandLocal(e, 0, bits);
      const a = e.temp(Type.i64);
      e.gpr(accumulator(bits));
      c.set(a);
      const { low, high } = product(e, bits, a, b, signed);
      storePair(e, bits, low, high);
      multiplyFlags(e, bits, low, high, signed);
      return;
    }
    const bits = operandBits(e, 0);
    const three = e.insn.operands === 3;
    const a = operandLocal(e, three ? 1 : 0, bits);
    const b = operandLocal(e, three ? 2 : 1, bits);
    const { low, high } = product(e, bits, a, b, true);
    c.get(low);
    e.setGpr(e.insn.register(0));
    multiplyFlags(e, bits, low, high, true);
  };
}

/** MULX: no flags; the first operand is the high half and wins when both are one register. */
function mulx(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const b = operandLocal(e, 2, bits);
  const a = e.temp(Type.i64);
  e.gpr(data(bits));
  c.set(a);
  const { low, high } = product(e, bits, a, b, false);
  c.get(low);
  e.setGpr(e.insn.register(1));
  c.get(high);
  e.setGpr(e.insn.register(0));
}

/** DIV and IDIV up to 32 bits: the dividend fits 64. #DE on zero and on a quotient that does not fit. */
function divideNarrow(e: RegionEmitter, bits: 8 | 16 | 32, signed: boolean): void {
  const c = e.code;
  const divisor = operandLocal(e, 0, bits);
  const dividend = e.temp(Type.i64);
  const quotient = e.temp(Type.i64);
  const rest = e.temp(Type.i64);
  if (bits === 8) e.gpr(Register.AX);
  else {
    e.gpr(accumulator(bits));
    e.gpr(data(bits));
    c.i64(bits);
    c.op(Op.i64_shl);
    c.op(Op.i64_or);
  }
  if (signed) signExtend(e, bits === 8 ? 16 : bits === 16 ? 32 : 64);
  c.set(dividend);
  c.get(divisor);
  if (signed) signExtend(e, bits);
  c.tee(divisor);
  c.op(Op.i64_eqz);
  if (signed && bits === 32) {
    // The only quotient that overflows 64 bits, which would trap in WebAssembly.
    c.get(dividend);
    c.i64(-(1n << 63n));
    c.op(Op.i64_eq);
    c.get(divisor);
    c.i64(-1);
    c.op(Op.i64_eq);
    c.op(Op.i32_and);
    c.op(Op.i32_or);
  }
  e.raiseIf(Vector.DE);
  c.get(dividend);
  c.get(divisor);
  c.op(signed ? Op.i64_div_s : Op.i64_div_u);
  c.tee(quotient);
  c.get(quotient);
  if (signed) signExtend(e, bits);
  else truncate(e, bits);
  c.op(Op.i64_ne);
  e.raiseIf(Vector.DE);
  c.get(dividend);
  c.get(divisor);
  c.op(signed ? Op.i64_rem_s : Op.i64_rem_u);
  c.set(rest);
  storePair(e, bits, quotient, rest);
}

/** 64 bits: short dividends here, long ones in TypeScript. */
function divideWide(e: RegionEmitter, signed: boolean): void {
  const c = e.code;
  const divisor = operandLocal(e, 0, 64);
  const low = e.temp(Type.i64);
  const high = e.temp(Type.i64);
  const quotient = e.temp(Type.i64);
  const rest = e.temp(Type.i64);
  e.gpr(Register.RAX);
  c.set(low);
  e.gpr(Register.RDX);
  c.set(high);
  c.get(divisor);
  c.op(Op.i64_eqz);
  e.raiseIf(Vector.DE);
  c.get(high);
  if (signed) {
    c.get(low);
    c.i64(63);
    c.op(Op.i64_shr_s);
    c.op(Op.i64_eq);
    c.get(divisor);
    c.i64(-1);
    c.op(Op.i64_ne);
    c.op(Op.i32_and);
  } else c.op(Op.i64_eqz);
  c.if();
  c.get(low);
  c.get(divisor);
  c.op(signed ? Op.i64_div_s : Op.i64_div_u);
  c.set(quotient);
  c.get(low);
  c.get(divisor);
  c.op(signed ? Op.i64_rem_s : Op.i64_rem_u);
  c.set(rest);
  c.else();
  for (const [local, offset] of [
    [low, 0],
    [high, 8],
    [divisor, 16],
  ] as const) {
    e.stateAddress();
    c.get(local);
    e.storeState(Mem.i64_store, State.scratch + offset);
  }
  c.i32(signed ? 1 : 0);
  e.call("divide128", [Type.i32], "faults");
  e.loadState(Mem.i64_load, State.scratch);
  c.set(quotient);
  e.loadState(Mem.i64_load, State.scratch + 8);
  c.set(rest);
  c.end();
  storePair(e, 64, quotient, rest);
}

function divide(signed: boolean): CoreEmitter {
  return (e) => {
    const bits = operandBits(e, 0);
    if (bits === 64) divideWide(e, signed);
    else divideNarrow(e, bits, signed);
  };
}

/** CBW, CWDE, CDQE: the accumulator sign-extended to twice its width. */
function extend(from: Bits, to: Register): CoreEmitter {
  return (e) => {
    e.gpr(accumulator(from));
    signExtend(e, from);
    e.setGpr(to);
  };
}

/** CWD, CDQ, CQO: the accumulator's sign all over the data register. */
function spread(bits: Bits): CoreEmitter {
  return (e) => {
    e.gpr(accumulator(bits));
    signExtend(e, bits);
    e.code.i64(63);
    e.code.op(Op.i64_shr_s);
    e.setGpr(data(bits));
  };
}

export const arithmetic: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Add, sum(Family.add)],
  [Mnemonic.Adc, sum(Family.adc)],
  [Mnemonic.Sub, sum(Family.sub)],
  [Mnemonic.Sbb, sum(Family.sbb)],
  [Mnemonic.Cmp, sum(Family.sub, false)],
  [Mnemonic.And, logic(Op.i64_and)],
  [Mnemonic.Or, logic(Op.i64_or)],
  [Mnemonic.Xor, logic(Op.i64_xor)],
  [Mnemonic.Test, logic(Op.i64_and, false)],
  [Mnemonic.Inc, step(Family.inc)],
  [Mnemonic.Dec, step(Family.dec)],
  [Mnemonic.Neg, neg],
  [Mnemonic.Not, not],
  [Mnemonic.Xadd, xadd],
  [Mnemonic.Adcx, addOneFlag("CF")],
  [Mnemonic.Adox, addOneFlag("OF")],
  [Mnemonic.Mul, multiply(false)],
  [Mnemonic.Imul, multiply(true)],
  [Mnemonic.Mulx, mulx],
  [Mnemonic.Div, divide(false)],
  [Mnemonic.Idiv, divide(true)],
  [Mnemonic.Cbw, extend(8, Register.AX)],
  [Mnemonic.Cwde, extend(16, Register.EAX)],
  [Mnemonic.Cdqe, extend(32, Register.RAX)],
  [Mnemonic.Cwd, spread(16)],
  [Mnemonic.Cdq, spread(32)],
  [Mnemonic.Cqo, spread(64)],
];
