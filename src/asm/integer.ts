/**
 * 64-bit two's-complement integers as NASM computes with them: a `number` while it is exact, else a `bigint` in
 * [-2^63, 2^63). Most values in a source are small, so most arithmetic never touches BigInt.
 */
export type Int = number | bigint;

const SAFE = Number.MAX_SAFE_INTEGER;

/** Wraps to 64 bits, signed, and returns the cheapest representation. */
export function normalize(value: bigint): Int {
  const wrapped = BigInt.asIntN(64, value);
  return wrapped >= -9007199254740991n && wrapped <= 9007199254740991n ? Number(wrapped) : wrapped;
}

/** The value as a signed 64-bit bigint. */
export function toBig(value: Int): bigint {
  return typeof value === "bigint" ? value : BigInt(value);
}

/** The value as an unsigned 64-bit bigint. */
export function toUnsigned(value: Int): bigint {
  return BigInt.asUintN(64, toBig(value));
}

export function add(a: Int, b: Int): Int {
  if (typeof a === "number" && typeof b === "number") {
    const sum = a + b;
    if (sum <= SAFE && sum >= -SAFE) return sum;
  }
  return normalize(toBig(a) + toBig(b));
}

export function subtract(a: Int, b: Int): Int {
  if (typeof a === "number" && typeof b === "number") {
    const difference = a - b;
    if (difference <= SAFE && difference >= -SAFE) return difference;
  }
  return normalize(toBig(a) - toBig(b));
}

export function multiply(a: Int, b: Int): Int {
  if (typeof a === "number" && typeof b === "number") {
    const product = a * b;
    if (product <= SAFE && product >= -SAFE) return product + 0;
  }
  return normalize(toBig(a) * toBig(b));
}

export function negate(a: Int): Int {
  return subtract(0, a);
}

/** The low 32 bits as a signed number. */
export function low32(value: Int): number {
  return typeof value === "number" && value >= -0x80000000 && value <= 0xffffffff
    ? value | 0
    : Number(BigInt.asIntN(32, toBig(value)));
}

/**
 * True when the value is the sign extension of its low byte, as NASM's sbyteword and sbytedword tests see it: they look at no more
 * than 16 or 32 bits of it, also where the operand has 64.
 */
export function isSignedByte(value: Int, bits: 16 | 32 | 64): boolean {
  if (typeof value === "number" && value >= -128 && value <= 127) return true;
  const wrapped = bits === 16 ? (low32(value) << 16) >> 16 : low32(value);
  return wrapped >= -128 && wrapped <= 127;
}

/** True when the value is representable in `bits` bits as a signed or as an unsigned number. */
export function fitsEither(value: Int, bits: number): boolean {
  if (bits >= 64) return true;
  const limit = 2 ** bits;
  return value >= -limit / 2 && value < limit;
}

/** True when the value is representable in `bits` bits as a signed number. */
export function fitsSigned(value: Int, bits: number): boolean {
  if (bits >= 64) return true;
  const half = 2 ** (bits - 1);
  return value >= -half && value < half;
}

/** Writes the low `size` bytes, little-endian. */
export function writeInt(value: Int, into: Uint8Array, offset: number, size: number): void {
  if (typeof value === "number" && value >= -0x80000000 && value <= 0xffffffff) {
    const low = value | 0;
    const high = value < 0 ? 0xff : 0;
    for (let i = 0; i < size; i++) into[offset + i] = i < 4 ? (low >>> (8 * i)) & 0xff : high;
    return;
  }
  let rest = toBig(value);
  for (let i = 0; i < size; i++) {
    into[offset + i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

type Binary = (a: Int, b: Int) => Int;

function bitwise(small: (a: number, b: number) => number, large: (a: bigint, b: bigint) => bigint): Binary {
  return (a, b) =>
    a === (Number(a) | 0) && b === (Number(b) | 0)
      ? small(a as number, b as number)
      : normalize(large(toBig(a), toBig(b)));
}

const truth = (value: boolean): Int => (value ? 1 : 0);

/** NASM shifts as the processor does: by the count modulo 64. */
function shiftCount(b: Int): bigint {
  return toUnsigned(b) & 63n;
}

/** Binary operators by NASM spelling. Division by zero is the caller's to refuse. */
export const binaryOperators: Readonly<Record<string, Binary>> = {
  "+": add,
  "-": subtract,
  "*": multiply,
  "/": (a, b) => normalize(toUnsigned(a) / toUnsigned(b)),
  "//": (a, b) => normalize(toBig(a) / toBig(b)),
  "%": (a, b) => normalize(toUnsigned(a) % toUnsigned(b)),
  "%%": (a, b) => normalize(toBig(a) % toBig(b)),
  "&": bitwise(
    (a, b) => a & b,
    (a, b) => a & b,
  ),
  "|": bitwise(
    (a, b) => a | b,
    (a, b) => a | b,
  ),
  "^": bitwise(
    (a, b) => a ^ b,
    (a, b) => a ^ b,
  ),
  "<<": (a, b) => normalize(toBig(a) << shiftCount(b)),
  "<<<": (a, b) => normalize(toBig(a) << shiftCount(b)),
  ">>": (a, b) => normalize(toUnsigned(a) >> shiftCount(b)),
  ">>>": (a, b) => normalize(toBig(a) >> shiftCount(b)),
  "=": (a, b) => truth(a === b),
  "==": (a, b) => truth(a === b),
  "!=": (a, b) => truth(a !== b),
  "<>": (a, b) => truth(a !== b),
  "<": (a, b) => truth(a < b),
  ">": (a, b) => truth(a > b),
  "<=": (a, b) => truth(a <= b),
  ">=": (a, b) => truth(a >= b),
  "<=>": (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  "&&": (a, b) => truth(a !== 0 && b !== 0),
  "||": (a, b) => truth(a !== 0 || b !== 0),
  "^^": (a, b) => truth((a !== 0) !== (b !== 0)),
};
