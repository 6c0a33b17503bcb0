import type { CpuidEntry, MsrExitPolicy } from "../../backend.ts";
import type { Exit } from "../../exit.ts";
import { MemoryAccess } from "./access.ts";
import type { CodeTracker } from "./code/tracker.ts";
import { CR0, EFER, EFLAGS, SYSTEM_FLAGS } from "./control-bits.ts";
import { ARITHMETIC_FLAGS, Family, flagKind } from "./flags/kinds.ts";
import { computeMode, type ModeTable } from "./modes.ts";
import type { PagingState } from "./paging.ts";
import type { GuestRam } from "./ram.ts";
import { createRuntime, type FlagsFunction } from "./runtime.ts";
import { Seg, State, Tlb, type Vector } from "./state.ts";
import { Msrs } from "./system/msr.ts";
import type { HelperCpu, StateView } from "./translate/context.ts";
import type { Mode } from "./translate/mode.ts";

/** Status of a system helper that is done, but behind which the run loop has something to do. */
export const LEAVE = 2;

/** The flags as they are, not what they come from. */
const EXPLICIT = flagKind(Family.explicit, 8);

/** An exception on its way. */
export interface Fault {
  readonly vector: Vector;
  readonly errorCode: number | undefined;
}

/** What an exception needs beside its vector when it is not a fault of the guest's own making. */
export const NO_FAULT: Fault = { vector: 0, errorCode: undefined };

/** What a helper left undone: the run loop goes on from here. */
export type Pending =
  | { readonly kind: "retry" }
  | { readonly kind: "raise"; readonly fault: Fault }
  | { readonly kind: "exit" }
  /** INT1 alone passes whatever privilege the gate asks for. */
  | { readonly kind: "interrupt"; readonly vector: number; readonly next: bigint; readonly privileged: boolean };

/** A segment descriptor as its two words hold it. */
export interface Descriptor {
  readonly low: number;
  readonly high: number;
}

/** TLB entries that a flush empties one by one; from more of them on it empties the whole table. */
const FEW_ENTRIES = 512;

/** Architectural state of one vCPU, in typed views over the VM's memory, and what hangs on it. */
export class Cpu implements HelperCpu {
  readonly id: number;
  readonly base: number;
  readonly ram: GuestRam;
  readonly tracker: CodeTracker;
  readonly view: StateView;
  readonly u64: BigUint64Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly table: WebAssembly.Table;
  #flags: FlagsFunction | undefined;
  readonly access: MemoryAccess;
  readonly #modes: ModeTable;
  /** TLB entries filled since the last flush: how many, and where the tags of the first ones are in `i32`. */
  #filled = FEW_ENTRIES + 1;
  readonly #filledAt = new Int32Array(FEW_ENTRIES);
  #mode: Mode | undefined;
  #paging: PagingState | undefined;
  #epoch = 0;
  /** One instruction at a time: MMIO and writes to code are carried out instead of retried. */
  stepping = false;
  pending: Pending | undefined;
  /** Completes the last exit with the caller's answer. False when that raised a fault instead. */
  resume: (() => boolean) | undefined;
  readonly msrs: Msrs;
  cpuidTable: readonly CpuidEntry[] = [];
  msrPolicy: MsrExitPolicy | undefined;
  /** Called when a debug register changed. */
  debugChanged: () => void = () => {};
  /** Seed of RDRAND: the same guest sees the same numbers. */
  random = 0x9e37_79b9_7f4a_7c15n;
  /** Data of IN and OUT by their size: what an exit carries is valid until the next run, and a new array costs 50 ns. */
  readonly #portData = [1, 2, 4].map((size) => new Uint8Array(size));
  /** Takes the exit of an OUT, or of an IN that waits in `resume`. The status is the instruction's, a `SystemHelper`'s. */
  offer: (exit: Exit) => number = () => LEAVE;
  /** Exits that wait to be returned, oldest first. */
  readonly exits: Exit[] = [];
  /** The interrupt shadow of STI and MOV SS: valid while RIP and the instruction count are these. */
  shadow: { rip: bigint; instructions: number; debug: boolean } | undefined;
  nmiBlocked = false;
  /** The TSS of the task just entered asks for #DB in front of its first instruction. */
  taskTrap = false;
  halted = false;
  /** RIP of the instruction whose system helper runs, in halves. */
  instructionLow = 0;
  instructionHigh = 0;
  /** Instructions retired before the present slice. */
  retired = 0;
  sliceBudget = 0;
  /** Faults met while one was being delivered, for the crash screen. */
  readonly faultChain: Fault[] = [];

  constructor(id: number, ram: GuestRam, tracker: CodeTracker, modes: ModeTable) {
    this.id = id;
    this.base = id * State.size;
    this.ram = ram;
    this.tracker = tracker;
    this.#modes = modes;
    const { buffer } = ram.memory;
    this.view = new DataView(buffer, this.base, State.size);
    this.u64 = new BigUint64Array(buffer, this.base, State.size / 8);
    this.i32 = new Int32Array(buffer, this.base, State.size / 4);
    this.i32.fill(0);
    this.table = new WebAssembly.Table({ initial: 1024, element: "anyfunc" });
    this.access = new MemoryAccess(this);
    this.msrs = new Msrs(this);
    this.flushTlb();
  }

  // --- Fields ----------------------------------------------------------------------------------------------------

  gpr(index: number): bigint {
    return this.u64[(State.gpr >> 3) + index] as bigint;
  }
  setGpr(index: number, value: bigint): void {
    this.u64[(State.gpr >> 3) + index] = value;
  }
  /** Low 32 bits of a general register, signed. */
  gpr32(index: number): number {
    return this.i32[(State.gpr >> 2) + index * 2] as number;
  }
  /** Writes 32 bits and clears the upper half. */
  setGpr32(index: number, value: number): void {
    this.i32[(State.gpr >> 2) + index * 2] = value;
    this.i32[(State.gpr >> 2) + index * 2 + 1] = 0;
  }
  get instructionRip(): bigint {
    return (BigInt(this.instructionHigh >>> 0) << 32n) | BigInt(this.instructionLow >>> 0);
  }
  get rip(): bigint {
    return this.u64[State.rip >> 3] as bigint;
  }
  set rip(value: bigint) {
    this.u64[State.rip >> 3] = value;
  }
  get(offset: number): number {
    return this.i32[offset >> 2] as number;
  }
  set(offset: number, value: number): void {
    this.i32[offset >> 2] = value;
  }
  get64(offset: number): bigint {
    return this.u64[offset >> 3] as bigint;
  }
  set64(offset: number, value: bigint): void {
    this.u64[offset >> 3] = BigInt.asUintN(64, value);
  }
  get cr0(): number {
    return this.get(State.cr0);
  }
  get cr4(): number {
    return this.get(State.cr4);
  }
  get efer(): number {
    return this.get(State.efer);
  }
  get longMode(): boolean {
    return (this.efer & EFER.LMA) !== 0;
  }
  /** 64-bit code, not compatibility mode. */
  get code64(): boolean {
    return this.mode.bits === 64;
  }
  get protectedMode(): boolean {
    return (this.cr0 & CR0.PE) !== 0;
  }
  get v86(): boolean {
    return (this.get(State.eflags) & EFLAGS.VM) !== 0;
  }
  get cpl(): 0 | 1 | 2 | 3 {
    return this.mode.cpl;
  }
  get iopl(): number {
    return (this.get(State.eflags) >> 12) & 3;
  }
  get instructions(): number {
    return this.retired + this.sliceBudget - this.get(State.budget);
  }

  /** Bytes for one exit of a port access. */
  portData(size: number): Uint8Array {
    return this.#portData[size >> 1] as Uint8Array;
  }

  /** The oldest exit that waits. Nearly always there is one at most, and taking from the front is a call. */
  takeExit(): Exit | undefined {
    const { exits } = this;
    if (exits.length === 0) return undefined;
    return exits.length === 1 ? exits.pop() : exits.shift();
  }

  // --- Segments --------------------------------------------------------------------------------------------------

  segment(index: number, field: number): number {
    return this.get(State.segments + index * Seg.size + field);
  }
  setSegment(index: number, field: number, value: number): void {
    this.set(State.segments + index * Seg.size + field, value);
  }
  segmentBase(index: number): bigint {
    return this.get64(State.segments + index * Seg.size + Seg.base);
  }
  setSegmentBase(index: number, value: bigint): void {
    this.set64(State.segments + index * Seg.size + Seg.base, value);
  }
  selector(index: number): number {
    return this.segment(index, Seg.selector);
  }
  attributes(index: number): number {
    return this.segment(index, Seg.attributes);
  }

  // --- Flags -----------------------------------------------------------------------------------------------------

  /** Computes flags of any kind. Made when first asked for: generated code mostly knows the kind, and a start is 4 ms faster. */
  get flags(): FlagsFunction {
    this.#flags ??= createRuntime(this.ram.memory, this.table).flags;
    return this.#flags;
  }

  get arithmeticFlags(): number {
    const { i32, u64 } = this;
    if (i32[State.flagKind >> 2] === EXPLICIT) return i32[State.flagA >> 2] as number;
    return this.flags(
      i32[State.flagKind >> 2] as number,
      u64[State.flagA >> 3] as bigint,
      u64[State.flagB >> 3] as bigint,
      u64[State.flagR >> 3] as bigint,
      i32[State.carryKind >> 2] as number,
      u64[State.carryA >> 3] as bigint,
      u64[State.carryB >> 3] as bigint,
      u64[State.carryR >> 3] as bigint,
    );
  }
  set arithmeticFlags(value: number) {
    this.set(State.flagKind, EXPLICIT);
    this.set64(State.flagA, BigInt(value & ARITHMETIC_FLAGS));
  }
  /** RFLAGS as a whole. */
  get eflags(): number {
    return this.arithmeticFlags | this.get(State.eflags) | 2;
  }
  set eflags(value: number) {
    this.arithmeticFlags = value;
    const old = this.get(State.eflags);
    this.set(State.eflags, value & SYSTEM_FLAGS);
    if (((old ^ value) & (EFLAGS.VM | EFLAGS.AC | EFLAGS.IOPL)) !== 0) this.changeMode();
  }

  // --- Mode, TLB -------------------------------------------------------------------------------------------------

  get mode(): Mode {
    if (this.#mode === undefined) {
      this.#mode = computeMode(this, this.#modes);
      this.#tag();
    }
    return this.#mode;
  }

  /** Something that generated code takes for granted may have changed. */
  changeMode(): void {
    this.#mode = undefined;
    this.#paging = undefined;
  }

  #tag(): void {
    this.set(State.jumpTag, this.#epoch * 4096 + (this.#mode?.id ?? 0));
  }

  /** Forgets every entry of the jump cache. */
  forgetJumps(): void {
    this.#epoch++;
    if (this.#epoch === 0x7_0000) {
      this.#epoch = 1;
      this.i32.fill(0, State.jumps >> 2, State.size >> 2);
    }
    if (this.#mode !== undefined) this.#tag();
  }

  /** A TLB entry was filled, with its tag at this index of `i32`. */
  noteTlbEntry(at: number): void {
    if (this.#filled < FEW_ENTRIES) this.#filledAt[this.#filled] = at;
    this.#filled++;
  }

  flushTlb(): void {
    const { i32 } = this;
    // All ones: no page has an odd tag. Addends are filled too, which does not matter.
    if (this.#filled > FEW_ENTRIES) i32.fill(-1, State.tlb >> 2, (State.tlb + 4 * Tlb.entries * Tlb.size) >> 2);
    else for (let i = 0; i < this.#filled; i++) i32[this.#filledAt[i] as number] = -1;
    this.#filled = 0;
    this.#paging = undefined;
    this.forgetJumps();
  }

  get pagingState(): PagingState {
    this.#paging ??= {
      cr0: this.cr0,
      cr4: this.cr4,
      efer: this.efer,
      root: Number(this.get64(State.cr3) & 0x000f_ffff_ffff_ffe0n),
      ac: (this.get(State.eflags) & EFLAGS.AC) !== 0,
    };
    return this.#paging;
  }

  /**
   * STI and MOV SS hold interrupts off for one instruction, MOV SS debug traps too (Intel SDM Vol. 3A, "Masking Exceptions
   * and Interrupts When Switching Stacks"). Called while RIP is already behind them.
   */
  beginShadow({ debug }: { debug: boolean }): void {
    this.shadow = { rip: this.rip, instructions: this.instructions + 1, debug };
  }

  get inShadow(): boolean {
    return this.shadow !== undefined && this.shadow.rip === this.rip && this.shadow.instructions === this.instructions;
  }

  /** Whether debug traps wait for the end of the instruction behind MOV SS. */
  get debugHeld(): boolean {
    return this.inShadow && this.shadow?.debug === true;
  }

  // --- HelperCpu -------------------------------------------------------------------------------------------------

  raise(vector: Vector, errorCode?: number): number {
    this.pending = { kind: "raise", fault: { vector, errorCode } };
    return 1;
  }

  readMemory(segment: number, offset: bigint, into: Uint8Array, unit?: number): boolean {
    return this.access.read(segment, offset, into, unit);
  }

  writeMemory(segment: number, offset: bigint, from: Uint8Array, unit?: number): boolean {
    return this.access.write(segment, offset, from, unit);
  }

  checkWrite(segment: number, offset: bigint, bytes: number, unit?: number): boolean {
    return this.access.checkWrite(segment, offset, bytes, unit);
  }
}
