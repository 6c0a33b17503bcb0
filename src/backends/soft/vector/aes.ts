/** AES rounds on 16-byte blocks held as four little-endian columns (FIPS 197; Intel SDM Vol. 2, "AESENC"). */

function buildSbox(): Uint8Array {
  const sbox = new Uint8Array(256);
  let p = 1;
  let q = 1;
  do {
    p = (p ^ (p << 1) ^ (p & 0x80 ? 0x11b : 0)) & 0xff; // × 3
    q ^= q << 1; // ÷ 3
    q ^= q << 2;
    q ^= q << 4;
    q &= 0xff;
    if (q & 0x80) q ^= 0x09;
    const rotate = (n: number) => ((q << n) | (q >> (8 - n))) & 0xff;
    sbox[p] = q ^ rotate(1) ^ rotate(2) ^ rotate(3) ^ rotate(4) ^ 0x63;
  } while (p !== 1);
  sbox[0] = 0x63;
  return sbox;
}

/** Product in GF(2^8). */
function times(a: number, b: number): number {
  let product = 0;
  let x = a;
  for (let bits = b; bits !== 0; bits >>= 1) {
    if (bits & 1) product ^= x;
    x = (x << 1) ^ (x & 0x80 ? 0x11b : 0);
  }
  return product & 0xff;
}

/** For every byte, the column that four constants make of it. */
function columnTable(of: (byte: number) => number, factors: readonly number[]): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const s = of(i);
    return factors.reduce((word, factor, k) => word | (times(s, factor) << (8 * k)), 0);
  });
}

interface Tables {
  readonly sbox: Uint8Array;
  readonly inverse: Uint8Array;
  readonly encrypt: Uint32Array;
  readonly decrypt: Uint32Array;
  readonly mixInverse: Uint32Array;
}

let built: Tables | undefined;

/** Built at the first use. */
function tables(): Tables {
  built ??= build();
  return built;
}

function build(): Tables {
  const sbox = buildSbox();
  const inverse = new Uint8Array(256);
  sbox.forEach((to, from) => {
    inverse[to] = from;
  });
  return {
    sbox,
    inverse,
    encrypt: columnTable((i) => sbox[i]!, [2, 1, 1, 3]),
    decrypt: columnTable((i) => inverse[i]!, [14, 9, 13, 11]),
    mixInverse: columnTable((i) => i, [14, 9, 13, 11]),
  };
}

type Block = Uint32Array;

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}

/** SubBytes, ShiftRows and MixColumns at once by a table; `step` is the direction of the rows' shift. */
function mixed(table: Uint32Array, step: 1 | 3, a: Block, key: Block, out: Block): void {
  for (let j = 0; j < 4; j++) {
    let word = key[j]!;
    for (let row = 0; row < 4; row++) {
      const byte = (a[(j + step * row) & 3]! >>> (8 * row)) & 0xff;
      word ^= row === 0 ? table[byte]! : rotate(table[byte]!, 8 * row);
    }
    out[j] = word;
  }
}

function last(table: Uint8Array, step: 1 | 3, a: Block, key: Block, out: Block): void {
  for (let j = 0; j < 4; j++) {
    let word = key[j]!;
    for (let row = 0; row < 4; row++) word ^= table[(a[(j + step * row) & 3]! >>> (8 * row)) & 0xff]! << (8 * row);
    out[j] = word;
  }
}

function substitute(word: number): number {
  const { sbox } = tables();
  let result = 0;
  for (let i = 0; i < 32; i += 8) result |= sbox[(word >>> i) & 0xff]! << i;
  return result;
}

/** One operation: the block `a`, the round key `b` (where there is one), the immediate, the result. */
export type AesOperation = (a: Block, b: Block, imm8: number, out: Block) => void;

/** By number: 0 AESENC, 1 AESENCLAST, 2 AESDEC, 3 AESDECLAST, 4 AESIMC, 5 AESKEYGENASSIST; the last two take `b`. */
export const AES_OPERATIONS: readonly AesOperation[] = [
  (a, b, _, out) => mixed(tables().encrypt, 1, a, b, out),
  (a, b, _, out) => last(tables().sbox, 1, a, b, out),
  (a, b, _, out) => mixed(tables().decrypt, 3, a, b, out),
  (a, b, _, out) => last(tables().inverse, 3, a, b, out),
  (_a, b, _, out) => {
    const { mixInverse } = tables();
    for (let j = 0; j < 4; j++) {
      let word = 0;
      for (let row = 0; row < 4; row++) word ^= rotate(mixInverse[(b[j]! >>> (8 * row)) & 0xff]!, 8 * row);
      out[j] = word;
    }
  },
  (_a, b, imm8, out) => {
    const [low, high] = [substitute(b[1]!), substitute(b[3]!)];
    out.set([low, rotate(low, 24) ^ imm8, high, rotate(high, 24) ^ imm8]);
  },
];
