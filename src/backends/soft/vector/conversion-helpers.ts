import type { Helper, StateView } from "../translate/context.ts";
import {
  arithmeticOf,
  formatOfBytes,
  OPERAND_A,
  OPERAND_B,
  OPERAND_C,
  productError,
  RESULT,
  readLane,
  settle,
  sumError,
  writeLane,
} from "./floating-helpers.ts";
import type { SseArithmetic } from "./ieee.ts";

/** Element types of `sse.convert`, as its helper's arguments name them. */
export const INT32 = 0;
export const INT64 = 1;
export const FLOAT32 = 2;
export const FLOAT64 = 3;

const BYTES = [4, 8, 4, 8] as const;

function convertOne(s: SseArithmetic, from: number, to: number, bits: bigint, truncate: boolean): bigint {
  const target = formatOfBytes(BYTES[to]!);
  if (from <= INT64) return s.fromInteger(target, BigInt.asIntN(from === INT32 ? 32 : 64, bits));
  const source = formatOfBytes(BYTES[from]!);
  if (to <= INT64) return s.toInteger(source, bits, to === INT32 ? 32 : 64, truncate ? "truncate" : "round");
  return s.convert(source, target, bits);
}

/** Converts `lanes` elements at OPERAND_B into as many at RESULT. */
const convert: Helper = (cpu, from, to, lanes, truncate) => {
  const s = arithmeticOf(cpu);
  for (let i = 0; i < lanes!; i++) {
    const bits = readLane(cpu.view, OPERAND_B, BYTES[from!]!, i);
    writeLane(cpu.view, RESULT, BYTES[to!]!, i, convertOne(s, from!, to!, bits, truncate === 1));
  }
  return settle(cpu, s.flags);
};

/** VCVTPH2PS. */
const fromHalf: Helper = (cpu, lanes) => {
  const s = arithmeticOf(cpu);
  for (let i = 0; i < lanes!; i++)
    writeLane(cpu.view, RESULT, 4, i, s.fromHalf(BigInt(cpu.view.getUint16(OPERAND_B + 2 * i, true))));
  return settle(cpu, s.flags);
};

/** VCVTPS2PH. What lies behind the lanes is cleared. */
const toHalf: Helper = (cpu, lanes, control) => {
  const s = arithmeticOf(cpu);
  for (let i = 0; i < 8; i++) {
    const half = i < lanes! ? s.toHalf(readLane(cpu.view, OPERAND_B, 4, i), control!) : 0n;
    cpu.view.setUint16(RESULT + 2 * i, Number(half), true);
  }
  return settle(cpu, s.flags);
};

/**
 * A fused operation that rounds nothing, in JavaScript's own arithmetic: integers, and products with zero. Undefined where
 * the answer takes more.
 */
function exactlyFused(a: number, b: number, c: number): number | undefined {
  const product = a * b;
  const r = product + c;
  const exact =
    isTame(a) && isTame(b) && isTame(c) && productError(a, b, product) === 0 && sumError(product, c, r) === 0;
  // The sign of a zero depends on more than its value.
  return exact && r !== 0 ? r : undefined;
}

/** Zero, or far enough from both ends of the range. */
function isTame(x: number): boolean {
  const m = Math.abs(x);
  return (m < 2 ** 400 && m > 2 ** -400) || x === 0;
}

/** FMA: the factors at OPERAND_A and OPERAND_B, the addend at OPERAND_C; signs for even and odd lanes. */
const fused: Helper = (cpu, bytes, lanes, even, odd) => {
  const s = arithmeticOf(cpu);
  const f = formatOfBytes(bytes!);
  const lane = (view: StateView, i: number) =>
    [OPERAND_A, OPERAND_B, OPERAND_C].map((at) => readLane(view, at, bytes!, i)) as [bigint, bigint, bigint];
  for (let i = 0; i < lanes!; i++) {
    const negate = (i & 1 ? odd : even)!;
    if (bytes === 8) {
      const [a, b, c] = [OPERAND_A, OPERAND_B, OPERAND_C].map((at) => cpu.view.getFloat64(at + 8 * i, true)) as [
        number,
        number,
        number,
      ];
      const r = exactlyFused(negate & 1 ? -a : a, b, negate & 2 ? -c : c);
      if (r !== undefined) {
        cpu.view.setFloat64(RESULT + 8 * i, r, true);
        continue;
      }
    }
    writeLane(cpu.view, RESULT, bytes!, i, s.fused(f, lane(cpu.view, i), negate));
  }
  return settle(cpu, s.flags);
};

/** RCPPS: the reciprocal to 12 bits. Zeros, infinities, NaNs and denormals as the manual says; no exceptions. */
function reciprocal(x: number): number {
  return 1 / x;
}

function reciprocalRoot(x: number): number {
  return 1 / Math.sqrt(x);
}

const number = new DataView(new ArrayBuffer(4));

/** Applies an approximation to binary32 bits: quiet NaNs, denormals as zeros, results cut to twelve bits and never denormal. */
function approximate(bits: number, f: (x: number) => number): number {
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return bits | 0x00400000;
  number.setUint32(0, magnitude < 0x00800000 ? bits & 0x80000000 : bits);
  const y = f(number.getFloat32(0));
  if (Number.isNaN(y)) return 0xffc00000;
  number.setFloat32(0, y);
  const rounded = number.getUint32(0);
  // RCPPS of 2^126, whose reciprocal is just no denormal: the manuals leave it open, and AMD gives zero.
  if ((rounded & 0x7fffffff) <= 0x00800000) return rounded & 0x80000000;
  if ((rounded & 0x7fffffff) >= 0x7f800000) return rounded;
  return (rounded + 0x400) & 0xfffff800;
}

function approximation(f: (x: number) => number): Helper {
  return (cpu, _bytes, lanes) => {
    for (let i = 0; i < lanes!; i++)
      cpu.view.setUint32(RESULT + 4 * i, approximate(cpu.view.getUint32(OPERAND_B + 4 * i, true), f) >>> 0, true);
    return 0;
  };
}

/** By name, for `Registry.helpers`. */
export const CONVERSION_HELPERS: Readonly<Record<string, Helper>> = {
  "sse.convert": convert,
  "sse.fromHalf": fromHalf,
  "sse.toHalf": toHalf,
  "sse.fused": fused,
  "sse.rcp": approximation(reciprocal),
  "sse.rsqrt": approximation(reciprocalRoot),
};
