import { bitLength, type Exact } from "./rounding.ts";

/** A finite, non-zero operand: (-1)^sign × significand × 2^exponent. */
export interface Finite {
  readonly sign: 0 | 1;
  readonly significand: bigint;
  readonly exponent: number;
}

/** Bits kept beyond the widest significand when operands lie far apart: everything below is summed up in the sticky bit. */
const GUARD = 200;

function exact(sign: 0 | 1, significand: bigint, exponent: number, sticky = false): Exact {
  return { sign, significand, exponent, sticky };
}

/** Sum of two finite values. Undefined when it is exactly zero, whose sign depends on the rounding mode. */
export function addExact(a: Finite, b: Finite): Exact | undefined {
  const leadA = a.exponent + bitLength(a.significand);
  const leadB = b.exponent + bitLength(b.significand);
  const [high, low, leadLow] = leadA >= leadB ? [a, b, leadB] : [b, a, leadA];
  if (high.exponent - leadLow > GUARD) {
    // The smaller operand lies wholly below the guard bits: one sticky bit stands for it.
    const wide = high.significand << BigInt(GUARD);
    const exponent = high.exponent - GUARD;
    return high.sign === low.sign
      ? exact(high.sign, wide, exponent, true)
      : exact(high.sign, wide - 1n, exponent, true);
  }
  const exponent = Math.min(a.exponent, b.exponent);
  const x = a.significand << BigInt(a.exponent - exponent);
  const y = b.significand << BigInt(b.exponent - exponent);
  const sum = (a.sign ? -x : x) + (b.sign ? -y : y);
  if (sum === 0n) return undefined;
  return sum < 0n ? exact(1, -sum, exponent) : exact(0, sum, exponent);
}

export function multiplyExact(a: Finite, b: Finite): Exact {
  return exact((a.sign ^ b.sign) as 0 | 1, a.significand * b.significand, a.exponent + b.exponent);
}

/** Quotient with at least `bits` significant bits. */
export function divideExact(a: Finite, b: Finite, bits: number): Exact {
  const shift = BigInt(Math.max(0, bits + 2 + bitLength(b.significand) - bitLength(a.significand)));
  const numerator = a.significand << shift;
  const quotient = numerator / b.significand;
  const sticky = quotient * b.significand !== numerator;
  return exact((a.sign ^ b.sign) as 0 | 1, quotient, a.exponent - b.exponent - Number(shift), sticky);
}

/** Square root of a positive value with at least `bits` significant bits. */
export function sqrtExact(a: Finite, bits: number): Exact {
  let shift = Math.max(0, 2 * (bits + 2) - bitLength(a.significand));
  if ((a.exponent - shift) & 1) shift += 1;
  const radicand = a.significand << BigInt(shift);
  const root = integerSqrt(radicand);
  return exact(0, root, (a.exponent - shift) / 2, root * root !== radicand);
}

/** Floor of the square root. */
export function integerSqrt(value: bigint): bigint {
  if (value === 0n) return 0n;
  // A start at or above the root makes Newton's iteration fall monotonically.
  let x = 1n << BigInt((bitLength(value) + 1) >> 1);
  for (;;) {
    const y = (x + value / x) >> 1n;
    if (y >= x) return x;
    x = y;
  }
}

/** a × b + c, rounded nowhere. Undefined when it is exactly zero. */
export function fusedExact(a: Finite, b: Finite, c: Finite): Exact | undefined {
  return addExact(multiplyExact(a, b), c);
}
