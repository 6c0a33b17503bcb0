import { describe, expect, test } from "bun:test";
import { fromInteger80, load80, store80 } from "../../../../../src/backends/soft/x87/conversions.ts";
import type { Float80 } from "../../../../../src/backends/soft/x87/float80.ts";
import { atan80, cosine80, exp2m1, log2Times, sine80 } from "../../../../../src/backends/soft/x87/transcendental.ts";

const bits = new DataView(new ArrayBuffer(8));
function from(value: number): Float80 {
  bits.setFloat64(0, value);
  return load80(bits.getBigUint64(0), 8, 0x37f).value;
}
function to(value: Float80): number {
  bits.setBigUint64(0, store80(value, 8, 0x37f).bits);
  return bits.getFloat64(0);
}

describe("transcendental functions", () => {
  test("exp2m1() is exact at both ends of its range", () => {
    expect(to(exp2m1(from(1), 0x37f).value)).toBe(1);
    expect(to(exp2m1(from(-1), 0x37f).value)).toBe(-0.5);
  });
  test("log2Times() yields integers for powers of two", () => {
    expect(to(log2Times(from(1024), fromInteger80(3n), 0x37f).value)).toBe(30);
  });
  test("atan80() tells the quadrants apart", () => {
    for (const [y, x] of [
      [1, 2],
      [1, -2],
      [-1, 2],
      [-1, -2],
      [3, 1],
      [-3, -1],
    ] as const)
      expect(to(atan80(from(y), from(x), 0x37f).value)).toBe(Math.atan2(y, x));
  });
  test("sine80() and cosine80() refuse arguments of 2^63 and more", () => {
    expect(sine80(from(2 ** 63), 0x37f)).toBeUndefined();
    expect(cosine80(from(2 ** 63), 0x37f)).toBeUndefined();
    expect(sine80(from(2 ** 62), 0x37f)).toBeDefined();
  });
});
