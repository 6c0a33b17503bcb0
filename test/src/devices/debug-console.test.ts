import { expect, test } from "bun:test";
import { Bus } from "../../../src/bus.ts";
import { DebugConsole } from "../../../src/devices/debug-console.ts";

test("DebugConsole hands on each byte, also those of a string instruction, and reads back 0xe9", () => {
  const bus = new Bus("pio");
  const bytes: number[] = [];
  bus.map(0xe9, 1, new DebugConsole({ onByte: (byte) => bytes.push(byte) }));
  bus.write(0xe9, Uint8Array.of(0x41));
  bus.write(0xe9, Uint8Array.of(0x42, 0x43), 1);
  expect(bytes).toEqual([0x41, 0x42, 0x43]);
  const data = new Uint8Array(2);
  bus.read(0xe9, data);
  expect(data).toEqual(Uint8Array.of(0xe9, 0xff));
});

test("DebugConsole takes only the first byte of a wide access, as its port is 8 bits wide", () => {
  const bytes: number[] = [];
  new DebugConsole({ onByte: (byte) => bytes.push(byte) }).write(0, Uint8Array.of(1, 2, 3, 4));
  expect(bytes).toEqual([1]);
});
