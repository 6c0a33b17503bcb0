import { expect, test } from "bun:test";
import {
  compareStrings,
  explicitLength,
  implicitLength,
  stringMask,
} from "../../../../../src/backends/soft/vector/string-compare.ts";

const chars = (text: string) => Array.from({ length: 16 }, (_, i) => text.charCodeAt(i) || 0);
const compare = (a: string, b: string, control: number) =>
  compareStrings(chars(a), a.length, chars(b), b.length, control);

test("compareStrings() finds the first of a set", () => {
  expect(compare("xyz,", "alpha,beta", 0x00).index).toBe(5);
});

test("compareStrings() finds what lies outside ranges with negative polarity", () => {
  expect(compare("azAZ", "Hello World", 0x14).index).toBe(5);
});

test("compareStrings() finds a needle that the end of the string cuts off", () => {
  expect(compare("abc", `${".".repeat(14)}ab`, 0x0c).index).toBe(14);
});

test("compareStrings() tells equal strings by CF clear with negative polarity", () => {
  const equal = compare("same", "same", 0x18);
  expect([equal.index, equal.flags & 1]).toEqual([16, 0]);
  expect(compare("same", "sane", 0x18).index).toBe(2);
});

test("lengths stop at the first zero, or at what the registers say", () => {
  expect(implicitLength(chars("hello"))).toBe(5);
  expect(explicitLength(-3n, 16)).toBe(3);
  expect(explicitLength(1n << 40n, 16)).toBe(16);
});

test("stringMask() spreads bits over elements when asked", () => {
  const c = compare("b", "abab", 0x00);
  expect([...stringMask(c, 0x00).subarray(0, 2)]).toEqual([0b1010, 0]);
  expect([...stringMask(c, 0x40).subarray(0, 4)]).toEqual([0, 255, 0, 255]);
});
