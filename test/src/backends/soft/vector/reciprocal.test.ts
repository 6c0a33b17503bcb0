import { expect, test } from "bun:test";
import type { Helper, HelperCpu } from "../../../../../src/backends/soft/translate/context.ts";
import { CONVERSION_HELPERS } from "../../../../../src/backends/soft/vector/conversion-helpers.ts";
import { OPERAND_B, RESULT } from "../../../../../src/backends/soft/vector/floating-helpers.ts";

/** RCPSS of binary32 bits. */
function rcp(bits: number): number {
  const view = new DataView(new ArrayBuffer(Math.max(OPERAND_B, RESULT) + 64));
  view.setUint32(OPERAND_B, bits, true);
  (CONVERSION_HELPERS["sse.rcp"] as Helper)({ view } as unknown as HelperCpu, 4, 1);
  return view.getUint32(RESULT, true);
}

test("RCPSS gives zero of the operand's sign from 2^126 up, as AMD's processors do", () => {
  expect([0x7e800000, 0xfe800000, 0x7f7fffff, 0xff7fffff].map(rcp)).toEqual([0, 0x80000000, 0, 0x80000000]);
  expect(rcp(0x7e7ff000)).toBeGreaterThan(0x00800000);
});

test("RCPSS of a denormal is infinity, of zero too, and of infinity zero", () => {
  expect([0x00000001, 0x80400000, 0, 0x80000000].map(rcp)).toEqual([0x7f800000, 0xff800000, 0x7f800000, 0xff800000]);
  expect([0x7f800000, 0xff800000].map(rcp)).toEqual([0, 0x80000000]);
});
