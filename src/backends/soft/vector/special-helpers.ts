import { State } from "../state.ts";
import type { Helper } from "../translate/context.ts";
import { AES_OPERATIONS } from "./aes.ts";
import { OPERAND_A, OPERAND_B, OPERAND_C, RESULT } from "./floating-helpers.ts";
import { compareStrings, elementsOf, explicitLength, implicitLength, stringMask } from "./string-compare.ts";

const block = new Uint32Array(4);
const key = new Uint32Array(4);
const output = new Uint32Array(4);

/** AES on one or two blocks. */
const aes: Helper = (cpu, operation, halves, imm8) => {
  const { view } = cpu;
  const run = AES_OPERATIONS[operation!]!;
  for (let at = 0; at < 16 * halves!; at += 16) {
    for (let i = 0; i < 4; i++) {
      block[i] = view.getUint32(OPERAND_A + at + 4 * i, true);
      key[i] = view.getUint32(OPERAND_B + at + 4 * i, true);
    }
    run(block, key, imm8!, output);
    for (let i = 0; i < 4; i++) view.setUint32(RESULT + at + 4 * i, output[i]!, true);
  }
  return 0;
};

/** Multiples of the first factor by 0 to 15, three words each. */
const multiples = new Uint32Array(48);

/** PCLMULQDQ on one or two pairs of vectors: the quadwords that the immediate picks, multiplied without carries. */
const carrylessMultiply: Helper = (cpu, halves, imm8) => {
  const { view } = cpu;
  for (let at = 0; at < 16 * halves!; at += 16) {
    const a = OPERAND_A + at + (imm8! & 1 ? 8 : 0);
    const b = OPERAND_B + at + (imm8! & 16 ? 8 : 0);
    tabulate(view.getUint32(a, true), view.getUint32(a + 4, true));
    multiplyByTable(view.getUint32(b, true), view.getUint32(b + 4, true));
    for (let i = 0; i < 4; i++) view.setUint32(RESULT + at + 4 * i, output[i]!, true);
  }
  return 0;
};

function tabulate(low: number, high: number): void {
  const t = multiples;
  for (let i = 1; i < 16; i++) {
    const half = 3 * (i >> 1);
    const odd = i & 1;
    t[3 * i] = (t[half]! << 1) ^ (odd ? low : 0);
    t[3 * i + 1] = ((t[half + 1]! << 1) | (t[half]! >>> 31)) ^ (odd ? high : 0);
    t[3 * i + 2] = (t[half + 2]! << 1) | (t[half + 1]! >>> 31);
  }
}

/** The product of the tabulated factor and another, four bits at a time from the top. */
function multiplyByTable(low: number, high: number): void {
  let r0 = 0;
  let r1 = 0;
  let r2 = 0;
  let r3 = 0;
  for (let i = 15; i >= 0; i--) {
    const digit = 3 * ((i >= 8 ? high >>> (4 * i - 32) : low >>> (4 * i)) & 15);
    r3 = (r3 << 4) | (r2 >>> 28);
    r2 = ((r2 << 4) | (r1 >>> 28)) ^ multiples[digit + 2]!;
    r1 = ((r1 << 4) | (r0 >>> 28)) ^ multiples[digit + 1]!;
    r0 = (r0 << 4) ^ multiples[digit]!;
  }
  output[0] = r0;
  output[1] = r1;
  output[2] = r2;
  output[3] = r3;
}

/**
 * PCMPxSTRx. Explicit lengths come as i64 at OPERAND_C. Leaves the mask at RESULT and returns the index in bits 0 to 7,
 * the flags above.
 */
const strings: Helper = (cpu, control, explicit) => {
  const { view } = cpu;
  const a = elementsOf(view, OPERAND_A, control!);
  const b = elementsOf(view, OPERAND_B, control!);
  const length = (elements: readonly number[], at: number) =>
    explicit ? explicitLength(view.getBigInt64(at, true), elements.length) : implicitLength(elements);
  const c = compareStrings(a, length(a, OPERAND_C), b, length(b, OPERAND_C + 8), control!);
  stringMask(c, control!).forEach((byte, i) => {
    view.setUint8(RESULT + i, byte);
  });
  return c.index | (c.flags << 8);
};

/** Where helpers that access guest memory find the operand's offset, an i64. */
export const OFFSET = State.scratch + 256;

function wrapped(offset: bigint, addressBits: number): bigint {
  return BigInt.asUintN(addressBits, offset);
}

const element = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => new Uint8Array(n));

/** Masked loads of AVX: elements whose mask (at OPERAND_A) has its top bit clear are zero and not read. */
const maskLoad: Helper = (cpu, segment, bytes, count) => {
  const { view } = cpu;
  const base = view.getBigUint64(OFFSET, true);
  const buffer = element[bytes! - 1]!;
  for (let i = 0; i < count!; i++) {
    const at = i * bytes!;
    buffer.fill(0);
    if (view.getUint8(OPERAND_A + at + bytes! - 1) & 0x80)
      if (!cpu.readMemory(segment!, wrapped(base + BigInt(at), 64), buffer)) return 1;
    buffer.forEach((byte, k) => {
      view.setUint8(RESULT + at + k, byte);
    });
  }
  return 0;
};

/** Masked stores of AVX, and of MASKMOVDQU and MASKMOVQ with elements of one byte: mask at OPERAND_A, data at OPERAND_B. */
const maskStore: Helper = (cpu, segment, bytes, count, addressBits) => {
  const { view } = cpu;
  const base = view.getBigUint64(OFFSET, true);
  const buffer = element[bytes! - 1]!;
  // MASKMOVDQU may fault for bytes that its mask leaves out, and does.
  if (bytes === 1 && !cpu.checkWrite(segment!, wrapped(base, addressBits!), count!, 8)) return 1;
  const chosen: number[] = [];
  for (let at = 0; at < count! * bytes!; at += bytes!)
    if (view.getUint8(OPERAND_A + at + bytes! - 1) & 0x80) chosen.push(at);
  const store = (at: number) => {
    for (let k = 0; k < bytes!; k++) buffer[k] = view.getUint8(OPERAND_B + at + k);
    return cpu.writeMemory(segment!, wrapped(base + BigInt(at), addressBits!), buffer);
  };
  // All are stored or none: the first store tells about its own page, and the last one may lie on the next.
  for (const at of [chosen[0], chosen.at(-1)])
    if (at !== undefined && !cpu.checkWrite(segment!, wrapped(base + BigInt(at), addressBits!), bytes!)) return 1;
  for (const at of chosen) if (!store(at)) return 1;
  return 0;
};

/** What VGATHER does, packed into its helper's arguments. */
export interface Gather {
  /** Bytes of an element and of an index. */
  readonly element: 4 | 8;
  readonly index: 4 | 8;
  readonly count: number;
  readonly scale: number;
}

/**
 * VGATHERDPS and its kind, on the registers themselves: elements arrive in order, each with its mask cleared, so that an
 * access that faults leaves what went before it done. `registers` holds destination, index and mask, eight bits each.
 */
const gather: Helper = (cpu, segment, registers, shape, addressBits) => {
  const { view } = cpu;
  const register = (n: number) => State.vector0 + ((registers! >> (8 * n)) & 0xff) * State.vectorBytes;
  const [target, indices, mask] = [register(0), register(1), register(2)];
  const bytes = shape! & 0xff;
  const indexBytes = (shape! >> 8) & 0xff;
  const count = (shape! >> 16) & 0xff;
  const scale = BigInt(shape! >> 24);
  const base = view.getBigUint64(OFFSET, true);
  const buffer = element[bytes - 1]!;
  for (let i = 0; i < count; i++) {
    const at = i * bytes;
    if (view.getUint8(mask + at + bytes - 1) & 0x80) {
      const index =
        indexBytes === 4 ? BigInt(view.getInt32(indices + 4 * i, true)) : view.getBigInt64(indices + 8 * i, true);
      if (!cpu.readMemory(segment!, wrapped(base + index * scale, addressBits!), buffer)) return 1;
      for (let k = 0; k < bytes; k++) view.setUint8(target + at + k, buffer[k]!);
    }
    for (let k = 0; k < bytes; k++) view.setUint8(mask + at + k, 0);
  }
  for (let k = 0; k < 32; k++) view.setUint8(mask + k, 0);
  for (let k = count * bytes; k < 32; k++) view.setUint8(target + k, 0);
  return 0;
};

/** By name, for `Registry.helpers`. */
export const SPECIAL_HELPERS: Readonly<Record<string, Helper>> = {
  "sse.aes": aes,
  "sse.clmul": carrylessMultiply,
  "sse.strings": strings,
  "avx.maskload": maskLoad,
  "avx.maskstore": maskStore,
  "avx.gather": gather,
};
