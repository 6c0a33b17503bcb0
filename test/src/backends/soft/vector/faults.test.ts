import { expect, test } from "bun:test";
import { State, Vector } from "../../../../../src/backends/soft/state.ts";
import type { Mode } from "../../../../../src/backends/soft/translate/mode.ts";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { registerVector } from "../../../../../src/backends/soft/vector/register.ts";
import { registerX87 } from "../../../../../src/backends/soft/x87/register.ts";
import { GUEST, StraightRunner } from "./oracle/straight.ts";

/** Runs one instruction with R14 at `offset` behind GUEST; returns the vector raised, or -1. */
function vectorOf(
  bytes: readonly number[],
  options: { mode?: Partial<Mode>; offset?: number; prepare?: (view: DataView) => void } = {},
): number {
  const registry = createRegistry();
  registerX87(registry);
  registerVector(registry);
  const soft = new StraightRunner(registry);
  const run = soft.translate(new Uint8Array(bytes), options.mode);
  // What nobody registered, or the decoder refuses, is #UD by the core's doing.
  if (!run) return Vector.UD;
  soft.view.setUint32(State.mxcsr, 0x1f80, true);
  soft.view.setUint32(State.fcw, 0x37f, true);
  soft.view.setBigUint64(State.gpr + 14 * 8, BigInt(GUEST + (options.offset ?? 0)), true);
  soft.view.setInt32(State.vector, -1, true);
  options.prepare?.(soft.view);
  run();
  return soft.view.getInt32(State.vector, true);
}

const PADDB = [0x66, 0x41, 0x0f, 0xfc, 0x06];
const VPADDB = [0xc4, 0xc1, 0x79, 0xfc, 0x06];
const MOVUPS = [0x41, 0x0f, 0x10, 0x06];
const VMOVAPS_YMM = [0xc4, 0xc1, 0x7c, 0x28, 0x06];
const PCMPISTRI = [0x66, 0x41, 0x0f, 0x3a, 0x63, 0x06, 0x00];
const DIVSD = [0xf2, 0x0f, 0x5e, 0xc1];
const VADDPS_ZMM = [0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2];
const GATHER_SAME = [0xc4, 0x82, 0x71, 0x92, 0x0c, 0x1e]; // vgatherdps xmm1, [r14+xmm11], xmm1
const FADD = [0xd8, 0xc1];
const FNSTSW = [0xdf, 0xe0];
const PADDB_MMX = [0x0f, 0xfc, 0xc1];

test("SSE memory operands must be aligned, those of VEX forms and of string compares need not", () => {
  expect(vectorOf(PADDB, { offset: 8 })).toBe(Vector.GP);
  expect(vectorOf(PADDB)).toBe(-1);
  expect(vectorOf(MOVUPS, { offset: 1 })).toBe(-1);
  expect(vectorOf(VPADDB, { offset: 8 })).toBe(-1);
  expect(vectorOf(PCMPISTRI, { offset: 3 })).toBe(-1);
});

test("VMOVAPS of a YMM register demands 32 bytes", () => {
  expect(vectorOf(VMOVAPS_YMM, { offset: 16 })).toBe(Vector.GP);
  expect(vectorOf(VMOVAPS_YMM)).toBe(-1);
});

test("an unmasked exception is #XM with CR4.OSXMMEXCPT and #UD without", () => {
  const divideByZero = (cr4: bigint) => (view: DataView) => {
    view.setUint32(State.mxcsr, 0x1f80 & ~0x200, true);
    view.setBigUint64(State.cr4, cr4, true);
    view.setFloat64(State.vector0, 1, true);
  };
  expect(vectorOf(DIVSD, { prepare: divideByZero(0x400n) })).toBe(Vector.XM);
  expect(vectorOf(DIVSD, { prepare: divideByZero(0n) })).toBe(Vector.UD);
});

test("EVEX forms and gathers that use a register twice are #UD", () => {
  expect(vectorOf(VADDPS_ZMM)).toBe(Vector.UD);
  expect(vectorOf(GATHER_SAME)).toBe(Vector.UD);
});

test("modes that disable a unit raise #UD or #NM before anything else", () => {
  expect(vectorOf(PADDB, { mode: { sse: "ud" }, offset: 8 })).toBe(Vector.UD);
  expect(vectorOf(PADDB, { mode: { sse: "nm" } })).toBe(Vector.NM);
  expect(vectorOf(VPADDB, { mode: { avx: "ud" } })).toBe(Vector.UD);
  expect(vectorOf(FADD, { mode: { x87: "nm" } })).toBe(Vector.NM);
  expect(vectorOf(PADDB_MMX, { mode: { mmx: "ud" } })).toBe(Vector.UD);
});

test("a pending x87 exception is #MF at the next x87 or MMX instruction, not at FNSTSW", () => {
  const pending = (view: DataView) => view.setUint32(State.fsw, 0x8081, true);
  expect(vectorOf(FADD, { prepare: pending })).toBe(Vector.MF);
  expect(vectorOf(PADDB_MMX, { prepare: pending })).toBe(Vector.MF);
  expect(vectorOf(FNSTSW, { prepare: pending })).toBe(-1);
});
