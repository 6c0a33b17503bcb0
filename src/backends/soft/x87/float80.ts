import type { Finite } from "./exact.ts";
import {
  bitLength,
  DE,
  EXTENDED,
  EXTENDED_PC24,
  EXTENDED_PC53,
  type Exact,
  type Format,
  IE,
  OE,
  PE,
  type Rounded,
  type RoundingControl,
  round,
  roundUnbounded,
  UE,
} from "./rounding.ts";

/** An 80-bit extended value as the registers hold it: sign and exponent in 16 bits, significand with explicit integer bit in 64. */
export interface Float80 {
  readonly se: number;
  readonly significand: bigint;
}

/** `denormal` includes the pseudo-denormals; `unsupported` are the encodings with an exponent but no integer bit. */
export type Class80 = "zero" | "denormal" | "normal" | "infinity" | "quiet" | "signaling" | "unsupported";

export const INTEGER_BIT = 0x8000_0000_0000_0000n;
const QUIET_BIT = 0x4000_0000_0000_0000n;
const BIAS = 16383;

/** The real indefinite: what a masked invalid operation yields. */
export const INDEFINITE: Float80 = { se: 0xffff, significand: 0xc000_0000_0000_0000n };

export function zero80(sign: number): Float80 {
  return { se: sign ? 0x8000 : 0, significand: 0n };
}

export function infinity80(sign: number): Float80 {
  return { se: sign ? 0xffff : 0x7fff, significand: INTEGER_BIT };
}

export function sign80(value: Float80): 0 | 1 {
  return (value.se >> 15) as 0 | 1;
}

/** Intel SDM Vol. 1, "Unsupported Double Extended-Precision Floating-Point Encodings and Pseudo-Denormals". */
export function classify80(value: Float80): Class80 {
  const exponent = value.se & 0x7fff;
  const { significand } = value;
  if (exponent === 0) return significand === 0n ? "zero" : "denormal";
  if ((significand & INTEGER_BIT) === 0n) return "unsupported";
  if (exponent !== 0x7fff) return "normal";
  if (significand === INTEGER_BIT) return "infinity";
  return significand & QUIET_BIT ? "quiet" : "signaling";
}

export function isNan(kind: Class80): boolean {
  return kind === "quiet" || kind === "signaling";
}

/** The number behind a normal, denormal or pseudo-denormal encoding. */
export function finite80(value: Float80): Finite {
  const exponent = value.se & 0x7fff || 1;
  return { sign: sign80(value), significand: value.significand, exponent: exponent - BIAS - 63 };
}

export function quiet80(value: Float80): Float80 {
  return { se: value.se, significand: value.significand | QUIET_BIT };
}

/** Encodes a rounded value; its exponent must be within the format's range. */
export function encode80(value: Rounded): Float80 {
  if (value.infinite) return infinity80(value.sign);
  if (value.significand === 0n) return zero80(value.sign);
  const length = bitLength(value.significand);
  const lead = value.exponent + length - 1;
  const sign = value.sign << 15;
  if (lead < EXTENDED.minExponent)
    return { se: sign, significand: value.significand << BigInt(value.exponent - (EXTENDED.minExponent - 63)) };
  return { se: sign | (lead + BIAS), significand: value.significand << BigInt(64 - length) };
}

/** What an operation yields. `stored` is false when an unmasked exception keeps the destination as it was. */
export interface Result80 {
  readonly value: Float80;
  /** Exception flags to set in the status word. */
  readonly flags: number;
  /** C1: the last rounding went up in magnitude. */
  readonly up: boolean;
  readonly stored: boolean;
}

/** Exceptions whose unmasked form stops an operation before it has a result. */
const BEFORE = IE | DE | 4;

export function result80(value: Float80, flags: number, control: number, up = false): Result80 {
  const blocking = flags & ~control & BEFORE;
  // What stops an operation before it has a result also keeps it from rounding.
  return blocking ? { value, flags: flags & BEFORE, up: false, stored: false } : { value, flags, up, stored: true };
}

export function roundingOf(control: number): RoundingControl {
  return ((control >> 10) & 3) as RoundingControl;
}

/** The format that precision control selects; the reserved encoding 01 behaves as extended. */
export function formatOf(control: number): Format {
  const pc = (control >> 8) & 3;
  return pc === 0 ? EXTENDED_PC24 : pc === 2 ? EXTENDED_PC53 : EXTENDED;
}

/** By how much the x87 rebiases the exponent of a result whose overflow or underflow is unmasked. */
const REBIAS = 24576;

/** Rounds an exact, non-zero result to a register under a control word, with the responses to unmasked exceptions. */
export function finish80(value: Exact, control: number, flags: number, format = formatOf(control)): Result80 {
  const rc = roundingOf(control);
  const r = round(value, format, rc);
  if (r.tiny && !(control & UE))
    return rebias(roundUnbounded(value, format.precision, rc), REBIAS, flags | UE, control);
  if (r.flags & OE && !(control & OE))
    return rebias(roundUnbounded(value, format.precision, rc), -REBIAS, flags | OE, control);
  return result80(encode80(r), flags | r.flags, control, r.up);
}

/** Results too far out even after rebiasing wrap as overflowed or vanish as underflowed: only FSCALE can make them. */
function rebias(r: Rounded, by: number, flags: number, control: number): Result80 {
  const moved = { ...r, exponent: r.exponent + by };
  const lead = moved.exponent + bitLength(moved.significand) - 1;
  const inexact = flags | (r.flags & PE);
  if (lead > EXTENDED.maxExponent) return result80(infinity80(r.sign), inexact | PE, control, true);
  if (lead < EXTENDED.minExponent) return result80(zero80(r.sign), inexact | PE, control, false);
  return result80(encode80(moved), inexact, control, r.up);
}

/** The NaN that two operands, at least one of them a NaN, produce (Intel SDM Vol. 1, "Rules for Handling NaNs"). */
export function propagate80(a: Float80, b: Float80, control: number): Result80 {
  const ka = classify80(a);
  const kb = classify80(b);
  const flags = ka === "signaling" || kb === "signaling" ? IE : 0;
  return result80(quiet80(chooseNan(a, ka, b, kb)), flags, control);
}

function chooseNan(a: Float80, ka: Class80, b: Float80, kb: Class80): Float80 {
  if (!isNan(kb)) return a;
  if (!isNan(ka)) return b;
  if (ka !== kb) return ka === "quiet" ? a : b;
  if (a.significand !== b.significand) return a.significand > b.significand ? a : b;
  return sign80(a) === 0 ? a : b;
}

export function invalid80(control: number): Result80 {
  return result80(INDEFINITE, IE, control);
}
