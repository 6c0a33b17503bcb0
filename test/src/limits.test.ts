import { expect, test } from "bun:test";
import { checkLimits, deadlineOf } from "../../src/limits.ts";

test("checkLimits() takes nothing, zero, fractions and infinity", () => {
  checkLimits({});
  checkLimits({ timeoutMs: 0, maxExits: 0, maxInstructions: 0 });
  checkLimits({ timeoutMs: 0.5, maxExits: Number.POSITIVE_INFINITY });
});

for (const name of ["timeoutMs", "maxExits", "maxInstructions"] as const) {
  for (const value of [-1, -0.001, Number.NaN, Number.NEGATIVE_INFINITY]) {
    test(`checkLimits() refuses ${value} as ${name}, by name`, () => {
      expect(() => checkLimits({ [name]: value })).toThrow(RangeError);
      expect(() => checkLimits({ [name]: value })).toThrow(name);
    });
  }
}

test("deadlineOf() is undefined without a time limit or with an infinite one", () => {
  expect(deadlineOf({ maxExits: 1 })).toBeUndefined();
  expect(deadlineOf({ timeoutMs: Number.POSITIVE_INFINITY })).toBeUndefined();
});

test("deadlineOf() counts from now, on the clock of performance.now()", () => {
  const before = performance.now();
  const deadline = deadlineOf({ timeoutMs: 1000 }) as number;
  expect(deadline).toBeGreaterThanOrEqual(before + 1000);
  expect(deadline).toBeLessThanOrEqual(performance.now() + 1000);
});
