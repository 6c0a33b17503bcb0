import type { Emit, Emitter } from "../translate/context.ts";
import { Type } from "../wasm/opcodes.ts";
import {
  callHelper,
  laneCount,
  PD,
  PS,
  passOperands,
  SD,
  type Shape,
  SS,
  shapedSources,
  takeResult,
  writeShaped,
} from "./floating.ts";
import { entered, hold, sourceOf, sources } from "./operands.ts";

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

function fusedMultiplyAdd(
  shape: Shape,
  order: readonly [number, number, number],
  signs: readonly [number, number],
): Emitter {
  return entered((e: Emit) => {
    const third = shapedSources(e, 2, shape);
    const operands = [sources(e, 0), sources(e, 1), third].map((halves) => halves.map((push) => hold(e, push)));
    passOperands(
      e,
      order.map((operand) => operands[operand - 1]!),
    );
    callHelper(e, "sse.fused", shape.bytes, laneCount(shape, third.length), signs[0], signs[1]);
    const results = third.map(() => e.temp(Type.v128));
    takeResult(e, results);
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
