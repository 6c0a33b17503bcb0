import { State, Vector } from "../state.ts";
import type { Helper, HelperCpu, StateView } from "../translate/context.ts";
import { DOUBLE, type Ieee, SINGLE, SseArithmetic } from "./ieee.ts";

/**
 * The slow paths of floating-point instructions: whatever the emitted fast path cannot prove to be ordinary. Operands come
 * in State.scratch, three vectors of 32 bytes; the result goes behind them. The first 64 bytes are left to slow loads and
 * stores, which may come in between.
 */
export const OPERAND_A = State.scratch + 64;
export const OPERAND_B = State.scratch + 96;
export const OPERAND_C = State.scratch + 128;
export const RESULT = State.scratch + 160;

/** CR4.OSXMMEXCPT: whether #XM or #UD. */
const OSXMMEXCPT = 1 << 10;
/** Invalid, denormal, divide by zero: found before there is a result. */
const BEFORE = 7;

/**
 * Puts the flags of all lanes into MXCSR and raises #XM when one is not masked (Intel SDM Vol. 1, "Handling SIMD
 * Floating-Point Exceptions in Software"): exceptions found before the computation hide those after it.
 */
export function settle(cpu: HelperCpu, flags: number): number {
  const mxcsr = cpu.view.getUint32(State.mxcsr, true);
  const unmasked = flags & ~(mxcsr >> 7) & 0x3f;
  const seen = unmasked & BEFORE ? flags & BEFORE : flags;
  cpu.view.setUint32(State.mxcsr, mxcsr | seen, true);
  if (!unmasked) return 0;
  const cr4 = cpu.view.getUint32(State.cr4, true);
  return cpu.raise(cr4 & OSXMMEXCPT ? Vector.XM : Vector.UD);
}

export function formatOfBytes(bytes: number): Ieee {
  return bytes === 4 ? SINGLE : DOUBLE;
}

export function readLane(view: StateView, at: number, bytes: number, lane: number): bigint {
  return bytes === 4 ? BigInt(view.getUint32(at + 4 * lane, true)) : view.getBigUint64(at + 8 * lane, true);
}

export function writeLane(view: StateView, at: number, bytes: number, lane: number, value: bigint): void {
  if (bytes === 4) view.setUint32(at + 4 * lane, Number(value), true);
  else view.setBigUint64(at + 8 * lane, value, true);
}

export function arithmeticOf(cpu: HelperCpu): SseArithmetic {
  return new SseArithmetic(cpu.view.getUint32(State.mxcsr, true));
}

type Binary = (s: SseArithmetic, f: Ieee, a: bigint, b: bigint) => bigint;
type Inexact = (a: number, b: number, r: number) => boolean;

/** One operation in JavaScript's own arithmetic, and whether its rounding lost something. */
interface Quick {
  readonly compute: (a: number, b: number) => number;
  readonly lossy: Inexact;
}

/** Largest and smallest magnitudes for which the tests for exactness neither overflow nor underflow. */
const LARGE = 2 ** 500;
const SMALL = 2 ** -450;
const SPLIT = 134217729;

/** a × b - r, where r is the rounded product (Dekker). */
export function productError(a: number, b: number, r: number): number {
  let t = SPLIT * a;
  const ah = t - (t - a);
  const al = a - ah;
  t = SPLIT * b;
  const bh = t - (t - b);
  const bl = b - bh;
  return al * bl - (r - ah * bh - al * bh - ah * bl);
}

/** a + b - r, where r is the rounded sum (Knuth). */
export function sumError(a: number, b: number, r: number): number {
  const t = r - a;
  return a - (r - t) + (b - t);
}

const QUICK: Readonly<Record<string, Quick>> = {
  add: { compute: (a, b) => a + b, lossy: (a, b, r) => sumError(a, b, r) !== 0 },
  sub: { compute: (a, b) => a - b, lossy: (a, b, r) => sumError(a, -b, r) !== 0 },
  mul: { compute: (a, b) => a * b, lossy: (a, b, r) => productError(a, b, r) !== 0 },
  div: {
    compute: (a, b) => a / b,
    lossy: (a, b, r) => {
      const product = r * b;
      return product !== a || productError(r, b, product) !== 0;
    },
  },
  sqrt: {
    compute: (_, b) => Math.sqrt(b),
    lossy: (_, b, r) => {
      const square = r * r;
      return square !== b || productError(r, r, square) !== 0;
    },
  },
};

const BINARY: Readonly<Record<string, Binary>> = {
  add: (s, f, a, b) => s.add(f, a, b),
  sub: (s, f, a, b) => s.subtract(f, a, b),
  mul: (s, f, a, b) => s.multiply(f, a, b),
  div: (s, f, a, b) => s.divide(f, a, b),
  min: (s, f, a, b) => s.minimum(f, a, b),
  max: (s, f, a, b) => s.maximum(f, a, b),
  sqrt: (s, f, _, b) => s.squareRoot(f, b),
};

/** An operand, or a result, whose exactness test is sound. Zero is, unless an underflow made it. */
function tame(x: number): boolean {
  const m = Math.abs(x);
  return m < LARGE && m > SMALL;
}

/** A zero that no underflow made: a sum cancelled, or an operand was zero. */
function exactZero(q: Quick, a: number, b: number, r: number): boolean {
  return r === 0 && (q === QUICK.add || q === QUICK.sub || a === 0 || b === 0);
}

/** Tries one double lane in JavaScript's arithmetic: 1 exact, 2 inexact, 0 when the lane needs the long way. */
function quickDouble(view: StateView, q: Quick, lane: number): 0 | 1 | 2 {
  const a = view.getFloat64(OPERAND_A + 8 * lane, true);
  const b = view.getFloat64(OPERAND_B + 8 * lane, true);
  const r = q.compute(a, b);
  if (!(tame(r) || exactZero(q, a, b, r)) || !(tame(a) || a === 0) || !(tame(b) || b === 0)) return 0;
  view.setFloat64(RESULT + 8 * lane, r, true);
  return q.lossy(a, b, r) ? 2 : 1;
}

/** binary32's normal range, its ends left out. */
const MIN32 = 2 ** -126;
const MAX32 = 2 ** 128;

function quickSingle(view: StateView, name: string, q: Quick, lane: number): 0 | 1 | 2 {
  const a = view.getFloat32(OPERAND_A + 4 * lane, true);
  const b = view.getFloat32(OPERAND_B + 4 * lane, true);
  const wide = q.compute(a, b);
  const r = Math.fround(wide);
  const m = Math.abs(r);
  if (!((m > MIN32 && m < MAX32) || exactZero(q, a, b, wide)) || !ordinary(a) || !ordinary(b)) return 0;
  view.setFloat32(RESULT + 4 * lane, r, true);
  if (r !== wide) return 2;
  // Products of binary32 values are exact in binary64; sums, quotients and roots may have been rounded there already.
  return name !== "mul" && q.lossy(a, b, wide) ? 2 : 1;
}

function ordinary(x: number): boolean {
  const m = Math.abs(x);
  return (m >= MIN32 && m < MAX32) || x === 0;
}

/** Round to nearest, nothing flushed, and inexact results masked. */
const QUICK_MXCSR_MASK = 0xf040;
const QUICK_MXCSR = 0x1000;

/** Two-operand arithmetic on `lanes` lanes of `bytes` bytes. Odd lanes use `odd`, which is the same name but for ADDSUB. */
function binary(name: string, odd = name): Helper {
  const quick = [QUICK[name], QUICK[odd]];
  const slow = [BINARY[name]!, BINARY[odd]!];
  const names = [name, odd];
  return (cpu, bytes, lanes) => {
    const { view } = cpu;
    const f = formatOfBytes(bytes!);
    const fast = quick[0] !== undefined && (view.getUint32(State.mxcsr, true) & QUICK_MXCSR_MASK) === QUICK_MXCSR;
    let s: SseArithmetic | undefined;
    let flags = 0;
    for (let i = 0; i < lanes!; i++) {
      const q = quick[i & 1]!;
      const done = !fast ? 0 : bytes === 8 ? quickDouble(view, q, i) : quickSingle(view, names[i & 1]!, q, i);
      if (done === 2) flags |= 0x20;
      if (done !== 0) continue;
      s ??= arithmeticOf(cpu);
      const a = readLane(view, OPERAND_A, bytes!, i);
      const b = readLane(view, OPERAND_B, bytes!, i);
      writeLane(view, RESULT, bytes!, i, slow[i & 1]!(s, f, a, b));
    }
    return settle(cpu, flags | (s?.flags ?? 0));
  };
}

/** Compares lanes under a predicate of 0 to 31. */
const compare: Helper = (cpu, bytes, lanes, predicate) => {
  const s = arithmeticOf(cpu);
  const f = formatOfBytes(bytes!);
  for (let i = 0; i < lanes!; i++) {
    const a = readLane(cpu.view, OPERAND_A, bytes!, i);
    const b = readLane(cpu.view, OPERAND_B, bytes!, i);
    writeLane(cpu.view, RESULT, bytes!, i, s.compare(f, a, b, predicate!));
  }
  return settle(cpu, s.flags);
};

/** COMIS and UCOMIS: leaves the flags as an i32 at RESULT. */
const compareFlags: Helper = (cpu, bytes, signaling) => {
  const s = arithmeticOf(cpu);
  const a = readLane(cpu.view, OPERAND_A, bytes!, 0);
  const b = readLane(cpu.view, OPERAND_B, bytes!, 0);
  cpu.view.setUint32(RESULT, s.compareFlags(formatOfBytes(bytes!), a, b, signaling === 1), true);
  return settle(cpu, s.flags);
};

const roundLanes: Helper = (cpu, bytes, lanes, control) => {
  const s = arithmeticOf(cpu);
  const f = formatOfBytes(bytes!);
  for (let i = 0; i < lanes!; i++) {
    const b = readLane(cpu.view, OPERAND_B, bytes!, i);
    writeLane(cpu.view, RESULT, bytes!, i, s.roundToIntegral(f, b, control!));
  }
  return settle(cpu, s.flags);
};

/** DPPS and DPPD on one or two halves: products by the high bits of the control, their sum by the low ones. */
const dot: Helper = (cpu, bytes, halves, control) => {
  const { view } = cpu;
  const f = formatOfBytes(bytes!);
  const perHalf = 16 / bytes!;
  const products = arithmeticOf(cpu);
  const sums = arithmeticOf(cpu);
  const values: bigint[] = [];
  for (let i = 0; i < perHalf * halves!; i++) {
    const wanted = (control! >> (4 + (i % perHalf))) & 1;
    const [a, b] = [readLane(view, OPERAND_A, bytes!, i), readLane(view, OPERAND_B, bytes!, i)];
    values.push(wanted ? products.multiply(f, a, b) : 0n);
  }
  // The steps are separate operations: an unmasked exception of the products ends the instruction before any sum.
  const fault = settle(cpu, products.flags);
  if (fault) return fault;
  for (let half = 0; half < halves!; half++) {
    const v = values.slice(half * perHalf, (half + 1) * perHalf);
    const sum =
      perHalf === 2 ? sums.add(f, v[0]!, v[1]!) : sums.add(f, sums.add(f, v[0]!, v[1]!), sums.add(f, v[2]!, v[3]!));
    for (let i = 0; i < perHalf; i++)
      writeLane(view, RESULT, bytes!, half * perHalf + i, (control! >> i) & 1 ? sum : 0n);
  }
  return settle(cpu, sums.flags);
};

/** By name, for `Registry.helpers`. */
export const FLOATING_HELPERS: Readonly<Record<string, Helper>> = {
  "sse.add": binary("add"),
  "sse.sub": binary("sub"),
  "sse.mul": binary("mul"),
  "sse.div": binary("div"),
  "sse.min": binary("min"),
  "sse.max": binary("max"),
  "sse.sqrt": binary("sqrt"),
  "sse.addsub": binary("sub", "add"),
  "sse.compare": compare,
  "sse.compareFlags": compareFlags,
  "sse.round": roundLanes,
  "sse.dot": dot,
};
