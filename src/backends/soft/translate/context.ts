import type { Code as CodeNumber, ConditionCode, Mnemonic, Register } from "../decoder/names.ts";
import type { Vector } from "../state.ts";
import type { Code } from "../wasm/code.ts";
import type { MemCode, SimdMemCode, ValueType } from "../wasm/opcodes.ts";
import type { Insn } from "./insn.ts";
import type { Mode } from "./mode.ts";

/**
 * How an instruction's meaning is written. An `Emitter` is called once per translated instruction and appends
 * WebAssembly to `e.code` that leaves the stack as it found it.
 *
 * - **State** lives in memory at the offsets of `State`: `e.loadState(Mem.i32_load, State.mxcsr)` pushes a field;
 *   `e.stateAddress(); …push value…; e.storeState(Mem.i32_store, State.mxcsr)` writes one.
 * - **General registers** live in locals while a region runs: only `e.gpr()` and `e.setGpr()` may touch them.
 * - **Memory**: `const at = e.address()` evaluates the memory operand once; `e.load(at, bytes)` and
 *   `e.store(at, bytes, local)` access it, with segment, page and alignment checks done by the generated code. A fault
 *   leaves the region *at* this instruction, so everything that can fault comes before the first change of state. A
 *   value of 32 bytes is two loads, or `checkWrite(at, 32)` and two stores.
 * - **Exceptions**: `e.raise(Vector.UD)` ends the instruction; `e.raiseIf(Vector.GP)` pops a condition.
 * - **Flags**: `e.setFlags()` pops an i32 with CF, PF, AF, ZF, SF, OF at their RFLAGS positions; `e.condition(cc)` pushes
 *   0 or 1.
 * - **TypeScript**: `e.call("fpatan", [Type.i32], true)` pops an i32 and calls the helper of that name in
 *   `Registry.helpers`; a helper that can fault or leave is marked so.
 *
 * Worked example, MOVAPS and PXOR (two-operand SSE forms; the first operand is written):
 *
 * ```ts
 * const xmm = (register: Register) => State.vector0 + (register - Register.XMM0) * State.vectorBytes;
 *
 * function pushXmm(e: Emit, operand: number): void {
 *   if (e.insn.isMemory(operand)) e.load(e.address({ align: 16 }), 16); // #GP(0) when misaligned
 *   else e.loadState(SimdMem.v128_load, xmm(e.insn.register(operand)));
 * }
 *
 * function movaps(e: Emit): void {
 *   if (!e.requireSse()) return; // #UD or #NM was emitted
 *   if (e.insn.isMemory(0)) {
 *     const value = e.temp(Type.v128);
 *     e.loadState(SimdMem.v128_load, xmm(e.insn.register(1)));
 *     e.code.set(value);
 *     e.store(e.address({ align: 16 }), 16, value);
 *     return;
 *   }
 *   const value = e.temp(Type.v128);
 *   pushXmm(e, 1);
 *   e.code.set(value); // the load may fault: nothing is changed before it
 *   e.stateAddress();
 *   e.code.get(value);
 *   e.storeState(SimdMem.v128_store, xmm(e.insn.register(0)));
 * }
 *
 * function pxor(e: Emit): void {
 *   if (!e.requireSse()) return;
 *   const target = xmm(e.insn.register(0));
 *   e.stateAddress();
 *   e.loadState(SimdMem.v128_load, target);
 *   pushXmm(e, 1); // a fault leaves by a branch: what is on the stack is dropped
 *   e.code.simd(Simd.v128_xor);
 *   e.storeState(SimdMem.v128_store, target);
 * }
 *
 * registry.mnemonics.set(Mnemonic.Movaps, movaps);
 * registry.mnemonics.set(Mnemonic.Pxor, pxor); // MMX form told apart by the register, or by `registry.codes`
 * ```
 */
export interface Emit {
  readonly code: Code;
  readonly insn: Insn;
  readonly mode: Mode;

  /** A local that belongs to this instruction. Its first value is undefined. */
  temp(type: ValueType): number;

  /** Pushes a general register (AL … R15, AH too) as i64, zero-extended. */
  gpr(register: Register): void;
  /** Pops an i64 into a general register: 8- and 16-bit writes keep the rest, 32-bit writes clear the upper half. */
  setGpr(register: Register): void;

  /** Pushes a field of the state. */
  loadState(code: MemCode | SimdMemCode, offset: number): void;
  /** Pushes what `storeState` needs below its value. */
  stateAddress(): void;
  storeState(code: MemCode | SimdMemCode, offset: number): void;

  /** Evaluates the memory operand, at most once per instruction. `align`: #GP(0) unless the linear address is a multiple. */
  address(options?: { align?: number }): Address;
  /** Pushes `bytes` bytes of memory at `address + displacement`: i64 zero-extended up to 8, v128 for 16. */
  load(address: Address, bytes: 1 | 2 | 4 | 8 | 16, displacement?: number): void;
  /** Stores the local (i64, or v128 for 16 bytes). */
  store(address: Address, bytes: 1 | 2 | 4 | 8 | 16, value: number, displacement?: number): void;
  /**
   * Faults unless all `bytes` can be written; nothing is stored. Before several stores that must happen all or none.
   * @param unit Bytes of one element, where alignment is checked: a power of two.
   */
  checkWrite(address: Address, bytes: number, unit?: number): void;
  /** Faults unless all `bytes` can be read. */
  checkRead(address: Address, bytes: number, unit?: number): void;

  /** Raises an exception at this instruction; code emitted behind it is unreachable. */
  raise(vector: Vector, errorCode?: number): void;
  /** Pops an i32 and raises when it is not 0. */
  raiseIf(vector: Vector, errorCode?: number): void;

  /** Pops an i32: CF, PF, AF, ZF, SF and OF at their places in RFLAGS. Replaces all six. */
  setFlags(): void;
  /** Pushes the six arithmetic flags as an i32. */
  flags(): void;
  /** Pushes 1 when the condition holds, else 0. */
  condition(code: ConditionCode): void;

  /**
   * Pops `params` and calls a helper of the registry. The result, if the helper has one, is pushed.
   * `faults`: the helper returns an i32 that is not 0 when it raised or left; the instruction then ends there.
   */
  call(name: string, params: readonly ValueType[], result?: ValueType | "faults"): void;
  /** Like `call` with `faults`, and the helper may read and write general registers, RIP and flags in the state. */
  callSystem(name: string, params: readonly ValueType[]): void;

  /** Emit #UD or #NM as CR0, CR4 and XCR0 demand and return false, or return true when the instruction may run. */
  requireX87(): boolean;
  requireMmx(): boolean;
  requireSse(): boolean;
  requireAvx(): boolean;
}

/** An evaluated memory operand. */
export interface Address {
  /** Local (i64): offset inside the segment. */
  readonly offset: number;
  /** `SegIndex`. */
  readonly segment: number;
}

export type Emitter = (e: Emit) => void;

/** What a helper sees of the vCPU. All offsets are those of `State`. */
export interface HelperCpu {
  readonly view: StateView;
  /** Leaves by an exception: `return cpu.raise(Vector.GP, 0)`. Always 1. */
  raise(vector: Vector, errorCode?: number): number;
  /**
   * Reads memory as the guest does. False when it faulted (the exception is noted): the helper returns 1.
   * @param unit What the operand has to be aligned by where alignment is checked; 1 unless given.
   */
  readMemory(segment: number, offset: bigint, into: Uint8Array, unit?: number): boolean;
  writeMemory(segment: number, offset: bigint, from: Uint8Array, unit?: number): boolean;
  /** Faults unless the bytes, 255 at most, can be written. */
  checkWrite(segment: number, offset: bigint, bytes: number, unit?: number): boolean;
}

/** The state of one vCPU as bytes; a `DataView` whose offset 0 is the vCPU's state base. */
export type StateView = DataView<ArrayBuffer>;

export type Helper = (cpu: HelperCpu, ...args: number[]) => number;

/**
 * Who knows what an instruction means. Looked up by `Code` (one form) first, then by `Mnemonic`. What is in neither
 * raises #UD. Helper arguments and results are i32 or f64: pass 64-bit values through `State.scratch`.
 */
export interface Registry {
  readonly codes: Map<CodeNumber, Emitter>;
  readonly mnemonics: Map<Mnemonic, Emitter>;
  readonly helpers: Map<string, Helper>;
}
