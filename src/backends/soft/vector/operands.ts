import { memorySizeBytes } from "../decoder/iced.ts";
import { EncodingKind, Mnemonic, Register } from "../decoder/names.ts";
import { State, Vector } from "../state.ts";
import type { Address, Emit, Emitter } from "../translate/context.ts";
import { Mem, SimdMem, Type } from "../wasm/opcodes.ts";
import { emitPendingCheck } from "../x87/emit.ts";

/** Byte offset in the state of XMMi, or of the register's upper half (`half` 1) for YMMi. */
export function vectorAt(register: Register, half: 0 | 1 = 0): number {
  const first = register >= Register.YMM0 ? Register.YMM0 : Register.XMM0;
  return State.vector0 + (register - first) * State.vectorBytes + half * 16;
}

export function isMmx(register: Register): boolean {
  return register >= Register.MM0 && register <= Register.MM7;
}

export function isXmm(register: Register): boolean {
  return register >= Register.XMM0 && register <= Register.XMM31;
}

export function isYmm(register: Register): boolean {
  return register >= Register.YMM0 && register <= Register.YMM31;
}

/** Byte offset in the state of MMi: the significand of the physical x87 register. */
export function mmxAt(register: Register): number {
  return State.x87 + (register - Register.MM0) * 16;
}

export function isVex(e: Emit): boolean {
  return e.insn.raw.encoding === EncodingKind.VEX;
}

/** Whether an operand is a register of that kind. */
export function usesMmx(e: Emit): boolean {
  for (let i = 0; i < e.insn.operands; i++) if (e.insn.isRegister(i) && isMmx(e.insn.register(i))) return true;
  return false;
}

function usesXmm(e: Emit): boolean {
  for (let i = 0; i < e.insn.operands; i++) if (e.insn.isRegister(i) && isXmm(e.insn.register(i))) return true;
  return false;
}

/** Whether the vectors are 256 bits wide. */
export function isWide(e: Emit): boolean {
  for (let i = 0; i < e.insn.operands; i++) if (e.insn.isRegister(i) && isYmm(e.insn.register(i))) return true;
  // A conversion to half the width may have its 256 bits in memory alone.
  return isVex(e) && memorySizeBytes(e.insn.raw.memorySize) === 32;
}

/**
 * What comes before every vector instruction: #UD for an EVEX form, #UD or #NM as the mode says, a pending #MF where
 * MMX registers are used.
 * @returns false when the instruction has been raised away.
 */
export function enter(e: Emit): boolean {
  const { encoding } = e.insn.raw;
  if (encoding !== EncodingKind.VEX && encoding !== EncodingKind.Legacy) {
    e.raise(Vector.UD);
    return false;
  }
  if (encoding === EncodingKind.VEX) return e.requireAvx();
  const mmx = usesMmx(e);
  if (!mmx || usesXmm(e)) {
    if (!e.requireSse()) return false;
    if (!mmx) return true;
  }
  if (!e.requireMmx()) return false;
  emitPendingCheck(e);
  return true;
}

/** The state after any MMX instruction but EMMS: TOP 0, every register in use. Emit it after the last possible fault. */
export function emitMmxTransition(e: Emit): void {
  e.stateAddress();
  e.code.i32(0);
  e.storeState(Mem.i32_store, State.top);
  e.stateAddress();
  e.code.i32(0xff);
  e.storeState(Mem.i32_store, State.ftw);
}

/** Pushes a register as v128: XMM, a half of YMM, or MMX zero-extended. */
export function pushRegister(e: Emit, register: Register, half: 0 | 1 = 0): void {
  if (isMmx(register)) e.loadState(SimdMem.v128_load64_zero, mmxAt(register));
  else e.loadState(SimdMem.v128_load, vectorAt(register, half));
}

/** A v128 operand, ready to be pushed as often as needed. */
export type Source = () => void;

/** The local's value as a source. */
export function sourceOf(e: Emit, local: number): Source {
  return () => e.code.get(local);
}

/** Pops the value on the stack into a local. */
export function keep(e: Emit, type: (typeof Type)[keyof typeof Type] = Type.v128): number {
  const local = e.temp(type);
  e.code.set(local);
  return local;
}

/** How a full-width memory operand must be aligned: SSE forms by 16, VEX forms not at all, unless the instruction says so. */
export type Alignment = "natural" | "always" | "never";

export function memoryAddress(e: Emit, alignment: Alignment = "natural"): Address {
  const aligned = alignment === "always" || (alignment === "natural" && !isVex(e) && !usesMmx(e));
  return aligned ? e.address({ align: isWide(e) ? 32 : 16 }) : e.address();
}

/** MMX forms whose memory operand has 32 bits. */
const HALF_MMX: ReadonlySet<Mnemonic> = new Set([Mnemonic.Punpcklbw, Mnemonic.Punpcklwd, Mnemonic.Punpckldq]);

/**
 * The halves of a vector operand as sources: one for XMM and MMX, two for YMM. Memory is read here, so that nothing is
 * written before it may fault; registers are read when pushed.
 */
export function sources(e: Emit, operand: number, alignment: Alignment = "natural"): Source[] {
  const wide = isWide(e);
  if (!e.insn.isMemory(operand)) {
    const register = e.insn.register(operand);
    const halves: Source[] = [() => pushRegister(e, register, 0)];
    if (wide && isYmm(register)) halves.push(() => pushRegister(e, register, 1));
    return halves;
  }
  if (usesMmx(e)) return [sourceOf(e, loadZeroExtended(e, e.address(), HALF_MMX.has(e.insn.mnemonic) ? 4 : 8))];
  const at = memoryAddress(e, alignment);
  const halves: Source[] = [];
  for (let half = 0; half < (wide ? 2 : 1); half++) {
    e.load(at, 16, half * 16);
    halves.push(sourceOf(e, keep(e)));
  }
  return halves;
}

/** A 128-bit (MMX: 64-bit) operand of an instruction whose other operands may be wider. */
export function source128(e: Emit, operand: number, alignment: Alignment = "natural"): Source {
  if (!e.insn.isMemory(operand)) {
    const register = e.insn.register(operand);
    return () => pushRegister(e, register);
  }
  if (usesMmx(e)) return sourceOf(e, loadZeroExtended(e, e.address(), 8));
  const aligned = alignment === "always" || (alignment === "natural" && !isVex(e));
  e.load(aligned ? e.address({ align: 16 }) : e.address(), 16);
  return sourceOf(e, keep(e));
}

/** Reads 1 to 8 bytes of memory into the low end of a v128 local, zeros above. */
export function loadZeroExtended(e: Emit, at: Address, bytes: 1 | 2 | 4 | 8): number {
  e.code.v128(0n, 0n);
  e.load(at, bytes);
  e.code.lane(30, 0); // i64x2.replace_lane
  return keep(e);
}

/** An XMM register or `bytes` bytes of memory in the low end of a v128. */
export function scalarSource(e: Emit, operand: number, bytes: 1 | 2 | 4 | 8): Source {
  if (e.insn.isMemory(operand)) return sourceOf(e, loadZeroExtended(e, e.address(), bytes));
  const register = e.insn.register(operand);
  return () => pushRegister(e, register);
}

/** Writes a vector register: `push` is asked for each half's value. VEX forms clear what lies above. */
export function writeVector(e: Emit, register: Register, halves: readonly Source[]): void {
  if (isMmx(register)) {
    writeMmx(e, register, halves[0]!);
    return;
  }
  halves.forEach((push, half) => {
    e.stateAddress();
    push();
    e.storeState(SimdMem.v128_store, vectorAt(register, half as 0 | 1));
  });
  if (halves.length === 1 && isVex(e)) clearUpper(e, register);
}

/** Clears bits 128 to 255. */
export function clearUpper(e: Emit, register: Register): void {
  e.stateAddress();
  e.code.v128(0n, 0n);
  e.storeState(SimdMem.v128_store, vectorAt(register, 1));
}

/** Writes the low 64 bits of a v128 to an MMX register: sign and exponent become ones. */
export function writeMmx(e: Emit, register: Register, push: Source): void {
  e.stateAddress();
  push();
  e.code.lane(29, 0); // i64x2.extract_lane
  e.storeState(Mem.i64_store, mmxAt(register));
  e.stateAddress();
  e.code.i32(0xffff);
  e.storeState(Mem.i32_store16, mmxAt(register) + 8);
}

/** Evaluates a source once into a local. */
export function hold(e: Emit, push: Source): Source {
  push();
  return sourceOf(e, keep(e));
}

/** Operand numbers of the two inputs: destination and source, or the two behind a VEX destination. */
export function inputs(e: Emit): readonly [number, number] {
  return isVex(e) ? [1, 2] : [0, 1];
}

/** Guards an emitter with `enter`. */
export function entered(body: Emitter): Emitter {
  return (e) => {
    if (enter(e)) body(e);
  };
}
