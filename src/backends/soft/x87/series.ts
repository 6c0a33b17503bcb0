import { CONSTANT_BITS, constants } from "./constants.ts";
import { divideExact, type Finite, integerSqrt } from "./exact.ts";
import { bitLength } from "./rounding.ts";

/**
 * Elementary functions to about 190 correct bits, so that one rounding to 64 gives the nearest value in all but
 * astronomically rare cases. Numbers are significand × 2^exponent with positive significands; series run in fixed point.
 */
const BITS = 200;
const ONE = 1n << BigInt(BITS);

/** A positive number. */
export interface Positive {
  readonly significand: bigint;
  readonly exponent: number;
}

/** Fixed point with BITS fraction bits; what lies below is cut off. */
function toFixed(x: Positive): bigint {
  const shift = x.exponent + BITS;
  if (shift >= 0) return x.significand << BigInt(shift);
  return -shift > bitLength(x.significand) ? 0n : x.significand >> BigInt(-shift);
}

export function fromFixed(value: bigint): Positive {
  return { significand: value, exponent: -BITS };
}

export function times(a: Positive, b: Positive): Positive {
  return { significand: a.significand * b.significand, exponent: a.exponent + b.exponent };
}

export function quotient(a: Positive, b: Positive): Positive {
  const q = divideExact({ ...a, sign: 0 }, { ...b, sign: 0 }, BITS);
  return { significand: q.significand, exponent: q.exponent };
}

/**
 * x × (1 + c1 s + c2 s² + …), s = x², with falling terms of the caller: keeps the relative precision of a small x. One unit
 * is taken off the sum, so that a result that rounding must see below x is below x even where s vanishes.
 */
function oddSeries(x: Positive, next: (term: bigint, n: bigint) => bigint): Positive {
  let sum = ONE;
  let term = ONE;
  for (let n = 1n; ; n += 1n) {
    term = next(term, n);
    if (term === 0n || term === -1n) break;
    sum += term;
  }
  return times(x, fromFixed(sum - 1n));
}

function squareFixed(x: Positive): bigint {
  return toFixed(times(x, x));
}

/** atanh(x) for 0 < x ≤ 1/3. */
export function atanh(x: Positive): Positive {
  return powerSeries(x, squareFixed(x));
}

/** x × Σ s^n / (2n + 1). */
function powerSeries(x: Positive, square: bigint): Positive {
  let sum = ONE;
  let power = ONE;
  for (let n = 1n; ; n += 1n) {
    power = (power * square) >> BigInt(BITS);
    if (power === 0n || power === -1n) break;
    sum += power / (2n * n + 1n);
  }
  return times(x, fromFixed(square > 0n ? sum : sum - 1n));
}

/** atan(x) for 0 < x ≤ 1. */
export function atan(x: Positive): Positive {
  let t = x;
  let halvings = 0;
  // atan(t) = 2 atan(t / (1 + √(1 + t²))) makes the series short; small arguments keep their own exponent.
  while (t.exponent + bitLength(t.significand) > -4) {
    const fixed = toFixed(t);
    const root = integerSqrt((ONE << BigInt(BITS)) + fixed * fixed);
    t = fromFixed((fixed << BigInt(BITS)) / (ONE + root));
    halvings += 1;
  }
  const r = powerSeries(t, -squareFixed(t));
  return { significand: r.significand, exponent: r.exponent + halvings };
}

/** sin(x) for 0 < x ≤ π/4. */
export function sin(x: Positive): Positive {
  const square = squareFixed(x);
  return oddSeries(x, (term, n) => -((term * square) >> BigInt(BITS)) / (2n * n * (2n * n + 1n)));
}

/** cos(x) for 0 < x ≤ π/4. */
export function cos(x: Positive): Positive {
  const square = squareFixed(x);
  let sum = ONE;
  let term = ONE;
  for (let n = 1n; term !== 0n && term !== -1n; n += 1n) {
    term = -((term * square) >> BigInt(BITS)) / (2n * n * (2n * n - 1n));
    sum += term;
  }
  return fromFixed(sum - 1n);
}

/** |e^±x - 1| for 0 < x < 1. */
export function expm1(x: Positive, sign: 0 | 1): Positive {
  const fixed = sign ? -toFixed(x) : toFixed(x);
  let sum = ONE;
  let term = ONE;
  for (let n = 2n; ; n += 1n) {
    term = ((term * fixed) >> BigInt(BITS)) / n;
    if (term === 0n || term === -1n) break;
    sum += term;
  }
  return times(x, fromFixed(sign ? sum - 1n : sum));
}

/** x mod π/2 folded into [-π/4, π/4], with the quadrant. */
export interface Reduced {
  readonly sign: 0 | 1;
  readonly magnitude: Positive;
  readonly quadrant: number;
}

/** The π of 66 bits that processors reduce arguments by (Intel SDM Vol. 1, "Pi"), here halved: 0.C90FDAA22168C234C × 2. */
const HALF_PI = 0x3_243f_6a88_85a3_08d3n;
const HALF_PI_BITS = 65;

/** Reduces |x| < 2^63. The sign of x is folded in. */
export function reduceAngle(x: Finite): Reduced {
  if (x.exponent + bitLength(x.significand) <= -1) return { sign: x.sign, magnitude: x, quadrant: 0 };
  const exponent = Math.min(x.exponent, -HALF_PI_BITS);
  const value = x.significand << BigInt(x.exponent - exponent);
  const halfPi = HALF_PI << BigInt(-HALF_PI_BITS - exponent);
  const turns = (value * 2n + halfPi) / (halfPi * 2n);
  const rest = value - turns * halfPi;
  const quadrant = Number(turns & 3n);
  const magnitude = { significand: rest < 0n ? -rest : rest, exponent };
  return {
    sign: ((rest < 0n ? 1 : 0) ^ x.sign) as 0 | 1,
    magnitude,
    quadrant: x.sign ? (4 - quadrant) & 3 : quadrant,
  };
}

export function ln2(): Positive {
  return { significand: constants().ln2, exponent: -CONSTANT_BITS };
}

export function pi(): Positive {
  return { significand: constants().pi, exponent: -CONSTANT_BITS };
}
