import type { Float80 } from "./float80.ts";
import { finish80 } from "./float80.ts";
import { EXTENDED, NEAREST, type RoundingControl } from "./rounding.ts";

/** Fraction bits of the fixed-point constants below. */
export const CONSTANT_BITS = 256;

/** π, ln 2, log2 e, log2 10, log10 2 with 256 fraction bits, cut off. */
export const PI = fixed(machinPi(CONSTANT_BITS + 32), 32);
export const LN2 = fixed(ln2(CONSTANT_BITS + 32), 32);
const LN10 = fixed(3n * ln2(CONSTANT_BITS + 32) + atanhInverse(9n, CONSTANT_BITS + 32) * 2n, 32);
export const LOG2E = (1n << BigInt(2 * CONSTANT_BITS)) / LN2;
const LOG2T = (LN10 << BigInt(CONSTANT_BITS)) / LN2;
const LOG102 = (LN2 << BigInt(CONSTANT_BITS)) / LN10;

function fixed(value: bigint, drop: number): bigint {
  return value >> BigInt(drop);
}

/** atan(1/x) × 2^bits. */
function atanInverse(x: bigint, bits: number): bigint {
  let term = (1n << BigInt(bits)) / x;
  let sum = term;
  const square = x * x;
  for (let n = 3n; term !== 0n; n += 2n) {
    term = -term / square;
    sum += term / n;
  }
  return sum;
}

/** atanh(1/x) × 2^bits. */
function atanhInverse(x: bigint, bits: number): bigint {
  let term = (1n << BigInt(bits)) / x;
  let sum = term;
  const square = x * x;
  for (let n = 3n; term !== 0n; n += 2n) {
    term /= square;
    sum += term / n;
  }
  return sum;
}

function machinPi(bits: number): bigint {
  return 4n * (4n * atanInverse(5n, bits) - atanInverse(239n, bits));
}

/** ln 2 = 2 atanh(1/3). */
function ln2(bits: number): bigint {
  return 2n * atanhInverse(3n, bits);
}

const VALUES = [1n << BigInt(CONSTANT_BITS), LOG2T, LOG2E, PI, LOG102, LN2];

/** FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ by the low bits of their opcode, rounded as FCW.RC says. */
export function constant80(index: number, rc: RoundingControl = NEAREST): Float80 {
  const significand = VALUES[index];
  if (significand === undefined) return { se: 0, significand: 0n };
  const exact = { sign: 0 as const, significand, exponent: -CONSTANT_BITS, sticky: index !== 0 };
  return finish80(exact, 0x37f | (rc << 10), 0, EXTENDED).value;
}
