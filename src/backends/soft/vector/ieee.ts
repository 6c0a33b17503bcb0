import { addExact, divideExact, type Finite, multiplyExact, sqrtExact } from "../x87/exact.ts";
import {
  BINARY16,
  BINARY32,
  BINARY64,
  DE,
  DOWN,
  type Exact,
  type Format,
  IE,
  NEAREST,
  OE,
  PE,
  type Rounded,
  type RoundingControl,
  round,
  roundUnbounded,
  UE,
  ZE,
} from "../x87/rounding.ts";

/** An interchange format and its place in bits. */
export interface Ieee {
  readonly format: Format;
  readonly fraction: bigint;
  readonly width: number;
  readonly signBit: bigint;
  readonly infinity: bigint;
  readonly quiet: bigint;
}

function ieee(format: Format, width: number): Ieee {
  const fraction = BigInt(format.precision - 1);
  const infinity = BigInt(2 * format.maxExponent + 1) << fraction;
  return { format, fraction, width, signBit: 1n << BigInt(width - 1), infinity, quiet: 1n << (fraction - 1n) };
}

export const HALF = ieee(BINARY16, 16);
export const SINGLE = ieee(BINARY32, 32);
export const DOUBLE = ieee(BINARY64, 64);

export type Kind = "zero" | "denormal" | "normal" | "infinity" | "quiet" | "signaling";

export function kindOf(bits: bigint, f: Ieee): Kind {
  const magnitude = bits & (f.signBit - 1n);
  if (magnitude === 0n) return "zero";
  if (magnitude < 1n << f.fraction) return "denormal";
  if (magnitude < f.infinity) return "normal";
  if (magnitude === f.infinity) return "infinity";
  return magnitude & f.quiet ? "quiet" : "signaling";
}

export function isNanKind(kind: Kind): boolean {
  return kind === "quiet" || kind === "signaling";
}

function signOf(bits: bigint, f: Ieee): 0 | 1 {
  return bits & f.signBit ? 1 : 0;
}

/** The number behind the bits of a normal or denormal. */
function finiteOf(bits: bigint, f: Ieee): Finite {
  const exponent = Number((bits & (f.signBit - 1n)) >> f.fraction);
  const mantissa = bits & ((1n << f.fraction) - 1n);
  const significand = exponent === 0 ? mantissa : mantissa | (1n << f.fraction);
  return { sign: signOf(bits, f), significand, exponent: (exponent || 1) - f.format.maxExponent - Number(f.fraction) };
}

function encode(r: Rounded, f: Ieee): bigint {
  const sign = r.sign ? f.signBit : 0n;
  if (r.infinite) return sign | f.infinity;
  if (r.significand >> f.fraction === 0n) return sign | r.significand;
  const exponent = r.exponent + Number(f.fraction) + f.format.maxExponent;
  return sign | (BigInt(exponent) << f.fraction) | (r.significand & ((1n << f.fraction) - 1n));
}

/** MXCSR bits (Intel SDM Vol. 1, "MXCSR Control and Status Register"). */
const DAZ = 0x40;
const FTZ = 0x8000;

/** CMPPS predicates: which relations make it true, and whether a quiet NaN is invalid. Bits: 1 less, 2 equal, 4 greater, 8 unordered. */
const PREDICATES = [2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15] as const;
/** Predicates of 0 to 15 that signal on quiet NaNs; 16 to 31 do the opposite. */
const SIGNALING = 0b0110_0110_0110_0110;

/**
 * SSE arithmetic on single lanes, bit for bit, under one value of MXCSR. Flags collect in `flags` as if everything were
 * masked; `settle` in `floating-helpers.ts` decides what becomes of them.
 */
export class SseArithmetic {
  flags = 0;
  readonly #mxcsr: number;
  readonly #rc: RoundingControl;

  constructor(mxcsr: number) {
    this.#mxcsr = mxcsr;
    this.#rc = ((mxcsr >> 13) & 3) as RoundingControl;
  }

  add(f: Ieee, a: bigint, b: bigint): bigint {
    return this.#sum(f, a, b, 0n);
  }

  subtract(f: Ieee, a: bigint, b: bigint): bigint {
    return this.#sum(f, a, b, f.signBit);
  }

  #sum(f: Ieee, left: bigint, right: bigint, flip: bigint): bigint {
    const a = this.#operand(f, left);
    const b = this.#operand(f, right);
    const ka = kindOf(a, f);
    const kb = kindOf(b, f);
    if (isNanKind(ka) || isNanKind(kb)) return this.#nan(f, a, ka, b, kb);
    const c = b ^ flip;
    if (ka === "infinity") return kb === "infinity" && a !== c ? this.#invalid(f) : this.#denormal(ka, kb, a);
    if (kb === "infinity") return this.#denormal(ka, kb, c);
    this.#denormal(ka, kb, 0n);
    if (ka === "zero" && kb === "zero") return a === c ? a : this.#cancelled(f);
    if (ka === "zero" || kb === "zero")
      return this.#finish(f, { ...finiteOf(ka === "zero" ? c : a, f), sticky: false });
    const exact = addExact(finiteOf(a, f), finiteOf(c, f));
    return exact ? this.#finish(f, exact) : this.#cancelled(f);
  }

  multiply(f: Ieee, left: bigint, right: bigint): bigint {
    const a = this.#operand(f, left);
    const b = this.#operand(f, right);
    const ka = kindOf(a, f);
    const kb = kindOf(b, f);
    if (isNanKind(ka) || isNanKind(kb)) return this.#nan(f, a, ka, b, kb);
    const sign = (a ^ b) & f.signBit;
    if (ka === "infinity" || kb === "infinity")
      return ka === "zero" || kb === "zero" ? this.#invalid(f) : this.#denormal(ka, kb, sign | f.infinity);
    this.#denormal(ka, kb, 0n);
    if (ka === "zero" || kb === "zero") return sign;
    return this.#finish(f, multiplyExact(finiteOf(a, f), finiteOf(b, f)));
  }

  divide(f: Ieee, left: bigint, right: bigint): bigint {
    const a = this.#operand(f, left);
    const b = this.#operand(f, right);
    const ka = kindOf(a, f);
    const kb = kindOf(b, f);
    if (isNanKind(ka) || isNanKind(kb)) return this.#nan(f, a, ka, b, kb);
    const sign = (a ^ b) & f.signBit;
    if (ka === "infinity") return kb === "infinity" ? this.#invalid(f) : this.#denormal(ka, kb, sign | f.infinity);
    if (kb === "infinity") return this.#denormal(ka, kb, sign);
    if (kb === "zero") {
      if (ka === "zero") return this.#invalid(f);
      this.flags |= ZE;
      return sign | f.infinity;
    }
    this.#denormal(ka, kb, 0n);
    if (ka === "zero") return sign;
    return this.#finish(f, divideExact(finiteOf(a, f), finiteOf(b, f), f.format.precision));
  }

  squareRoot(f: Ieee, operand: bigint): bigint {
    const a = this.#operand(f, operand);
    const ka = kindOf(a, f);
    if (isNanKind(ka)) return this.#nan(f, a, ka, a, ka);
    if (ka === "zero") return a;
    if (a & f.signBit) return this.#invalid(f);
    if (ka === "infinity") return a;
    this.#denormal(ka, ka, 0n);
    return this.#finish(f, sqrtExact(finiteOf(a, f), f.format.precision));
  }

  /**
   * ±(a × b) ± c, rounded once. `negate` has bit 0 for the product and bit 1 for c; NaNs are taken in the order a, b, c
   * and keep their sign.
   */
  fused(f: Ieee, operands: readonly [bigint, bigint, bigint], negate: number): bigint {
    const values = operands.map((bits) => this.#flushed(f, bits));
    const kinds = values.map((bits) => kindOf(bits, f));
    const [ka, kb, kc] = kinds as [Kind, Kind, Kind];
    if (kinds.some(isNanKind)) {
      if (kinds.includes("signaling")) this.flags |= IE;
      return values[kinds.findIndex(isNanKind)]! | f.quiet;
    }
    const a = negate & 1 ? values[0]! ^ f.signBit : values[0]!;
    const b = values[1]!;
    const c = negate & 2 ? values[2]! ^ f.signBit : values[2]!;
    if ((ka === "zero" && kb === "infinity") || (ka === "infinity" && kb === "zero")) return this.#invalid(f);
    const sign = (a ^ b) & f.signBit;
    const infinite = ka === "infinity" || kb === "infinity";
    if (infinite && kc === "infinity" && sign !== (c & f.signBit)) return this.#invalid(f);
    if (kinds.includes("denormal")) this.flags |= DE;
    if (infinite) return sign | f.infinity;
    if (kc === "infinity") return c;
    if (ka === "zero" || kb === "zero") {
      if (kc === "zero") return sign === c ? c : this.#cancelled(f);
      return this.#finish(f, { ...finiteOf(c, f), sticky: false });
    }
    const product = multiplyExact(finiteOf(a, f), finiteOf(b, f));
    if (kc === "zero") return this.#finish(f, product);
    const exact = addExact(product, finiteOf(c, f));
    return exact ? this.#finish(f, exact) : this.#cancelled(f);
  }

  /** MIN: the second operand where either is a NaN or both are zeros. */
  minimum(f: Ieee, a: bigint, b: bigint): bigint {
    return this.#select(f, a, b, 1);
  }

  maximum(f: Ieee, a: bigint, b: bigint): bigint {
    return this.#select(f, a, b, 4);
  }

  #select(f: Ieee, left: bigint, right: bigint, wanted: number): bigint {
    const a = this.#operand(f, left);
    const b = this.#operand(f, right);
    return this.#relation(f, a, b, true) === wanted ? a : b;
  }

  /** CMPPS and its kind: all ones when the predicate (0 to 31) holds. */
  compare(f: Ieee, left: bigint, right: bigint, predicate: number): bigint {
    const signaling = ((SIGNALING >> (predicate & 15)) & 1) !== predicate >> 4;
    const relation = this.#relation(f, this.#operand(f, left), this.#operand(f, right), signaling);
    return PREDICATES[predicate & 15]! & relation ? (f.signBit << 1n) - 1n : 0n;
  }

  /** ZF, PF and CF as COMISD (`signaling`) and UCOMISD set them. */
  compareFlags(f: Ieee, left: bigint, right: bigint, signaling: boolean): number {
    const relation = this.#relation(f, this.#operand(f, left), this.#operand(f, right), signaling);
    return relation === 1 ? 1 : relation === 2 ? 0x40 : relation === 4 ? 0 : 0x45;
  }

  /** 1 less, 2 equal, 4 greater, 8 unordered. */
  #relation(f: Ieee, a: bigint, b: bigint, signaling: boolean): number {
    const ka = kindOf(a, f);
    const kb = kindOf(b, f);
    if (isNanKind(ka) || isNanKind(kb)) {
      if (signaling || ka === "signaling" || kb === "signaling") this.flags |= IE;
      return 8;
    }
    this.#denormal(ka, kb, 0n);
    const x = ordinal(a, f);
    const y = ordinal(b, f);
    return x < y ? 1 : x === y ? 2 : 4;
  }

  /** ROUNDPS: `control` is the immediate: rounding mode or 4 for MXCSR's, 8 to keep inexact results quiet. */
  roundToIntegral(f: Ieee, operand: bigint, control: number): bigint {
    const a = this.#flushed(f, operand);
    const ka = kindOf(a, f);
    if (isNanKind(ka)) return this.#nan(f, a, ka, a, ka);
    if (ka === "zero" || ka === "infinity") return a;
    const x = finiteOf(a, f);
    if (x.exponent >= 0) return a;
    const rc = control & 4 ? this.#rc : ((control & 3) as RoundingControl);
    const r = round({ ...x, sticky: false }, INTEGRAL, rc);
    if (r.flags & PE && !(control & 8)) this.flags |= PE;
    if (r.significand === 0n) return a & f.signBit;
    return encode(round({ ...r, sticky: false }, f.format, NEAREST), f);
  }

  /** To a signed integer of 32 or 64 bits; the indefinite integer where it does not fit. */
  toInteger(f: Ieee, operand: bigint, width: 32 | 64, mode: "round" | "truncate"): bigint {
    const a = this.#flushed(f, operand);
    const ka = kindOf(a, f);
    const indefinite = 1n << BigInt(width - 1);
    if (ka === "zero") return 0n;
    const x = finiteOf(a, f);
    if (ka === "infinity" || isNanKind(ka) || x.exponent > 64) return this.#raise(IE, indefinite);
    const r = round({ ...x, sticky: false }, INTEGRAL, mode === "truncate" ? 3 : this.#rc);
    const magnitude = r.significand << BigInt(Math.max(0, r.exponent));
    const value = x.sign ? -magnitude : magnitude;
    if (value >= indefinite || value < -indefinite) return this.#raise(IE, indefinite);
    this.flags |= r.flags & PE;
    return BigInt.asUintN(width, value);
  }

  fromInteger(f: Ieee, value: bigint): bigint {
    if (value === 0n) return 0n;
    const significand = value < 0n ? -value : value;
    return this.#finish(f, { sign: value < 0n ? 1 : 0, significand, exponent: 0, sticky: false });
  }

  /** Between formats, as CVTSS2SD and CVTSD2SS do. */
  convert(from: Ieee, to: Ieee, operand: bigint): bigint {
    return this.#convert(from, to, this.#operand(from, operand), "flush");
  }

  /** VCVTPH2PS: denormal halves are ordinary numbers, whatever MXCSR says. */
  fromHalf(operand: bigint): bigint {
    const before = this.flags;
    const result = this.#convert(HALF, SINGLE, operand, "keep");
    this.flags = before | (this.flags & ~DE);
    return result;
  }

  /** VCVTPS2PH: rounding by the immediate, or by MXCSR when its bit 2 is set; results are not flushed. */
  toHalf(operand: bigint, control: number): bigint {
    const rc = control & 4 ? this.#rc : ((control & 3) as RoundingControl);
    return this.#convert(SINGLE, HALF, this.#operand(SINGLE, operand), "keep", rc);
  }

  #convert(from: Ieee, to: Ieee, a: bigint, tiny: "flush" | "keep", rc = this.#rc): bigint {
    const ka = kindOf(a, from);
    const sign = a & from.signBit ? to.signBit : 0n;
    if (ka === "zero") return sign;
    if (ka === "infinity") return sign | to.infinity;
    if (isNanKind(ka)) {
      if (ka === "signaling") this.flags |= IE;
      const mantissa = a & ((1n << from.fraction) - 1n);
      const shift = to.fraction - from.fraction;
      return sign | to.infinity | to.quiet | (shift >= 0n ? mantissa << shift : mantissa >> -shift);
    }
    this.#denormal(ka, ka, 0n);
    return this.#finish(to, { ...finiteOf(a, from), sticky: false }, rc, tiny);
  }

  /** Denormals are zeros when MXCSR says so, and then not reported. */
  #operand(f: Ieee, bits: bigint): bigint {
    return this.#flushed(f, bits);
  }

  #flushed(f: Ieee, bits: bigint): bigint {
    return this.#mxcsr & DAZ && kindOf(bits, f) === "denormal" ? bits & f.signBit : bits;
  }

  #denormal(ka: Kind, kb: Kind, result: bigint): bigint {
    if (ka === "denormal" || kb === "denormal") this.flags |= DE;
    return result;
  }

  #raise(flag: number, result: bigint): bigint {
    this.flags |= flag;
    return result;
  }

  /** The default NaN. */
  #invalid(f: Ieee): bigint {
    return this.#raise(IE, f.signBit | f.infinity | f.quiet);
  }

  /** The first operand's NaN, else the second's, made quiet. */
  #nan(f: Ieee, a: bigint, ka: Kind, b: bigint, kb: Kind): bigint {
    if (ka === "signaling" || kb === "signaling") this.flags |= IE;
    return (isNanKind(ka) ? a : b) | f.quiet;
  }

  #cancelled(f: Ieee): bigint {
    return this.#rc === DOWN ? f.signBit : 0n;
  }

  #finish(f: Ieee, exact: Exact, rc = this.#rc, tiny: "flush" | "keep" = "flush"): bigint {
    const r = round(exact, f.format, rc);
    const underflowMasked = (this.#mxcsr & 0x800) !== 0;
    if (r.tiny && tiny === "flush" && underflowMasked && this.#mxcsr & FTZ)
      return this.#raise(UE | PE, r.sign ? f.signBit : 0n);
    const overflows = (r.flags & OE) !== 0 && !(this.#mxcsr & 0x400);
    if (overflows || (r.tiny && !underflowMasked)) {
      // Unmasked, inexact means: even with an unbounded exponent. And a tiny result underflows even when it is exact.
      const inexact = roundUnbounded(exact, f.format.precision, rc).flags & PE;
      this.flags |= inexact | (overflows ? OE : UE);
    } else this.flags |= r.flags;
    return encode(r, f);
  }
}

/** Wide enough for every integer below 2^80. */
const INTEGRAL: Format = { precision: 2000, minExponent: 1999, maxExponent: 4000 };

/** Orders finite values and infinities as integers; both zeros are 0. */
function ordinal(bits: bigint, f: Ieee): bigint {
  const magnitude = bits & (f.signBit - 1n);
  return bits & f.signBit ? -magnitude : magnitude;
}
