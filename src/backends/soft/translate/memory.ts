import { Register } from "../decoder/names.ts";
import { MASKS } from "../flags/kinds.ts";
import { Seg, SegIndex, State, Tlb, tlbTable, Vector } from "../state.ts";
import type { Code } from "../wasm/code.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { Mem, type MemCode, Op, SimdMem, Type } from "../wasm/opcodes.ts";
import { INFO_SEGMENT_SHIFT, INFO_USER, INFO_WRITE } from "./access-info.ts";
import type { Address } from "./context.ts";
import { gprBits, type Insn } from "./insn.ts";
import type { Mode } from "./mode.ts";
import type { RegionLocals } from "./region-locals.ts";

/** An operand that is read and written. */
export type Place =
  | { readonly kind: "register"; readonly register: Register }
  | { readonly kind: "memory"; readonly host: number; readonly linear: number; readonly bytes: number };

const LOADS: Record<number, MemCode> = {
  1: Mem.i64_load8_u,
  2: Mem.i64_load16_u,
  4: Mem.i64_load32_u,
  8: Mem.i64_load,
};
const STORES: Record<number, MemCode> = { 1: Mem.i64_store8, 2: Mem.i64_store16, 4: Mem.i64_store32, 8: Mem.i64_store };

/** Base registers whose default segment is SS. */
const STACK_BASES: ReadonlySet<Register> = new Set([
  Register.SP,
  Register.BP,
  Register.ESP,
  Register.EBP,
  Register.RSP,
  Register.RBP,
]);

/** How an access that cannot be made ends its instruction. */
export interface Leaving {
  /** Pops a status and leaves at this instruction when it is not 0. */
  leaveIfSet(): void;
  /** Pops a condition. */
  raiseIf(vector: Vector, errorCode?: number): void;
}

export interface MemoryContext {
  readonly code: Code;
  readonly module: ModuleBuilder;
  readonly mode: Mode;
  readonly base: number;
  readonly locals: RegionLocals;
  readonly leaving: Leaving;
}

/** Memory operands: effective address, segment, TLB probe, the access itself, and the slow functions behind it. */
export class MemoryEmitter {
  readonly #context: MemoryContext;
  readonly code: Code;
  readonly mode: Mode;
  #insn!: Insn;
  #address: Address | undefined;
  #align = 0;

  constructor(context: MemoryContext) {
    this.#context = context;
    this.code = context.code;
    this.mode = context.mode;
  }

  beginInstruction(insn: Insn): void {
    this.#insn = insn;
    this.#address = undefined;
    this.#align = 0;
  }

  get #locals(): RegionLocals {
    return this.#context.locals;
  }

  address(options: { align?: number } = {}): Address {
    if (options.align !== undefined) this.#align = options.align;
    this.#address ??= this.#evaluate();
    return this.#address;
  }

  /** Width of the memory operand's address in bits. */
  addressBits(): 16 | 32 | 64 {
    const { raw } = this.#insn;
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
    const offset = this.#locals.temp(Type.i64);
    const bits = this.addressBits();
    this.pushEffective(bits);
    c.set(offset);
    return { offset, segment: this.#segment() };
  }

  /** In 64-bit mode prefixes that name ES, CS, SS or DS do nothing: the base register alone tells #SS from #GP. */
  #segment(): number {
    const { raw } = this.#insn;
    const segment = raw.memorySegment - Register.ES;
    if (this.mode.bits !== 64 || segment >= SegIndex.fs) return segment;
    return STACK_BASES.has(raw.memoryBase) ? SegIndex.ss : SegIndex.ds;
  }

  /** Pushes the effective address, truncated to `bits`. Vector indexes (VSIB) are left out. */
  pushEffective(bits: 16 | 32 | 64): void {
    const c = this.code;
    const { raw } = this.#insn;
    const base = raw.memoryBase;
    const index = raw.isVsib ? Register.None : raw.memoryIndex;
    const displacement = BigInt.asUintN(bits, raw.memoryDisplacement);
    let terms = 0;
    if (base !== Register.None && base !== Register.RIP && base !== Register.EIP) {
      this.#locals.gpr(base);
      terms++;
    }
    if (index !== Register.None) {
      this.#locals.gpr(index);
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
    const lin = this.#locals.temp(Type.i64);
    const { segment } = address;
    c.get(address.offset);
    if (displacement !== 0) {
      c.i64(displacement);
      c.op(Op.i64_add);
    }
    if (this.mode.bits === 64) {
      if (segment >= 4) {
        this.#locals.loadState(Mem.i64_load, State.segments + segment * Seg.size + Seg.base);
        c.op(Op.i64_add);
      }
      c.set(lin);
    } else if (this.mode.flat && segment < 4 && !(write && segment === SegIndex.cs)) {
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
      this.#locals.loadState(Mem.i64_load, slot + (write ? Seg.writeLimit : Seg.readLimit));
      c.op(Op.i64_gt_s);
      c.if();
      // Alignment goes before the limit, as AMD has it: #GP, not #SS.
      if (this.#align > 1 && displacement === 0 && segment === SegIndex.ss) {
        c.get(lin);
        this.#locals.loadState(Mem.i64_load, slot + Seg.base);
        c.op(Op.i64_add);
        this.#pushLowBits(this.#align);
        this.#context.leaving.raiseIf(Vector.GP, 0);
      }
      c.get(lin);
      c.op(Op.i32_wrap_i64);
      c.i32(this.#info(bytes, segment, write));
      c.call(this.#context.module.importFunction("checkSegment", [Type.i32, Type.i32], [Type.i32]));
      this.#leaveIfSet();
      c.end();
      c.get(lin);
      this.#locals.loadState(Mem.i64_load, slot + Seg.base);
      c.op(Op.i64_add);
      c.i64(0xffff_ffffn);
      c.op(Op.i64_and);
      c.set(lin);
    }
    // Only the first byte of an operand has to be aligned, not what lies at a displacement.
    if (this.#align > 1 && displacement === 0) {
      this.#pushMisaligned(lin, this.#align);
      this.#context.leaving.raiseIf(Vector.GP, 0);
    }
    return lin;
  }

  #pushMisaligned(lin: number, align: number): void {
    this.code.get(lin);
    this.#pushLowBits(align);
  }

  /** Of the i64 on the stack. */
  #pushLowBits(align: number): void {
    const c = this.code;
    c.op(Op.i32_wrap_i64);
    c.i32(align - 1);
    c.op(Op.i32_and);
  }

  #info(bytes: number, segment: number, write: boolean): number {
    return bytes | (segment << INFO_SEGMENT_SHIFT) | (write ? INFO_WRITE : 0) | (this.mode.user ? INFO_USER : 0);
  }

  #leaveIfSet(): void {
    this.#context.leaving.leaveIfSet();
  }

  /** #AC(0) unless aligned by `bytes`, a power of two; an address that is not canonical is for the slow path to refuse. */
  #checkAlignment(lin: number, bytes: number): void {
    if (!this.mode.alignCheck || bytes === 1 || this.#align !== 0) return;
    const c = this.code;
    this.#pushMisaligned(lin, bytes);
    if (this.mode.bits === 64) {
      c.i32(0);
      c.op(Op.i32_ne);
      c.get(lin);
      c.i64(16);
      c.op(Op.i64_shl);
      c.i64(16);
      c.op(Op.i64_shr_s);
      c.get(lin);
      c.op(Op.i64_eq);
      c.op(Op.i32_and);
    }
    this.#context.leaving.raiseIf(Vector.AC, 0);
  }

  /** Pushes whether the TLB entry of `lin` (its byte offset goes to a local) covers the access. */
  probe(lin: number, bytes: number, write: boolean): number {
    const c = this.code;
    const entry = this.#locals.temp(Type.i32);
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
    return this.#context.base + tlbTable(this.mode.user, write);
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
    return this.#context.module.importFunction(name, [Type.i32, Type.i32, Type.i32], [Type.i32]);
  }

  /** Pushes the WebAssembly address (i32) where the operand can be loaded from, or changed when `modify`. */
  #host(lin: number, bytes: number, segment: number, modify: boolean): void {
    const c = this.code;
    this.#checkAlignment(lin, bytes);
    const entry = this.probe(lin, bytes, modify);
    const host = this.#locals.temp(Type.i32);
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
    this.#checkAlignment(lin, bytes);
    const entry = this.probe(lin, bytes, true);
    c.if();
    this.pushHost(lin, entry, true);
    c.get(value);
    if (bytes === 16) c.simdMem(SimdMem.v128_store, 0);
    else c.mem(STORES[bytes] as MemCode, 0);
    c.else();
    c.i32(0);
    c.get(value);
    this.#locals.storeState(bytes === 16 ? SimdMem.v128_store : Mem.i64_store, State.scratch);
    this.#pushSlowArguments(lin, bytes, address.segment, true);
    c.call(this.#slow("slowStore"));
    this.#leaveIfSet();
    c.end();
  }

  checkWrite(address: Address, bytes: number, unit?: number): void {
    this.#check(address, bytes, true, unit);
  }
  checkRead(address: Address, bytes: number, unit?: number): void {
    this.#check(address, bytes, false, unit);
  }
  #check(address: Address, bytes: number, write: boolean, unit: number = bytes): void {
    const lin = this.linear(address, bytes, write);
    this.#checkAlignment(lin, unit);
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
    if (!this.#insn.isMemory(operand)) return { kind: "register", register: this.#insn.register(operand) };
    return this.memoryPlace(this.address(), bytes);
  }

  memoryPlace(address: Address, bytes: number): Place {
    const lin = this.linear(address, bytes, true);
    this.#host(lin, bytes, address.segment, true);
    const host = this.#locals.temp(Type.i32);
    this.code.set(host);
    return { kind: "memory", host, linear: lin, bytes };
  }

  readPlace(place: Place, at = 0, bytes?: number): void {
    if (place.kind === "register") {
      this.#locals.gpr(place.register);
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
      this.#locals.setGpr(place.register);
      return;
    }
    c.get(place.host);
    c.get(value);
    c.mem(STORES[bytes ?? place.bytes] as MemCode, at);
    if (at + (bytes ?? place.bytes) < place.bytes) return;
    // An access across two pages, or to MMIO, was made on the scratch area: carry it out now.
    c.get(place.host);
    c.i32(this.#context.base + State.scratch);
    c.op(Op.i32_eq);
    c.if();
    this.#pushSlowArguments(place.linear, place.bytes, 0, true);
    c.call(this.#slow("commitModify"));
    c.op(Op.drop);
    c.end();
  }
}
