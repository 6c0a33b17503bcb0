import type { ConditionCode, Register } from "../decoder/names.ts";
import type { FlagLocals } from "../flags/emit.ts";
import type { Bits, Family } from "../flags/kinds.ts";
import { Jump, State, Vector } from "../state.ts";
import type { Label } from "../wasm/code.ts";
import { Code } from "../wasm/code.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { Mem, type MemCode, Op, type SimdMemCode, Type, type ValueType } from "../wasm/opcodes.ts";
import type { Address, Emit } from "./context.ts";
import type { Insn } from "./insn.ts";
import { ANY_KIND, LazyFlags } from "./lazy-flags.ts";
import { type Leaving, MemoryEmitter, type Place } from "./memory.ts";
import type { Mode } from "./mode.ts";
import { RegionLocals } from "./region-locals.ts";
import { SITE_JUMP, SITE_SYSTEM, type Site, type SiteReason } from "./site.ts";

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

/**
 * Writes the function of one region: its frame, the control flow between its blocks, and how it leaves. What instructions
 * ask for beside that is handed to the parts: registers and state, flags, memory.
 */
export class RegionEmitter implements Emit, Leaving {
  readonly code = new Code(1);
  readonly mode: Mode;
  readonly sites: Site[] = [];
  insn!: Insn;
  readonly #options: RegionOptions;
  readonly #module: ModuleBuilder;
  readonly #locals: RegionLocals;
  readonly #flags: LazyFlags;
  readonly #memory: MemoryEmitter;
  readonly #budget: number;
  readonly #site: number;
  readonly #target: number;
  readonly #next: number;
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
    const { module, mode, base } = options;
    const { code } = this;
    this.#module = module;
    this.mode = mode;
    const locals = new RegionLocals(code, base);
    this.#locals = locals;
    this.#flags = new LazyFlags(code, locals, () => this.#import(ANY_KIND.name, ANY_KIND.params, ANY_KIND.results));
    this.#memory = new MemoryEmitter({ code, module, mode, base, locals, leaving: this });
    this.#budget = code.local(Type.i32);
    this.#site = code.local(Type.i32);
    this.#next = code.local(Type.i32);
    this.#target = code.local(Type.i64);
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
    this.#flags.forget();
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
    this.#memory.beginInstruction(insn);
    this.#locals.freeTemps();
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
    c.mem(Mem.i32_store, this.#options.base + State.site);
    this.#storeRegion();
    this.#module.add(name, this.#module.type([Type.i32], []), c, this.#prologue());
  }

  #prologue(): Code {
    const before = new Code(0);
    this.#locals.prologue(before);
    this.#flags.prologue(before);
    this.#locals.loadInto(before, Mem.i32_load, State.budget, this.#budget);
    return before;
  }

  /** Writes every changed local back to the state. */
  #spill(): void {
    this.#locals.spill();
    this.#flags.spill();
    this.#locals.storeLocal(Mem.i32_store, State.budget, this.#budget);
  }

  #storeRegion(): void {
    this.#locals.storeConstant(State.region, this.#options.region);
  }

  /** The common end of every jump whose target is not known: through the jump cache to another region, or out. */
  #emitChain(): void {
    const c = this.code;
    if (this.#options.func >= 0) this.#emitJumpCache();
    this.#spill();
    this.#locals.storeLocal(Mem.i64_store, State.rip, this.#target);
    this.#locals.storeConstant(State.site, SITE_JUMP);
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
    c.mem(Mem.i64_load, this.#options.base + State.jumps + Jump.linear);
    c.get(linear);
    c.op(Op.i64_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#options.base + State.jumps + Jump.mode);
    c.i32(0);
    c.mem(Mem.i32_load, this.#options.base + State.jumpTag);
    c.op(Op.i32_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#options.base + State.jumps + Jump.func);
    c.i32(this.#options.func);
    c.op(Op.i32_eq);
    c.if();
    c.get(entry);
    c.mem(Mem.i32_load, this.#options.base + State.jumps + Jump.entry);
    c.set(this.#next);
    c.br(this.#dispatch);
    c.end();
    this.#spill();
    c.get(entry);
    c.mem(Mem.i32_load, this.#options.base + State.jumps + Jump.entry);
    c.get(entry);
    c.mem(Mem.i32_load, this.#options.base + State.jumps + Jump.func);
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

  leaveIfSet(): void {
    this.code.if();
    this.leaveForHelper();
    this.code.end();
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

  // --- Registers, flags, memory: the parts -----------------------------------------------------------------------

  temp(type: ValueType): number {
    return this.#locals.temp(type);
  }
  gpr64(index: number): void {
    this.#locals.gpr64(index);
  }
  setGpr64(index: number): void {
    this.#locals.setGpr64(index);
  }
  gpr(register: Register): void {
    this.#locals.gpr(register);
  }
  setGpr(register: Register): void {
    this.#locals.setGpr(register);
  }
  loadState(code: MemCode | SimdMemCode, offset: number): void {
    this.#locals.loadState(code, offset);
  }
  stateAddress(): void {
    this.code.i32(0);
  }
  storeState(code: MemCode | SimdMemCode, offset: number): void {
    this.#locals.storeState(code, offset);
  }

  /** Where `useFlags` finds its operands. */
  get main(): FlagLocals {
    return this.#flags.main;
  }
  get flagKind(): number {
    return this.#flags.kind;
  }
  useFlags(family: Family, bits: Bits): void {
    this.#flags.use(family, bits);
  }
  keepFlags(same: readonly Family[]): void {
    this.#flags.keep(same);
  }
  setFlags(): void {
    this.#flags.set();
  }
  commitFlags(): void {
    this.#flags.commit();
  }
  forgetFlags(): void {
    this.#flags.forget();
  }
  flags(): void {
    this.#flags.all();
  }
  condition(code: ConditionCode): void {
    this.#flags.condition(code);
  }
  carryFlag(): void {
    this.#flags.carry();
  }

  address(options: { align?: number } = {}): Address {
    return this.#memory.address(options);
  }
  addressBits(): 16 | 32 | 64 {
    return this.#memory.addressBits();
  }
  pushEffective(bits: 16 | 32 | 64): void {
    this.#memory.pushEffective(bits);
  }
  linear(address: Address, bytes: number, write: boolean, displacement = 0): number {
    return this.#memory.linear(address, bytes, write, displacement);
  }
  probe(linear: number, bytes: number, write: boolean): number {
    return this.#memory.probe(linear, bytes, write);
  }
  pushHost(linear: number, entry: number, write: boolean): void {
    this.#memory.pushHost(linear, entry, write);
  }
  load(address: Address, bytes: 1 | 2 | 4 | 8 | 16, displacement = 0): void {
    this.#memory.load(address, bytes, displacement);
  }
  store(address: Address, bytes: 1 | 2 | 4 | 8 | 16, value: number, displacement = 0): void {
    this.#memory.store(address, bytes, value, displacement);
  }
  checkWrite(address: Address, bytes: number, unit?: number): void {
    this.#memory.checkWrite(address, bytes, unit);
  }
  checkRead(address: Address, bytes: number, unit?: number): void {
    this.#memory.checkRead(address, bytes, unit);
  }
  place(operand: number, bytes: number): Place {
    return this.#memory.place(operand, bytes);
  }
  memoryPlace(address: Address, bytes: number): Place {
    return this.#memory.memoryPlace(address, bytes);
  }
  readPlace(place: Place, at = 0, bytes?: number): void {
    this.#memory.readPlace(place, at, bytes);
  }
  writePlace(place: Place, value: number, at = 0, bytes?: number): void {
    this.#memory.writePlace(place, value, at, bytes);
  }

  // --- TypeScript ------------------------------------------------------------------------------------------------

  call(name: string, params: readonly ValueType[], result?: ValueType | "faults"): void {
    const results = result === undefined ? [] : result === "faults" ? [Type.i32] : [result];
    this.code.call(this.#import(`helper:${name}`, params, results));
    if (result === "faults") this.leaveIfSet();
  }

  #import(name: string, params: readonly ValueType[], results: readonly ValueType[]): number {
    return this.#module.importFunction(name, params, results);
  }

  callSystem(name: string, params: readonly ValueType[]): void {
    const c = this.code;
    this.#spillAll(params, name);
    this.#leaveAfterSystem();
    this.#locals.reloadAll();
    this.#flags.reload();
    this.loadState(Mem.i32_load, State.budget);
    c.set(this.#budget);
  }

  /** Calls a helper that decides where the vCPU goes on: the region ends, RIP behind this instruction unless it says otherwise. */
  endSystem(name: string, params: readonly ValueType[]): void {
    this.#spillAll(params, name);
    this.code.op(Op.drop);
    this.#locals.storeConstant(State.site, SITE_SYSTEM);
    this.#storeRegion();
    this.code.op(Op.return);
  }

  /** Spills everything, RIP at this instruction, and calls: the status is left on the stack. */
  #spillAll(params: readonly ValueType[], name: string): void {
    const c = this.code;
    this.#locals.spillAll();
    this.#flags.spillAll();
    c.i32(0);
    c.get(this.#budget);
    c.i32(this.#remaining);
    c.op(Op.i32_add);
    c.mem(Mem.i32_store, this.#options.base + State.budget);
    c.i32(0);
    c.i64(this.insn.rip);
    c.mem(Mem.i64_store, this.#options.base + State.rip);
    this.#locals.storeConstant(State.length, this.insn.length);
    c.call(this.#import(`helper:${name}`, params, [Type.i32]));
  }

  /** Pops a status; when set the state is complete already and the function returns. */
  #leaveAfterSystem(): void {
    const c = this.code;
    c.if();
    this.#locals.storeConstant(State.site, SITE_SYSTEM);
    this.#storeRegion();
    c.op(Op.return);
    c.end();
    // The helper has counted this instruction: take the rest of the block off again.
    this.loadState(Mem.i32_load, State.budget);
    c.i32(this.#remaining - 1);
    c.op(Op.i32_sub);
    const left = this.temp(Type.i32);
    c.set(left);
    this.#locals.storeLocal(Mem.i32_store, State.budget, left);
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
