import { addExact, type Finite } from "./exact.ts";
import {
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
  sign80,
  zero80,
} from "./float80.ts";
import { bitLength, DE, EXTENDED, PE, UE, ZE } from "./rounding.ts";
import { atan, atanh, cos, expm1, ln2, type Positive, pi, quotient, reduceAngle, sin, times } from "./series.ts";

/** Rounds a transcendental result. They are never exact where this is called, and precision control does not apply to them. */
function done(sign: number, value: Positive, control: number, flags: number): Result80 {
  return finish80({ ...value, sign: sign as 0 | 1, sticky: true }, control, flags, EXTENDED);
}

function unarySpecial(a: Float80, control: number): Result80 | undefined {
  const kind = classify80(a);
  if (kind === "unsupported") return invalid80(control);
  if (isNan(kind)) return propagate80(a, a, control);
  return undefined;
}

function binarySpecial(a: Float80, b: Float80, control: number): Result80 | undefined {
  const ka = classify80(a);
  const kb = classify80(b);
  if (ka === "unsupported" || kb === "unsupported") return invalid80(control);
  if (isNan(ka) || isNan(kb)) return propagate80(a, b, control);
  return undefined;
}

function denormal(...values: Float80[]): number {
  return values.some((v) => classify80(v) === "denormal") ? DE : 0;
}

const ONE: Finite = { sign: 0, significand: 1n, exponent: 0 };
const ONE80: Float80 = { se: 0x3fff, significand: 0x8000_0000_0000_0000n };

function lead(x: Positive): number {
  return x.exponent + bitLength(x.significand) - 1;
}

/** F2XM1: 2^x - 1 for |x| ≤ 1; beyond, where the manual leaves it open, x itself. */
export function exp2m1(a: Float80, control: number): Result80 {
  const special = unarySpecial(a, control);
  if (special) return special;
  const kind = classify80(a);
  if (kind === "zero") return result80(a, 0, control);
  if (kind === "infinity") return result80(sign80(a) ? { se: 0xbfff, significand: ONE80.significand } : a, 0, control);
  const flags = denormal(a) | PE;
  const x = finite80(a);
  if (lead(x) >= 0) {
    if (a.significand !== ONE80.significand || (a.se & 0x7fff) !== 0x3fff) return result80(a, flags, control);
    return result80(x.sign ? { se: 0xbffe, significand: ONE80.significand } : ONE80, flags, control);
  }
  return done(x.sign, expm1(times(x, ln2()), x.sign), control, flags);
}

/** log2 of a positive finite value: sign, magnitude (undefined when zero), and whether it is an integer. */
function log2(x: Finite): { sign: 0 | 1; value: Positive | undefined; exact: boolean } {
  const length = bitLength(x.significand);
  let k = x.exponent + length - 1;
  if (x.significand === 1n << BigInt(length - 1)) {
    const magnitude = BigInt(Math.abs(k));
    return { sign: k < 0 ? 1 : 0, value: k === 0 ? undefined : { significand: magnitude, exponent: 0 }, exact: true };
  }
  // m in [√½, √2): 0xb504f333 is √½ in 32 bits.
  let exponent = -(length - 1);
  if (x.significand >> BigInt(Math.max(length - 32, 0)) > 0xb504f333n || length < 32) {
    exponent -= 1;
    k += 1;
  }
  const m: Finite = { sign: 0, significand: x.significand, exponent };
  const minus = addExact(m, { ...ONE, sign: 1 })!;
  const ln = logRatio(minus, addExact(m, ONE)!);
  if (k === 0) return { sign: ln.sign, value: ln.value, exact: false };
  const whole: Finite = { sign: k < 0 ? 1 : 0, significand: BigInt(Math.abs(k)), exponent: 0 };
  const sum = addExact(whole, { ...ln.value, sign: ln.sign })!;
  return { sign: sum.sign, value: sum, exact: false };
}

/** log2 of (1 + t) / (1 - t) for t = minus / plus: 2 atanh(t) / ln 2. */
function logRatio(minus: Finite, plus: Finite): { sign: 0 | 1; value: Positive } {
  const r = quotient(atanh(quotient(minus, plus)), ln2());
  return { sign: minus.sign, value: { significand: r.significand, exponent: r.exponent + 1 } };
}

/** FYL2X: b × log2(a), a being ST(0). */
export function log2Times(a: Float80, b: Float80, control: number): Result80 {
  const special = binarySpecial(a, b, control);
  if (special) return special;
  const ka = classify80(a);
  const kb = classify80(b);
  const sb = sign80(b);
  if (ka === "zero") {
    if (kb === "zero") return invalid80(control);
    return result80(infinity80(sb ^ 1), kb === "infinity" ? 0 : ZE, control);
  }
  if (sign80(a)) return invalid80(control);
  const flags = denormal(a, b);
  if (ka === "infinity") return kb === "zero" ? invalid80(control) : result80(infinity80(sb), flags, control);
  const l = log2(finite80(a));
  if (kb === "infinity") return l.value ? result80(infinity80(sb ^ l.sign), flags, control) : invalid80(control);
  if (kb === "zero" || !l.value) return result80(zero80(sb ^ l.sign), flags, control);
  const product = times(finite80(b), l.value);
  // Processors call even the logarithm of a power of two inexact.
  const exact = { ...product, sign: (sb ^ l.sign) as 0 | 1, sticky: !l.exact };
  const result = finish80(exact, control, flags | PE, EXTENDED);
  return result.stored && (result.value.se & 0x7fff) === 0 ? { ...result, flags: result.flags | UE } : result;
}

/** FYL2XP1: b × log2(a + 1). */
export function log2p1(a: Float80, b: Float80, control: number): Result80 {
  const special = binarySpecial(a, b, control);
  if (special) return special;
  const ka = classify80(a);
  const kb = classify80(b);
  const sign = sign80(a) ^ sign80(b);
  const flags = denormal(a, b);
  if (ka === "infinity")
    return sign80(a) || kb === "zero" ? invalid80(control) : result80(infinity80(sign), flags, control);
  if (ka === "zero") return kb === "infinity" ? invalid80(control) : result80(zero80(sign), flags, control);
  if (kb === "infinity") return result80(infinity80(sign), flags, control);
  if (kb === "zero") return result80(zero80(sign), flags, control);
  const x = finite80(a);
  // At or below -1 the manual defines nothing; a is handed back.
  if (x.sign && lead(x) >= 0) return result80(a, flags | PE, control);
  const large = lead(x) >= -1;
  const l = large ? log2(addExact(x, ONE)!).value : logRatio(x, addExact(x, { ...ONE, significand: 2n })!).value;
  return done(sign, times(finite80(b), l ?? x), control, flags);
}

/** FPATAN: atan2(y, x), in all four quadrants. */
export function atan80(y: Float80, x: Float80, control: number): Result80 {
  const special = binarySpecial(x, y, control);
  if (special) return special;
  const ky = classify80(y);
  const kx = classify80(x);
  const sign = sign80(y);
  const flags = denormal(x, y);
  const negative = sign80(x) === 1;
  const fraction = (numerator: bigint, exponent: number) =>
    done(sign, { significand: pi().significand * numerator, exponent: pi().exponent + exponent }, control, flags);
  if (ky === "infinity") return kx === "infinity" ? fraction(negative ? 3n : 1n, -2) : fraction(1n, -1);
  if (ky === "zero" || kx === "infinity") {
    if (negative) return fraction(1n, 0);
    return result80(zero80(sign), flags, control);
  }
  if (kx === "zero") return fraction(1n, -1);
  return done(sign, angle(finite80(y), finite80(x)), control, flags);
}

function angle(y: Finite, x: Finite): Positive {
  const difference = addExact({ ...y, sign: 0 }, { ...x, sign: 1 });
  const steep = difference !== undefined && difference.sign === 0;
  const ratio = steep ? quotient(x, y) : quotient(y, x);
  const base = atan(ratio);
  const at = (numerator: bigint, exponent: number): Finite => ({
    sign: 0,
    significand: pi().significand * numerator,
    exponent: pi().exponent + exponent,
  });
  const minus: Finite = { ...base, sign: 1 };
  if (steep) return addExact(at(1n, -1), x.sign ? { ...minus, sign: 0 } : minus)!;
  return x.sign ? addExact(at(1n, 0), minus)! : base;
}

type Trigonometric = (a: Float80, control: number) => Result80 | undefined;

/** What sine, cosine and tangent share. Undefined when |a| ≥ 2^63: C2 says that the argument was not reduced. */
function trigonometric(
  a: Float80,
  control: number,
  ofZero: Float80,
  evaluate: (x: Finite, flags: number) => Result80,
): Result80 | undefined {
  const special = unarySpecial(a, control);
  if (special) return special;
  const kind = classify80(a);
  if (kind === "infinity") return invalid80(control);
  if (kind === "zero") return result80(ofZero, 0, control);
  const x = finite80(a);
  if (lead(x) >= 63) return undefined;
  return evaluate(x, denormal(a));
}

export const sine80: Trigonometric = (a, control) =>
  trigonometric(a, control, a, (x, flags) => {
    const r = reduceAngle(x);
    const magnitude = r.quadrant & 1 ? cos(r.magnitude) : sin(r.magnitude);
    const sign = (r.quadrant & 1 ? 0 : r.sign) ^ (r.quadrant & 2 ? 1 : 0);
    return done(sign, magnitude, control, flags);
  });

export const cosine80: Trigonometric = (a, control) =>
  trigonometric(a, control, ONE80, (x, flags) => {
    const r = reduceAngle(x);
    const magnitude = r.quadrant & 1 ? sin(r.magnitude) : cos(r.magnitude);
    const sign = (r.quadrant & 1 ? r.sign ^ 1 : 0) ^ (r.quadrant & 2 ? 1 : 0);
    return done(sign, magnitude, control, flags);
  });

export const tangent80: Trigonometric = (a, control) =>
  trigonometric(a, control, a, (x, flags) => {
    const r = reduceAngle(x);
    const s = sin(r.magnitude);
    const c = cos(r.magnitude);
    if (r.quadrant & 1) return done(r.sign ^ 1, quotient(c, s), control, flags);
    return done(r.sign, quotient(s, c), control, flags);
  });

/** FSINCOS: both at once. */
export function sincos80(a: Float80, control: number): { sine: Result80; cosine: Result80 } | undefined {
  const sine = sine80(a, control);
  const cosine = cosine80(a, control);
  return sine && cosine ? { sine, cosine } : undefined;
}
