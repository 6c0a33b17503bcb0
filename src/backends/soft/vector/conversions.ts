import { MemorySize, Register } from "../decoder/names.ts";
import { State } from "../state.ts";
import type { Emit, Emitter } from "../translate/context.ts";
import { Mem, Op, Simd, SimdMem, Type, Wide } from "../wasm/opcodes.ts";
import { FLOAT32, FLOAT64, INT32, INT64 } from "./conversion-helpers.ts";
import { callHelper, passOperands, takeResult } from "./floating.ts";
import { OPERAND_B, RESULT } from "./floating-helpers.ts";
import { pickLanes } from "./integer-lanes.ts";
import {
  emitMmxTransition,
  entered,
  hold,
  isVex,
  isYmm,
  keep,
  pushRegister,
  type Source,
  scalarSource,
  source128,
  sourceOf,
  sources,
  usesMmx,
  writeVector,
} from "./operands.ts";
import { allSet, PD, PS, pushComparable, pushQuietMxcsr, SD, type Shape, SS, splat } from "./ordinary.ts";

/** Runs the helper into `results` unless the condition on the stack holds. */
function unlessHolds(e: Emit, inputs: readonly Source[], args: readonly number[], results: readonly number[]): void {
  e.code.op(Op.i32_eqz);
  e.code.if();
  passOperands(e, [[], inputs]);
  callHelper(e, "sse.convert", ...args);
  takeResult(e, results);
  e.code.end();
}

/** Pushes 1 when each pair of vectors is equal in every lane. */
function pushAllEqual(e: Emit, lane: "f32x4" | "f64x2", pairs: readonly (readonly [() => void, () => void])[]): void {
  pairs.forEach(([x, y], i) => {
    x();
    y();
    e.code.simd(Simd[`${lane}_eq`]);
    if (i > 0) e.code.simd(Simd.v128_and);
  });
  e.code.simd(Simd.i32x4_all_true);
}

/** CVTDQ2PS: exact up to 2^24. */
const integersToSingles: Emitter = entered((e) => {
  const b = sources(e, 1).map((push) => hold(e, push));
  const results = b.map((push) => {
    push();
    e.code.simd(Simd.f32x4_convert_i32x4_s);
    return keep(e);
  });
  pushQuietMxcsr(e);
  b.forEach((push, i) => {
    push();
    e.code.simd(Simd.i32x4_abs);
    splat(e, 4, 0x0100_0000n);
    e.code.simd(Simd.i32x4_le_u);
    if (i > 0) e.code.simd(Simd.v128_and);
  });
  e.code.simd(Simd.i32x4_all_true);
  e.code.op(Op.i32_or);
  unlessHolds(e, b, [INT32, FLOAT32, 4 * b.length, 0], results);
  writeVector(
    e,
    e.insn.register(0),
    results.map((r) => sourceOf(e, r)),
  );
});

/** A source of half the destination's width: 64 bits for XMM, 128 for YMM. */
function halfSource(e: Emit): Source {
  if (isYmm(e.insn.register(0))) return hold(e, source128(e, 1, "never"));
  return hold(e, scalarSource(e, 1, 8));
}

/** The 64 bits of a source that half `n` of the result is made of, moved to the low end. */
function lowerHalf(e: Emit, push: Source, n: number): void {
  push();
  if (n === 0) return;
  push();
  e.code.shuffle(pickLanes(8, [1, 3]));
}

/** CVTDQ2PD: always exact. */
const integersToDoubles: Emitter = entered((e) => {
  const b = halfSource(e);
  const halves = isYmm(e.insn.register(0)) ? [0, 1] : [0];
  writeVector(
    e,
    e.insn.register(0),
    halves.map((n) => () => {
      lowerHalf(e, b, n);
      e.code.simd(Simd.f64x2_convert_low_i32x4_s);
    }),
  );
});

/** CVTPS2DQ and CVTTPS2DQ. */
function singlesToIntegers(mode: "round" | "truncate"): Emitter {
  return entered((e) => {
    const { code } = e;
    const b = sources(e, 1).map((push) => hold(e, push));
    const results = b.map((push) => {
      push();
      if (mode === "round") code.simd(Simd.f32x4_nearest);
      code.simd(Simd.i32x4_trunc_sat_f32x4_s);
      return keep(e);
    });
    pushMayBeInexact(e, mode);
    pushAllEqual(
      e,
      "f32x4",
      b.map((push, i) => [
        push,
        () => {
          code.get(results[i]!);
          code.simd(Simd.f32x4_convert_i32x4_s);
        },
      ]),
    );
    code.op(Op.i32_or);
    b.forEach((push, i) => {
      push();
      code.simd(Simd.f32x4_abs);
      splat(e, 4, 0x4f00_0000n); // 2^31
      code.simd(Simd.f32x4_lt);
      if (i > 0) code.simd(Simd.v128_and);
    });
    code.simd(Simd.i32x4_all_true);
    code.op(Op.i32_and);
    unlessHolds(e, b, [FLOAT32, INT32, 4 * b.length, mode === "truncate" ? 1 : 0], results);
    writeVector(
      e,
      e.insn.register(0),
      results.map((r) => sourceOf(e, r)),
    );
  });
}

/** Pushes 1 when an inexact result needs nothing done. */
function pushMayBeInexact(e: Emit, mode: "round" | "truncate"): void {
  if (mode === "round") {
    pushQuietMxcsr(e);
    return;
  }
  e.loadState(Mem.i32_load, State.mxcsr);
  e.code.i32(0x1020);
  e.code.op(Op.i32_and);
  e.code.i32(0x1020);
  e.code.op(Op.i32_eq);
}

/** Joins the low 64 bits of one or two vectors into one: results half as wide as their operands. */
function joinLow(e: Emit, parts: readonly number[]): Source {
  return () => {
    e.code.get(parts[0]!);
    if (parts.length === 2) e.code.get(parts[1]!);
    else e.code.v128(0n, 0n);
    e.code.shuffle(pickLanes(8, [0, 2]));
  };
}

/** CVTPD2DQ and CVTTPD2DQ: the result is half as wide. */
function doublesToIntegers(mode: "round" | "truncate"): Emitter {
  return entered((e) => {
    const { code } = e;
    const b = sources(e, 1).map((push) => hold(e, push));
    const rounded = b.map((push) => {
      push();
      code.simd(mode === "round" ? Simd.f64x2_nearest : Simd.f64x2_trunc);
      return keep(e);
    });
    const parts = rounded.map((r) => {
      code.get(r);
      code.simd(Simd.i32x4_trunc_sat_f64x2_s_zero);
      return keep(e);
    });
    const result = e.temp(Type.v128);
    joinLow(e, parts)();
    code.set(result);
    pushMayBeInexact(e, mode);
    pushAllEqual(
      e,
      "f64x2",
      b.map((push, i) => [push, () => code.get(rounded[i]!)]),
    );
    code.op(Op.i32_or);
    rounded.forEach((r, i) => {
      code.get(r);
      splat(e, 8, 0xc1e0_0000_0000_0000n); // -2^31
      code.simd(Simd.f64x2_ge);
      code.get(r);
      splat(e, 8, 0x41df_ffff_ffc0_0000n); // 2^31 - 1
      code.simd(Simd.f64x2_le);
      code.simd(Simd.v128_and);
      if (i > 0) code.simd(Simd.v128_and);
    });
    code.simd(Simd.i64x2_all_true);
    code.op(Op.i32_and);
    narrowUnlessHolds(e, b, [FLOAT64, INT32, 2 * b.length, mode === "truncate" ? 1 : 0], result);
    writeVector(e, e.insn.register(0), [() => code.get(result)]);
  });
}

/** As `unlessHolds` for results half as wide as their operands: two lanes leave the upper 64 bits zero. */
function narrowUnlessHolds(e: Emit, b: readonly Source[], args: readonly number[], result: number): void {
  e.code.op(Op.i32_eqz);
  e.code.if();
  passOperands(e, [[], b]);
  callHelper(e, "sse.convert", ...args);
  e.loadState(b.length === 1 ? SimdMem.v128_load64_zero : SimdMem.v128_load, RESULT);
  e.code.set(result);
  e.code.end();
}

/** CVTPS2PD. */
const singlesToDoubles: Emitter = entered((e) => {
  const b = halfSource(e);
  const halves = isYmm(e.insn.register(0)) ? [0, 1] : [0];
  const results = halves.map((n) => {
    lowerHalf(e, b, n);
    e.code.simd(Simd.f64x2_promote_low_f32x4);
    return keep(e);
  });
  pushComparable(e, PS, [b]);
  unlessHolds(e, [b], [FLOAT32, FLOAT64, 2 * halves.length, 0], results);
  writeVector(
    e,
    e.insn.register(0),
    results.map((r) => sourceOf(e, r)),
  );
});

/** Pushes 1 when binary64 lanes convert to normal binary32 numbers, or are zero. */
function pushNarrows(e: Emit, shape: Shape, b: Source): void {
  const { code } = e;
  b();
  code.simd(Simd.f64x2_abs);
  const magnitude = keep(e);
  code.get(magnitude);
  splat(e, 8, 0x3810_0000_0000_0000n); // 2^-126
  code.simd(Simd.f64x2_gt);
  code.get(magnitude);
  splat(e, 8, 0x47e0_0000_0000_0000n); // 2^127
  code.simd(Simd.f64x2_lt);
  code.simd(Simd.v128_and);
  code.get(magnitude);
  code.v128(0n, 0n);
  code.simd(Simd.f64x2_eq);
  code.simd(Simd.v128_or);
  allSet(e, shape);
}

/** Pushes 1 when a demotion lost nothing. */
function pushDemotedExactly(e: Emit, shape: Shape, b: Source, result: number): void {
  b();
  e.code.get(result);
  e.code.simd(Simd.f64x2_promote_low_f32x4);
  e.code.simd(Simd.f64x2_eq);
  allSet(e, shape);
}

/** CVTPD2PS. */
const doublesToSingles: Emitter = entered((e) => {
  const { code } = e;
  const b = sources(e, 1).map((push) => hold(e, push));
  const parts = b.map((push) => {
    push();
    code.simd(Simd.f32x4_demote_f64x2_zero);
    return keep(e);
  });
  const result = e.temp(Type.v128);
  joinLow(e, parts)();
  code.set(result);
  pushQuietMxcsr(e);
  b.forEach((push, i) => {
    pushDemotedExactly(e, PD, push, parts[i]!);
    if (i > 0) code.op(Op.i32_and);
  });
  code.op(Op.i32_or);
  for (const push of b) {
    pushNarrows(e, PD, push);
    code.op(Op.i32_and);
  }
  narrowUnlessHolds(e, b, [FLOAT64, FLOAT32, 2 * b.length, 0], result);
  writeVector(e, e.insn.register(0), [() => code.get(result)]);
});

/** Writes a scalar result into the low lane; the rest comes from the destination, or from a VEX form's second operand. */
function writeScalar(e: Emit, bytes: 4 | 8, result: number): void {
  const base = e.insn.register(isVex(e) ? 1 : 0);
  writeVector(e, e.insn.register(0), [
    () => {
      pushRegister(e, base);
      e.code.get(result);
      e.code.shuffle(pickLanes(bytes, bytes === 4 ? [4, 1, 2, 3] : [2, 1]));
    },
  ]);
}

/** CVTSS2SD. */
const singleToDouble: Emitter = entered((e) => {
  const b = hold(e, scalarSource(e, isVex(e) ? 2 : 1, 4));
  b();
  e.code.simd(Simd.f64x2_promote_low_f32x4);
  const result = keep(e);
  pushComparable(e, SS, [b]);
  unlessHolds(e, [b], [FLOAT32, FLOAT64, 1, 0], [result]);
  writeScalar(e, 8, result);
});

/** CVTSD2SS. */
const doubleToSingle: Emitter = entered((e) => {
  const b = hold(e, scalarSource(e, isVex(e) ? 2 : 1, 8));
  b();
  e.code.simd(Simd.f32x4_demote_f64x2_zero);
  const result = keep(e);
  pushQuietMxcsr(e);
  pushDemotedExactly(e, SD, b, result);
  e.code.op(Op.i32_or);
  pushNarrows(e, SD, b);
  e.code.op(Op.i32_and);
  unlessHolds(e, [b], [FLOAT64, FLOAT32, 1, 0], [result]);
  writeScalar(e, 4, result);
});

/** Whether the integer side of a scalar conversion has 64 bits, as iced's code says by its operand. */
function integerIs64(e: Emit, operand: number): boolean {
  if (e.insn.isRegister(operand)) return e.insn.register(operand) >= Register.RAX;
  return e.insn.raw.memorySize === MemorySize.Int64;
}

/** CVTSI2SS and CVTSI2SD: exact when it converts back. */
function integerToScalar(bytes: 4 | 8): Emitter {
  return entered((e) => {
    const { code, insn } = e;
    const operand = isVex(e) ? 2 : 1;
    const wide = integerIs64(e, operand);
    const value = e.temp(Type.i64);
    if (insn.isMemory(operand)) e.load(e.address(), wide ? 8 : 4);
    else e.gpr(insn.register(operand));
    if (!wide) code.op(Op.i64_extend32_s);
    code.set(value);
    const type = bytes === 4 ? Type.f32 : Type.f64;
    const number = e.temp(type);
    code.get(value);
    code.op(bytes === 4 ? Op.f32_convert_i64_s : Op.f64_convert_i64_s);
    code.set(number);
    code.get(number);
    code.simd(bytes === 4 ? Simd.f32x4_splat : Simd.f64x2_splat);
    const result = keep(e);
    if (wide || bytes === 4) {
      pushQuietMxcsr(e);
      code.get(number);
      code.wide(bytes === 4 ? Wide.i64_trunc_sat_f32_s : Wide.i64_trunc_sat_f64_s);
      code.get(value);
      code.op(Op.i64_eq);
      // The largest integers round up to 2^63, which saturates back to the largest.
      code.get(value);
      code.i64(0x7fff_ffff_ffff_ffffn);
      code.op(Op.i64_ne);
      code.op(Op.i32_and);
      code.op(Op.i32_or);
      code.op(Op.i32_eqz);
      code.if();
      e.stateAddress();
      code.get(value);
      e.storeState(Mem.i64_store, OPERAND_B);
      callHelper(e, "sse.convert", INT64, bytes === 4 ? FLOAT32 : FLOAT64, 1, 0);
      takeResult(e, [result]);
      code.end();
    }
    writeScalar(e, bytes, result);
  });
}

/** CVTSS2SI, CVTSD2SI and the truncating forms. */
function scalarToInteger(bytes: 4 | 8, mode: "round" | "truncate"): Emitter {
  return entered((e) => {
    const { code, insn } = e;
    const wide = integerIs64(e, 0);
    const b = hold(e, scalarSource(e, 1, bytes));
    const f = bytes === 4 ? "f32" : "f64";
    const type = bytes === 4 ? Type.f32 : Type.f64;
    const x = e.temp(type);
    const v = e.temp(type);
    b();
    code.lane(bytes === 4 ? 31 : 33, 0);
    code.tee(x);
    code.op(Op[`${f}_${mode === "round" ? "nearest" : "trunc"}`]);
    code.set(v);
    const result = e.temp(Type.i64);
    code.get(v);
    code.wide(Wide[`i64_trunc_sat_${f}_s`]);
    code.set(result);
    pushMayBeInexact(e, mode);
    code.get(x);
    code.get(v);
    code.op(Op[`${f}_eq`]);
    code.op(Op.i32_or);
    const constant = (n: number) => (bytes === 4 ? code.f32(n) : code.f64(n));
    code.get(v);
    constant(wide ? -(2 ** 63) : -(2 ** 31));
    code.op(Op[`${f}_ge`]);
    code.op(Op.i32_and);
    code.get(v);
    constant(wide ? 2 ** 63 : 2 ** 31);
    code.op(Op[`${f}_lt`]);
    code.op(Op.i32_and);
    code.op(Op.i32_eqz);
    code.if();
    passOperands(e, [[], [b]]);
    callHelper(e, "sse.convert", bytes === 4 ? FLOAT32 : FLOAT64, wide ? INT64 : INT32, 1, mode === "truncate" ? 1 : 0);
    e.loadState(wide ? Mem.i64_load : Mem.i64_load32_u, RESULT);
    code.set(result);
    code.end();
    code.get(result);
    e.setGpr(insn.register(0));
  });
}

/** CVTPI2PS and CVTPI2PD: two integers of an MMX register or of memory. */
function mmxToFloats(to: typeof FLOAT32 | typeof FLOAT64): Emitter {
  return entered((e) => {
    const b = hold(e, scalarSource(e, 1, 8));
    // The registers change over before a floating-point exception is found.
    if (usesMmx(e)) emitMmxTransition(e);
    passOperands(e, [[], [b]]);
    callHelper(e, "sse.convert", INT32, to, 2, 0);
    const result = e.temp(Type.v128);
    takeResult(e, [result]);
    if (to === FLOAT32) writeScalar(e, 8, result);
    else writeVector(e, e.insn.register(0), [sourceOf(e, result)]);
  });
}

/** CVTPS2PI, CVTPD2PI and the truncating forms: two floats to two integers in an MMX register. */
function floatsToMmx(from: typeof FLOAT32 | typeof FLOAT64, mode: "round" | "truncate"): Emitter {
  return entered((e) => {
    const { insn } = e;
    let b: Source;
    if (from === FLOAT32) b = hold(e, scalarSource(e, 1, 8));
    else if (insn.isMemory(1)) {
      e.load(e.address({ align: 16 }), 16);
      b = sourceOf(e, keep(e));
    } else b = hold(e, () => pushRegister(e, insn.register(1)));
    emitMmxTransition(e);
    passOperands(e, [[], [b]]);
    callHelper(e, "sse.convert", from, INT32, 2, mode === "truncate" ? 1 : 0);
    const result = e.temp(Type.v128);
    takeResult(e, [result]);
    writeVector(e, insn.register(0), [sourceOf(e, result)]);
  });
}

/** VCVTPH2PS. */
const halvesToSingles: Emitter = entered((e) => {
  const wide = isYmm(e.insn.register(0));
  const b = halfSource(e);
  passOperands(e, [[], [b]]);
  callHelper(e, "sse.fromHalf", wide ? 8 : 4);
  const results = (wide ? [0, 1] : [0]).map(() => e.temp(Type.v128));
  takeResult(e, results);
  writeVector(
    e,
    e.insn.register(0),
    results.map((r) => sourceOf(e, r)),
  );
});

/** VCVTPS2PH: to a register, or half as many bytes of memory. */
const singlesToHalves: Emitter = entered((e) => {
  const { insn, code } = e;
  const wide = isYmm(insn.register(1));
  const bytes = wide ? 16 : 8;
  const at = insn.isMemory(0) ? e.address() : undefined;
  if (at) e.checkWrite(at, bytes);
  passOperands(e, [[], sources(e, 1)]);
  callHelper(e, "sse.toHalf", wide ? 8 : 4, insn.imm8);
  if (!at) {
    writeVector(e, insn.register(0), [() => e.loadState(SimdMem.v128_load, RESULT)]);
    return;
  }
  const value = e.temp(wide ? Type.v128 : Type.i64);
  e.loadState(wide ? SimdMem.v128_load : Mem.i64_load, RESULT);
  code.set(value);
  e.store(at, bytes, value);
});

/** By SSE name; VEX names have a V in front. */
export const CONVERSIONS: Readonly<Record<string, Emitter>> = {
  Cvtdq2ps: integersToSingles,
  Cvtdq2pd: integersToDoubles,
  Cvtps2dq: singlesToIntegers("round"),
  Cvttps2dq: singlesToIntegers("truncate"),
  Cvtpd2dq: doublesToIntegers("round"),
  Cvttpd2dq: doublesToIntegers("truncate"),
  Cvtps2pd: singlesToDoubles,
  Cvtpd2ps: doublesToSingles,
  Cvtss2sd: singleToDouble,
  Cvtsd2ss: doubleToSingle,
  Cvtsi2ss: integerToScalar(4),
  Cvtsi2sd: integerToScalar(8),
  Cvtss2si: scalarToInteger(4, "round"),
  Cvtsd2si: scalarToInteger(8, "round"),
  Cvttss2si: scalarToInteger(4, "truncate"),
  Cvttsd2si: scalarToInteger(8, "truncate"),
};

/** Instructions of one form only, by their full name. */
export const SINGLE_CONVERSIONS: Readonly<Record<string, Emitter>> = {
  Cvtpi2ps: mmxToFloats(FLOAT32),
  Cvtpi2pd: mmxToFloats(FLOAT64),
  Cvtps2pi: floatsToMmx(FLOAT32, "round"),
  Cvttps2pi: floatsToMmx(FLOAT32, "truncate"),
  Cvtpd2pi: floatsToMmx(FLOAT64, "round"),
  Cvttpd2pi: floatsToMmx(FLOAT64, "truncate"),
  Vcvtph2ps: halvesToSingles,
  Vcvtps2ph: singlesToHalves,
};
