import type { Emit } from "../translate/context.ts";
import { Op, Simd, type SimdCode } from "../wasm/opcodes.ts";
import { pickLanes } from "./integer-lanes.ts";
import { keep, type Source, sourceOf } from "./operands.ts";
import { allSet, laneName, pushComparable, pushOrdinary, type Shape, splat } from "./ordinary.ts";

/**
 * a × b + c with one rounding, from operations that round each time. WebAssembly's relaxed multiply-add would do if it were
 * fused, but JavaScriptCore's is not (Bun 1.4.5: none of two million products).
 *
 * The product is split into two exact parts (Dekker), the sums into result and error (Knuth), and the low parts are added
 * with rounding to odd, so that the last addition rounds as the exact sum would (Boldo and Melquiond, "Emulation of FMA and
 * correctly rounded sums: proved algorithms using rounding to odd").
 */

type Value = Source;

class Lanes {
  readonly #e: Emit;
  constructor(e: Emit) {
    this.#e = e;
  }
  apply(operation: SimdCode, ...values: readonly Value[]): Value {
    for (const push of values) push();
    this.#e.code.simd(operation);
    return sourceOf(this.#e, keep(this.#e));
  }
  plus = (a: Value, b: Value) => this.apply(Simd.f64x2_add, a, b);
  minus = (a: Value, b: Value) => this.apply(Simd.f64x2_sub, a, b);
  times = (a: Value, b: Value) => this.apply(Simd.f64x2_mul, a, b);
  constant(bits: bigint): Value {
    return () => this.#e.code.v128(bits, bits);
  }

  /** a + b and what its rounding lost. */
  sum(a: Value, b: Value): { sum: Value; error: Value } {
    const sum = this.plus(a, b);
    const t = this.minus(sum, a);
    return { sum, error: this.plus(this.minus(a, this.minus(sum, t)), this.minus(b, t)) };
  }

  /** a × b and what its rounding lost. */
  product(a: Value, b: Value): { product: Value; error: Value } {
    const split = (x: Value) => {
      const t = this.times(this.constant(0x41a0_0000_0200_0000n), x); // 2^27 + 1
      const high = this.minus(t, this.minus(t, x));
      return { high, low: this.minus(x, high) };
    };
    const product = this.times(a, b);
    const x = split(a);
    const y = split(b);
    let rest = this.minus(this.times(x.high, y.high), product);
    rest = this.plus(rest, this.times(x.high, y.low));
    rest = this.plus(rest, this.times(x.low, y.high));
    return { product, error: this.plus(rest, this.times(x.low, y.low)) };
  }

  /** a + b rounded to odd: an inexact sum takes the neighbour whose last bit is set. */
  sumToOdd(a: Value, b: Value): Value {
    const { sum, error } = this.sum(a, b);
    const inexact = this.apply(Simd.f64x2_ne, error, this.constant(0n));
    const even = this.apply(Simd.i64x2_eq, this.apply(Simd.v128_and, sum, this.constant(1n)), this.constant(0n));
    // One step away from zero when the error has the sum's sign, towards it otherwise.
    this.apply(Simd.v128_xor, error, sum)();
    this.#e.code.i32(63);
    this.#e.code.simd(Simd.i64x2_shr_s);
    const step = this.apply(Simd.v128_or, sourceOf(this.#e, keep(this.#e)), this.constant(1n));
    const change = this.apply(Simd.v128_and, step, this.apply(Simd.v128_and, inexact, even));
    return this.apply(Simd.i64x2_add, sum, change);
  }
}

/** The fused result of one half, right where `pushFusedHolds` says so. */
export function fusedFast(e: Emit, shape: Shape, a: Source, b: Source, c: Source): Source {
  const lanes = new Lanes(e);
  if (shape.bytes === 8) {
    const u = lanes.product(a, b);
    const t = lanes.sum(c, u.error);
    const v = lanes.sum(u.product, t.sum);
    return lanes.plus(v.sum, lanes.sumToOdd(t.error, v.error));
  }
  const parts = (shape.scalar ? [0] : [0, 1]).map((half) => {
    const wide = (push: Source) => {
      push();
      if (half === 1) {
        push();
        e.code.shuffle(pickLanes(8, [1, 3]));
      }
      e.code.simd(Simd.f64x2_promote_low_f32x4);
      return sourceOf(e, keep(e));
    };
    // Products of binary32 values are exact in binary64.
    const sum = lanes.sumToOdd(lanes.times(wide(a), wide(b)), wide(c));
    return lanes.apply(Simd.f32x4_demote_f64x2_zero, sum);
  });
  if (parts.length === 1) return parts[0]!;
  parts[0]!();
  parts[1]!();
  e.code.shuffle(pickLanes(8, [0, 2]));
  return sourceOf(e, keep(e));
}

/** 2^±400 and 2^±800: between them no step over- or underflows. */
const FACTOR_MIN = 0x26f0_0000_0000_0000n;
const FACTOR_MAX = 0x58f0_0000_0000_0000n;
const ADDEND_MIN = 0x0df0_0000_0000_0000n;
const ADDEND_MAX = 0x71f0_0000_0000_0000n;

/** Pushes 1 when `fusedFast` is right and, beside PE, nothing is raised. */
export function pushFusedHolds(e: Emit, shape: Shape, r: Source, a: Source, b: Source, c: Source): void {
  const { code } = e;
  const lane = laneName(shape);
  if (shape.bytes === 4) {
    pushOrdinary(e, shape, r, [a, b]);
    pushComparable(e, shape, [c]);
    code.op(Op.i32_and);
    return;
  }
  const magnitude = (push: Source): Source => {
    push();
    code.simd(Simd[`${lane}_abs`]);
    return sourceOf(e, keep(e));
  };
  const test = (operation: SimdCode, push: Source, bound: bigint) => {
    push();
    splat(e, 8, bound);
    code.simd(operation);
  };
  const [ma, mb, mc, mr] = [magnitude(a), magnitude(b), magnitude(c), magnitude(r)];
  test(Simd.f64x2_gt, ma, FACTOR_MIN);
  for (const [operation, push, bound] of [
    [Simd.f64x2_lt, ma, FACTOR_MAX],
    [Simd.f64x2_gt, mb, FACTOR_MIN],
    [Simd.f64x2_lt, mb, FACTOR_MAX],
    [Simd.f64x2_lt, mc, ADDEND_MAX],
    [Simd.f64x2_gt, mr, ADDEND_MIN],
  ] as const) {
    test(operation, push, bound);
    code.simd(Simd.v128_and);
  }
  test(Simd.f64x2_gt, mc, ADDEND_MIN);
  test(Simd.f64x2_eq, mc, 0n);
  code.simd(Simd.v128_or);
  code.simd(Simd.v128_and);
  allSet(e, shape);
}
