import { expect, test } from "bun:test";
import { add, binaryOperators, isSignedByte, multiply, subtract, toBig, writeInt } from "../../../src/asm/integer.ts";

const SAMPLES = [
  0,
  1,
  -1,
  5,
  -5,
  127,
  128,
  -128,
  255,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 53 - 1,
  1 - 2 ** 53,
  2n ** 62n,
  -(2n ** 63n),
  2n ** 63n - 1n,
];

test("add(), subtract() and multiply() wrap to 64 bits whatever the representation", () => {
  for (const a of SAMPLES) {
    for (const b of SAMPLES) {
      expect(toBig(add(a, b))).toBe(BigInt.asIntN(64, BigInt(a) + BigInt(b)));
      expect(toBig(subtract(a, b))).toBe(BigInt.asIntN(64, BigInt(a) - BigInt(b)));
      expect(toBig(multiply(a, b))).toBe(BigInt.asIntN(64, BigInt(a) * BigInt(b)));
    }
  }
});

test("binaryOperators give a number whenever the result is exact as one", () => {
  for (const [name, operate] of Object.entries(binaryOperators)) {
    for (const a of SAMPLES) {
      for (const b of SAMPLES) {
        if (b === 0 && /[/%]/.test(name)) continue;
        const result = operate(a, b);
        const small = result >= -(2n ** 53n) + 1n && result <= 2n ** 53n - 1n;
        expect(`${a} ${name} ${b}: ${typeof result}`).toBe(`${a} ${name} ${b}: ${small ? "number" : "bigint"}`);
        expect(Object.is(result, -0)).toBe(false);
      }
    }
  }
});

test("isSignedByte() looks at no more bits than the operand has", () => {
  expect([0xffff, 0xff80, 0x80, 0x10005].map((value) => isSignedByte(value, 16))).toEqual([true, true, false, true]);
  expect([0xffff, 0xffffff80, -129].map((value) => isSignedByte(value, 32))).toEqual([false, true, false]);
});

test("writeInt() writes little-endian and extends the sign beyond 32 bits", () => {
  for (const value of SAMPLES) {
    const bytes = new Uint8Array(8);
    writeInt(value, bytes, 0, 8);
    expect(new DataView(bytes.buffer).getBigInt64(0, true)).toBe(BigInt.asIntN(64, BigInt(value)));
  }
});
