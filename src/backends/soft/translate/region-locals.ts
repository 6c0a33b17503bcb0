import type { Register } from "../decoder/names.ts";
import { MASKS } from "../flags/kinds.ts";
import { State } from "../state.ts";
import type { Code } from "../wasm/code.ts";
import { Mem, type MemCode, Op, type SimdMemCode, Type, type ValueType } from "../wasm/opcodes.ts";
import { gprBits, gprIndex, isHighByte } from "./insn.ts";

/** What a region holds in locals while it runs, the general registers above all, and how it reaches the state. */
export class RegionLocals {
  readonly #code: Code;
  readonly #base: number;
  readonly #gpr: number[] = [];
  readonly #used = new Set<number>();
  readonly #written = new Set<number>();
  readonly #temps = new Map<ValueType, { locals: number[]; used: number }>();

  constructor(code: Code, base: number) {
    this.#code = code;
    this.#base = base;
    for (let i = 0; i < 16; i++) this.#gpr.push(code.local(Type.i64));
  }

  // --- Temporaries -----------------------------------------------------------------------------------------------

  temp(type: ValueType): number {
    let pool = this.#temps.get(type);
    if (pool === undefined) {
      pool = { locals: [], used: 0 };
      this.#temps.set(type, pool);
    }
    if (pool.used === pool.locals.length) pool.locals.push(this.#code.local(type));
    return pool.locals[pool.used++] as number;
  }

  /** Another instruction begins. */
  freeTemps(): void {
    for (const pool of this.#temps.values()) pool.used = 0;
  }

  // --- General registers -----------------------------------------------------------------------------------------

  /** Pushes the whole 64-bit register; its upper half is only kept outside 64-bit mode. */
  gpr64(index: number): void {
    this.#used.add(index);
    this.#code.get(this.#gpr[index] as number);
  }

  setGpr64(index: number): void {
    this.#used.add(index);
    this.#written.add(index);
    this.#code.set(this.#gpr[index] as number);
  }

  gpr(register: Register): void {
    const c = this.#code;
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
    const c = this.#code;
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

  /** Loads the registers that the region uses: known when it is written, so the code goes before it. */
  prologue(before: Code): void {
    for (const i of this.#used) this.loadInto(before, Mem.i64_load, State.gpr + i * 8, this.#gpr[i] as number);
  }

  /** Writes changed registers back to the state. */
  spill(): void {
    for (const i of this.#written) this.storeLocal(Mem.i64_store, State.gpr + i * 8, this.#gpr[i] as number);
  }

  /** Writes all registers to the state, for whoever reads them there. */
  spillAll(): void {
    for (const [i, local] of this.#gpr.entries()) {
      this.#used.add(i);
      this.#written.add(i);
      this.storeLocal(Mem.i64_store, State.gpr + i * 8, local);
    }
  }

  /** Takes all registers from the state again. */
  reloadAll(): void {
    for (const [i, local] of this.#gpr.entries()) this.loadInto(this.#code, Mem.i64_load, State.gpr + i * 8, local);
  }

  // --- The state -------------------------------------------------------------------------------------------------

  loadInto(code: Code, kind: MemCode, offset: number, local: number): void {
    code.i32(0);
    code.mem(kind, this.#base + offset);
    code.set(local);
  }

  storeLocal(code: MemCode, offset: number, local: number): void {
    this.#code.i32(0);
    this.#code.get(local);
    this.#code.mem(code, this.#base + offset);
  }

  storeConstant(offset: number, value: number): void {
    this.#code.i32(0);
    this.#code.i32(value);
    this.#code.mem(Mem.i32_store, this.#base + offset);
  }

  loadState(code: MemCode | SimdMemCode, offset: number): void {
    this.#code.i32(0);
    this.storeState(code, offset);
  }

  /** SIMD loads and stores are numbered below 0x28 or from 92; the plain ones lie between. */
  storeState(code: MemCode | SimdMemCode, offset: number): void {
    const at = this.#base + offset;
    if (code >= Mem.i32_load && code <= Mem.i64_store32) this.#code.mem(code as MemCode, at);
    else this.#code.simdMem(code as SimdMemCode, at);
  }
}
