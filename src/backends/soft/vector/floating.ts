import { State } from "../state.ts";
import type { Emit, Emitter } from "../translate/context.ts";
import { Mem, Op, Simd, type SimdCode, SimdMem, Type, type ValueType } from "../wasm/opcodes.ts";
import { OPERAND_A, OPERAND_B, OPERAND_C, RESULT } from "./floating-helpers.ts";
import { pickLanes } from "./integer-lanes.ts";
import { entered, hold, inputs, keep, type Source, scalarSource, sourceOf, sources, writeVector } from "./operands.ts";
import {
  allSet,
  laneName,
  PD,
  PS,
  productIsExact,
  pushComparable,
  pushOrdinary,
  pushOrdinaryOrZero,
  pushQuietMxcsr,
  pushZeroMask,
  SD,
  type Shape,
  SS,
  sumIsExact,
} from "./ordinary.ts";

/** Stores vectors where the helpers expect them. */
export function passOperands(e: Emit, operands: readonly (readonly Source[])[]): void {
  const places = [OPERAND_A, OPERAND_B, OPERAND_C];
  operands.forEach((halves, i) => {
    halves.forEach((push, half) => {
      e.stateAddress();
      push();
      e.storeState(SimdMem.v128_store, places[i]! + 16 * half);
    });
  });
}

/** Calls a helper that may raise, with constant arguments. */
export function callHelper(e: Emit, name: string, ...args: readonly number[]): void {
  for (const arg of args) e.code.i32(arg);
  const types: ValueType[] = args.map(() => Type.i32);
  e.call(name, types, "faults");
}

/** Replaces the locals with the result a helper left. */
export function takeResult(e: Emit, locals: readonly number[]): void {
  locals.forEach((local, half) => {
    e.loadState(SimdMem.v128_load, RESULT + 16 * half);
    e.code.set(local);
  });
}

/** Lanes that a shape has in that many halves. */
export function laneCount(shape: Shape, halves: number): number {
  return shape.scalar ? 1 : (16 / shape.bytes) * halves;
}

/** The second input of an instruction: a scalar operand reads only its own bytes. */
export function shapedSources(e: Emit, operand: number, shape: Shape): Source[] {
  return shape.scalar ? [scalarSource(e, operand, shape.bytes)] : sources(e, operand);
}

/** Writes the result; a scalar takes the other lanes from the first input. */
export function writeShaped(e: Emit, shape: Shape, base: Source, results: readonly Source[]): void {
  if (!shape.scalar) {
    writeVector(e, e.insn.register(0), results);
    return;
  }
  writeVector(e, e.insn.register(0), [
    () => {
      base();
      results[0]!();
      e.code.shuffle(pickLanes(shape.bytes, shape.bytes === 4 ? [4, 1, 2, 3] : [2, 1]));
    },
  ]);
}

/** How one instruction computes: the fast result of each half, and when it may stand. */
export interface Computation {
  readonly helper: string;
  /** Pushes a half's result. */
  fast(e: Emit, shape: Shape, a: Source, b: Source): void;
  /** Pushes whether all of that half's results are right and raise nothing new. */
  holds(e: Emit, shape: Shape, r: Source, a: Source, b: Source): void;
  /** Whether PE and the rounding mode matter. */
  readonly rounds: boolean;
  /** Pushes a mask of lanes whose result is surely exact, if it is ordinary or a zero: then neither of them does. */
  exact?(e: Emit, shape: Shape, r: Source, a: Source, b: Source): void;
  /** What zeros among operands and results mean, where such lanes may stand as computed too. */
  readonly zeros?: "sum" | "product";
  /** Whether the first input is part of the computation. */
  readonly operands: 1 | 2;
  /** Arguments of the helper beyond lane size and count. */
  args?(e: Emit): readonly number[];
}

/** An instruction that computes fast where it can be proven right, else by its helper. */
export function computed(shape: Shape, c: Computation): Emitter {
  return entered((e) => {
    const { code } = e;
    const [left, right] = c.operands === 1 && !shape.scalar ? [1, 1] : inputs(e);
    const b = shapedSources(e, right, shape).map((push) => hold(e, push));
    const a = left === right ? b : sources(e, left).map((push) => hold(e, push));
    const results = b.map((push, i) => {
      c.fast(e, shape, a[i]!, push);
      return keep(e);
    });
    // One test for ordinary lanes and zeros together, or one for ordinary lanes and a second for those with zeros.
    const together = c.zeros !== undefined && shape.bytes === 4;
    let tests = 0;
    const and = () => {
      if (tests++ > 0) code.op(Op.i32_and);
    };
    if (c.rounds) {
      pushQuietMxcsr(e);
      if (c.exact) {
        code.if(Type.i32);
        code.i32(1);
        code.else();
        pushAllExact(e, shape, c, results, a, b);
        if (together) pushNearest(e);
        code.end();
      }
      and();
    }
    results.forEach((r, i) => {
      if (together) pushOrdinaryOrZero(e, shape, c.zeros!, sourceOf(e, r), [a[i]!, b[i]!]);
      else c.holds(e, shape, sourceOf(e, r), a[i]!, b[i]!);
      and();
    });
    code.op(Op.i32_eqz);
    code.if();
    const again = c.zeros !== undefined && !together;
    if (again) {
      pushQuietMxcsr(e);
      code.if(Type.i32);
      code.i32(1);
      code.else();
      pushAllExact(e, shape, c, results, a, b);
      pushNearest(e);
      code.end();
      results.forEach((r, i) => {
        pushZeroMask(e, shape, c.zeros!, sourceOf(e, r), [a[i]!, b[i]!]);
        allSet(e, shape);
        code.op(Op.i32_and);
      });
      code.op(Op.i32_eqz);
      code.if();
    }
    passOperands(e, [c.operands === 1 ? b : a, b]);
    callHelper(e, c.helper, shape.bytes, laneCount(shape, b.length), ...(c.args?.(e) ?? []));
    takeResult(e, results);
    if (again) code.end();
    code.end();
    writeShaped(
      e,
      shape,
      a[0]!,
      results.map((r) => sourceOf(e, r)),
    );
  });
}

/** Clears the condition on the stack unless MXCSR rounds to nearest: the sign of a sum that cancels depends on it. */
function pushNearest(e: Emit): void {
  e.loadState(Mem.i32_load, State.mxcsr);
  e.code.i32(0x6000);
  e.code.op(Op.i32_and);
  e.code.op(Op.i32_eqz);
  e.code.op(Op.i32_and);
}

/** Pushes 1 when every lane of every half is exact. */
function pushAllExact(
  e: Emit,
  shape: Shape,
  c: Computation,
  results: readonly number[],
  a: readonly Source[],
  b: readonly Source[],
): void {
  results.forEach((r, i) => {
    c.exact?.(e, shape, sourceOf(e, r), a[i]!, b[i]!);
    if (i > 0) e.code.simd(Simd.v128_and);
  });
  allSet(e, shape);
}

/** Arithmetic by one WebAssembly instruction. */
export function arithmetic(helper: string, name: "add" | "sub" | "mul" | "div"): Computation {
  return {
    helper,
    rounds: true,
    operands: 2,
    fast(e, shape, a, b) {
      a();
      b();
      e.code.simd(Simd[`${laneName(shape)}_${name}`]);
    },
    holds: (e, shape, r, a, b) => pushOrdinary(e, shape, r, [a, b]),
    ...(name === "div"
      ? {}
      : { zeros: name === "mul" ? "product" : "sum", exact: name === "mul" ? productIsExact : sumIsExact(name) }),
  };
}

export const squareRoot: Computation = {
  helper: "sse.sqrt",
  rounds: true,
  operands: 1,
  fast(e, shape, _, b) {
    b();
    e.code.simd(Simd[`${laneName(shape)}_sqrt`]);
  },
  holds: (e, shape, r, _, b) => pushOrdinary(e, shape, r, [b]),
};

/** MIN and MAX: WebAssembly's pseudo-minimum with its operands exchanged yields the second operand where they are equal. */
export function extremum(helper: string, name: "pmin" | "pmax"): Computation {
  return {
    helper,
    rounds: false,
    operands: 2,
    fast(e, shape, a, b) {
      b();
      a();
      e.code.simd(Simd[`${laneName(shape)}_${name}`]);
    },
    holds: (e, shape, _, a, b) => pushComparable(e, shape, [a, b]),
  };
}

/** What a predicate (its low four bits) comes to when nothing is a NaN; a number for a constant. */
const ORDERED = ["eq", "lt", "le", 0, "ne", "ge", "gt", 1, "eq", "lt", "le", 0, "ne", "ge", "gt", 1] as const;

function predicateOf(e: Emit): number {
  const { imm8 } = e.insn;
  return e.insn.raw.encoding === 0 ? imm8 & 7 : imm8 & 31;
}

/** CMPPS, CMPPD, CMPSS, CMPSD. */
export const comparison: Computation = {
  helper: "sse.compare",
  rounds: false,
  operands: 2,
  fast(e, shape, a, b) {
    const relation = ORDERED[predicateOf(e) & 15]!;
    if (typeof relation === "number") {
      e.code.v128(BigInt(-relation), BigInt(-relation));
      return;
    }
    a();
    b();
    e.code.simd(Simd[`${laneName(shape)}_${relation}`]);
  },
  holds: (e, shape, _, a, b) => pushComparable(e, shape, [a, b]),
  args: (e) => [predicateOf(e)],
};

/** COMISS, COMISD (signaling) and UCOMISS, UCOMISD: into the flags. */
export function compareIntoFlags(shape: Shape, signaling: boolean): Emitter {
  return entered((e) => {
    const { code } = e;
    const lane = laneName(shape);
    const b = hold(e, scalarSource(e, 1, shape.bytes));
    const a = hold(e, scalarSource(e, 0, shape.bytes));
    const flags = e.temp(Type.i32);
    pushComparable(e, shape, [a, b]);
    code.if();
    const relation = (name: "lt" | "eq", bit: number) => {
      a();
      b();
      code.simd(Simd[`${lane}_${name}`] as SimdCode);
      code.lane(27, 0);
      code.i32(bit);
      code.op(Op.i32_and);
    };
    relation("lt", 1);
    relation("eq", 0x40);
    code.op(Op.i32_or);
    code.set(flags);
    code.else();
    passOperands(e, [[a], [b]]);
    callHelper(e, "sse.compareFlags", shape.bytes, signaling ? 1 : 0);
    e.loadState(Mem.i32_load, RESULT);
    code.set(flags);
    code.end();
    code.get(flags);
    e.setFlags();
  });
}

const ROUNDINGS = ["nearest", "floor", "ceil", "trunc"] as const;

/** ROUNDPS and its kind: fast where the result is exact, or inexactness is neither reported nor new. */
export const rounding: Computation = {
  helper: "sse.round",
  rounds: false,
  operands: 1,
  fast(e, shape, _, b) {
    const { imm8 } = e.insn;
    b();
    e.code.simd(Simd[`${laneName(shape)}_${ROUNDINGS[imm8 & 3]!}`]);
  },
  holds(e, shape, r, _, b) {
    const { code } = e;
    const { imm8 } = e.insn;
    pushComparable(e, shape, [b]);
    if (imm8 & 4) {
      // Only integers do not depend on MXCSR.RC.
      r();
      b();
      code.simd(Simd[`${laneName(shape)}_eq`]);
      allSet(e, shape);
      code.op(Op.i32_and);
      return;
    }
    if (imm8 & 8) return;
    r();
    b();
    code.simd(Simd[`${laneName(shape)}_eq`]);
    allSet(e, shape);
    e.loadState(Mem.i32_load, State.mxcsr);
    code.i32(0x1020);
    code.op(Op.i32_and);
    code.i32(0x1020);
    code.op(Op.i32_eq);
    code.op(Op.i32_or);
    code.op(Op.i32_and);
  },
  args: (e) => [e.insn.imm8],
};

/** ADDSUBPS, ADDSUBPD: odd lanes are added, even ones subtracted. */
export const addSubtract: Computation = {
  helper: "sse.addsub",
  rounds: true,
  operands: 2,
  fast(e, shape, a, b) {
    const lane = laneName(shape);
    a();
    b();
    // A change of sign is exact: only the even lanes of the second operand are negated.
    if (shape.bytes === 4) e.code.v128(0x8000_0000n, 0x8000_0000n);
    else e.code.v128(0x8000_0000_0000_0000n, 0n);
    e.code.simd(Simd.v128_xor);
    e.code.simd(Simd[`${lane}_add`]);
  },
  holds: (e, shape, r, a, b) => pushOrdinary(e, shape, r, [a, b]),
};

/** HADDPS and its kind: an operation on neighbours, each operand giving half of the result. */
export function horizontal(shape: Shape, name: "add" | "sub"): Emitter {
  const even = shape.bytes === 4 ? [0, 2, 4, 6] : [0, 2];
  return entered((e) => {
    const { code } = e;
    const [left, right] = inputs(e);
    const b = sources(e, right);
    const a = sources(e, left);
    const pick = (push: Source, half: number, odd: number) => {
      push();
      b[half]!();
      code.shuffle(
        pickLanes(
          shape.bytes,
          even.map((lane) => lane + odd),
        ),
      );
      return sourceOf(e, keep(e));
    };
    const x = a.map((push, half) => pick(push, half, 0));
    const y = a.map((push, half) => pick(push, half, 1));
    const c = arithmetic(`sse.${name}`, name);
    const results = x.map((push, i) => {
      c.fast(e, shape, push, y[i]!);
      return keep(e);
    });
    pushQuietMxcsr(e);
    results.forEach((r, i) => {
      c.holds(e, shape, sourceOf(e, r), x[i]!, y[i]!);
      code.op(Op.i32_and);
    });
    code.op(Op.i32_eqz);
    code.if();
    passOperands(e, [x, y]);
    callHelper(e, c.helper, shape.bytes, laneCount(shape, x.length));
    takeResult(e, results);
    code.end();
    writeVector(
      e,
      e.insn.register(0),
      results.map((r) => sourceOf(e, r)),
    );
  });
}

/** An instruction whose result is always its helper's: operands, then lane size, and what `args` adds. */
export function byHelper(helper: string, shape: Shape, args: (e: Emit, halves: number) => readonly number[]): Emitter {
  return entered((e) => {
    const [left, second] = inputs(e);
    const right = second < e.insn.operands ? second : 1;
    const b = shapedSources(e, right, shape);
    const a = left === right ? b : sources(e, left);
    passOperands(e, [a, b]);
    callHelper(e, helper, shape.bytes, ...args(e, b.length));
    const results = b.map(() => e.temp(Type.v128));
    takeResult(e, results);
    writeShaped(
      e,
      shape,
      a[0]!,
      results.map((r) => sourceOf(e, r)),
    );
  });
}

function family(c: Computation, name: string): Record<string, Emitter> {
  return {
    [`${name}ps`]: computed(PS, c),
    [`${name}pd`]: computed(PD, c),
    [`${name}ss`]: computed(SS, c),
    [`${name}sd`]: computed(SD, c),
  };
}

const compares = family(comparison, "Cmp");

/** By SSE name; VEX names have a V in front. CMPSD is entered by code, as string instructions share its name. */
export const FLOATING: Readonly<Record<string, Emitter>> = {
  ...family(arithmetic("sse.add", "add"), "Add"),
  ...family(arithmetic("sse.sub", "sub"), "Sub"),
  ...family(arithmetic("sse.mul", "mul"), "Mul"),
  ...family(arithmetic("sse.div", "div"), "Div"),
  ...family(extremum("sse.min", "pmin"), "Min"),
  ...family(extremum("sse.max", "pmax"), "Max"),
  ...family(squareRoot, "Sqrt"),
  ...family(rounding, "Round"),
  Cmpps: compares.Cmpps!,
  Cmppd: compares.Cmppd!,
  Cmpss: compares.Cmpss!,
  Comiss: compareIntoFlags(SS, true),
  Comisd: compareIntoFlags(SD, true),
  Ucomiss: compareIntoFlags(SS, false),
  Ucomisd: compareIntoFlags(SD, false),
  Addsubps: computed(PS, addSubtract),
  Addsubpd: computed(PD, addSubtract),
  Haddps: horizontal(PS, "add"),
  Haddpd: horizontal(PD, "add"),
  Hsubps: horizontal(PS, "sub"),
  Hsubpd: horizontal(PD, "sub"),
  Dpps: byHelper("sse.dot", PS, (e, halves) => [halves, e.insn.imm8]),
  Dppd: byHelper("sse.dot", PD, (e, halves) => [halves, e.insn.imm8]),
};

export const CMPSD: Emitter = compares.Cmpsd!;
