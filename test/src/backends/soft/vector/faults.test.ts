import { expect, test } from "bun:test";
import { State, Vector } from "../../../../../src/backends/soft/state.ts";
import { type Alone, Bench, OPERAND } from "../oracle/alone.ts";
import { Image } from "../oracle/fpu-state.ts";

const R14 = 14;

/** Runs one instruction with R14 at `offset` behind the operand; returns the vector raised, or -1. */
function vectorOf(bytes: readonly number[], options: Alone & { offset?: number } = {}): number {
  using bench = new Bench();
  return bench.run(bytes, { gpr: { [R14]: OPERAND + BigInt(options.offset ?? 0) }, ...options }).vector;
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
  const divideByZero = (without: boolean): Alone => ({
    image: (image, view) => {
      view.setUint32(Image.mxcsr, 0x1f80 & ~0x200, true);
      view.setFloat64(Image.xmm, 1, true);
      image.fill(0, Image.xmm + 16, Image.xmm + 32);
    },
    prepare: (cpu) => {
      if (without) cpu.set64(State.cr4, cpu.get64(State.cr4) & ~0x400n);
    },
  });
  expect(vectorOf(DIVSD, divideByZero(false))).toBe(Vector.XM);
  expect(vectorOf(DIVSD, divideByZero(true))).toBe(Vector.UD);
});

test("EVEX forms and gathers that use a register twice are #UD", () => {
  expect(vectorOf(VADDPS_ZMM)).toBe(Vector.UD);
  expect(vectorOf(GATHER_SAME)).toBe(Vector.UD);
});

/** Sets and clears bits of CR0, CR4 and XCR0. */
function control(name: "cr0" | "cr4" | "xcr0", set: bigint, clear = 0n): Alone {
  return { prepare: (cpu) => cpu.set64(State[name], (cpu.get64(State[name]) | set) & ~clear) };
}

test("modes that disable a unit raise #UD or #NM before anything else", () => {
  const [EM, TS, OSFXSR, AVX] = [4n, 8n, 0x200n, 4n];
  expect(vectorOf(PADDB, { ...control("cr4", 0n, OSFXSR), offset: 8 })).toBe(Vector.UD);
  expect(vectorOf(PADDB, control("cr0", TS))).toBe(Vector.NM);
  expect(vectorOf(VPADDB, control("xcr0", 0n, AVX))).toBe(Vector.UD);
  expect(vectorOf(FADD, control("cr0", TS))).toBe(Vector.NM);
  expect(vectorOf(PADDB_MMX, control("cr0", EM))).toBe(Vector.UD);
});

test("a pending x87 exception is #MF at the next x87 or MMX instruction, not at FNSTSW", () => {
  const pending: Alone = {
    image: (_, view) => {
      view.setUint16(Image.fcw, 0x37e, true);
      view.setUint16(Image.fsw, 0x8081, true);
    },
  };
  expect(vectorOf(FADD, pending)).toBe(Vector.MF);
  expect(vectorOf(PADDB_MMX, pending)).toBe(Vector.MF);
  expect(vectorOf(FNSTSW, pending)).toBe(-1);
});
