import { Register } from "../decoder/names.ts";
import type { Emitter } from "../translate/context.ts";
import { Simd } from "../wasm/opcodes.ts";
import { pickLanes } from "./integer-lanes.ts";
import { binaryLanes, type LaneInputs, type LaneOp, unaryLanes } from "./lanes.ts";
import {
  entered,
  inputs,
  isVex,
  loadZeroExtended,
  pushRegister,
  type Source,
  sourceOf,
  sources,
  writeVector,
} from "./operands.ts";

const two = (imm: number, i: number) => (imm >> (2 * i)) & 3;

/** Shuffles the second operand by lane numbers that depend on the immediate. */
function pick(size: number, lanes: (x: LaneInputs) => readonly number[]): LaneOp {
  return (x) => {
    x.b();
    x.b();
    x.code.shuffle(pickLanes(size, lanes(x)));
  };
}

/** Shuffles both operands. */
function pickBoth(size: number, lanes: (x: LaneInputs) => readonly number[]): LaneOp {
  return (x) => {
    x.a();
    x.b();
    x.code.shuffle(pickLanes(size, lanes(x)));
  };
}

const pshufd = pick(4, ({ imm8 }) => [0, 1, 2, 3].map((i) => two(imm8, i)));
const pshuflw = pick(2, ({ imm8 }) => [...[0, 1, 2, 3].map((i) => two(imm8, i)), 4, 5, 6, 7]);
const pshufhw = pick(2, ({ imm8 }) => [0, 1, 2, 3, ...[0, 1, 2, 3].map((i) => 4 + two(imm8, i))]);
const shufps = pickBoth(4, ({ imm8 }) => [two(imm8, 0), two(imm8, 1), 4 + two(imm8, 2), 4 + two(imm8, 3)]);
const shufpd = pickBoth(8, ({ imm8, half }) => [(imm8 >> (2 * half)) & 1, 2 + ((imm8 >> (2 * half + 1)) & 1)]);
const permilpd = pick(8, ({ imm8, half }) => [(imm8 >> (2 * half)) & 1, (imm8 >> (2 * half + 1)) & 1]);

/** A blend by immediate: lane i of the second operand where the bit is set. */
function blend(size: number, bit: (x: LaneInputs, i: number) => number): LaneOp {
  const count = 16 / size;
  return pickBoth(size, (x) => Array.from({ length: count }, (_, i) => (bit(x, i) & 1 ? count + i : i)));
}

const blendps = blend(4, ({ imm8, half }, i) => imm8 >> (4 * half + i));
const blendpd = blend(8, ({ imm8, half }, i) => imm8 >> (2 * half + i));
const pblendw = blend(2, ({ imm8 }, i) => imm8 >> i);

/** PALIGNR: the two operands joined, shifted right by bytes. */
function alignRight(x: LaneInputs): void {
  const n = x.imm8;
  if (x.mmx) {
    x.b();
    x.a();
    x.code.shuffle(pickLanes(8, [0, 2]));
    x.code.v128(0n, 0n);
    x.code.shuffle(Array.from({ length: 16 }, (_, i) => Math.min(i + n, 16)));
    return;
  }
  if (n < 16) {
    x.b();
    x.a();
    x.code.shuffle(Array.from({ length: 16 }, (_, i) => i + n));
    return;
  }
  x.a();
  x.code.v128(0n, 0n);
  x.code.shuffle(Array.from({ length: 16 }, (_, i) => Math.min(i + n - 16, 16)));
}

/** PBLENDVB, BLENDVPS, BLENDVPD: by the top bits of XMM0, or of the fourth operand of a VEX form. */
function blendByMask(lane: "i8x16" | "i32x4" | "i64x2", bits: number): Emitter {
  return entered((e) => {
    const [left, right] = inputs(e);
    const b = sources(e, right);
    const a = sources(e, left);
    const maskRegister = isVex(e) ? e.insn.register(3) : Register.XMM0;
    const halves = a.map(
      (push, half): Source =>
        () => {
          b[half]!();
          push();
          pushRegister(e, maskRegister, half as 0 | 1);
          e.code.i32(bits - 1);
          e.code.simd(Simd[`${lane}_shr_s`]);
          e.code.simd(Simd.v128_bitselect);
        },
    );
    writeVector(e, e.insn.register(0), halves);
  });
}

/** INSERTPS: one lane of a register, or a 32-bit memory operand, into one lane; then lanes cleared. */
const insertps: Emitter = entered((e) => {
  const [left, right] = inputs(e);
  const { imm8 } = e.insn;
  const memory = e.insn.isMemory(right);
  const b = memory ? sourceOf(e, loadZeroExtended(e, e.address(), 4)) : sources(e, right)[0]!;
  const from = memory ? 0 : imm8 >> 6;
  const to = (imm8 >> 4) & 3;
  const mask = [0, 1, 2, 3].map((i) => ((imm8 >> i) & 1 ? 0n : 0xffff_ffffn));
  const a = sources(e, left)[0]!;
  writeVector(e, e.insn.register(0), [
    () => {
      a();
      b();
      e.code.shuffle(
        pickLanes(
          4,
          [0, 1, 2, 3].map((i) => (i === to ? 4 + from : i)),
        ),
      );
      e.code.v128(mask[0]! | (mask[1]! << 32n), mask[2]! | (mask[3]! << 32n));
      e.code.simd(Simd.v128_and);
    },
  ]);
});

/** MOVDDUP: the 128-bit form reads 64 bits of memory. */
const movddup: Emitter = (e) => {
  const narrow = e.insn.isMemory(1) && e.insn.raw.op0Register < Register.YMM0;
  if (!narrow) {
    unaryLanes(pick(8, () => [0, 0]))(e);
    return;
  }
  entered(() => {
    const b = sourceOf(e, loadZeroExtended(e, e.address(), 8));
    writeVector(e, e.insn.register(0), [
      () => {
        b();
        b();
        e.code.shuffle(pickLanes(8, [0, 0]));
      },
    ]);
  })(e);
};

/** Picks 32-bit lanes by the low two bits of each lane of the second operand. */
function permilpsByRegister(x: LaneInputs): void {
  x.a();
  byteIndices(x, 3n);
  x.code.simd(Simd.i8x16_swizzle);
}

/** Turns 32-bit lane numbers into byte numbers for a swizzle. */
export function byteIndices(x: LaneInputs, mask: bigint): void {
  x.b();
  x.code.v128(mask | (mask << 32n), mask | (mask << 32n));
  x.code.simd(Simd.v128_and);
  x.code.v128(0x0404_0404_0404_0404n, 0x0404_0404_0404_0404n);
  x.code.simd(Simd.i32x4_mul);
  x.code.v128(0x0302_0100_0302_0100n, 0x0302_0100_0302_0100n);
  x.code.simd(Simd.i32x4_add);
}

/** Picks 64-bit lanes by bit 1 of each lane of the second operand. */
function permilpdByRegister(x: LaneInputs): void {
  for (const lane of [1, 0]) {
    x.a();
    x.a();
    x.code.shuffle(pickLanes(8, [lane, lane]));
  }
  x.b();
  x.code.i32(62);
  x.code.simd(Simd.i64x2_shl);
  x.code.i32(63);
  x.code.simd(Simd.i64x2_shr_s);
  x.code.simd(Simd.v128_bitselect);
}

/** VPERMILPS and VPERMILPD: by immediate or by register. */
function permil(byImmediate: LaneOp, byRegister: LaneOp): Emitter {
  const immediate = unaryLanes(byImmediate);
  const register = binaryLanes(byRegister);
  return (e) => {
    if (e.insn.isRegister(2) || e.insn.isMemory(2)) register(e);
    else immediate(e);
  };
}

/** By SSE name; VEX names have a V in front. */
export const SHUFFLES: Readonly<Record<string, Emitter>> = {
  Pshufd: unaryLanes(pshufd),
  Pshuflw: unaryLanes(pshuflw),
  Pshufhw: unaryLanes(pshufhw),
  Shufps: binaryLanes(shufps),
  Shufpd: binaryLanes(shufpd),
  Blendps: binaryLanes(blendps),
  Blendpd: binaryLanes(blendpd),
  Pblendw: binaryLanes(pblendw),
  Palignr: binaryLanes(alignRight),
  Insertps: insertps,
  Movddup: movddup,
  Movsldup: unaryLanes(pick(4, () => [0, 0, 2, 2])),
  Movshdup: unaryLanes(pick(4, () => [1, 1, 3, 3])),
};

/** Instructions whose VEX form has another name, or none. */
export const OTHER_SHUFFLES: Readonly<Record<string, Emitter>> = {
  Pshufw: unaryLanes(pshuflw),
  Pblendvb: blendByMask("i8x16", 8),
  Blendvps: blendByMask("i32x4", 32),
  Blendvpd: blendByMask("i64x2", 64),
  Vpblendvb: blendByMask("i8x16", 8),
  Vblendvps: blendByMask("i32x4", 32),
  Vblendvpd: blendByMask("i64x2", 64),
  Vpblendd: binaryLanes(blendps),
  Vpermilps: permil(pshufd, permilpsByRegister),
  Vpermilpd: permil(permilpd, permilpdByRegister),
};
