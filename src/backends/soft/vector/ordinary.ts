import { State } from "../state.ts";
import type { Emit } from "../translate/context.ts";
import { Mem, Op, Simd } from "../wasm/opcodes.ts";
import { keep, type Source } from "./operands.ts";

/** Bytes of a lane, and whether only the lowest lane counts. */
export interface Shape {
  readonly bytes: 4 | 8;
  readonly scalar: boolean;
}

export const PS: Shape = { bytes: 4, scalar: false };
export const PD: Shape = { bytes: 8, scalar: false };
export const SS: Shape = { bytes: 4, scalar: true };
export const SD: Shape = { bytes: 8, scalar: true };

type LaneName = "f32x4" | "f64x2";

export function laneName(shape: Shape): LaneName {
  return shape.bytes === 4 ? "f32x4" : "f64x2";
}

/** Pushes a v128 with the same lane everywhere. */
export function splat(e: Emit, bytes: 4 | 8, bits: bigint): void {
  const half = bytes === 4 ? bits | (bits << 32n) : bits;
  e.code.v128(half, half);
}

const SMALLEST_NORMAL = { 4: 0x0080_0000n, 8: 0x0010_0000_0000_0000n };
const INFINITY = { 4: 0x7f80_0000n, 8: 0x7ff0_0000_0000_0000n };

/** Pops a mask of lanes and pushes whether all of them (or the lowest) are set. */
export function allSet(e: Emit, shape: Shape): void {
  if (!shape.scalar) {
    e.code.simd(shape.bytes === 4 ? Simd.i32x4_all_true : Simd.i64x2_all_true);
    return;
  }
  e.code.lane(27, 0); // i32x4.extract_lane
}

/**
 * MXCSR under which an inexact ordinary result needs nothing done: round to nearest, PE masked and already set. Pushes 0
 * or 1. Flushing modes do not matter where neither operands nor result are denormal.
 */
export function pushQuietMxcsr(e: Emit): void {
  e.loadState(Mem.i32_load, State.mxcsr);
  e.code.i32(0x7020);
  e.code.op(Op.i32_and);
  e.code.i32(0x1020);
  e.code.op(Op.i32_eq);
}

/**
 * Pushes 1 when an operation with result `r` raised nothing but PE: the result is finite, and it and all operands are
 * larger than the smallest normal. Zeros, NaNs, infinities and denormals take the slow path.
 */
export function pushOrdinary(e: Emit, shape: Shape, r: Source, operands: readonly Source[]): void {
  const lane = laneName(shape);
  const { code } = e;
  r();
  code.simd(Simd[`${lane}_abs`]);
  const magnitude = keep(e);
  code.get(magnitude);
  splat(e, shape.bytes, INFINITY[shape.bytes]);
  code.simd(Simd[`${lane}_lt`]);
  code.get(magnitude);
  for (const operand of operands) {
    operand();
    code.simd(Simd[`${lane}_abs`]);
    // pmin keeps its first operand where one is a NaN: then the result is one too, and was found above.
    code.simd(Simd[`${lane}_pmin`]);
  }
  splat(e, shape.bytes, SMALLEST_NORMAL[shape.bytes]);
  code.simd(Simd[`${lane}_gt`]);
  code.simd(Simd.v128_and);
  allSet(e, shape);
}

/**
 * Pushes a mask of lanes that are right although zeros are among their operands and results: nothing is denormal, infinite or
 * a NaN, and no zero came of an underflow. A sum is nothing only where it cancels; a product where a factor is.
 */
export function pushZeroMask(
  e: Emit,
  shape: Shape,
  name: "sum" | "product",
  r: Source,
  operands: readonly [Source, Source],
): void {
  const lane = laneName(shape);
  const { code } = e;
  code.v128(0n, 0n);
  const zero = keep(e);
  splat(e, shape.bytes, SMALLEST_NORMAL[shape.bytes]);
  const smallest = keep(e);
  const isZero = (value: Source) => {
    value();
    code.get(zero);
    code.simd(Simd[`${lane}_eq`]);
    return keep(e);
  };
  const zeros = operands.map(isZero);
  const zeroResult = isZero(r);
  r();
  code.simd(Simd[`${lane}_abs`]);
  const magnitude = keep(e);
  code.get(magnitude);
  code.get(smallest);
  code.simd(Simd[`${lane}_gt`]);
  code.get(magnitude);
  splat(e, shape.bytes, INFINITY[shape.bytes]);
  code.simd(Simd[`${lane}_lt`]);
  code.simd(Simd.v128_and);
  code.get(zeroResult);
  if (name === "product") {
    code.get(zeros[0]!);
    code.get(zeros[1]!);
    code.simd(Simd.v128_or);
    code.simd(Simd.v128_and);
  }
  code.simd(Simd.v128_or);
  operands.forEach((operand, i) => {
    operand();
    code.simd(Simd[`${lane}_abs`]);
    code.get(smallest);
    code.simd(Simd[`${lane}_ge`]);
    code.get(zeros[i]!);
    code.simd(Simd.v128_or);
    code.simd(Simd.v128_and);
  });
}

/**
 * The same as one test for binary32, where WebAssembly has the unsigned minimum that binary64 lacks: a magnitude less one,
 * as an integer, is small for denormals alone, as that of a zero wraps around.
 */
export function pushOrdinaryOrZero(
  e: Emit,
  shape: Shape,
  name: "sum" | "product",
  r: Source,
  operands: readonly [Source, Source],
): void {
  const { code } = e;
  const magnitudes = [r, ...operands].map((value) => {
    value();
    code.simd(Simd.f32x4_abs);
    return keep(e);
  });
  const [mr, ma, mb] = magnitudes as [number, number, number];
  magnitudes.forEach((magnitude, i) => {
    code.get(magnitude);
    splat(e, 4, 1n);
    code.simd(Simd.i32x4_sub);
    if (i > 0) code.simd(Simd.i32x4_min_u);
  });
  splat(e, 4, SMALLEST_NORMAL[4]);
  code.simd(Simd.i32x4_ge_u);
  code.get(mr);
  splat(e, 4, INFINITY[4]);
  code.simd(Simd.i32x4_lt_s);
  code.simd(Simd.v128_and);
  if (name === "product") {
    // Not where the result is a zero and neither factor is.
    code.v128(0n, 0n);
    const zero = keep(e);
    for (const magnitude of [mr, ma, mb]) {
      code.get(magnitude);
      code.get(zero);
      code.simd(Simd.i32x4_eq);
    }
    code.simd(Simd.v128_or);
    code.simd(Simd.v128_andnot);
    code.simd(Simd.v128_andnot);
  }
  allSet(e, shape);
}

/** Pushes 1 when no lane is a NaN or a denormal: what comparisons and MIN and MAX need. */
export function pushComparable(e: Emit, shape: Shape, operands: readonly Source[]): void {
  const lane = laneName(shape);
  const { code } = e;
  operands.forEach((operand, i) => {
    operand();
    code.v128(0n, 0n);
    code.simd(Simd[`${lane}_eq`]);
    operand();
    code.simd(Simd[`${lane}_abs`]);
    splat(e, shape.bytes, SMALLEST_NORMAL[shape.bytes]);
    code.simd(Simd[`${lane}_ge`]);
    code.simd(Simd.v128_or);
    if (i > 0) code.simd(Simd.v128_and);
  });
  allSet(e, shape);
}

/** Numbers of integers, to be told from a guest that never rounds: half as many significant bits as the format has make an exact product. */
export function productIsExact(e: Emit, shape: Shape, _r: Source, a: Source, b: Source): void {
  const { code } = e;
  a();
  b();
  code.simd(Simd.v128_or);
  splat(e, shape.bytes, shape.bytes === 4 ? 0xfffn : 0x7ff_ffffn);
  code.simd(Simd.v128_and);
  code.v128(0n, 0n);
  code.simd(shape.bytes === 4 ? Simd.i32x4_eq : Simd.i64x2_eq);
  for (const factor of [a, b]) {
    factor();
    code.v128(0n, 0n);
    code.simd(Simd[`${laneName(shape)}_eq`]);
    code.simd(Simd.v128_or);
  }
}

/** The error of a sum (Knuth) is nothing. */
export function sumIsExact(name: "add" | "sub"): (e: Emit, shape: Shape, r: Source, a: Source, b: Source) => void {
  return (e, shape, r, a, b) => {
    const { code } = e;
    const lane = laneName(shape);
    r();
    a();
    code.simd(Simd[`${lane}_sub`]);
    const t = keep(e);
    // ((r - t) - a) - (±b - t), which must be nothing. A difference of infinities, where t overflowed, is a NaN.
    r();
    code.get(t);
    code.simd(Simd[`${lane}_sub`]);
    a();
    code.simd(Simd[`${lane}_sub`]);
    b();
    code.get(t);
    if (name === "add") {
      code.simd(Simd[`${lane}_sub`]);
      code.simd(Simd[`${lane}_sub`]);
    } else {
      code.simd(Simd[`${lane}_add`]);
      code.simd(Simd[`${lane}_add`]);
    }
    code.v128(0n, 0n);
    code.simd(Simd[`${lane}_eq`]);
  };
}
