/**
 * Lazy arithmetic flags. The last instruction that wrote flags leaves a kind and its operands; whoever needs a flag
 * computes it. A kind is family × 4 + log2(bytes). Operands are zero-extended to 64 bits.
 */
export const Family = {
  /** a: the six flags at their places in RFLAGS. */
  explicit: 0,
  /** r = a + b. */
  add: 1,
  /** r = a + b + carry. */
  adc: 2,
  /** r = a − b: SUB, CMP, NEG. */
  sub: 3,
  /** r = a − b − borrow. */
  sbb: 4,
  /** ZF, SF, PF by r; CF, OF, AF clear. */
  logic: 5,
  /** ZF, SF, PF by r; a: CF, b: OF, each 0 or 1; AF clear. Shifts and multiplications. */
  result: 6,
  /** CF comes from the carry descriptor. */
  inc: 7,
  dec: 8,
  /** a: CF, b: OF; the rest comes from the carry descriptor. */
  rotate: 9,
  /** a: CF; the rest comes from the carry descriptor: BT, CLC, STC, CMC. */
  bit: 10,
} as const;
export type Family = (typeof Family)[keyof typeof Family];

export type Bits = 8 | 16 | 32 | 64;

/** All ones of a width. */
export const MASKS: Record<Bits, bigint> = { 8: 0xffn, 16: 0xffffn, 32: 0xffff_ffffn, 64: (1n << 64n) - 1n };

export function flagKind(family: Family, bits: Bits): number {
  return family * 4 + (bits === 8 ? 0 : bits === 16 ? 1 : bits === 32 ? 2 : 3);
}

export function familyOf(kind: number): Family {
  return (kind >> 2) as Family;
}

export function bitsOf(kind: number): Bits {
  return (8 << (kind & 3)) as Bits;
}

/** One more than the greatest kind. */
export const KINDS = 44;

/** CF, PF, AF, ZF, SF, OF at their places in RFLAGS. */
export const Flag = { CF: 0x1, PF: 0x4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 } as const;
export const ARITHMETIC_FLAGS = 0x8d5;
export type FlagName = keyof typeof Flag;
