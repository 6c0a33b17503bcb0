/** SplitMix64 in two 32-bit halves would do; xorshift128+ on 32-bit words is enough and allocates nothing. */
export class Random {
  #a: number;
  #b = 0x9e37_79b9;
  #c = 0x243f_6a88;
  #d = 0xb7e1_5162;

  constructor(seed: number) {
    this.#a = seed | 0;
    for (let i = 0; i < 20; i++) this.next();
  }

  /** 32 random bits, signed. xorshift128 (Marsaglia, 2003). */
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

  below(limit: number): number {
    return (this.next() >>> 0) % limit;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T;
  }

  /** A 64-bit value that is often a special one: 0, −1, a sign bit, a power of two, something small. */
  value(): bigint {
    const kind = this.below(8);
    const wide = (BigInt(this.next() >>> 0) << 32n) | BigInt(this.next() >>> 0);
    if (kind < 4) return wide;
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
