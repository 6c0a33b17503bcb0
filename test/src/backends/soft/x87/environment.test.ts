import { describe, expect, test } from "bun:test";
import { State } from "../../../../../src/backends/soft/state.ts";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { loadEnvironment, storeEnvironment } from "../../../../../src/backends/soft/x87/environment.ts";
import { registerX87 } from "../../../../../src/backends/soft/x87/register.ts";
import { X87State } from "../../../../../src/backends/soft/x87/state.ts";
import { MEMORY, NativeOracle, unavailable } from "../vector/oracle/native.ts";
import { Random } from "../vector/oracle/random.ts";
import { GUEST, StraightRunner } from "../vector/oracle/straight.ts";
import { randomCase, runNative, runSoft, type X87Case } from "./lockstep.ts";

const missing = unavailable();
const suffix = missing ? ` (skipped: ${missing})` : "";

/** With [R14] as memory operand. */
const FNSTENV = [0x41, 0xd9, 0x36];
const FLDENV = [0x41, 0xd9, 0x26];
const FNSAVE = [0x41, 0xdd, 0x36];
const FRSTOR = [0x41, 0xdd, 0x26];
/** 14 bytes, by an operand size prefix. */
const FNSTENV16 = [0x66, 0x41, 0xd9, 0x36];

function bench() {
  const registry = createRegistry();
  registerX87(registry);
  return new StraightRunner(registry);
}

/** Without the instruction and data pointers, of which processors keep more or less. */
function withoutPointers(image: Uint8Array, bytes: 14 | 28): string {
  const copy = image.slice();
  copy.fill(0, bytes === 28 ? 12 : 6, bytes);
  return Buffer.from(copy).toString("hex");
}

/** The image as the case's memory operand, longer than the lockstep's 16 bytes. */
function withMemory(c: X87Case, image: Uint8Array): X87Case {
  return { ...c, memory: image };
}

describe.skipIf(missing !== undefined)(`x87 environments against the host${suffix}`, () => {
  const host = missing === undefined ? new NativeOracle() : undefined;

  test.each([
    ["FNSTENV", FNSTENV, 28, 28],
    ["FNSTENV of 14 bytes", FNSTENV16, 14, 14],
    ["FNSAVE", FNSAVE, 28, 108],
  ] as const)("%s writes what the host writes, and leaves the same state", (_, instruction, bytes, length) => {
    const soft = bench();
    const run = soft.translate(new Uint8Array(instruction))!;
    const random = new Random(11);
    for (let i = 0; i < 50; i++) {
      const c = randomCase(random, 0);
      const a = runNative(host!, c, new Uint8Array(instruction));
      const b = runSoft(soft, c, run);
      expect({ ...b, memory: "" }).toEqual({ ...a, memory: "" });
      const [x, y] = [host!.block.slice(MEMORY, MEMORY + length), soft.bytes.slice(GUEST, GUEST + length)];
      expect(withoutPointers(y, bytes)).toBe(withoutPointers(x, bytes));
    }
  });

  test.each([
    ["FLDENV", FLDENV, 28],
    ["FRSTOR", FRSTOR, 108],
  ] as const)("%s loads what the host loads", (_, instruction, length) => {
    const soft = bench();
    const run = soft.translate(new Uint8Array(instruction))!;
    const random = new Random(12);
    for (let i = 0; i < 50; i++) {
      const c = randomCase(random, 0);
      const image = new Uint8Array(length).map(() => random.below(256));
      const view = new DataView(image.buffer);
      view.setUint32(0, 0x37f | (random.below(4) << 10), true);
      // A pending exception would be raised by the stub, not by the instruction.
      view.setUint16(4, random.u32() & 0x7f3f, true);
      const a = runNative(host!, withMemory(c, image), new Uint8Array(instruction));
      const b = runSoft(soft, withMemory(c, image), run);
      expect({ ...b, memory: "" }).toEqual({ ...a, memory: "" });
    }
  });
});

describe("x87 environments", () => {
  const formats = [
    { bytes: 14, real: false },
    { bytes: 14, real: true },
    { bytes: 28, real: false },
    { bytes: 28, real: true },
  ] as const;

  test.each(formats)("storeEnvironment() and loadEnvironment() are inverse: $bytes bytes, real $real", (format) => {
    const view = new DataView(new ArrayBuffer(State.size));
    const s = new X87State(view);
    s.control = 0x27f;
    s.status = 0x3800;
    s.tags = 0x81;
    view.setBigUint64(State.fip, format.bytes === 14 ? 0x1234n : 0x12345678n, true);
    view.setBigUint64(State.fdp, format.bytes === 14 ? 0x4321n : 0x0bcd4321n, true);
    if (!format.real) view.setUint32(State.fipSelector, 0x33, true);
    if (format.real || format.bytes === 28) view.setUint32(State.fop, 0x5c1, true);
    const image = storeEnvironment(view, format);
    expect(image.length).toBe(format.bytes);
    const other = new DataView(new ArrayBuffer(State.size));
    loadEnvironment(other, image, format);
    expect(storeEnvironment(other, format)).toEqual(image);
    expect(other.getBigUint64(State.fip, true)).toBe(view.getBigUint64(State.fip, true));
    expect(new X87State(other).tags).toBe(0x81);
  });

  test("storeEnvironment() joins selector and offset in the real-mode format", () => {
    const view = new DataView(new ArrayBuffer(State.size));
    view.setUint32(State.fipSelector, 0xf000, true);
    view.setBigUint64(State.fip, 0x1234n, true);
    const image = new DataView(storeEnvironment(view, { bytes: 14, real: true }).buffer);
    expect([image.getUint16(6, true), image.getUint16(8, true)]).toEqual([0x1234, 0xf000]);
  });
});
