import type { Float80 } from "./float80.ts";
import { finish80 } from "./float80.ts";
import { EXTENDED, NEAREST, type RoundingControl } from "./rounding.ts";

/** Fraction bits of the fixed-point constants below. */
export const CONSTANT_BITS = 256;

/** Numbers with 256 fraction bits, cut off. */
export interface Constants {
  readonly pi: bigint;
  readonly ln2: bigint;
  /** What FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2 and FLDLN2 load. */
  readonly loads: readonly bigint[];
}

let computed: Constants | undefined;

/** Computed at the first use: few guests need them, and every start would pay. */
export function constants(): Constants {
  computed ??= compute();
  return computed;
}

function compute(): Constants {
  const bits = CONSTANT_BITS + 32;
  const pi = machinPi(bits) >> 32n;
  const ln2 = naturalLogOf2(bits) >> 32n;
  // ln 10 = 3 ln 2 + ln 5/4, and ln 5/4 = 2 atanh 1/9.
  const ln10 = (3n * naturalLogOf2(bits) + 2n * atanhInverse(9n, bits)) >> 32n;
  const one = 1n << BigInt(CONSTANT_BITS);
  const ratio = (a: bigint, b: bigint) => (a << BigInt(CONSTANT_BITS)) / b;
  return { pi, ln2, loads: [one, ratio(ln10, ln2), ratio(one, ln2), pi, ratio(ln2, ln10), ln2] };
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
function naturalLogOf2(bits: number): bigint {
  return 2n * atanhInverse(3n, bits);
}

/** FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ by the low bits of their opcode, rounded as FCW.RC says. */
export function constant80(index: number, rc: RoundingControl = NEAREST): Float80 {
  if (index === 0) return { se: 0x3fff, significand: 0x8000_0000_0000_0000n };
  const significand = constants().loads[index];
  if (significand === undefined) return { se: 0, significand: 0n };
  const exact = { sign: 0 as const, significand, exponent: -CONSTANT_BITS, sticky: true };
  return finish80(exact, 0x37f | (rc << 10), 0, EXTENDED).value;
}
