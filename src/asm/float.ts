/** An IEEE-style binary format: sign, exponent, significand, the last with or without its integer bit stored. */
interface FloatFormat {
  readonly bytes: number;
  readonly exponentBits: number;
  /** Stored significand bits, the explicit integer bit included where there is one. */
  readonly significandBits: number;
  readonly explicitInteger: boolean;
}

const FORMATS: Readonly<Record<number, FloatFormat>> = {
  1: { bytes: 1, exponentBits: 4, significandBits: 3, explicitInteger: false },
  2: { bytes: 2, exponentBits: 5, significandBits: 10, explicitInteger: false },
  4: { bytes: 4, exponentBits: 8, significandBits: 23, explicitInteger: false },
  8: { bytes: 8, exponentBits: 11, significandBits: 52, explicitInteger: false },
  10: { bytes: 10, exponentBits: 15, significandBits: 64, explicitInteger: true },
  16: { bytes: 16, exponentBits: 15, significandBits: 112, explicitInteger: false },
};

/** Sizes in bytes that a floating-point constant can take: half, single, double, x87 extended, quadruple. */
export const floatSizes: readonly number[] = [2, 4, 8, 10, 16];

/** A positive rational number, `numerator / denominator`. */
interface Rational {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

const MAX_DIGITS = 400;
const MAX_EXPONENT = 6000;

function radixRational(whole: string, fraction: string, radixBits: number, exponent: number): Rational {
  const digits = BigInt((radixBits === 4 ? "0x0" : radixBits === 3 ? "0o0" : "0b0") + whole + fraction);
  const shift = exponent - fraction.length * radixBits;
  return shift >= 0
    ? { numerator: digits << BigInt(shift), denominator: 1n }
    : { numerator: digits, denominator: 1n << BigInt(-shift) };
}

/** Reads an unsigned floating literal exactly: `1.5`, `1e10`, `.5`, `0x1.8p3`, `0b1.1p-2`. */
export function parseFloatLiteral(text: string): Rational | undefined {
  const clean = text.replaceAll("_", "");
  const radix = /^(0[xh]|\$|0[by]|0[oq])([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?\d+))?$/i.exec(clean);
  const clamp = (digits: string | undefined) => Math.max(-20000, Math.min(20000, Number.parseInt(digits ?? "0", 10)));
  if (radix && clean.length <= MAX_DIGITS) {
    const bits = /[xh$]/i.test(radix[1]!) ? 4 : /[oq]/i.test(radix[1]!) ? 3 : 1;
    const body = radix[2]! + radix[3]!;
    const legal = bits === 4 ? /^[0-9a-f]+$/i : bits === 3 ? /^[0-7]+$/ : /^[01]+$/;
    if (!legal.test(body)) return undefined;
    return radixRational(radix[2]!, radix[3]!, bits, clamp(radix[4]));
  }
  const decimal = /^(\d*)\.?(\d*)(?:e([+-]?\d+))?$/i.exec(clean);
  if (!decimal || decimal[1]! + decimal[2]! === "" || clean.length > MAX_DIGITS) return undefined;
  const digits = BigInt(decimal[1]! + decimal[2]!);
  const exponent = Math.max(-MAX_EXPONENT, Math.min(MAX_EXPONENT, clamp(decimal[3]) - decimal[2]!.length));
  return exponent >= 0
    ? { numerator: digits * 10n ** BigInt(exponent), denominator: 1n }
    : { numerator: digits, denominator: 10n ** BigInt(-exponent) };
}

const bitLength = (value: bigint): number => (value === 0n ? 0 : value.toString(2).length);

function divideRounded(numerator: bigint, denominator: bigint): bigint {
  const quotient = numerator / denominator;
  const twice = (numerator % denominator) * 2n;
  return twice > denominator || (twice === denominator && (quotient & 1n) === 1n) ? quotient + 1n : quotient;
}

function pack(format: FloatFormat, negative: boolean, exponent: bigint, significand: bigint): Uint8Array {
  const stored = BigInt(format.significandBits);
  let word = (negative ? 1n << (stored + BigInt(format.exponentBits)) : 0n) | (exponent << stored) | significand;
  return Uint8Array.from({ length: format.bytes }, () => {
    const byte = Number(word & 0xffn);
    word >>= 8n;
    return byte;
  });
}

/**
 * Encodes a rational number in the format of `size` bytes, little-endian, rounding to nearest even.
 *
 * @returns the bytes, infinity when the number is out of range.
 */
export function encodeFloat(value: Rational, size: number, negative: boolean): Uint8Array {
  const format = FORMATS[size];
  if (!format) throw new RangeError(`Cannot encode a floating-point constant in ${size} bytes`);
  const fractionBits = format.explicitInteger ? format.significandBits - 1 : format.significandBits;
  const bias = 2 ** (format.exponentBits - 1) - 1;
  const maxExponent = 2 ** format.exponentBits - 1;
  const integerBit = 1n << BigInt(fractionBits);
  if (value.numerator === 0n) return pack(format, negative, 0n, 0n);
  let exponent = bitLength(value.numerator) - bitLength(value.denominator);
  const below =
    exponent >= 0
      ? value.numerator < value.denominator << BigInt(exponent)
      : value.numerator << BigInt(-exponent) < value.denominator;
  if (below) exponent--;
  exponent = Math.max(exponent, 1 - bias);
  const shift = fractionBits - exponent;
  let significand =
    shift >= 0
      ? divideRounded(value.numerator << BigInt(shift), value.denominator)
      : divideRounded(value.numerator, value.denominator << BigInt(-shift));
  if (significand >= integerBit * 2n) {
    significand >>= 1n;
    exponent++;
  }
  const normal = significand >= integerBit;
  const biased = normal ? exponent + bias : 0;
  if (biased >= maxExponent) return specialFloat("infinity", size, negative);
  return pack(format, negative, BigInt(biased), format.explicitInteger ? significand : significand & (integerBit - 1n));
}

/** Encodes `__?Infinity?__`, `__?QNaN?__` or `__?SNaN?__` in `size` bytes. */
export function specialFloat(kind: "infinity" | "qnan" | "snan", size: number, negative: boolean): Uint8Array {
  const format = FORMATS[size];
  if (!format) throw new RangeError(`Cannot encode a floating-point constant in ${size} bytes`);
  const top = BigInt(format.significandBits - 1);
  const integer = format.explicitInteger ? 1n << top : 0n;
  const quiet = format.explicitInteger ? top - 1n : top;
  const payload = kind === "infinity" ? 0n : kind === "qnan" ? 1n << quiet : 1n;
  return pack(format, negative, BigInt(2 ** format.exponentBits - 1), integer | payload);
}

/** The special constants by their NASM names, in lower case without the underscores and question marks. */
export const specialFloatNames: ReadonlyMap<string, "infinity" | "qnan" | "snan"> = new Map([
  ["infinity", "infinity"],
  ["nan", "qnan"],
  ["qnan", "qnan"],
  ["snan", "snan"],
]);

/** The size in bytes of a `__?float32?__`-style function, by its bare name. */
export const floatFunctionSizes: ReadonlyMap<string, number> = new Map(
  Object.entries({
    float8: 1,
    float16: 2,
    float32: 4,
    float64: 8,
    float80e: 2,
    float80m: 8,
    float128l: 8,
    float128h: 8,
  }),
);

/** Encodes a value as one of the `__?floatN?__` functions does: 80- and 128-bit formats give one part of themselves. */
export function encodeFloatFunction(name: string, encode: (size: number) => Uint8Array): Uint8Array {
  switch (name) {
    case "float80m":
      return encode(10).subarray(0, 8);
    case "float80e":
      return encode(10).subarray(8, 10);
    case "float128l":
      return encode(16).subarray(0, 8);
    case "float128h":
      return encode(16).subarray(8, 16);
    default:
      return encode(floatFunctionSizes.get(name) ?? 8);
  }
}
