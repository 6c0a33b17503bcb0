import { Simd } from "../wasm/opcodes.ts";
import { direct, type LaneInputs, type LaneOp, unary } from "./lanes.ts";

/** Byte numbers for a shuffle that takes lanes of `size` bytes, numbered over both operands. */
export function pickLanes(size: number, lanes: readonly number[]): number[] {
  return lanes.flatMap((lane) => Array.from({ length: size }, (_, i) => lane * size + i));
}

/** Shuffles both operands by lane numbers; `mmx` where 64-bit operands need other lanes. */
function shuffle(size: number, lanes: readonly number[], mmx?: readonly number[]): LaneOp {
  return (x) => {
    x.a();
    x.b();
    x.code.shuffle(pickLanes(size, x.mmx && mmx ? mmx : lanes));
  };
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** PUNPCKL and PUNPCKH. The high form of MMX starts at byte 4. */
function unpack(size: number, part: "low" | "high"): LaneOp {
  const count = 16 / size;
  const from = part === "low" ? 0 : count / 2;
  const interleave = (start: number) => range(count).map((i) => start + (i >> 1) + (i & 1 ? count : 0));
  const mmxFrom = part === "low" ? 0 : count / 4;
  return shuffle(size, interleave(from), interleave(mmxFrom));
}

/** PACK: narrows both operands; MMX first joins its two halves. */
function pack(
  narrow: (typeof Simd)[
    | "i8x16_narrow_i16x8_s"
    | "i8x16_narrow_i16x8_u"
    | "i16x8_narrow_i32x4_s"
    | "i16x8_narrow_i32x4_u"],
): LaneOp {
  return (x) => {
    if (!x.mmx) return direct(narrow)(x);
    const both = x.temp();
    x.a();
    x.b();
    x.code.shuffle(pickLanes(8, [0, 2]));
    x.code.set(both);
    x.code.get(both);
    x.code.get(both);
    x.code.simd(narrow);
  };
}

/** PMULHW: bits 16 to 31 of the products. */
function multiplyHigh(low: number, high: number): LaneOp {
  return (x) => {
    for (const half of [low, high]) {
      x.a();
      x.b();
      x.code.simd(half as never);
    }
    x.code.shuffle(pickLanes(2, [1, 3, 5, 7, 9, 11, 13, 15]));
  };
}

/** PMULUDQ, PMULDQ: products of the even 32-bit lanes. */
function multiplyEven(extended: (typeof Simd)["i64x2_extmul_low_i32x4_u" | "i64x2_extmul_low_i32x4_s"]): LaneOp {
  return (x) => {
    for (const operand of [x.a, x.b]) {
      operand();
      operand();
      x.code.shuffle(pickLanes(4, [0, 2, 0, 2]));
    }
    x.code.simd(extended);
  };
}

/** PMULHRSW: WebAssembly saturates -1 × -1, x86 wraps. */
function roundedMultiply(x: LaneInputs): void {
  direct(Simd.i16x8_q15mulr_sat_s)(x);
  for (const operand of [x.a, x.b]) {
    operand();
    x.code.v128(0x8000_8000_8000_8000n, 0x8000_8000_8000_8000n);
    x.code.simd(Simd.i16x8_eq);
  }
  x.code.simd(Simd.v128_and);
  x.code.simd(Simd.v128_xor);
}

/** PMADDUBSW: unsigned bytes of the first operand by signed ones of the second, neighbours added with saturation. */
function multiplyAddBytes(x: LaneInputs): void {
  const low = x.temp();
  const high = x.temp();
  const halves = [
    [Simd.i16x8_extend_low_i8x16_u, Simd.i16x8_extend_low_i8x16_s, low],
    [Simd.i16x8_extend_high_i8x16_u, Simd.i16x8_extend_high_i8x16_s, high],
  ] as const;
  for (const [unsigned, signed, into] of halves) {
    x.a();
    x.code.simd(unsigned);
    x.b();
    x.code.simd(signed);
    x.code.simd(Simd.i16x8_mul);
    x.code.set(into);
  }
  for (const first of [0, 1]) {
    x.code.get(low);
    x.code.get(high);
    x.code.shuffle(
      pickLanes(
        2,
        range(8).map((i) => 2 * i + first),
      ),
    );
  }
  x.code.simd(Simd.i16x8_add_sat_s);
}

/** PSIGN: negates where the second operand is negative, clears where it is zero. */
function sign(lane: "i8x16" | "i16x8" | "i32x4", bits: number): LaneOp {
  return (x) => {
    const negative = x.temp();
    x.b();
    x.code.i32(bits - 1);
    x.code.simd(Simd[`${lane}_shr_s`]);
    x.code.set(negative);
    x.a();
    x.code.get(negative);
    x.code.simd(Simd.v128_xor);
    x.code.get(negative);
    x.code.simd(Simd[`${lane}_sub`]);
    x.b();
    x.code.v128(0n, 0n);
    x.code.simd(Simd[`${lane}_eq`]);
    x.code.simd(Simd.v128_andnot);
  };
}

/** PSADBW: sums of absolute differences of eight bytes. */
function sumOfDifferences(x: LaneInputs): void {
  x.a();
  x.b();
  x.code.simd(Simd.i8x16_sub_sat_u);
  x.b();
  x.a();
  x.code.simd(Simd.i8x16_sub_sat_u);
  x.code.simd(Simd.v128_or);
  x.code.simd(Simd.i16x8_extadd_pairwise_i8x16_u);
  x.code.simd(Simd.i32x4_extadd_pairwise_i16x8_u);
  const sums = x.temp();
  x.code.set(sums);
  x.code.get(sums);
  x.code.i32(32);
  x.code.simd(Simd.i64x2_shr_u);
  x.code.get(sums);
  x.code.v128(0xffff_ffffn, 0xffff_ffffn);
  x.code.simd(Simd.v128_and);
  x.code.simd(Simd.i64x2_add);
}

/** PHADD and PHSUB: neighbours of both operands. */
function horizontal(size: 2 | 4, operation: LaneOp): LaneOp {
  const count = 16 / size;
  return (x) => {
    const even = x.temp();
    const odd = x.temp();
    // MMX operands have only half the pairs: the second operand's follow at once.
    const from = (first: number) =>
      x.mmx
        ? range(count / 2).map((i) => (i < count / 4 ? 2 * i : count + 2 * (i - count / 4)) + first)
        : range(count).map((i) => 2 * i + first);
    for (const [first, into] of [
      [0, even],
      [1, odd],
    ] as const) {
      x.a();
      x.b();
      x.code.shuffle(pickLanes(size, [...from(first), ...Array(count - from(first).length).fill(0)]));
      x.code.set(into);
    }
    operation({ ...x, a: () => x.code.get(even), b: () => x.code.get(odd) });
  };
}

/** PSHUFB: bit 7 clears, else the low bits pick. */
function shuffleBytes(x: LaneInputs): void {
  const mask = x.mmx ? 0x8787_8787_8787_8787n : 0x8f8f_8f8f_8f8f_8f8fn;
  x.a();
  x.b();
  x.code.v128(mask, mask);
  x.code.simd(Simd.v128_and);
  x.code.simd(Simd.i8x16_swizzle);
}

/** PANDN: not a, and b. */
function andNot(x: LaneInputs): void {
  x.b();
  x.a();
  x.code.simd(Simd.v128_andnot);
}

const and = direct(Simd.v128_and);
const or = direct(Simd.v128_or);
const xor = direct(Simd.v128_xor);

/**
 * Two-operand integer and logical instructions by their SSE name. The names of the VEX forms have a V in front, MMX forms
 * (of those that have one) share the name.
 */
export const BINARY_LANES: Readonly<Record<string, LaneOp>> = {
  Paddb: direct(Simd.i8x16_add),
  Paddw: direct(Simd.i16x8_add),
  Paddd: direct(Simd.i32x4_add),
  Paddq: direct(Simd.i64x2_add),
  Psubb: direct(Simd.i8x16_sub),
  Psubw: direct(Simd.i16x8_sub),
  Psubd: direct(Simd.i32x4_sub),
  Psubq: direct(Simd.i64x2_sub),
  Paddsb: direct(Simd.i8x16_add_sat_s),
  Paddsw: direct(Simd.i16x8_add_sat_s),
  Paddusb: direct(Simd.i8x16_add_sat_u),
  Paddusw: direct(Simd.i16x8_add_sat_u),
  Psubsb: direct(Simd.i8x16_sub_sat_s),
  Psubsw: direct(Simd.i16x8_sub_sat_s),
  Psubusb: direct(Simd.i8x16_sub_sat_u),
  Psubusw: direct(Simd.i16x8_sub_sat_u),
  Pavgb: direct(Simd.i8x16_avgr_u),
  Pavgw: direct(Simd.i16x8_avgr_u),
  Pmullw: direct(Simd.i16x8_mul),
  Pmulld: direct(Simd.i32x4_mul),
  Pmulhw: multiplyHigh(Simd.i32x4_extmul_low_i16x8_s, Simd.i32x4_extmul_high_i16x8_s),
  Pmulhuw: multiplyHigh(Simd.i32x4_extmul_low_i16x8_u, Simd.i32x4_extmul_high_i16x8_u),
  Pmuludq: multiplyEven(Simd.i64x2_extmul_low_i32x4_u),
  Pmuldq: multiplyEven(Simd.i64x2_extmul_low_i32x4_s),
  Pmulhrsw: roundedMultiply,
  Pmaddwd: direct(Simd.i32x4_dot_i16x8_s),
  Pmaddubsw: multiplyAddBytes,
  Psadbw: sumOfDifferences,
  Pminsb: direct(Simd.i8x16_min_s),
  Pminsw: direct(Simd.i16x8_min_s),
  Pminsd: direct(Simd.i32x4_min_s),
  Pminub: direct(Simd.i8x16_min_u),
  Pminuw: direct(Simd.i16x8_min_u),
  Pminud: direct(Simd.i32x4_min_u),
  Pmaxsb: direct(Simd.i8x16_max_s),
  Pmaxsw: direct(Simd.i16x8_max_s),
  Pmaxsd: direct(Simd.i32x4_max_s),
  Pmaxub: direct(Simd.i8x16_max_u),
  Pmaxuw: direct(Simd.i16x8_max_u),
  Pmaxud: direct(Simd.i32x4_max_u),
  Pcmpeqb: direct(Simd.i8x16_eq),
  Pcmpeqw: direct(Simd.i16x8_eq),
  Pcmpeqd: direct(Simd.i32x4_eq),
  Pcmpeqq: direct(Simd.i64x2_eq),
  Pcmpgtb: direct(Simd.i8x16_gt_s),
  Pcmpgtw: direct(Simd.i16x8_gt_s),
  Pcmpgtd: direct(Simd.i32x4_gt_s),
  Pcmpgtq: direct(Simd.i64x2_gt_s),
  Psignb: sign("i8x16", 8),
  Psignw: sign("i16x8", 16),
  Psignd: sign("i32x4", 32),
  Phaddw: horizontal(2, direct(Simd.i16x8_add)),
  Phaddd: horizontal(4, direct(Simd.i32x4_add)),
  Phaddsw: horizontal(2, direct(Simd.i16x8_add_sat_s)),
  Phsubw: horizontal(2, direct(Simd.i16x8_sub)),
  Phsubd: horizontal(4, direct(Simd.i32x4_sub)),
  Phsubsw: horizontal(2, direct(Simd.i16x8_sub_sat_s)),
  Packsswb: pack(Simd.i8x16_narrow_i16x8_s),
  Packuswb: pack(Simd.i8x16_narrow_i16x8_u),
  Packssdw: pack(Simd.i16x8_narrow_i32x4_s),
  Packusdw: pack(Simd.i16x8_narrow_i32x4_u),
  Punpcklbw: unpack(1, "low"),
  Punpcklwd: unpack(2, "low"),
  Punpckldq: unpack(4, "low"),
  Punpcklqdq: unpack(8, "low"),
  Punpckhbw: unpack(1, "high"),
  Punpckhwd: unpack(2, "high"),
  Punpckhdq: unpack(4, "high"),
  Punpckhqdq: unpack(8, "high"),
  Unpcklps: unpack(4, "low"),
  Unpckhps: unpack(4, "high"),
  Unpcklpd: unpack(8, "low"),
  Unpckhpd: unpack(8, "high"),
  Pshufb: shuffleBytes,
  Pand: and,
  Andps: and,
  Andpd: and,
  Por: or,
  Orps: or,
  Orpd: or,
  Pxor: xor,
  Xorps: xor,
  Xorpd: xor,
  Pandn: andNot,
  Andnps: andNot,
  Andnpd: andNot,
};

/** One-operand instructions by their SSE name. */
export const UNARY_LANES: Readonly<Record<string, LaneOp>> = {
  Pabsb: unary(Simd.i8x16_abs),
  Pabsw: unary(Simd.i16x8_abs),
  Pabsd: unary(Simd.i32x4_abs),
};
