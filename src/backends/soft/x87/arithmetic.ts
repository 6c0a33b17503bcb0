import { addExact, divideExact, type Finite, multiplyExact, sqrtExact } from "./exact.ts";
import {
  type Class80,
  classify80,
  type Float80,
  finish80,
  finite80,
  infinity80,
  invalid80,
  isNan,
  propagate80,
  type Result80,
  result80,
  roundingOf,
  sign80,
  zero80,
} from "./float80.ts";
import { DE, DOWN, EXTENDED, round, ZE } from "./rounding.ts";

/** Handles what every two-operand operation does the same: unsupported encodings, then NaNs. Undefined when neither is there. */
function nanOperand(a: Float80, ka: Class80, b: Float80, kb: Class80, control: number): Result80 | undefined {
  if (ka === "unsupported" || kb === "unsupported") return invalid80(control);
  if (isNan(ka) || isNan(kb)) return propagate80(a, b, control);
  return undefined;
}

function denormalFlag(ka: Class80, kb: Class80): number {
  return ka === "denormal" || kb === "denormal" ? DE : 0;
}

/** a + b. */
export function add80(a: Float80, b: Float80, control: number): Result80 {
  return sum(a, b, control);
}

/** a - b. */
export function sub80(a: Float80, b: Float80, control: number): Result80 {
  const kb = classify80(b);
  // A NaN keeps its sign through a subtraction.
  return sum(a, isNan(kb) || kb === "unsupported" ? b : { se: b.se ^ 0x8000, significand: b.significand }, control);
}

function sum(a: Float80, b: Float80, control: number): Result80 {
  const ka = classify80(a);
  const kb = classify80(b);
  const nan = nanOperand(a, ka, b, kb, control);
  if (nan) return nan;
  const flags = denormalFlag(ka, kb);
  if (ka === "infinity") {
    if (kb === "infinity" && sign80(a) !== sign80(b)) return invalid80(control);
    return result80(a, flags, control);
  }
  if (kb === "infinity") return result80(b, flags, control);
  const cancelled = zero80(roundingOf(control) === DOWN ? 1 : 0);
  if (ka === "zero" && kb === "zero") return result80(sign80(a) === sign80(b) ? a : cancelled, 0, control);
  const x = ka === "zero" ? { ...finite80(b), sticky: false } : undefined;
  const y = kb === "zero" ? { ...finite80(a), sticky: false } : undefined;
  const exact = x ?? y ?? addExact(finite80(a), finite80(b));
  return exact ? finish80(exact, control, flags) : result80(cancelled, flags, control);
}

export function mul80(a: Float80, b: Float80, control: number): Result80 {
  const ka = classify80(a);
  const kb = classify80(b);
  const nan = nanOperand(a, ka, b, kb, control);
  if (nan) return nan;
  const sign = sign80(a) ^ sign80(b);
  const flags = denormalFlag(ka, kb);
  if (ka === "infinity" || kb === "infinity") {
    if (ka === "zero" || kb === "zero") return invalid80(control);
    return result80(infinity80(sign), flags, control);
  }
  if (ka === "zero" || kb === "zero") return result80(zero80(sign), flags, control);
  return finish80(multiplyExact(finite80(a), finite80(b)), control, flags);
}

/** a / b. */
export function div80(a: Float80, b: Float80, control: number): Result80 {
  const ka = classify80(a);
  const kb = classify80(b);
  const nan = nanOperand(a, ka, b, kb, control);
  if (nan) return nan;
  const sign = sign80(a) ^ sign80(b);
  const flags = denormalFlag(ka, kb);
  if (ka === "infinity") return kb === "infinity" ? invalid80(control) : result80(infinity80(sign), flags, control);
  if (kb === "infinity") return result80(zero80(sign), flags, control);
  if (kb === "zero") return ka === "zero" ? invalid80(control) : result80(infinity80(sign), ZE, control);
  if (ka === "zero") return result80(zero80(sign), flags, control);
  return finish80(divideExact(finite80(a), finite80(b), 64), control, flags);
}

export function sqrt80(a: Float80, control: number): Result80 {
  const ka = classify80(a);
  if (ka === "unsupported") return invalid80(control);
  if (isNan(ka)) return propagate80(a, a, control);
  if (ka === "zero") return result80(a, 0, control);
  if (sign80(a)) return invalid80(control);
  if (ka === "infinity") return result80(a, 0, control);
  return finish80(sqrtExact(finite80(a), 64), control, ka === "denormal" ? DE : 0);
}

/** Rounds to an integral value as FCW.RC says; precision control does not matter. */
export function roundToIntegral80(a: Float80, control: number): Result80 {
  const ka = classify80(a);
  if (ka === "unsupported") return invalid80(control);
  if (isNan(ka)) return propagate80(a, a, control);
  if (ka === "zero" || ka === "infinity") return result80(a, 0, control);
  const flags = ka === "denormal" ? DE : 0;
  const x = finite80(a);
  if (x.exponent >= 0) return result80(a, flags, control);
  const r = round({ ...x, sticky: false }, { precision: 64, minExponent: 63, maxExponent: 16383 }, roundingOf(control));
  const inexact = r.flags & ~0x10;
  if (r.significand === 0n) return result80(zero80(x.sign), flags | inexact, control, r.up);
  const packed = finish80({ ...r, sticky: false }, control | 0x3f, 0, EXTENDED);
  return result80(packed.value, flags | inexact, control, r.up);
}

/** a × 2^truncate(b). */
export function scale80(a: Float80, b: Float80, control: number): Result80 {
  const ka = classify80(a);
  const kb = classify80(b);
  const nan = nanOperand(a, ka, b, kb, control);
  if (nan) return nan;
  const flags = denormalFlag(ka, kb);
  if (kb === "infinity") {
    if (sign80(b)) return ka === "infinity" ? invalid80(control) : result80(zero80(sign80(a)), flags, control);
    return ka === "zero" ? invalid80(control) : result80(infinity80(sign80(a)), flags, control);
  }
  if (ka === "zero" || ka === "infinity" || kb === "zero") {
    if (ka === "normal" || ka === "denormal")
      return finish80({ ...finite80(a), sticky: false }, control, flags, EXTENDED);
    return result80(a, flags, control);
  }
  const x = finite80(a);
  const by = truncated(finite80(b), 0x10000);
  return finish80({ ...x, exponent: x.exponent + by, sticky: false }, control, flags, EXTENDED);
}

/** The integer part, limited in magnitude. */
function truncated(x: Finite, limit: number): number {
  if (x.exponent > 0) return x.sign ? -limit : limit;
  const magnitude = x.exponent < -64 ? 0 : Math.min(limit, Number(x.significand >> BigInt(-x.exponent)));
  return x.sign ? -magnitude : magnitude;
}

/** Splits a into exponent and significand, both as extended values. */
export function extract80(a: Float80, control: number): { exponent: Result80; significand: Result80 } {
  const ka = classify80(a);
  const both = (r: Result80) => ({ exponent: r, significand: r });
  if (ka === "unsupported") return both(invalid80(control));
  if (isNan(ka)) return both(propagate80(a, a, control));
  if (ka === "infinity") return { exponent: result80(infinity80(0), 0, control), significand: result80(a, 0, control) };
  if (ka === "zero") return { exponent: result80(infinity80(1), ZE, control), significand: result80(a, ZE, control) };
  const flags = ka === "denormal" ? DE : 0;
  const x = finite80(a);
  const length = x.significand.toString(2).length;
  const lead = x.exponent + length - 1;
  const exponent = lead === 0 ? zero80(0) : integer80(lead);
  const significand = { se: (a.se & 0x8000) | 0x3fff, significand: x.significand << BigInt(64 - length) };
  return { exponent: result80(exponent, flags, control), significand: result80(significand, flags, control) };
}

function integer80(value: number): Float80 {
  const magnitude = BigInt(Math.abs(value));
  return finish80({ sign: value < 0 ? 1 : 0, significand: magnitude, exponent: 0, sticky: false }, 0x37f, 0).value;
}

/** A remainder with the quotient's low three bits (undefined when there was none to compute), or a partial one. */
export interface Remainder80 extends Result80 {
  readonly quotient: number | undefined;
  /** C2: the reduction is not complete. */
  readonly partial: boolean;
}

/**
 * One step of FPREM (truncated quotient) or FPREM1 (quotient to nearest even).
 *
 * Where the exponents are 64 or more apart the step reduces by the largest power of two the manual allows and says so in C2.
 */
export function remainder80(a: Float80, b: Float80, control: number, quotient: "truncate" | "nearest"): Remainder80 {
  const whole = (r: Result80): Remainder80 => ({ ...r, quotient: undefined, partial: false });
  const ka = classify80(a);
  const kb = classify80(b);
  const nan = nanOperand(a, ka, b, kb, control);
  if (nan) return whole(nan);
  if (ka === "infinity" || kb === "zero") return whole(invalid80(control));
  const flags = denormalFlag(ka, kb);
  if (ka === "zero") return { ...result80(a, flags, control), quotient: 0, partial: false };
  const pack = (r: Finite) => remainderResult(r, a, flags, control);
  if (kb === "infinity") return { ...pack(finite80(a)), quotient: 0, partial: false };
  return reduce(finite80(a), finite80(b), quotient, pack);
}

function remainderResult(
  r: { sign: 0 | 1; significand: bigint; exponent: number },
  a: Float80,
  flags: number,
  control: number,
): Result80 {
  if (r.significand === 0n) return result80(zero80(sign80(a)), flags, control);
  return finish80({ ...r, sticky: false }, control, flags, EXTENDED);
}

function reduce(x: Finite, y: Finite, mode: "truncate" | "nearest", pack: (r: Finite) => Result80): Remainder80 {
  const leadX = x.exponent + x.significand.toString(2).length;
  const leadY = y.exponent + y.significand.toString(2).length;
  const distance = leadX - leadY;
  if (distance >= 64) {
    // The partial step the manual leaves open: N between 32 and 63, here such that the rest is a multiple of 32 away.
    const n = (distance & 31) + 32;
    const shift = distance - n;
    const scaled: Finite = { ...y, exponent: y.exponent + shift };
    const { rest, exponent } = divide(x, scaled);
    return { ...pack({ sign: x.sign, significand: rest, exponent }), quotient: 0, partial: true };
  }
  if (distance < -1 || (mode === "truncate" && distance < 0)) return { ...pack(x), quotient: 0, partial: false };
  const d = divide(x, y);
  let { q, rest } = d;
  let sign = x.sign;
  if (mode === "nearest") {
    const twice = rest << 1n;
    if (twice > d.divisor || (twice === d.divisor && (q & 1n) === 1n)) {
      q += 1n;
      rest = d.divisor - rest;
      sign = (sign ^ 1) as 0 | 1;
    }
  }
  return { ...pack({ sign, significand: rest, exponent: d.exponent }), quotient: Number(q & 7n), partial: false };
}

function divide(x: Finite, y: Finite): { q: bigint; rest: bigint; divisor: bigint; exponent: number } {
  const exponent = Math.min(x.exponent, y.exponent);
  const dividend = x.significand << BigInt(x.exponent - exponent);
  const divisor = y.significand << BigInt(y.exponent - exponent);
  const q = dividend / divisor;
  return { q, rest: dividend - q * divisor, divisor, exponent };
}

export type Order = "less" | "equal" | "greater" | "unordered";

/** Compares, and tells the flags: FCOM (and FTST, FCOMI) object to every NaN, the FUCOM kind only to signaling ones. */
export function compare80(a: Float80, b: Float80, nans: "ordered" | "unordered"): { order: Order; flags: number } {
  const ka = classify80(a);
  const kb = classify80(b);
  if (ka === "unsupported" || kb === "unsupported") return { order: "unordered", flags: 1 };
  if (isNan(ka) || isNan(kb)) {
    const invalid = nans === "ordered" || ka === "signaling" || kb === "signaling";
    return { order: "unordered", flags: invalid ? 1 : 0 };
  }
  const difference = compareValues(a, ka, b, kb);
  return { order: difference < 0 ? "less" : difference > 0 ? "greater" : "equal", flags: denormalFlag(ka, kb) };
}

function compareValues(a: Float80, ka: Class80, b: Float80, kb: Class80): number {
  if (ka === "zero" && kb === "zero") return 0;
  if (ka === "zero") return sign80(b) ? 1 : -1;
  if (kb === "zero") return sign80(a) ? -1 : 1;
  if (sign80(a) !== sign80(b)) return sign80(a) ? -1 : 1;
  const direction = sign80(a) ? -1 : 1;
  const ea = a.se & 0x7fff || 1;
  const eb = b.se & 0x7fff || 1;
  if (ea !== eb) return ea < eb ? -direction : direction;
  return a.significand === b.significand ? 0 : a.significand < b.significand ? -direction : direction;
}
