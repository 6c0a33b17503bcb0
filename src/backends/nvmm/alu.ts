/** Integer arithmetic as the processor does it: result and status flags, for operands of 1, 2, 4 or 8 bytes. */

export const CF = 0x1n;
export const PF = 0x4n;
export const AF = 0x10n;
export const ZF = 0x40n;
export const SF = 0x80n;
export const OF = 0x800n;
const STATUS = CF | PF | AF | ZF | SF | OF;

export interface AluResult {
  readonly value: bigint;
  readonly rflags: bigint;
}

/** What an operation makes of destination and source. */
export type AluOperation = (a: bigint, b: bigint, bits: number, rflags: bigint) => AluResult;

export function truncate(value: bigint, bits: number): bigint {
  return BigInt.asUintN(bits, value);
}

function signBit(value: bigint, bits: number): boolean {
  return ((value >> BigInt(bits - 1)) & 1n) === 1n;
}

/** PF, ZF and SF of a result. */
function resultFlags(value: bigint, bits: number): bigint {
  let low = Number(value & 0xffn);
  low ^= low >> 4;
  const even = ((0x9669 >> (low & 15)) & 1) === 1;
  return (even ? PF : 0n) | (value === 0n ? ZF : 0n) | (signBit(value, bits) ? SF : 0n);
}

function withFlags(rflags: bigint, status: bigint): bigint {
  return (rflags & ~STATUS) | status;
}

function added(a: bigint, b: bigint, carry: bigint, bits: number, rflags: bigint): AluResult {
  const value = truncate(a + b + carry, bits);
  let status = resultFlags(value, bits);
  if (a + b + carry !== value) status |= CF;
  if (((a ^ b ^ value) & 0x10n) !== 0n) status |= AF;
  if (signBit((a ^ value) & (b ^ value), bits)) status |= OF;
  return { value, rflags: withFlags(rflags, status) };
}

function subtracted(a: bigint, b: bigint, borrow: bigint, bits: number, rflags: bigint): AluResult {
  const value = truncate(a - b - borrow, bits);
  let status = resultFlags(value, bits);
  if (a < b + borrow) status |= CF;
  if (((a ^ b ^ value) & 0x10n) !== 0n) status |= AF;
  if (signBit((a ^ b) & (a ^ value), bits)) status |= OF;
  return { value, rflags: withFlags(rflags, status) };
}

/** AF is undefined after these; processors clear it. */
function logical(value: bigint, bits: number, rflags: bigint): AluResult {
  return { value, rflags: withFlags(rflags, resultFlags(value, bits)) };
}

export const add: AluOperation = (a, b, bits, rflags) => added(a, b, 0n, bits, rflags);
export const adc: AluOperation = (a, b, bits, rflags) => added(a, b, rflags & CF, bits, rflags);
export const sub: AluOperation = (a, b, bits, rflags) => subtracted(a, b, 0n, bits, rflags);
export const sbb: AluOperation = (a, b, bits, rflags) => subtracted(a, b, rflags & CF, bits, rflags);
export const and: AluOperation = (a, b, bits, rflags) => logical(a & b, bits, rflags);
export const or: AluOperation = (a, b, bits, rflags) => logical(a | b, bits, rflags);
export const xor: AluOperation = (a, b, bits, rflags) => logical(a ^ b, bits, rflags);

/** CF stays. */
export const inc: AluOperation = (a, _b, bits, rflags) => {
  const result = added(a, 1n, 0n, bits, rflags);
  return { value: result.value, rflags: (result.rflags & ~CF) | (rflags & CF) };
};
export const dec: AluOperation = (a, _b, bits, rflags) => {
  const result = subtracted(a, 1n, 0n, bits, rflags);
  return { value: result.value, rflags: (result.rflags & ~CF) | (rflags & CF) };
};
export const neg: AluOperation = (a, _b, bits, rflags) => subtracted(0n, a, 0n, bits, rflags);
/** No flags. */
export const not: AluOperation = (a, _b, bits, rflags) => ({ value: truncate(~a, bits), rflags });

/** Bit tests set CF only. */
function bitTest(change: (a: bigint, mask: bigint) => bigint): AluOperation {
  return (a, b, bits, rflags) => {
    const mask = 1n << (b % BigInt(bits));
    return { value: truncate(change(a, mask), bits), rflags: (rflags & ~CF) | ((a & mask) !== 0n ? CF : 0n) };
  };
}
export const bt = bitTest((a) => a);
export const bts = bitTest((a, mask) => a | mask);
export const btr = bitTest((a, mask) => a & ~mask);
export const btc = bitTest((a, mask) => a ^ mask);

/** Shifts take their count modulo 32, or 64 for 8 bytes; a count of 0 changes nothing. */
function shiftCount(b: bigint, bits: number): bigint {
  return b & (bits === 64 ? 63n : 31n);
}
export const shl: AluOperation = (a, b, bits, rflags) => {
  const count = shiftCount(b, bits);
  if (count === 0n) return { value: a, rflags };
  const wide = a << count;
  const value = truncate(wide, bits);
  const carry = ((wide >> BigInt(bits)) & 1n) === 1n;
  const overflow = signBit(value, bits) !== carry;
  return {
    value,
    rflags: withFlags(rflags, resultFlags(value, bits) | (carry ? CF : 0n) | (overflow ? OF : 0n)),
  };
};
export const shr: AluOperation = (a, b, bits, rflags) => {
  const count = shiftCount(b, bits);
  if (count === 0n) return { value: a, rflags };
  const value = a >> count;
  const carry = (a >> (count - 1n)) & 1n;
  return { value, rflags: withFlags(rflags, resultFlags(value, bits) | carry | (signBit(a, bits) ? OF : 0n)) };
};
export const sar: AluOperation = (a, b, bits, rflags) => {
  const count = shiftCount(b, bits);
  if (count === 0n) return { value: a, rflags };
  const signed = BigInt.asIntN(bits, a);
  const value = truncate(signed >> count, bits);
  const carry = (signed >> (count - 1n)) & 1n;
  return { value, rflags: withFlags(rflags, resultFlags(value, bits) | carry) };
};

/** Rotations change CF and OF only. */
export const rol: AluOperation = (a, b, bits, rflags) => {
  const count = shiftCount(b, bits) % BigInt(bits);
  if (shiftCount(b, bits) === 0n) return { value: a, rflags };
  const value = truncate((a << count) | (a >> (BigInt(bits) - count)), bits);
  const carry = value & 1n;
  const overflow = signBit(value, bits) !== (carry === 1n);
  return { value, rflags: (rflags & ~(CF | OF)) | carry | (overflow ? OF : 0n) };
};
export const ror: AluOperation = (a, b, bits, rflags) => {
  const count = shiftCount(b, bits) % BigInt(bits);
  if (shiftCount(b, bits) === 0n) return { value: a, rflags };
  const value = truncate((a >> count) | (a << (BigInt(bits) - count)), bits);
  const top = signBit(value, bits);
  const overflow = top !== signBit(value << 1n, bits);
  return { value, rflags: (rflags & ~(CF | OF)) | (top ? CF : 0n) | (overflow ? OF : 0n) };
};

/** Signed multiplication into one register: CF and OF tell that the product did not fit; the other flags are undefined. */
export const imul: AluOperation = (a, b, bits, rflags) => {
  const product = BigInt.asIntN(bits, a) * BigInt.asIntN(bits, b);
  const fits = BigInt.asIntN(bits, product) === product;
  return { value: truncate(product, bits), rflags: (rflags & ~(CF | OF)) | (fits ? 0n : CF | OF) };
};
