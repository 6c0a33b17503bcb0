import { Code } from "../wasm/code.ts";
import { Op, type OpCode, Type, Wide } from "../wasm/opcodes.ts";
import { buildKernels, type KernelSpec } from "./kernel-module.ts";

/**
 * Significand arithmetic in WebAssembly, for operands that are normal numbers: 64-bit significands come as halves, the
 * rounded one goes to `result`. JavaScript has no 64-bit integers but BigInt, which costs 260 to 430 ns an operation here
 * against about 40 ns this way (Bun 1.4.5).
 *
 * `drop` is the number of low bits that precision control takes off: 0, 11 or 40. Rounding is to nearest. The status that
 * each returns has the exponent's change in its low byte (biased by 128), INEXACT and UP above.
 */
export interface Kernels {
  /** a + b × 2^-d for 0 ≤ d ≤ 126. */
  add(aHigh: number, aLow: number, bHigh: number, bLow: number, d: number, drop: number): number;
  /** a - b × 2^-d, which must be positive. */
  subtract(aHigh: number, aLow: number, bHigh: number, bLow: number, d: number, drop: number): number;
  multiply(aHigh: number, aLow: number, bHigh: number, bLow: number, d: number, drop: number): number;
  divide(aHigh: number, aLow: number, bHigh: number, bLow: number, d: number, drop: number): number;
  /** The last result: low half, high half. */
  readonly result: Uint32Array;
}

export const INEXACT = 0x100;
export const UP = 0x200;
/** Exponent change 0. */
export const BIAS = 128;

type Push = () => void;

/** Writes one kernel: expressions are functions that push their value. */
class Writer {
  readonly code = new Code(6);
  readonly a = this.code.local(Type.i64);
  readonly b = this.code.local(Type.i64);
  /** The 128-bit intermediate: what the result is cut from, and what lies below. */
  readonly high = this.code.local(Type.i64);
  readonly low = this.code.local(Type.i64);
  /** Exponent change. */
  readonly change = this.code.local(Type.i64);
  readonly d = this.code.local(Type.i64);
  readonly drop = this.code.local(Type.i64);
  readonly t = this.code.local(Type.i64);

  constructor() {
    const join = (high: number, low: number) => this.or(this.shl(this.extend(high), this.number(32)), this.extend(low));
    this.set(this.a, join(0, 1));
    this.set(this.b, join(2, 3));
    this.set(this.d, this.extend(4));
    this.set(this.drop, this.extend(5));
  }

  extend(parameter: number): Push {
    return () => {
      this.code.get(parameter);
      this.code.op(Op.i64_extend_i32_u);
    };
  }
  get(local: number): Push {
    return () => this.code.get(local);
  }
  number(value: bigint | number): Push {
    return () => this.code.i64(value);
  }
  binary(op: OpCode, x: Push, y: Push): Push {
    return () => {
      x();
      y();
      this.code.op(op);
    };
  }
  or = (x: Push, y: Push) => this.binary(Op.i64_or, x, y);
  and = (x: Push, y: Push) => this.binary(Op.i64_and, x, y);
  plus = (x: Push, y: Push) => this.binary(Op.i64_add, x, y);
  minus = (x: Push, y: Push) => this.binary(Op.i64_sub, x, y);
  times = (x: Push, y: Push) => this.binary(Op.i64_mul, x, y);
  over = (x: Push, y: Push) => this.binary(Op.i64_div_u, x, y);
  shl = (x: Push, y: Push) => this.binary(Op.i64_shl, x, y);
  shr = (x: Push, y: Push) => this.binary(Op.i64_shr_u, x, y);
  /** A comparison as an i64 of 0 or 1. */
  test(op: OpCode, x: Push, y: Push): Push {
    return () => {
      this.binary(op, x, y)();
      this.code.op(Op.i64_extend_i32_u);
    };
  }
  /** The i32 condition `x op y`. */
  compare(op: OpCode, x: Push, y: Push): Push {
    return this.binary(op, x, y);
  }
  nonZero(x: Push): Push {
    return this.test(Op.i64_ne, x, this.number(0));
  }
  set(local: number, x: Push): void {
    x();
    this.code.set(local);
  }
  when(condition: Push, then: () => void, otherwise?: () => void): void {
    condition();
    this.code.if();
    then();
    if (otherwise) {
      this.code.else();
      otherwise();
    }
    this.code.end();
  }

  /** Rounds high:low to nearest at bit `drop`, stores it and leaves the status as the function's result. */
  round(): void {
    const { high, low, drop, change, t } = this;
    const g = (local: number) => this.get(local);
    this.when(this.compare(Op.i64_ne, g(drop), this.number(0)), () => {
      this.set(low, this.or(this.shl(g(high), this.minus(this.number(64), g(drop))), this.nonZero(g(low))));
      this.set(high, this.shl(this.shr(g(high), g(drop)), g(drop)));
    });
    const half = this.number(0x8000_0000_0000_0000n);
    // t: 1 when rounded up.
    this.set(
      t,
      this.or(
        this.test(Op.i64_gt_u, g(low), half),
        this.and(this.test(Op.i64_eq, g(low), half), this.and(this.shr(g(high), g(drop)), this.number(1))),
      ),
    );
    this.set(high, this.plus(g(high), this.shl(g(t), g(drop))));
    this.when(this.compare(Op.i64_eq, g(high), this.number(0)), () => {
      this.set(high, half);
      this.set(change, this.plus(g(change), this.number(1)));
    });
    this.code.i32(0);
    this.code.get(high);
    this.code.mem(0x37, 0); // i64.store
    this.plus(
      this.plus(g(change), this.number(BIAS)),
      this.plus(this.times(this.nonZero(g(low)), this.number(INEXACT)), this.times(g(t), this.number(UP))),
    )();
    this.code.op(Op.i32_wrap_i64);
  }

  /** Shifts b right by d into high:low, what falls off the end collected in the lowest bit. */
  align(): void {
    const { b, d, high, low } = this;
    const g = (local: number) => this.get(local);
    const back = this.minus(this.number(64), g(d));
    this.when(
      this.compare(Op.i64_eq, g(d), this.number(0)),
      () => {
        this.set(high, g(b));
        this.set(low, this.number(0));
      },
      () =>
        this.when(
          this.compare(Op.i64_lt_u, g(d), this.number(64)),
          () => {
            this.set(high, this.shr(g(b), g(d)));
            this.set(low, this.shl(g(b), back));
          },
          () => {
            // WebAssembly shifts by d mod 64, so 64 itself needs no case: b, and b << 0 must not count as lost.
            this.set(high, this.number(0));
            this.set(
              low,
              this.or(
                this.shr(g(b), g(d)),
                this.and(this.nonZero(this.shl(g(b), back)), this.test(Op.i64_gt_u, g(d), this.number(64))),
              ),
            );
          },
        ),
    );
  }
}

function addKernel(): Code {
  const w = new Writer();
  const g = (local: number) => w.get(local);
  w.align();
  w.set(w.high, w.plus(w.get(w.a), g(w.high)));
  w.when(w.compare(Op.i64_lt_u, g(w.high), g(w.a)), () => {
    w.set(
      w.low,
      w.or(w.or(w.shl(g(w.high), w.number(63)), w.shr(g(w.low), w.number(1))), w.and(g(w.low), w.number(1))),
    );
    w.set(w.high, w.or(w.shr(g(w.high), w.number(1)), w.number(0x8000_0000_0000_0000n)));
    w.set(w.change, w.number(1));
  });
  w.round();
  return w.code;
}

function subtractKernel(): Code {
  const w = new Writer();
  const g = (local: number) => w.get(local);
  w.align();
  w.set(w.high, w.minus(w.minus(g(w.a), g(w.high)), w.nonZero(g(w.low))));
  w.set(w.low, w.minus(w.number(0), g(w.low)));
  w.when(w.compare(Op.i64_eq, g(w.high), w.number(0)), () => {
    w.set(w.high, g(w.low));
    w.set(w.low, w.number(0));
    w.set(w.change, w.number(-64));
  });
  w.set(w.t, () => {
    w.code.get(w.high);
    w.code.op(Op.i64_clz);
  });
  w.when(w.compare(Op.i64_ne, g(w.t), w.number(0)), () => {
    w.set(w.high, w.or(w.shl(g(w.high), g(w.t)), w.shr(g(w.low), w.minus(w.number(64), g(w.t)))));
    w.set(w.low, w.shl(g(w.low), g(w.t)));
    w.set(w.change, w.minus(g(w.change), g(w.t)));
  });
  w.round();
  return w.code;
}

function multiplyKernel(): Code {
  const w = new Writer();
  const g = (local: number) => w.get(local);
  w.code.get(w.a);
  w.code.get(w.b);
  w.code.wide(Wide.i64_mul_wide_u);
  w.code.set(w.high);
  w.code.set(w.low);
  w.set(w.change, w.number(1));
  w.when(w.compare(Op.i64_ge_s, g(w.high), w.number(0)), () => {
    w.set(w.high, w.or(w.shl(g(w.high), w.number(1)), w.shr(g(w.low), w.number(63))));
    w.set(w.low, w.shl(g(w.low), w.number(1)));
    w.set(w.change, w.number(0));
  });
  w.round();
  return w.code;
}

/** 128 by 64 bits in two steps of 32 (Knuth, algorithm D; the divisor's top bit is set). */
function divideKernel(): Code {
  const w = new Writer();
  const g = (local: number) => w.get(local);
  const next = w.code.local(Type.i64);
  const digit = w.code.local(Type.i64);
  const rest = w.code.local(Type.i64);
  const lower32 = (x: Push) => w.and(x, w.number(0xffff_ffffn));
  const upper32 = (x: Push) => w.shr(x, w.number(32));
  const divisorTop = upper32(g(w.b));
  w.set(w.high, g(w.a));
  w.set(w.low, w.number(0));
  w.set(w.change, w.number(-1));
  w.when(w.compare(Op.i64_ge_u, g(w.a), g(w.b)), () => {
    w.set(w.low, w.shl(g(w.a), w.number(63)));
    w.set(w.high, w.shr(g(w.a), w.number(1)));
    w.set(w.change, w.number(0));
  });
  /** digit = high / b with the next 32 bits of the dividend; high becomes the remainder. */
  const step = () => {
    w.set(digit, w.over(g(w.high), divisorTop));
    w.set(rest, w.minus(g(w.high), w.times(g(digit), divisorTop)));
    const done = w.code.block();
    const again = w.code.loop();
    w.when(
      w.compare(
        Op.i64_eq,
        w.or(
          w.nonZero(upper32(g(digit))),
          w.test(Op.i64_gt_u, w.times(g(digit), lower32(g(w.b))), w.or(w.shl(g(rest), w.number(32)), g(next))),
        ),
        w.number(0),
      ),
      () => w.code.br(done),
    );
    w.set(digit, w.minus(g(digit), w.number(1)));
    w.set(rest, w.plus(g(rest), divisorTop));
    w.compare(Op.i64_eq, upper32(g(rest)), w.number(0))();
    w.code.brIf(again);
    w.code.end();
    w.code.end();
    w.set(w.high, w.minus(w.or(w.shl(g(w.high), w.number(32)), g(next)), w.times(g(digit), g(w.b))));
  };
  w.set(next, upper32(g(w.low)));
  step();
  w.set(w.t, w.shl(g(digit), w.number(32)));
  w.set(next, lower32(g(w.low)));
  step();
  w.set(w.t, w.or(g(w.t), g(digit)));
  // What is left, as bits below the quotient: above, at or below one half, or nothing.
  const remainder = g(w.high);
  const other = w.minus(g(w.b), remainder);
  w.set(
    w.low,
    w.plus(
      w.nonZero(remainder),
      w.plus(
        w.times(w.test(Op.i64_ge_u, remainder, other), w.number(0x7fff_ffff_ffff_ffffn)),
        w.test(Op.i64_gt_u, remainder, other),
      ),
    ),
  );
  w.set(w.high, g(w.t));
  w.round();
  return w.code;
}

let kernels: Kernels | undefined;

/** Compiled at the first use. */
export function arithmeticKernels(): Kernels {
  const specs: KernelSpec[] = [
    { name: "add", code: addKernel },
    { name: "subtract", code: subtractKernel },
    { name: "multiply", code: multiplyKernel },
    { name: "divide", code: divideKernel },
  ];
  kernels ??= buildKernels(specs) as unknown as Kernels;
  return kernels;
}
