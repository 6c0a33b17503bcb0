import { type ConditionCode, Register } from "iced-x86";
import { conditionOfFlags, FLAGS_PARAMS, FlagCode, type FlagLocals } from "../flags/emit.ts";
import { type Bits, Family, Flag, type FlagName, familyOf, flagKind } from "../flags/kinds.ts";
import { Jump, Seg, State, Tlb, tlbTable, Vector } from "../state.ts";
import type { Label } from "../wasm/code.ts";
import { Code } from "../wasm/code.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { Mem, type MemCode, Op, SimdMem, type SimdMemCode, Type, type ValueType } from "../wasm/opcodes.ts";
import type { Address, Emit } from "./context.ts";
import { gprBits, gprIndex, type Insn, isHighByte } from "./insn.ts";
import type { Mode } from "./mode.ts";

/** Why generated code leaves at an instruction. */
export type SiteReason =
  | "helper"
  | "budget"
  | "unknown"
  | { readonly vector: Vector; readonly errorCode: number | undefined };

/** One place where a region can leave, with what the run loop needs to make the state exact. */
export interface Site {
  readonly rip: bigint;
  /** Flag kind known while translating, or −1 when the state already has it. */
  readonly flagKind: number;
  /** Instructions of the block that were not executed, to be given back to the budget. */
  readonly unexecuted: number;
  readonly reason: SiteReason;
}

/** Values of `State.site` that are no site. */
export const SITE_JUMP = -1;
export const SITE_SYSTEM = -2;

/** An operand that is read and written. */
export type Place =
  | { readonly kind: "register"; readonly register: Register }
  | { readonly kind: "memory"; readonly host: number; readonly linear: number; readonly bytes: number };

/** In the `info` argument of the slow memory functions: size in bytes, then the segment, then these. */
export const INFO_SEGMENT_SHIFT = 8;
export const INFO_WRITE = 1 << 16;
export const INFO_USER = 1 << 17;
export const INFO_SYSTEM = 1 << 18;

const LOADS: Record<number, MemCode> = {
  1: Mem.i64_load8_u,
  2: Mem.i64_load16_u,
  4: Mem.i64_load32_u,
  8: Mem.i64_load,
};
const STORES: Record<number, MemCode> = { 1: Mem.i64_store8, 2: Mem.i64_store16, 4: Mem.i64_store32, 8: Mem.i64_store };
export const MASKS: Record<Bits, bigint> = { 8: 0xffn, 16: 0xffffn, 32: 0xffff_ffffn, 64: (1n << 64n) - 1n };

export interface RegionOptions {
  readonly module: ModuleBuilder;
  readonly mode: Mode;
  /** The vCPU's state base in the memory. */
  readonly base: number;
  /** What this region writes to `State.region` when it leaves. */
  readonly region: number;
  /** Index of its function in the table; −1 never chains (one instruction at a time). */
  readonly func: number;
}

/** Writes the function of one region: the operand access of `Emit`, and the control flow between its blocks. */
export class RegionEmitter implements Emit {
  readonly code = new Code(1);
  readonly mode: Mode;
  readonly sites: Site[] = [];
  insn!: Insn;
  readonly #module: ModuleBuilder;
  readonly #base: number;
  readonly #options: RegionOptions;
  readonly #gpr: number[] = [];
  readonly #usedGpr = new Set<number>();
  readonly #writtenGpr = new Set<number>();
  readonly #budget: number;
  readonly #site: number;
  readonly #target: number;
  readonly #next: number;
  readonly main: FlagLocals;
  readonly #carry: FlagLocals;
  #usesFlags = false;
  #usesCarry = false;
  /** −1: only known at run time. */
  flagKind = -1;
  #carryKind = -1;
  readonly #flagCode: FlagCode;
  readonly #temps = new Map<ValueType, { locals: number[]; used: number }>();
  #address: Address | undefined;
  #align = 0;
  /** Instructions from the current one to the end of its block. */
  #remaining = 0;
  #leave!: Label;
  #dispatch!: Label;
  #chain!: Label;
  #blocks: Label[] = [];
  #starts: readonly bigint[] = [];
  #current = -1;
  /** The present block as a loop of its own. */
  #self: Label | undefined;

  constructor(options: RegionOptions) {
    this.#options = options;
    this.#module = options.module;
    this.mode = options.mode;
    this.#base = options.base;
    const c = this.code;
    for (let i = 0; i < 16; i++) this.#gpr.push(c.local(Type.i64));
    const descriptor = () => ({
      kind: c.local(Type.i32),
      a: c.local(Type.i64),
      b: c.local(Type.i64),
      r: c.local(Type.i64),
    });
    this.main = descriptor();
    this.#carry = descriptor();
    this.#budget = c.local(Type.i32);
    this.#site = c.local(Type.i32);
    this.#next = c.local(Type.i32);
    this.#target = c.local(Type.i64);
    this.#flagCode = new FlagCode(c, this.main, (flag) => this.#carryFlag(flag));
  }

  // --- The frame of a region -------------------------------------------------------------------------------------

  /** Opens the dispatch over blocks that start at `starts` (instruction pointers); block k is emitted k-th. */
  begin(starts: readonly bigint[]): void {
    const c = this.code;
    this.#starts = starts;
    this.#leave = c.block();
    c.get(0);
    c.set(this.#next);
    this.#dispatch = c.loop();
    this.#chain = c.block();
    if (starts.length > 1) {
      this.#blocks = starts.map(() => c.block()).reverse();
      c.get(this.#next);
      c.brTable(this.#blocks);
    } else this.#blocks = [c.block()];
  }

  /** Starts block `index` of `instructions` instructions. `repeats`: it jumps to its own start. */
  beginBlock(index: number, instructions: number, repeats: boolean): void {
    const c = this.code;
    c.end();
    this.#self = repeats ? c.loop() : undefined;
    this.#current = index;
    this.flagKind = -1;
    this.#carryKind = -1;
    this.#remaining = instructions;
    c.get(this.#budget);
    c.i32(instructions);
    c.op(Op.i32_sub);
    c.tee(this.#budget);
    c.i32(0);
    c.op(Op.i32_lt_s);
    c.if();
    this.#leaveAt({
      rip: this.#starts[index] as bigint,
      flagKind: -1,
      unexecuted: instructions,
      reason: "budget",
    });
    c.end();
  }

  endBlock(next: bigint): void {
    this.jumpTo(next);
    if (this.#self !== undefined) this.code.end();
    this.#self = undefined;
  }

  beginInstruction(insn: Insn): void {
    this.insn = insn;
    this.#address = undefined;
    this.#align = 0;
    for (const pool of this.#temps.values()) pool.used = 0;
  }

  endInstruction(): void {
    this.#remaining--;
  }

  /** Closes the frame and adds the function to the module. */
  finish(name: string): void {
    const c = this.code;
    c.end(); // chain
    this.#emitChain();
    c.end(); // dispatch
    c.op(Op.unreachable);
    c.end(); // leave
    this.#spill();
    c.i32(0);
    c.get(this.#site);
    c.mem(Mem.i32_store, this.#base + State.site);
    this.#storeRegion();
    this.#module.add(name, this.#module.type([Type.i32], []), c, this.#prologue());
  }

  #prologue(): Code {
    const p = new Code(0);
    const load = (code: MemCode, offset: number, local: number) => {
      p.i32(0);
      p.mem(code, this.#base + offset);
      p.set(local);
    };
    for (const i of this.#usedGpr) load(Mem.i64_load, State.gpr + i * 8, this.#gpr[i] as number);
    if (this.#usesFlags) {
      load(Mem.i32_load, State.flagKind, this.main.kind);
      load(Mem.i64_load, State.flagA, this.main.a);
      load(Mem.i64_load, State.flagB, this.main.b);
      load(Mem.i64_load, State.flagR, this.main.r);
    }
    if (this.#usesCarry) {
      load(Mem.i32_load, State.carryKind, this.#carry.kind);
      load(Mem.i64_load, State.carryA, this.#carry.a);
      load(Mem.i64_load, State.carryB, this.#carry.b);
      load(Mem.i64_load, State.carryR, this.#carry.r);
    }
    load(Mem.i32_load, State.budget, this.#budget);
    return p;
  }

  /** Writes every changed local back to the state. */
  #spill(): void {
    for (const i of this.#writtenGpr) this.#storeLocal(Mem.i64_store, State.gpr + i * 8, this.#gpr[i] as number);
    if (this.#usesFlags) this.#storeFlags();
    if (this.#usesCarry) this.#storeCarry();
    this.#storeLocal(Mem.i32_store, State.budget, this.#budget);
  }

  #storeFlags(): void {
    this.#storeLocal(Mem.i32_store, State.flagKind, this.main.kind);
    this.#storeLocal(Mem.i64_store, State.flagA, this.main.a);
    this.#storeLocal(Mem.i64_store, State.flagB, this.main.b);
    this.#storeLocal(Mem.i64_store, State.flagR, this.main.r);
  }

  #storeCarry(): void {
    this.#storeLocal(Mem.i32_store, State.carryKind, this.#carry.kind);
    this.#storeLocal(Mem.i64_store, State.carryA, this.#carry.a);
    this.#storeLocal(Mem.i64_store, State.carryB, this.#carry.b);
    this.#storeLocal(Mem.i64_store, State.carryR, this.#carry.r);
  }

  #storeLocal(code: MemCode, offset: number, local: number): void {
    this.code.i32(0);
    this.code.get(local);
    this.code.mem(code, this.#base + offset);
  }

  #storeConstant(offset: number, value: number): void {
    this.code.i32(0);
    this.code.i32(value);
    this.code.mem(Mem.i32_store, this.#base + offset);
  }

  #storeRegion(): void {
    this.#storeConstant(State.region, this.#options.region);
  }

  /** The common end of every jump whose target is not known: through the jump cache to another region, or out. */
  #emitChain(): void {
    const c = this.code;
    if (this.#options.func >= 0) this.#emitJumpCache();
    this.#spill();
    this.#storeLocal(Mem.i64_store, State.rip, this.#target);
    this.#storeConstant(State.site, SITE_JUMP);
    c.op(Op.return);
  }

  #emitJumpCache(): void {
    const c = this.code;
    const entry = this.temp(Type.i32);
    const linear = this.temp(Type.i64);
    c.get(this.#target);
    if (this.mode.csBase !== 0n) {
      c.i64(this.mode.csBase);
      c.op(Op.i64_add);
    }
    c.tee(linear);
    c.op(Op.i32_wrap_i64);
    c.get(linear);
    c.i64(12);
    c.op(Op.i64_shr_u);
    c.op(Op.i32_wrap_i64);
    c.op(Op.i32_xor);
    c.i32(Jump.entries - 1);
    c.op(Op.i32_and);
    c.i32(5);
    c.op(Op.i32_shl);
    c.tee(entry);
    c.mem(Mem.i64_load, this.#base + State.jumps + Jump.linear);
    c.get(linear);
    c.op(Op.i64_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#base + State.jumps + Jump.mode);
    c.i32(0);
    c.mem(Mem.i32_load, this.#base + State.jumpTag);
    c.op(Op.i32_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#base + State.jumps + Jump.func);
    c.i32(this.#options.func);
    c.op(Op.i32_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#base + State.jumps + Jump.entry);
    c.set(this.#next);
    c.br(this.#dispatch);
    c.end();
    this.#spill();
    c.get(entry);
    c.mem(Mem.i32_load, this.#base + State.jumps + Jump.entry);
    c.get(entry);
    c.mem(Mem.i32_load, this.#base + State.jumps + Jump.func);
    c.returnCallIndirect(this.#module.type([Type.i32], []));
    c.end();
    c.end();
  }

  // --- Leaving ---------------------------------------------------------------------------------------------------

  #leaveAt(site: Site): void {
    this.code.i32(this.sites.push(site) - 1);
    this.code.set(this.#site);
    this.code.br(this.#leave);
  }

  #here(reason: SiteReason): Site {
    return { rip: this.insn.rip, flagKind: this.flagKind, unexecuted: this.#remaining, reason };
  }

  /** Leaves at this instruction for the reason a helper noted in the state. */
  leaveForHelper(): void {
    this.#leaveAt(this.#here("helper"));
  }

  /** Leaves at an instruction whose emitter is not loaded yet. */
  leaveUnknown(): void {
    this.#leaveAt(this.#here("unknown"));
  }

  raise(vector: Vector, errorCode?: number): void {
    this.#leaveAt(this.#here({ vector, errorCode }));
  }

  raiseIf(vector: Vector, errorCode?: number): void {
    this.code.if();
    this.raise(vector, errorCode);
    this.code.end();
  }

  /** Leaves at this instruction with the budget used up: a string instruction between two iterations, of which this instruction pays the last. */
  leaveForBudget(): void {
    this.#leaveAt({ ...this.#here("budget"), unexecuted: this.#remaining - 1 });
  }

  get budgetLocal(): number {
    return this.#budget;
  }

  // --- Control flow ----------------------------------------------------------------------------------------------

  /** Makes the flag kind a run-time value: before any transfer of control. */
  commitFlags(): void {
    if (this.flagKind < 0) return;
    this.code.i32(this.flagKind);
    this.code.set(this.main.kind);
    this.flagKind = -1;
  }

  /** The kind is only known at run time from here on; the local holds it. */
  forgetFlags(): void {
    this.flagKind = -1;
    this.#carryKind = -1;
  }

  /** Goes to a known instruction pointer: inside this region directly, else through the jump cache. */
  jumpTo(target: bigint): void {
    const c = this.code;
    this.commitFlags();
    const index = this.#starts.indexOf(target);
    if (index > this.#current) c.br(this.#blocks[index] as Label);
    else if (index === this.#current && this.#self !== undefined) c.br(this.#self);
    else if (index >= 0) {
      c.i32(index);
      c.set(this.#next);
      c.br(this.#dispatch);
    } else {
      c.i64(target);
      c.set(this.#target);
      c.br(this.#chain);
    }
  }

  /** Pops a condition: `target` when it holds, else what follows the instruction. */
  branch(target: bigint): void {
    const c = this.code;
    this.commitFlags();
    const index = this.#starts.indexOf(target);
    if (index > this.#current) c.brIf(this.#blocks[index] as Label);
    else if (index === this.#current && this.#self !== undefined) c.brIf(this.#self);
    else {
      c.if();
      this.jumpTo(target);
      c.end();
    }
    this.jumpTo(this.insn.next);
  }

  /** Goes to the instruction pointer in a local (i64). */
  jumpIndirect(target: number): void {
    this.commitFlags();
    this.code.get(target);
    this.code.set(this.#target);
    this.code.br(this.#chain);
  }

  // --- Registers and state ---------------------------------------------------------------------------------------

  temp(type: ValueType): number {
    let pool = this.#temps.get(type);
    if (pool === undefined) {
      pool = { locals: [], used: 0 };
      this.#temps.set(type, pool);
    }
    if (pool.used === pool.locals.length) pool.locals.push(this.code.local(type));
    return pool.locals[pool.used++] as number;
  }

  /** Pushes the whole 64-bit register; its upper half is only kept outside 64-bit mode. */
  gpr64(index: number): void {
    this.#usedGpr.add(index);
    this.code.get(this.#gpr[index] as number);
  }

  setGpr64(index: number): void {
    this.#usedGpr.add(index);
    this.#writtenGpr.add(index);
    this.code.set(this.#gpr[index] as number);
  }

  gpr(register: Register): void {
    const c = this.code;
    this.gpr64(gprIndex(register));
    const bits = gprBits(register);
    if (bits === 64) return;
    if (isHighByte(register)) {
      c.i64(8);
      c.op(Op.i64_shr_u);
    }
    c.i64(MASKS[bits]);
    c.op(Op.i64_and);
  }

  setGpr(register: Register): void {
    const c = this.code;
    const index = gprIndex(register);
    const bits = gprBits(register);
    if (bits === 64) {
      this.setGpr64(index);
      return;
    }
    c.i64(MASKS[bits]);
    c.op(Op.i64_and);
    if (bits < 32) {
      const shift = isHighByte(register) ? 8 : 0;
      if (shift !== 0) {
        c.i64(shift);
        c.op(Op.i64_shl);
      }
      this.gpr64(index);
      c.i64(~(MASKS[bits] << BigInt(shift)));
      c.op(Op.i64_and);
      c.op(Op.i64_or);
    }
    this.setGpr64(index);
  }

  loadState(code: MemCode | SimdMemCode, offset: number): void {
    this.code.i32(0);
    this.#access(code, this.#base + offset);
  }
  stateAddress(): void {
    this.code.i32(0);
  }
  storeState(code: MemCode | SimdMemCode, offset: number): void {
    this.#access(code, this.#base + offset);
  }
  /** SIMD loads and stores are numbered below 0x28 or from 92; the plain ones lie between. */
  #access(code: MemCode | SimdMemCode, offset: number): void {
    if (code >= Mem.i32_load && code <= Mem.i64_store32) this.code.mem(code as MemCode, offset);
    else this.code.simdMem(code as SimdMemCode, offset);
  }

  // --- Memory ----------------------------------------------------------------------------------------------------

  address(options: { align?: number } = {}): Address {
    if (options.align !== undefined) this.#align = options.align;
    this.#address ??= this.#evaluate();
    return this.#address;
  }

  /** Width of the memory operand's address in bits. */
  addressBits(): 16 | 32 | 64 {
    const { raw } = this.insn;
    for (const register of [raw.memoryBase, raw.memoryIndex]) {
      if (register === Register.None) continue;
      if (register === Register.EIP) return 32;
      if (register === Register.RIP) return 64;
      if (register <= Register.R15 && register >= Register.AX) {
        const bits = gprBits(register);
        if (bits !== 8) return bits;
      }
    }
    const size = raw.memoryDisplSize;
    return size === 2 ? 16 : size === 4 ? 32 : size === 8 ? 64 : this.mode.bits;
  }

  #evaluate(): Address {
    const c = this.code;
    const { raw } = this.insn;
    const offset = this.temp(Type.i64);
    const bits = this.addressBits();
    this.pushEffective(bits);
    c.set(offset);
    return { offset, segment: raw.memorySegment - Register.ES };
  }

  /** Pushes the effective address, truncated to `bits`. Vector indexes (VSIB) are left out. */
  pushEffective(bits: 16 | 32 | 64): void {
    const c = this.code;
    const { raw } = this.insn;
    const base = raw.memoryBase;
    const index = raw.isVsib ? Register.None : raw.memoryIndex;
    const displacement = BigInt.asUintN(bits, raw.memoryDisplacement);
    let terms = 0;
    if (base !== Register.None && base !== Register.RIP && base !== Register.EIP) {
      this.gpr(base);
      terms++;
    }
    if (index !== Register.None) {
      this.gpr(index);
      const scale = Math.log2(raw.memoryIndexScale);
      if (scale > 0) {
        c.i64(scale);
        c.op(Op.i64_shl);
      }
      if (terms++ > 0) c.op(Op.i64_add);
    }
    if (terms === 0) {
      c.i64(displacement);
      return;
    }
    if (displacement !== 0n) {
      c.i64(BigInt.asIntN(bits, displacement));
      c.op(Op.i64_add);
      terms++;
    }
    if (bits !== 64 && (terms > 1 || index !== Register.None)) {
      c.i64(MASKS[bits]);
      c.op(Op.i64_and);
    }
  }

  /** Computes the linear address of an access into a fresh local, after the segment's checks. */
  linear(address: Address, bytes: number, write: boolean, displacement = 0): number {
    const c = this.code;
    const lin = this.temp(Type.i64);
    const { segment } = address;
    c.get(address.offset);
    if (displacement !== 0) {
      c.i64(displacement);
      c.op(Op.i64_add);
    }
    if (this.mode.bits === 64) {
      if (segment >= 4) {
        this.loadState(Mem.i64_load, State.segments + segment * Seg.size + Seg.base);
        c.op(Op.i64_add);
      }
      c.set(lin);
    } else if (this.mode.flat && segment < 4) {
      if (displacement !== 0) {
        c.i64(0xffff_ffffn);
        c.op(Op.i64_and);
      }
      c.set(lin);
    } else {
      c.tee(lin);
      if (bytes > 1) {
        c.i64(bytes - 1);
        c.op(Op.i64_add);
      }
      const slot = State.segments + segment * Seg.size;
      this.loadState(Mem.i64_load, slot + (write ? Seg.writeLimit : Seg.readLimit));
      c.op(Op.i64_gt_s);
      c.if();
      c.get(lin);
      c.op(Op.i32_wrap_i64);
      c.i32(this.#info(bytes, segment, write));
      c.call(this.#import("checkSegment", [Type.i32, Type.i32], [Type.i32]));
      this.#leaveIfSet();
      c.end();
      c.get(lin);
      this.loadState(Mem.i64_load, slot + Seg.base);
      c.op(Op.i64_add);
      c.i64(0xffff_ffffn);
      c.op(Op.i64_and);
      c.set(lin);
    }
    // Only the first byte of an operand has to be aligned, not what lies at a displacement.
    if (this.#align > 1 && displacement === 0) {
      this.#pushMisaligned(lin, this.#align);
      this.raiseIf(Vector.GP, 0);
    }
    return lin;
  }

  #pushMisaligned(lin: number, align: number): void {
    const c = this.code;
    c.get(lin);
    c.op(Op.i32_wrap_i64);
    c.i32(align - 1);
    c.op(Op.i32_and);
  }

  #info(bytes: number, segment: number, write: boolean): number {
    return bytes | (segment << INFO_SEGMENT_SHIFT) | (write ? INFO_WRITE : 0) | (this.mode.user ? INFO_USER : 0);
  }

  #import(name: string, params: readonly ValueType[], results: readonly ValueType[]): number {
    return this.#module.importFunction(name, params, results);
  }

  /** Pops a status and leaves at this instruction when it is not 0. */
  #leaveIfSet(): void {
    this.code.if();
    this.leaveForHelper();
    this.code.end();
  }

  /** Pushes whether the TLB entry of `lin` (its byte offset goes to a local) covers the access. */
  probe(lin: number, bytes: number, write: boolean): number {
    const c = this.code;
    const entry = this.temp(Type.i32);
    if (this.mode.alignCheck && bytes > 1 && this.#align === 0) {
      this.#pushMisaligned(lin, Math.min(bytes, 8));
      this.raiseIf(Vector.AC, 0);
    }
    c.get(lin);
    c.op(Op.i32_wrap_i64);
    // Page number × 16.
    c.i32(8);
    c.op(Op.i32_shr_u);
    c.i32((Tlb.entries - 1) * Tlb.size);
    c.op(Op.i32_and);
    c.tee(entry);
    c.mem(Mem.i64_load, this.#tlb(write) + Tlb.tag);
    c.get(lin);
    if (bytes > 1) {
      c.i64(bytes - 1);
      c.op(Op.i64_add);
    }
    c.i64(-4096);
    c.op(Op.i64_and);
    c.op(Op.i64_eq);
    return entry;
  }

  #tlb(write: boolean): number {
    return this.#base + tlbTable(this.mode.user, write);
  }

  /** Pushes the WebAssembly address of `lin` by the TLB entry that `probe` found. */
  pushHost(lin: number, entry: number, write: boolean): void {
    const c = this.code;
    c.get(lin);
    c.op(Op.i32_wrap_i64);
    c.get(entry);
    c.mem(Mem.i32_load, this.#tlb(write) + Tlb.addend);
    c.op(Op.i32_add);
  }

  #pushSlowArguments(lin: number, bytes: number, segment: number, write: boolean): void {
    const c = this.code;
    c.get(lin);
    c.op(Op.i32_wrap_i64);
    c.get(lin);
    c.i64(32);
    c.op(Op.i64_shr_u);
    c.op(Op.i32_wrap_i64);
    c.i32(this.#info(bytes, segment, write));
  }

  #slow(name: string): number {
    return this.#import(name, [Type.i32, Type.i32, Type.i32], [Type.i32]);
  }

  /** Pushes the WebAssembly address (i32) where the operand can be loaded from, or changed when `modify`. */
  #host(lin: number, bytes: number, segment: number, modify: boolean): void {
    const c = this.code;
    const entry = this.probe(lin, bytes, modify);
    const host = this.temp(Type.i32);
    c.if(Type.i32);
    this.pushHost(lin, entry, modify);
    c.else();
    this.#pushSlowArguments(lin, bytes, segment, modify);
    c.call(this.#slow(modify ? "slowModify" : "slowLoad"));
    c.tee(host);
    c.op(Op.i32_eqz);
    this.#leaveIfSet();
    c.get(host);
    c.end();
  }

  load(address: Address, bytes: 1 | 2 | 4 | 8 | 16, displacement = 0): void {
    const lin = this.linear(address, bytes, false, displacement);
    this.#host(lin, bytes, address.segment, false);
    if (bytes === 16) this.code.simdMem(SimdMem.v128_load, 0);
    else this.code.mem(LOADS[bytes] as MemCode, 0);
  }

  store(address: Address, bytes: 1 | 2 | 4 | 8 | 16, value: number, displacement = 0): void {
    const c = this.code;
    const lin = this.linear(address, bytes, true, displacement);
    const entry = this.probe(lin, bytes, true);
    c.if();
    this.pushHost(lin, entry, true);
    c.get(value);
    if (bytes === 16) c.simdMem(SimdMem.v128_store, 0);
    else c.mem(STORES[bytes] as MemCode, 0);
    c.else();
    this.stateAddress();
    c.get(value);
    this.storeState(bytes === 16 ? SimdMem.v128_store : Mem.i64_store, State.scratch);
    this.#pushSlowArguments(lin, bytes, address.segment, true);
    c.call(this.#slow("slowStore"));
    this.#leaveIfSet();
    c.end();
  }

  checkWrite(address: Address, bytes: number): void {
    this.#check(address, bytes, true);
  }
  checkRead(address: Address, bytes: number): void {
    this.#check(address, bytes, false);
  }
  #check(address: Address, bytes: number, write: boolean): void {
    const lin = this.linear(address, bytes, write);
    this.probe(lin, bytes, write);
    this.code.op(Op.i32_eqz);
    this.code.if();
    this.#pushSlowArguments(lin, bytes, address.segment, write);
    this.code.call(this.#slow("checkRange"));
    this.#leaveIfSet();
    this.code.end();
  }

  /** Evaluates an operand that will be read and then written: every fault comes here. */
  place(operand: number, bytes: number): Place {
    if (!this.insn.isMemory(operand)) return { kind: "register", register: this.insn.register(operand) };
    return this.memoryPlace(this.address(), bytes);
  }

  memoryPlace(address: Address, bytes: number): Place {
    const lin = this.linear(address, bytes, true);
    this.#host(lin, bytes, address.segment, true);
    const host = this.temp(Type.i32);
    this.code.set(host);
    return { kind: "memory", host, linear: lin, bytes };
  }

  readPlace(place: Place, at = 0, bytes?: number): void {
    if (place.kind === "register") {
      this.gpr(place.register);
      return;
    }
    this.code.get(place.host);
    this.code.mem(LOADS[bytes ?? place.bytes] as MemCode, at);
  }

  /** Pops an i64 into the place. Memory: call `endPlace` when all parts are written. */
  writePlace(place: Place, value: number, at = 0, bytes?: number): void {
    const c = this.code;
    if (place.kind === "register") {
      c.get(value);
      this.setGpr(place.register);
      return;
    }
    c.get(place.host);
    c.get(value);
    c.mem(STORES[bytes ?? place.bytes] as MemCode, at);
    if (at + (bytes ?? place.bytes) < place.bytes) return;
    // An access across two pages, or to MMIO, was made on the scratch area: carry it out now.
    c.get(place.host);
    c.i32(this.#base + State.scratch);
    c.op(Op.i32_eq);
    c.if();
    this.#pushSlowArguments(place.linear, place.bytes, 0, true);
    c.call(this.#slow("commitModify"));
    c.op(Op.drop);
    c.end();
  }

  // --- Flags -----------------------------------------------------------------------------------------------------

  /** Says that the flags now come from `main.a`, `main.b` and `main.r`, which the caller sets. */
  useFlags(family: Family, bits: Bits): void {
    this.#usesFlags = true;
    this.flagKind = flagKind(family, bits);
  }

  /**
   * Copies the main descriptor to the carry descriptor, before an instruction that replaces some flags only. `same`:
   * the families that replace the same flags, in ascending order without a gap; what they kept stays.
   */
  keepFlags(same: readonly Family[]): void {
    const c = this.code;
    this.#usesFlags = true;
    this.#usesCarry = true;
    const pairs = [
      [this.main.a, this.#carry.a],
      [this.main.b, this.#carry.b],
      [this.main.r, this.#carry.r],
    ] as const;
    if (this.flagKind >= 0) {
      if (same.includes(familyOf(this.flagKind))) return;
      for (const [from, to] of pairs) {
        c.get(from);
        c.set(to);
      }
      c.i32(this.flagKind);
      c.set(this.#carry.kind);
      this.#carryKind = this.flagKind;
      return;
    }
    this.#carryKind = -1;
    // A branch, not selects: in a loop it always goes the same way. Families of one list are neighbours.
    c.get(this.main.kind);
    c.i32(flagKind(same[0] as Family, 8));
    c.op(Op.i32_sub);
    c.i32(same.length * 4);
    c.op(Op.i32_ge_u);
    c.if();
    for (const [from, to] of [...pairs, [this.main.kind, this.#carry.kind]] as const) {
      c.get(from);
      c.set(to);
    }
    c.end();
  }

  #carryFlag(flag: FlagName): void {
    const c = this.code;
    this.#usesCarry = true;
    if (this.#carryKind >= 0) {
      const nested = new FlagCode(c, this.#carry, () => c.i32(0));
      const push = { CF: "cf", PF: "pf", AF: "af", ZF: "zf", SF: "sf", OF: "of" } as const;
      nested[push[flag]](this.#carryKind);
      return;
    }
    for (const local of [this.#carry.kind, this.#carry.a, this.#carry.b, this.#carry.r]) c.get(local);
    c.i32(0);
    for (let i = 0; i < 3; i++) c.i64(0);
    c.call(this.#import("flags", FLAGS_PARAMS, [Type.i32]));
    c.i32(Math.log2(Flag[flag]));
    c.op(Op.i32_shr_u);
    c.i32(1);
    c.op(Op.i32_and);
  }

  flags(): void {
    this.#usesFlags = true;
    if (this.flagKind >= 0) {
      this.#flagCode.all(this.flagKind);
      return;
    }
    this.#usesCarry = true;
    for (const d of [this.main, this.#carry]) for (const local of [d.kind, d.a, d.b, d.r]) this.code.get(local);
    this.code.call(this.#import("flags", FLAGS_PARAMS, [Type.i32]));
  }

  setFlags(): void {
    this.#usesFlags = true;
    this.code.op(Op.i64_extend_i32_u);
    this.code.set(this.main.a);
    this.flagKind = flagKind(Family.explicit, 8);
  }

  condition(code: ConditionCode): void {
    this.#usesFlags = true;
    if (this.flagKind >= 0) {
      this.#flagCode.condition(this.flagKind, code);
      return;
    }
    const all = this.temp(Type.i32);
    this.flags();
    this.code.set(all);
    conditionOfFlags(this.code, all, code);
  }

  /** Pushes CF as an i32. */
  carryFlag(): void {
    this.#usesFlags = true;
    if (this.flagKind >= 0) {
      this.#flagCode.cf(this.flagKind);
      return;
    }
    this.flags();
    this.code.i32(1);
    this.code.op(Op.i32_and);
  }

  // --- TypeScript ------------------------------------------------------------------------------------------------

  call(name: string, params: readonly ValueType[], result?: ValueType | "faults"): void {
    const results = result === undefined ? [] : result === "faults" ? [Type.i32] : [result];
    this.code.call(this.#import(`helper:${name}`, params, results));
    if (result === "faults") this.#leaveIfSet();
  }

  callSystem(name: string, params: readonly ValueType[]): void {
    const c = this.code;
    this.#spillAll(params, name);
    this.#leaveAfterSystem();
    for (let i = 0; i < 16; i++) {
      this.loadState(Mem.i64_load, State.gpr + i * 8);
      c.set(this.#gpr[i] as number);
    }
    this.loadState(Mem.i32_load, State.flagKind);
    c.set(this.main.kind);
    for (const [local, offset] of [
      [this.main.a, State.flagA],
      [this.main.b, State.flagB],
      [this.main.r, State.flagR],
    ] as const) {
      this.loadState(Mem.i64_load, offset);
      c.set(local);
    }
    this.loadState(Mem.i32_load, State.budget);
    c.set(this.#budget);
  }

  /** Calls a helper that decides where the vCPU goes on: the region ends, RIP behind this instruction unless it says otherwise. */
  endSystem(name: string, params: readonly ValueType[]): void {
    this.#spillAll(params, name);
    this.code.op(Op.drop);
    this.#storeConstant(State.site, SITE_SYSTEM);
    this.#storeRegion();
    this.code.op(Op.return);
  }

  /** Spills everything, RIP at this instruction, and calls: the status is left on the stack. */
  #spillAll(params: readonly ValueType[], name: string): void {
    const c = this.code;
    this.#usesFlags = true;
    this.#usesCarry = true;
    this.commitFlags();
    for (let i = 0; i < 16; i++) {
      this.#usedGpr.add(i);
      this.#writtenGpr.add(i);
      this.#storeLocal(Mem.i64_store, State.gpr + i * 8, this.#gpr[i] as number);
    }
    this.#storeFlags();
    this.#storeCarry();
    c.i32(0);
    c.get(this.#budget);
    c.i32(this.#remaining);
    c.op(Op.i32_add);
    c.mem(Mem.i32_store, this.#base + State.budget);
    c.i32(0);
    c.i64(this.insn.rip);
    c.mem(Mem.i64_store, this.#base + State.rip);
    this.#storeConstant(State.length, this.insn.length);
    c.call(this.#import(`helper:${name}`, params, [Type.i32]));
  }

  /** Pops a status; when set the state is complete already and the function returns. */
  #leaveAfterSystem(): void {
    const c = this.code;
    c.if();
    this.#storeConstant(State.site, SITE_SYSTEM);
    this.#storeRegion();
    c.op(Op.return);
    c.end();
    // The instruction is retired: take the block's instructions off again.
    this.loadState(Mem.i32_load, State.budget);
    c.i32(this.#remaining);
    c.op(Op.i32_sub);
    const left = this.temp(Type.i32);
    c.set(left);
    this.#storeLocal(Mem.i32_store, State.budget, left);
  }

  // --- Gates -----------------------------------------------------------------------------------------------------

  #require(gate: "run" | "ud" | "nm"): boolean {
    if (gate === "run") return true;
    this.raise(gate === "ud" ? Vector.UD : Vector.NM);
    return false;
  }
  requireX87(): boolean {
    return this.#require(this.mode.x87);
  }
  requireMmx(): boolean {
    return this.#require(this.mode.mmx);
  }
  requireSse(): boolean {
    return this.#require(this.mode.sse);
  }
  requireAvx(): boolean {
    return this.#require(this.mode.avx);
  }
}
