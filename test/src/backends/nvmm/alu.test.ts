import { expect, test } from "bun:test";
import * as alu from "../../../../src/backends/nvmm/alu.ts";

const STATUS = alu.CF | alu.PF | alu.AF | alu.ZF | alu.SF | alu.OF;

/** Values from the manuals' own examples and the corners of each size; flags as a processor gives them. */
test.each([
  ["add", 8, 0xffn, 1n, 0n, 0n, alu.CF | alu.PF | alu.AF | alu.ZF],
  ["add", 32, 0x7fffffffn, 1n, 0n, 0x80000000n, alu.OF | alu.SF | alu.AF | alu.PF],
  ["adc", 64, 0xffffffffffffffffn, 0n, alu.CF, 0n, alu.CF | alu.PF | alu.AF | alu.ZF],
  ["sub", 16, 0n, 1n, 0n, 0xffffn, alu.CF | alu.PF | alu.AF | alu.SF],
  ["sbb", 8, 0x80n, 0n, alu.CF, 0x7fn, alu.OF | alu.AF],
  ["and", 8, 0xf0n, 0x8fn, alu.CF | alu.OF, 0x80n, alu.SF],
  ["or", 32, 0n, 0n, alu.CF, 0n, alu.PF | alu.ZF],
  ["xor", 16, 0xffffn, 0xff00n, 0n, 0xffn, alu.PF],
  ["inc", 8, 0x7fn, 0n, alu.CF, 0x80n, alu.CF | alu.OF | alu.SF | alu.AF],
  ["dec", 8, 0n, 0n, 0n, 0xffn, alu.SF | alu.PF | alu.AF],
  ["neg", 8, 0x80n, 0n, 0n, 0x80n, alu.CF | alu.OF | alu.SF],
  ["not", 8, 0x0fn, 0n, alu.CF, 0xf0n, alu.CF],
  ["shl", 8, 0x81n, 1n, 0n, 0x02n, alu.CF | alu.OF],
  ["shl", 8, 0x81n, 32n, alu.ZF, 0x81n, alu.ZF],
  ["shr", 8, 0x81n, 1n, 0n, 0x40n, alu.CF | alu.OF],
  ["sar", 8, 0x81n, 1n, 0n, 0xc0n, alu.CF | alu.SF | alu.PF],
  ["rol", 8, 0x81n, 1n, alu.ZF, 0x03n, alu.ZF | alu.CF | alu.OF],
  ["ror", 16, 0x8001n, 1n, 0n, 0xc000n, alu.CF],
  ["imul", 16, 0x7fffn, 2n, 0n, 0xfffen, alu.CF | alu.OF],
  ["imul", 32, 0xffffffffn, 7n, alu.CF, 0xfffffff9n, 0n],
  ["bts", 32, 0n, 33n, 0n, 2n, 0n],
  ["btr", 32, 2n, 1n, 0n, 0n, alu.CF],
] as const)("%s of %d bits: 0x%s and 0x%s", (name, bits, a, b, before, value, flags) => {
  const operations: Readonly<Record<string, alu.AluOperation>> = alu as never;
  const result = (operations[name] as alu.AluOperation)(a, b, bits, before | 2n);
  expect(result.value).toBe(value);
  expect(result.rflags & STATUS).toBe(flags);
  expect(result.rflags & 2n).toBe(2n);
});
