import type { Emit, Emitter } from "../translate/context.ts";
import { Op, Simd, Type } from "../wasm/opcodes.ts";
import { callHelper, laneCount, passOperands, shapedSources, takeResult, writeShaped } from "./floating.ts";
import { fusedFast, pushFusedHolds } from "./fused-fast.ts";
import { entered, hold, type Source, sourceOf, sources } from "./operands.ts";
import { PD, PS, pushQuietMxcsr, SD, type Shape, SS } from "./ordinary.ts";

/** Which operands (1 to 3) are the factors and the addend: the digits in the name. */
const ORDERS = { 132: [1, 3, 2], 213: [2, 1, 3], 231: [2, 3, 1] } as const;

/** Signs: bit 0 negates the product, bit 1 the addend; for even and for odd lanes. */
const KINDS = {
  Vfmadd: [0, 0],
  Vfmsub: [2, 2],
  Vfnmadd: [1, 1],
  Vfnmsub: [3, 3],
  Vfmaddsub: [2, 0],
  Vfmsubadd: [0, 2],
} as const;

const SHAPES = { ps: PS, pd: PD, ss: SS, sd: SD } as const;

/** Flips signs: bit `bit` of the kinds of even and odd lanes says whether theirs. */
function negated(e: Emit, shape: Shape, signs: readonly [number, number], bit: number, push: Source): Source {
  const [even, odd] = signs.map((s) => BigInt((s >> bit) & 1)) as [bigint, bigint];
  if (even === 0n && odd === 0n) return push;
  return hold(e, () => {
    push();
    const pair = (even << 31n) | (odd << 63n);
    if (shape.bytes === 4) e.code.v128(pair, pair);
    else e.code.v128(even << 63n, odd << 63n);
    e.code.simd(Simd.v128_xor);
  });
}

function fusedMultiplyAdd(
  shape: Shape,
  order: readonly [number, number, number],
  signs: readonly [number, number],
): Emitter {
  return entered((e: Emit) => {
    const third = shapedSources(e, 2, shape);
    const operands = [sources(e, 0), sources(e, 1), third].map((halves) => halves.map((push) => hold(e, push)));
    const [a, b, c] = order.map((operand) => operands[operand - 1]!) as [Source[], Source[], Source[]];
    const results = third.map(() => e.temp(Type.v128));
    const halves = third.map((_, i) => ({
      a: negated(e, shape, signs, 0, a[i]!),
      b: b[i]!,
      c: negated(e, shape, signs, 1, c[i]!),
    }));
    pushQuietMxcsr(e);
    e.code.if(Type.i32);
    halves.forEach((h, i) => {
      fusedFast(e, shape, h.a, h.b, h.c)();
      e.code.set(results[i]!);
      pushFusedHolds(e, shape, sourceOf(e, results[i]!), h.a, h.b, h.c);
      if (i > 0) e.code.op(Op.i32_and);
    });
    e.code.else();
    e.code.i32(0);
    e.code.end();
    e.code.op(Op.i32_eqz);
    e.code.if();
    passOperands(e, [a, b, c]);
    callHelper(e, "sse.fused", shape.bytes, laneCount(shape, third.length), signs[0], signs[1]);
    takeResult(e, results);
    e.code.end();
    writeShaped(
      e,
      shape,
      operands[0]![0]!,
      results.map((r) => sourceOf(e, r)),
    );
  });
}

function instructions(): Record<string, Emitter> {
  const all: Record<string, Emitter> = {};
  for (const [kind, signs] of Object.entries(KINDS))
    for (const [digits, order] of Object.entries(ORDERS))
      for (const [suffix, shape] of Object.entries(SHAPES)) {
        if (signs[0] !== signs[1] && shape.scalar) continue;
        all[`${kind}${digits}${suffix}`] = fusedMultiplyAdd(shape, order, signs);
      }
  return all;
}

/** VFMADD132PS … VFNMSUB231SD, by their full name. */
export const FMA: Readonly<Record<string, Emitter>> = instructions();
