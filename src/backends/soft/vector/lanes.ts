import type { Emit, Emitter } from "../translate/context.ts";
import type { Code } from "../wasm/code.ts";
import type { SimdCode } from "../wasm/opcodes.ts";
import { Type } from "../wasm/opcodes.ts";
import { emitMmxTransition, entered, inputs, type Source, sources, usesMmx, writeVector } from "./operands.ts";

/** One operation on 128 bits: pushes its result. `a` and `b` push the operands and may be asked more than once. */
export interface LaneInputs {
  readonly code: Code;
  readonly a: Source;
  readonly b: Source;
  /** Whether only the low 64 bits count: MMX. */
  readonly mmx: boolean;
  readonly imm8: number;
  /** 1 for the upper half of a YMM register. */
  readonly half: number;
  temp(): number;
}
export type LaneOp = (x: LaneInputs) => void;

/** Two operands to one WebAssembly instruction. */
export function direct(operation: SimdCode): LaneOp {
  return (x) => {
    x.a();
    x.b();
    x.code.simd(operation);
  };
}

/** The second operand alone. */
export function unary(operation: SimdCode): LaneOp {
  return (x) => {
    x.b();
    x.code.simd(operation);
  };
}

export function laneInputs(e: Emit, a: Source, b: Source, half = 0): LaneInputs {
  return { code: e.code, a, b, half, mmx: usesMmx(e), imm8: e.insn.raw.immediate8, temp: () => e.temp(Type.v128) };
}

/** An instruction that applies `op` to each 128-bit half of its two inputs: MMX, SSE, VEX.128 and VEX.256 alike. */
export function binaryLanes(op: LaneOp): Emitter {
  return entered((e) => {
    const [left, right] = inputs(e);
    const b = sources(e, right);
    const a = sources(e, left);
    if (usesMmx(e)) emitMmxTransition(e);
    writeVector(
      e,
      e.insn.register(0),
      a.map((push, half) => () => op(laneInputs(e, push, b[half]!, half))),
    );
  });
}

/** The same for one input, operand 1: PABSB, PSHUFD, SQRTPS without exceptions and their like. */
export function unaryLanes(op: LaneOp): Emitter {
  return entered((e) => {
    const b = sources(e, 1);
    if (usesMmx(e)) emitMmxTransition(e);
    writeVector(
      e,
      e.insn.register(0),
      b.map((push, half) => () => op(laneInputs(e, push, push, half))),
    );
  });
}
