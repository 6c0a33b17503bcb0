import {
  type Class80,
  classify80,
  type Float80,
  finish80,
  finite80,
  INDEFINITE,
  infinity80,
  isNan,
  quiet80,
  type Result80,
  result80,
  roundingOf,
  sign80,
  zero80,
} from "./float80.ts";
import {
  BINARY32,
  BINARY64,
  DE,
  EXTENDED,
  type Format,
  IE,
  OE,
  PE,
  type RoundingControl,
  round,
  UE,
} from "./rounding.ts";

/** What a store converts to: the bits of the destination, and what goes into the status word. */
export interface StoreResult {
  readonly bits: bigint;
  readonly flags: number;
  readonly up: boolean;
  /** False when an unmasked exception forbids the store (and the pop). */
  readonly stored: boolean;
}

/** Widens binary32 or binary64 bits to extended as FLD does: exact, DE for a denormal, IE for a signaling NaN, which becomes quiet. */
export function load80(bits: bigint, size: 4 | 8, control: number): Result80 {
  const operand = widen80(bits, size, control);
  return classify80(operand.value) === "signaling" ? result80(quiet80(operand.value), IE, control) : operand;
}

/** The same for an operand of arithmetic: a signaling NaN stays one, for the operation to find. */
export function widen80(bits: bigint, size: 4 | 8, control: number): Result80 {
  const fraction = size === 4 ? 23n : 52n;
  const top = size === 4 ? 0xff : 0x7ff;
  const sign = Number(bits >> (size === 4 ? 31n : 63n)) as 0 | 1;
  const exponent = Number(bits >> fraction) & top;
  const mantissa = bits & ((1n << fraction) - 1n);
  if (exponent === top) {
    if (mantissa === 0n) return result80(infinity80(sign), 0, control);
    const value = { se: (sign << 15) | 0x7fff, significand: 0x8000_0000_0000_0000n | (mantissa << (63n - fraction)) };
    return result80(value, 0, control);
  }
  if (exponent === 0 && mantissa === 0n) return result80(zero80(sign), 0, control);
  const bias = top >> 1;
  const significand = exponent === 0 ? mantissa : mantissa | (1n << fraction);
  const exact = { sign, significand, exponent: (exponent || 1) - bias - Number(fraction), sticky: false };
  const { value } = finish80(exact, 0x37f, 0, EXTENDED);
  return result80(value, exponent === 0 ? DE : 0, control);
}

/** A signed integer as an extended value: exact. */
export function fromInteger80(value: bigint): Float80 {
  if (value === 0n) return zero80(0);
  const exact = {
    sign: (value < 0n ? 1 : 0) as 0 | 1,
    significand: value < 0n ? -value : value,
    exponent: 0,
    sticky: false,
  };
  return finish80(exact, 0x37f, 0, EXTENDED).value;
}

/** Narrows to binary32 or binary64 as FST does. */
export function store80(a: Float80, size: 4 | 8, control: number): StoreResult {
  const format = size === 4 ? BINARY32 : BINARY64;
  const kind = classify80(a);
  const special = storeSpecial(a, kind, size, control);
  if (special) return special;
  const exact = { ...finite80(a), sticky: false };
  const r = round(exact, format, roundingOf(control));
  let { flags } = r;
  if (r.tiny && !(control & UE)) flags |= UE;
  const stored = (flags & ~control & (UE | OE)) === 0;
  if (!stored) flags &= UE | OE;
  const bits = r.infinite ? pack(format, size, r.sign, -1, 0n) : pack(format, size, r.sign, r.exponent, r.significand);
  return { bits, flags, up: r.up && stored, stored };
}

function storeSpecial(a: Float80, kind: Class80, size: 4 | 8, control: number): StoreResult | undefined {
  const done = (bits: bigint, flags: number): StoreResult => ({
    bits,
    flags,
    up: false,
    stored: (flags & ~control) === 0,
  });
  const signBit = BigInt(sign80(a)) << (size === 4 ? 31n : 63n);
  const infinite = size === 4 ? 0x7f80_0000n : 0x7ff0_0000_0000_0000n;
  const nan = (value: Float80) => {
    const sign = BigInt(sign80(value)) << (size === 4 ? 31n : 63n);
    const fraction = (quiet80(value).significand & 0x7fff_ffff_ffff_ffffn) >> (size === 4 ? 40n : 11n);
    return sign | infinite | fraction;
  };
  switch (kind) {
    case "zero":
      return done(signBit, 0);
    case "infinity":
      return done(signBit | infinite, 0);
    case "quiet":
      return done(nan(a), 0);
    case "signaling":
      return done(nan(a), IE);
    case "unsupported":
      return done(nan(INDEFINITE), IE);
    default:
      return undefined;
  }
}

/** Bits of a rounded magnitude; an exponent of -1 with significand 0 asks for infinity. */
function pack(format: Format, size: 4 | 8, sign: number, exponent: number, significand: bigint): bigint {
  const fraction = BigInt(format.precision - 1);
  const signBit = BigInt(sign) << (size === 4 ? 31n : 63n);
  if (significand === 0n) {
    const infinite = BigInt(2 * format.maxExponent + 1) << fraction;
    return exponent === -1 ? signBit | infinite : signBit;
  }
  if (significand >> fraction === 0n) return signBit | significand;
  const biased = exponent + (format.precision - 1) + format.maxExponent;
  return signBit | (BigInt(biased) << fraction) | (significand & ((1n << fraction) - 1n));
}

/** Rounds to a signed integer of 16, 32 or 64 bits; out of range yields the integer indefinite and IE. */
export function toInteger80(
  a: Float80,
  bits: 16 | 32 | 64,
  control: number,
  rc: RoundingControl = roundingOf(control),
): StoreResult {
  const indefinite = 1n << BigInt(bits - 1);
  const kind = classify80(a);
  const invalid: StoreResult = { bits: indefinite, flags: IE, up: false, stored: (control & IE) !== 0 };
  if (kind === "zero") return { bits: 0n, flags: 0, up: false, stored: true };
  if (kind === "infinity" || kind === "unsupported" || isNan(kind)) return invalid;
  const r = integral(a, rc);
  if (r === undefined) return invalid;
  const value = r.sign ? -r.magnitude : r.magnitude;
  if (value >= indefinite || value < -indefinite) return invalid;
  return { bits: BigInt.asUintN(bits, value), flags: r.inexact ? PE : 0, up: r.up, stored: true };
}

/** Rounds a finite value to an integer magnitude; undefined when it needs more than 64 bits. */
function integral(
  a: Float80,
  rc: RoundingControl,
): { sign: 0 | 1; magnitude: bigint; inexact: boolean; up: boolean } | undefined {
  const x = finite80(a);
  if (x.exponent > 0) return undefined;
  const r = round({ ...x, sticky: false }, { precision: 80, minExponent: 79, maxExponent: 1000 }, rc);
  return { sign: x.sign, magnitude: r.significand, inexact: (r.flags & PE) !== 0, up: r.up };
}

const BCD_LIMIT = 10n ** 18n;
/** The packed BCD indefinite. */
const BCD_INDEFINITE = 0xffff_c000_0000_0000_0000n;

/** Eighteen packed decimal digits and a sign byte, as FBSTP writes them; 80 bits. */
export function toBcd80(a: Float80, control: number): StoreResult {
  const kind = classify80(a);
  const sign = BigInt(sign80(a)) << 79n;
  const invalid: StoreResult = { bits: BCD_INDEFINITE, flags: IE, up: false, stored: (control & IE) !== 0 };
  if (kind === "zero") return { bits: sign, flags: 0, up: false, stored: true };
  if (kind === "infinity" || kind === "unsupported" || isNan(kind)) return invalid;
  const r = integral(a, roundingOf(control));
  if (r === undefined || r.magnitude >= BCD_LIMIT) return invalid;
  return { bits: sign | BigInt(`0x${r.magnitude}`), flags: r.inexact ? PE : 0, up: r.up, stored: true };
}

/** Reads packed BCD. Digits above nine count as what they weigh, as processors do. */
export function fromBcd80(bits: bigint): Float80 {
  let value = 0n;
  for (let i = 17n; i >= 0n; i -= 1n) value = value * 10n + ((bits >> (i * 4n)) & 15n);
  const negative = (bits >> 79n) & 1n;
  if (value === 0n) return zero80(Number(negative));
  return fromInteger80(negative ? -value : value);
}
