import { describe, expect, test } from "bun:test";
import { State, Vector } from "../../../../../src/backends/soft/state.ts";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { registerVector } from "../../../../../src/backends/soft/vector/register.ts";
import { differences, randomCase, runNative, runSoft, type VectorCase } from "./lockstep.ts";
import { MEMORY, NativeOracle, unavailable } from "./oracle/native.ts";
import { Random } from "./oracle/random.ts";
import { GUEST, StraightRunner } from "./oracle/straight.ts";

const missing = unavailable();
const suffix = missing ? ` (skipped: ${missing})` : "";

/** With [R14] as memory operand. */
const FXSAVE = [0x41, 0x0f, 0xae, 0x06];
const FXSAVE64 = [0x49, 0x0f, 0xae, 0x06];
const FXRSTOR64 = [0x49, 0x0f, 0xae, 0x0e];
const XSAVE = [0x41, 0x0f, 0xae, 0x26];
const XRSTOR = [0x41, 0x0f, 0xae, 0x2e];
const XSAVEC = [0x41, 0x0f, 0xc7, 0x26];
const XSAVEOPT = [0x41, 0x0f, 0xae, 0x36];
const LDMXCSR = [0x41, 0x0f, 0xae, 0x16];

function bench() {
  const registry = createRegistry();
  registerVector(registry);
  return new StraightRunner(registry);
}

function runner(instruction: readonly number[]) {
  const soft = bench();
  return { soft, run: soft.translate(new Uint8Array(instruction))! };
}

function caseWith(random: Random, mask: bigint): VectorCase {
  const c = randomCase(random, "default");
  c.gpr[0] = mask;
  c.gpr[2] = 0n;
  return c;
}

function guest(soft: StraightRunner, bytes: number): Uint8Array {
  return soft.bytes.subarray(GUEST, GUEST + bytes);
}

/** Error pointers are only sometimes saved by some processors; bytes 464 on are the software's. */
function comparable(image: Uint8Array): string {
  const copy = image.slice(0, 416);
  copy.fill(0, 6, 24);
  copy.fill(0, 28, 32);
  return Buffer.from(copy).toString("hex");
}

describe.skipIf(missing !== undefined)(`state images against the host${suffix}`, () => {
  const host = missing === undefined ? new NativeOracle() : undefined;

  test.each([
    ["FXSAVE", FXSAVE],
    ["FXSAVE64", FXSAVE64],
  ])("%s writes what the host writes", (_, instruction) => {
    const { soft, run } = runner(instruction);
    const random = new Random(3);
    for (let i = 0; i < 20; i++) {
      const c = randomCase(random, "default");
      runNative(host!, c, new Uint8Array(instruction));
      runSoft(soft, c, run);
      expect(comparable(guest(soft, 512))).toBe(comparable(host!.block.slice(MEMORY, MEMORY + 512)));
    }
  });

  test("XRSTOR of the host's XSAVE image loads the same state, and the other way round", () => {
    const { soft, run: xsave } = runner(XSAVE);
    const xrstor = soft.translate(new Uint8Array(XRSTOR))!;
    const random = new Random(4);
    for (let i = 0; i < 20; i++) {
      const saved = caseWith(random, 7n);
      const other = caseWith(random, 7n);
      host!.block.fill(0, MEMORY, MEMORY + 1024);
      guest(soft, 1024).fill(0);
      runNative(host!, saved, new Uint8Array(XSAVE));
      runSoft(soft, saved, xsave);
      const [fromHost, fromSoft] = [host!.block.slice(MEMORY, MEMORY + 832), guest(soft, 832).slice()];
      // Operands are written at the start of the memory, so each image goes in as the case's memory.
      const restore = (image: Uint8Array) => ({ ...other, memory: image });
      const a = runNative(host!, restore(fromSoft), new Uint8Array(XRSTOR));
      const b = runSoft(soft, restore(fromHost), xrstor);
      expect(differences(a, { ...b, memory: a.memory })).toEqual([]);
    }
  });
});

describe("state images", () => {
  test("XSAVE stores only what EDX:EAX asks for", () => {
    const { soft, run } = runner(XSAVE);
    guest(soft, 1024).fill(0xee);
    const c = caseWith(new Random(6), 4n);
    c.memory = new Uint8Array(0);
    runSoft(soft, c, run);
    const image = guest(soft, 832);
    expect(image.subarray(0, 24).every((b) => b === 0xee)).toBe(true);
    expect(image.subarray(160, 416).every((b) => b === 0xee)).toBe(true);
    expect(Buffer.from(image.subarray(576, 592)).toString("hex")).toBe(
      Buffer.from(c.ymm.subarray(16, 32)).toString("hex"),
    );
  });

  test.each([
    ["XSAVEC", XSAVEC, 0x8000_0000_0000_0007n],
    ["XSAVEOPT", XSAVEOPT, 0n],
  ] as const)("%s leaves out components in their initial state", (_, instruction, layout) => {
    const { soft, run } = runner(instruction);
    guest(soft, 1024).fill(0);
    const c = caseWith(new Random(7), 7n);
    for (let i = 0; i < 16; i++) c.ymm.fill(0, 32 * i + 16, 32 * i + 32);
    c.memory = new Uint8Array(0);
    runSoft(soft, c, run);
    const header = new DataView(soft.memory.buffer as ArrayBuffer, GUEST + 512, 64);
    expect(header.getBigUint64(0, true)).toBe(3n);
    expect(header.getBigUint64(8, true)).toBe(layout);
  });

  test("XRSTOR refuses a header with reserved bits, with #GP", () => {
    const { soft, run } = runner(XRSTOR);
    const c = caseWith(new Random(8), 7n);
    c.memory = new Uint8Array(832);
    c.memory[520] = 1;
    expect(runSoft(soft, c, run).fault).toBe(true);
    expect(soft.view.getInt32(State.vector, true)).toBe(Vector.GP);
  });

  test("FXRSTOR64 and LDMXCSR refuse reserved bits of MXCSR, with #GP", () => {
    for (const [instruction, at] of [
      [FXRSTOR64, 24],
      [LDMXCSR, 0],
    ] as const) {
      const { soft, run } = runner(instruction);
      const c = caseWith(new Random(9), 7n);
      c.memory = new Uint8Array(512);
      new DataView(c.memory.buffer).setUint32(at, 0x11f80, true);
      runSoft(soft, c, run);
      expect(soft.view.getInt32(State.vector, true)).toBe(Vector.GP);
    }
  });

  test("outside 64-bit mode FXSAVE keeps to eight registers, and VZEROALL too", () => {
    const soft = bench();
    const fxsave = soft.translate(new Uint8Array([0x0f, 0xae, 0x06]), { bits: 32 })!; // [ESI]
    const c = caseWith(new Random(10), 0n);
    c.pointers = [6];
    c.memory = new Uint8Array(512).fill(0xee);
    runSoft(soft, c, fxsave);
    expect(
      guest(soft, 512)
        .subarray(288)
        .every((b) => b === 0xee),
    ).toBe(true);
    expect(Buffer.from(guest(soft, 288).subarray(272)).toString("hex")).toBe(
      Buffer.from(c.ymm.subarray(224, 240)).toString("hex"),
    );
    const after = runSoft(soft, c, soft.translate(new Uint8Array([0xc5, 0xfc, 0x77]), { bits: 32 })!);
    expect(after.ymm.map((value) => /^0*$/.test(value))).toEqual([...Array(8).fill(true), ...Array(8).fill(false)]);
  });
});
