/** A seeded generator (xorshift128, Marsaglia 2003), so that every failure can be repeated. It allocates nothing. */
export class Random {
  #a: number;
  #b: number;
  #c = 0x243f_6a88;
  #d = 0xb7e1_5162;

  constructor(seed: number) {
    this.#a = seed | 1;
    this.#b = 0x9e37_79b9 ^ seed;
    for (let i = 0; i < 16; i++) this.next();
  }

  /** 32 random bits, signed. */
  next(): number {
    let t = this.#d;
    const s = this.#a;
    this.#d = this.#c;
    this.#c = this.#b;
    this.#b = s;
    t ^= t << 11;
    t ^= t >>> 8;
    this.#a = t ^ s ^ (s >>> 19);
    return this.#a | 0;
  }

  u32(): number {
    return this.next() >>> 0;
  }

  /** An integer of 0 to `limit` − 1. */
  below(limit: number): number {
    return (this.next() >>> 0) % limit;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T;
  }

  /** A 64-bit value that is often a special one: 0, −1, a sign bit, a power of two, something small. */
  value(): bigint {
    const kind = this.below(8);
    if (kind < 4) return this.u64();
    const small = BigInt(this.below(256));
    switch (kind) {
      case 4:
        return small;
      case 5:
        return BigInt.asUintN(64, -small);
      case 6:
        return 1n << BigInt(this.below(64));
      default:
        return this.pick(SPECIAL);
    }
  }
}

const SPECIAL = [
  0n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
  0x8080_8080_8080_8080n,
  0x0101_0101_0101_0101n,
];

const SPECIAL64 = [
  0n,
  0x8000_0000_0000_0000n,
  0x3ff0_0000_0000_0000n,
  0xbff0_0000_0000_0000n,
  0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n,
  0x7ff8_0000_0000_0000n,
  0xfff8_0000_0000_1234n,
  0x7ff0_0000_0000_0001n,
  0xfff4_0000_0000_0000n,
  1n,
  0x8000_0000_0000_0001n,
  0x000f_ffff_ffff_ffffn,
  0x0010_0000_0000_0000n,
  0x8010_0000_0000_0000n,
  0x0010_0000_0000_0001n,
  0x7fef_ffff_ffff_ffffn,
  0xffef_ffff_ffff_ffffn,
  0x3fe0_0000_0000_0000n,
  0x4000_0000_0000_0000n,
  0x3fff_ffff_ffff_ffffn,
  0x41df_ffff_ffc0_0000n,
  0x41e0_0000_0000_0000n,
  0xc1e0_0000_0000_0000n,
  0xc1e0_0000_0020_0000n,
  0x43e0_0000_0000_0000n,
  0xc3e0_0000_0000_0000n,
  0x43df_ffff_ffff_ffffn,
  0x4330_0000_0000_0000n,
  0x4340_0000_0000_0000n,
  0x36a0_0000_0000_0000n,
  0x47ef_ffff_e000_0000n,
  0x47ef_ffff_f000_0000n,
  0x380f_ffff_ffff_ffffn,
  0x3810_0000_0000_0000n,
  0x3690_0000_0000_0000n,
];

const SPECIAL32 = [
  0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc01234, 0x7f800001, 0xffa00000, 1,
  0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x00800001, 0x7f7fffff, 0xff7fffff, 0x3f000000, 0x40000000,
  0x3fffffff, 0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, 0x5f000000, 0xdf000000, 0x4b000000, 0x4b800000,
  0x477fe000, 0x477ff000, 0x38800000, 0x33000000, 0x33800000, 0x33c00000,
];

/** binary64 bits: specials, neighbours in exponent, short significands, anything. */
export function double(r: Random): bigint {
  switch (r.below(8)) {
    case 0:
    case 1:
      return r.pick(SPECIAL64);
    case 2: {
      const exponent = BigInt(1023 - 60 + r.below(120));
      return (BigInt(r.below(2)) << 63n) | (exponent << 52n) | (r.u64() & 0xf_ffff_ffff_ffffn);
    }
    case 3: {
      const exponent = BigInt(1023 - 4 + r.below(40));
      return (BigInt(r.below(2)) << 63n) | (exponent << 52n) | (r.u64() & 0xf_f000_0000_0000n);
    }
    case 4: // around the smallest normal and the largest finite
      return (
        (BigInt(r.below(2)) << 63n) |
        (BigInt(r.pick([0, 0, 1, 2, 53, 2045, 2046])) << 52n) |
        (r.u64() & 0xf_ffff_ffff_ffffn)
      );
    case 5: // the square roots of both ends, so that products overflow and underflow
      return (
        (BigInt(r.below(2)) << 63n) |
        (BigInt(r.pick([511, 512, 485, 486, 1533, 1534, 1535])) << 52n) |
        (r.u64() & 0xf_ffff_ffff_ffffn)
      );
    case 6: {
      const v = new DataView(new ArrayBuffer(8));
      v.setFloat64(0, r.below(2000) - 1000);
      return v.getBigUint64(0);
    }
    default:
      return r.u64();
  }
}

/** binary32 bits of the same kinds. */
export function single(r: Random): number {
  const sign = r.below(2) << 31;
  switch (r.below(8)) {
    case 0:
    case 1:
      return r.pick(SPECIAL32);
    case 2:
      return (sign | ((127 - 30 + r.below(60)) << 23) | (r.u32() & 0x7fffff)) >>> 0;
    case 3:
      return (sign | ((127 - 4 + r.below(30)) << 23) | (r.u32() & 0x7f0000)) >>> 0;
    case 4:
      return (sign | (r.pick([0, 0, 1, 2, 24, 253, 254]) << 23) | (r.u32() & 0x7fffff)) >>> 0;
    case 5:
      return (sign | (r.pick([63, 64, 51, 52, 189, 190, 191]) << 23) | (r.u32() & 0x7fffff)) >>> 0;
    case 6: {
      const v = new DataView(new ArrayBuffer(4));
      v.setFloat32(0, r.below(2000) - 1000);
      return v.getUint32(0);
    }
    default:
      return r.u32();
  }
}

/** An 80-bit value: specials and pseudo-encodings included. */
export function extended(r: Random): { se: number; significand: bigint } {
  const sign = r.below(2) << 15;
  const top = 0x8000_0000_0000_0000n;
  const fraction = () =>
    r.pick([
      0n,
      1n,
      top - 1n,
      0x4000_0000_0000_0000n,
      0x7fff_ffff_ffff_f800n,
      0x400n,
      r.u64() & (top - 1n),
      r.u64() & (top - 1n),
      r.u64() & 0x7fff_ff00_0000_0000n,
      r.u64() & 0x7fff_ffff_ffff_f800n,
    ]);
  switch (r.below(12)) {
    case 0:
      return { se: sign, significand: 0n };
    case 1:
      return { se: sign, significand: fraction() | (r.chance(4) ? top : 0n) };
    case 2:
      return {
        se: sign | 0x7fff,
        significand: top | r.pick([0n, 0n, 1n, 0x4000_0000_0000_0000n, r.u64() & (top - 1n)]),
      };
    case 3:
      return {
        se: sign | r.pick([1, 2, 64, 65, 0x7ffe, 0x7ffd, 0x1fff, 0x2000, 0x5ffe, 0x5fff]),
        significand: top | fraction(),
      };
    case 4:
      return r.chance(4)
        ? { se: sign | r.below(0x8000), significand: r.u64() }
        : { se: sign | 0x3fff, significand: top };
    case 5:
      return { se: sign | (0x3fff + r.below(70)), significand: top | (r.u64() & 0x7fff_0000_0000_0000n) };
    case 6: // around the ranges of binary32 and binary64
      return {
        se:
          sign |
          (r.pick([0x3fff - 1022, 0x3fff - 1074, 0x3fff + 1023, 0x3fff - 126, 0x3fff - 149, 0x3fff + 127]) +
            r.below(3) -
            1),
        significand: top | fraction(),
      };
    case 7: // integers
      return { se: sign | (0x3fff + r.below(66)), significand: top | fraction() };
    case 8:
      return { se: sign | (0x3fff - r.below(70)), significand: top | fraction() };
    default:
      return { se: sign | (0x3fff - 35 + r.below(70)), significand: top | fraction() };
  }
}

/** Fills `bytes` (a multiple of 8) with lanes of one kind: floating point, integers of any width, text. */
export function lanes(r: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = r.below(10);
  for (let i = 0; i < bytes.length; i += 8) {
    if (kind < 3) view.setBigUint64(i, double(r), true);
    else if (kind < 6) {
      view.setUint32(i, single(r), true);
      view.setUint32(i + 4, single(r), true);
    } else if (kind === 6)
      for (let j = 0; j < 8; j++) bytes[i + j] = r.pick([0, 0xff, 0x80, 0x7f, 1, 0x41, 0x61, r.below(256)]);
    else if (kind === 7)
      for (let j = 0; j < 4; j++)
        view.setUint16(
          i + 2 * j,
          r.pick([0, 0xffff, 0x8000, 0x7fff, 1, 0x7c00, 0x7e01, 0x7c01, 0x400, 0x3ff, r.below(65536)]),
          true,
        );
    else if (kind === 8)
      for (let j = 0; j < 2; j++)
        view.setUint32(i + 4 * j, r.pick([0, 0xffffffff, 0x80000000, 0x7fffffff, r.below(100), r.u32()]), true);
    else view.setBigUint64(i, r.u64(), true);
  }
}
