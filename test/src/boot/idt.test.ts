import { expect, test } from "bun:test";
import { buildIdt, buildIvt, interruptGate } from "../../../src/boot/index.ts";

test("buildIdt() places each gate at its vector, 8 bytes apart, 16 in long mode", () => {
  const gate32 = interruptGate({ bits: 32, selector: 8, offset: 0x1000 });
  const idt32 = buildIdt({ 3: gate32 }, { bits: 32 });
  expect(idt32.bytes.length).toBe(2048);
  expect(idt32.bytes.subarray(24, 32)).toEqual(gate32);
  const gate64 = interruptGate({ bits: 64, selector: 8, offset: 0x1000 });
  const idt64 = buildIdt({ 255: gate64 }, { bits: 64 });
  expect(idt64.at(0x9000)).toEqual({ base: 0x9000n, limit: 4095 });
  expect(idt64.bytes.subarray(255 * 16)).toEqual(gate64);
});

test("buildIdt() refuses a vector outside the table and a gate of the other width", () => {
  const gate = interruptGate({ bits: 32, selector: 8, offset: 0 });
  expect(() => buildIdt({ 32: gate }, { bits: 32, vectors: 32 })).toThrow("0 to 31");
  expect(() => buildIdt({ 0: gate }, { bits: 64 })).toThrow("8 bytes");
});

test("buildIvt() writes offset then segment", () => {
  const ivt = buildIvt({ 16: { segment: 0xf000, offset: 0x1234 } });
  expect(ivt.bytes.length).toBe(1024);
  expect([...ivt.bytes.subarray(0x40, 0x44)]).toEqual([0x34, 0x12, 0x00, 0xf0]);
});
