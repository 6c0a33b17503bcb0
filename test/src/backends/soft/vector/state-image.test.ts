import { expect, test } from "bun:test";
import { Vector } from "../../../../../src/backends/soft/state.ts";
import { type Alone, Bench, OPERAND, OPERAND_AT } from "../oracle/alone.ts";
import { Image } from "../oracle/fpu-state.ts";

/** With [R14] as memory operand. What the host does with all of them is the oracle's to compare. */
const FXRSTOR64 = [0x49, 0x0f, 0xae, 0x0e];
const XSAVE = [0x41, 0x0f, 0xae, 0x26];
const XRSTOR = [0x41, 0x0f, 0xae, 0x2e];
const XSAVEC = [0x41, 0x0f, 0xc7, 0x26];
const XSAVEOPT = [0x41, 0x0f, 0xae, 0x36];
const LDMXCSR = [0x41, 0x0f, 0xae, 0x16];

const [RAX, RSI, R14] = [0, 6, 14];
const asking = (mask: bigint) => ({ [RAX]: mask, [R14]: OPERAND });
const memory = (bench: Bench, bytes: number) => bench.data.subarray(OPERAND_AT, OPERAND_AT + bytes);

test("XSAVE stores only what EDX:EAX asks for", () => {
  using bench = new Bench();
  memory(bench, 1024).fill(0xee);
  memory(bench, 576).fill(0, 512);
  const { image } = bench.run(XSAVE, { gpr: asking(4n), fpu: 6 });
  const saved = memory(bench, 832);
  expect(saved.subarray(0, 24).every((b) => b === 0xee)).toBe(true);
  expect(saved.subarray(160, 416).every((b) => b === 0xee)).toBe(true);
  expect(saved.subarray(Image.ymm)).toEqual(image.subarray(Image.ymm));
});

test("XRSTOR loads what XSAVE stored", () => {
  using bench = new Bench();
  memory(bench, 1024).fill(0);
  const { image } = bench.run(XSAVE, { gpr: asking(7n), fpu: 4 });
  expect(bench.run(XRSTOR, { gpr: asking(7n), fpu: 5 }).image).toEqual(image);
});

test.each([
  ["XSAVEC", XSAVEC, 0x8000_0000_0000_0007n],
  ["XSAVEOPT", XSAVEOPT, 0n],
] as const)("%s leaves out components in their initial state", (_, instruction, layout) => {
  using bench = new Bench();
  memory(bench, 1024).fill(0);
  const clearUpper: Alone["image"] = (image) => image.fill(0, Image.ymm);
  bench.run(instruction, { gpr: asking(7n), fpu: 7, image: clearUpper });
  const header = new DataView(bench.data.buffer, bench.data.byteOffset + OPERAND_AT + Image.xstateBv, 64);
  expect(header.getBigUint64(0, true)).toBe(3n);
  expect(header.getBigUint64(8, true)).toBe(layout);
});

test("XRSTOR refuses a header with reserved bits, with #GP", () => {
  using bench = new Bench();
  memory(bench, 1024).fill(0);
  memory(bench, 1024)[520] = 1;
  expect(bench.run(XRSTOR, { gpr: asking(7n) }).vector).toBe(Vector.GP);
});

test.each([
  ["FXRSTOR64", FXRSTOR64, Image.mxcsr],
  ["LDMXCSR", LDMXCSR, 0],
] as const)("%s refuses reserved bits of MXCSR, with #GP", (_, instruction, at) => {
  using bench = new Bench();
  memory(bench, 512).fill(0);
  new DataView(bench.data.buffer, bench.data.byteOffset + OPERAND_AT).setUint32(at, 0x11f80, true);
  expect(bench.run(instruction, { gpr: asking(7n) }).vector).toBe(Vector.GP);
});

test("images must be aligned: FXSAVE by 16 bytes, XSAVE by 64", () => {
  using bench = new Bench();
  const vector = (instruction: readonly number[], offset: bigint) =>
    bench.run(instruction, { gpr: { [RAX]: 7n, [R14]: OPERAND + offset } }).vector;
  memory(bench, 1024).fill(0);
  expect(vector([0x49, 0x0f, 0xae, 0x06], 8n)).toBe(Vector.GP);
  expect(vector([0x49, 0x0f, 0xae, 0x06], 16n)).toBe(-1);
  expect(vector(XSAVE, 32n)).toBe(Vector.GP);
});

test("outside 64-bit mode FXSAVE keeps to eight registers, and VZEROALL too", () => {
  using bench = new Bench();
  memory(bench, 512).fill(0xee);
  // [ESI]
  const { image } = bench.run([0x0f, 0xae, 0x06], { world: "32-bit", gpr: { [RSI]: OPERAND }, fpu: 10 });
  const saved = memory(bench, 512);
  expect(saved.subarray(288).every((b) => b === 0xee)).toBe(true);
  expect(saved.subarray(272, 288)).toEqual(image.subarray(272, 288));
  const after = bench.run([0xc5, 0xfc, 0x77], { world: "32-bit", fpu: 10 }).image;
  expect(after.subarray(160, 288).every((b) => b === 0)).toBe(true);
  expect(after.subarray(288, 416)).toEqual(image.subarray(288, 416));
  expect(after.subarray(Image.ymm + 128)).toEqual(image.subarray(Image.ymm + 128));
});
