import { describe, expect, test } from "bun:test";
import {
  DOUBLE,
  HALF,
  type Ieee,
  kindOf,
  SINGLE,
  SseArithmetic,
} from "../../../../../src/backends/soft/vector/ieee.ts";
import { double, Random, single } from "../oracle/random.ts";

const DEFAULT = 0x1f80;
const INEXACT = 0x20;
const view = new DataView(new ArrayBuffer(8));

function toNumber(f: Ieee, bits: bigint): number {
  if (f === SINGLE) {
    view.setUint32(0, Number(bits));
    return view.getFloat32(0);
  }
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

/** A NaN has many encodings and -0 is not 0: numbers compare by Object.is. */
function same(x: number, y: number): boolean {
  return Object.is(x, y);
}

type Operation = "add" | "subtract" | "multiply" | "divide";
const NUMBERS: Record<Operation, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

describe("SseArithmetic", () => {
  test.each(["add", "subtract", "multiply", "divide"] as const)(
    "%s() agrees with JavaScript in both formats",
    (operation) => {
      const r = new Random(21);
      for (let i = 0; i < 4000; i++) {
        const f = i & 1 ? SINGLE : DOUBLE;
        const [a, b] = f === SINGLE ? [BigInt(single(r)), BigInt(single(r))] : [double(r), double(r)];
        const exact = NUMBERS[operation](toNumber(f, a), toNumber(f, b));
        const expected = f === SINGLE ? Math.fround(exact) : exact;
        const actual = toNumber(f, new SseArithmetic(DEFAULT)[operation](f, a, b));
        if (!same(actual, expected))
          expect(`${operation} ${a.toString(16)} ${b.toString(16)}: ${actual}`).toBe(`${expected}`);
      }
    },
  );

  test("squareRoot() agrees with JavaScript", () => {
    const r = new Random(22);
    for (let i = 0; i < 2000; i++) {
      const a = double(r);
      expect(
        same(toNumber(DOUBLE, new SseArithmetic(DEFAULT).squareRoot(DOUBLE, a)), Math.sqrt(toNumber(DOUBLE, a))),
      ).toBe(true);
    }
  });

  test("fused() rounds once where multiply and add round twice", () => {
    const s = new SseArithmetic(DEFAULT);
    // (1 + 2^-52)² - (1 + 2^-51) is 2^-104.
    const a = 0x3ff0_0000_0000_0001n;
    expect(toNumber(DOUBLE, s.fused(DOUBLE, [a, a, 0xbff0_0000_0000_0002n], 0))).toBe(2 ** -104);
    expect(s.flags).toBe(0);
  });

  test("the four rounding modes bracket an inexact quotient", () => {
    const third = (rc: number) => {
      const s = new SseArithmetic(DEFAULT | (rc << 13));
      const bits = s.divide(DOUBLE, 0x3ff0_0000_0000_0000n, 0x4008_0000_0000_0000n);
      expect(s.flags).toBe(INEXACT);
      return bits;
    };
    expect([0, 1, 2, 3].map(third)).toEqual([
      0x3fd5_5555_5555_5555n,
      0x3fd5_5555_5555_5555n,
      0x3fd5_5555_5555_5556n,
      0x3fd5_5555_5555_5555n,
    ]);
  });

  test("DAZ and FTZ make zeros of denormal operands and results", () => {
    const tiny = 1n;
    const flushed = new SseArithmetic(DEFAULT | 0x40);
    expect(flushed.add(DOUBLE, tiny, 0n)).toBe(0n);
    expect(flushed.flags).toBe(0);
    const smallest = 0x0010_0000_0000_0000n;
    const half = 0x3fe0_0000_0000_0000n;
    const s = new SseArithmetic(DEFAULT | 0x8000);
    expect(s.multiply(DOUBLE, smallest, half)).toBe(0n);
    expect(s.flags).toBe(0x30);
  });

  test("toHalf() and fromHalf() keep halves but make NaNs quiet", () => {
    const changed: bigint[] = [];
    for (let bits = 0n; bits < 0x10000n; bits += 7n) {
      const s = new SseArithmetic(DEFAULT);
      const expected = kindOf(bits, HALF) === "signaling" ? bits | 0x200n : bits;
      if (s.toHalf(s.fromHalf(bits), 0) !== expected) changed.push(bits);
    }
    expect(changed).toEqual([]);
  });
});
