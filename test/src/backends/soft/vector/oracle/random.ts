/** A seeded generator (xorshift128), so that every failure can be repeated. */
export class Random {
  readonly #s: Uint32Array;

  constructor(seed: number) {
    this.#s = new Uint32Array([seed | 1, 0x9e3779b9 ^ seed, 0x243f6a88, 0xb7e15162]);
    for (let i = 0; i < 16; i++) this.u32();
  }

  u32(): number {
    const s = this.#s;
    let t = s[3]!;
    const first = s[0]!;
    s[3] = s[2]!;
    s[2] = s[1]!;
    s[1] = first;
    t ^= t << 11;
    t ^= t >>> 8;
    s[0] = t ^ first ^ (first >>> 19);
    return s[0]!;
  }

  /** An integer of 0 to n - 1. */
  below(n: number): number {
    return this.u32() % n;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}

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
