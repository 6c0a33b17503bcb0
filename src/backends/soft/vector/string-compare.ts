/** PCMPESTRI and its three kin (Intel SDM Vol. 2, "Imm8 Control Byte Operation for PCMPESTRI / PCMPESTRM / PCMPISTRI / PCMPISTRM"). */
export interface StringComparison {
  /** IntRes2: one bit per element. */
  readonly result: number;
  readonly elements: 8 | 16;
  readonly index: number;
  /** CF, ZF, SF, OF at their places in RFLAGS. */
  readonly flags: number;
}

/** Reads an operand's elements as the control byte says: words or bytes, signed or not. */
export function elementsOf(view: DataView, at: number, control: number): number[] {
  const words = (control & 1) !== 0;
  return Array.from({ length: words ? 8 : 16 }, (_, i) => {
    if (words) return control & 2 ? view.getInt16(at + 2 * i, true) : view.getUint16(at + 2 * i, true);
    return control & 2 ? view.getInt8(at + i) : view.getUint8(at + i);
  });
}

/** Elements before the first zero. */
export function implicitLength(elements: readonly number[]): number {
  const end = elements.indexOf(0);
  return end < 0 ? elements.length : end;
}

/** |length|, at most the number of elements. */
export function explicitLength(length: bigint, count: number): number {
  const magnitude = length < 0n ? -length : length;
  return magnitude > BigInt(count) ? count : Number(magnitude);
}

/** `a` is the first operand (a set, ranges, or the needle), `b` the second (the string searched). */
export function compareStrings(
  a: readonly number[],
  lengthA: number,
  b: readonly number[],
  lengthB: number,
  control: number,
): StringComparison {
  const count = b.length as 8 | 16;
  const first = aggregate(a, lengthA, b, lengthB, (control >> 2) & 3);
  const all = (1 << count) - 1;
  const polarity = (control >> 4) & 3;
  let result = first;
  if (polarity === 1) result = ~first & all;
  else if (polarity === 3) result = first ^ ((1 << lengthB) - 1);
  const highest = (control & 0x40) !== 0;
  const index = result === 0 ? count : highest ? 31 - Math.clz32(result) : 31 - Math.clz32(result & -result);
  const flags =
    (result !== 0 ? 1 : 0) | (lengthB < count ? 0x40 : 0) | (lengthA < count ? 0x80 : 0) | (result & 1 ? 0x800 : 0);
  return { result, elements: count, index, flags };
}

function aggregate(a: readonly number[], lengthA: number, b: readonly number[], lengthB: number, mode: number): number {
  let bits = 0;
  for (let i = 0; i < b.length; i++) if (matches(a, lengthA, b, lengthB, mode, i)) bits |= 1 << i;
  return bits;
}

function matches(
  a: readonly number[],
  lengthA: number,
  b: readonly number[],
  lengthB: number,
  mode: number,
  i: number,
): boolean {
  switch (mode) {
    case 0: // equal any
      return i < lengthB && a.slice(0, lengthA).includes(b[i]!);
    case 1: // ranges
      if (i >= lengthB) return false;
      for (let j = 0; j + 1 < lengthA; j += 2) if (a[j]! <= b[i]! && b[i]! <= a[j + 1]!) return true;
      return false;
    case 2: // equal each: beyond both ends counts as equal
      if (i >= lengthA || i >= lengthB) return i >= lengthA && i >= lengthB;
      return a[i] === b[i];
    default: // equal ordered: a begins at b[i], as far as b reaches
      for (let j = 0; j < lengthA && i + j < b.length; j++) if (i + j >= lengthB || a[j] !== b[i + j]) return false;
      return true;
  }
}

/** What PCMPESTRM and PCMPISTRM write: the bits themselves, or an element of ones for each. */
export function stringMask(c: StringComparison, control: number): Uint8Array {
  const mask = new Uint8Array(16);
  if ((control & 0x40) === 0) {
    mask[0] = c.result & 0xff;
    mask[1] = c.result >> 8;
    return mask;
  }
  const bytes = 16 / c.elements;
  for (let i = 0; i < c.elements; i++) if ((c.result >> i) & 1) mask.fill(0xff, i * bytes, (i + 1) * bytes);
  return mask;
}
