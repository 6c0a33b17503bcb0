import type { ConditionCode } from "../decoder/names.ts";
import { conditionOfFlags, FLAGS_PARAMS, FlagCode, type FlagLocals } from "../flags/emit.ts";
import { type Bits, Family, Flag, type FlagName, familyOf, flagKind } from "../flags/kinds.ts";
import { State } from "../state.ts";
import type { Code } from "../wasm/code.ts";
import { Mem, type MemCode, Op, Type } from "../wasm/opcodes.ts";
import type { RegionLocals } from "./region-locals.ts";

/** Where the state keeps the two descriptors. */
const MAIN = { kind: State.flagKind, a: State.flagA, b: State.flagB, r: State.flagR };
const CARRY = { kind: State.carryKind, a: State.carryA, b: State.carryB, r: State.carryR };
const FIELDS = ["kind", "a", "b", "r"] as const;

/** The arithmetic flags of a region: the operands of what set them last, and what is known of it while translating. */
export class LazyFlags {
  readonly main: FlagLocals;
  /** Kind of `main`; −1: only known at run time. */
  kind = -1;
  readonly #carry: FlagLocals;
  #carryKind = -1;
  #usesMain = false;
  #usesCarry = false;
  readonly #code: Code;
  readonly #locals: RegionLocals;
  readonly #flagCode: FlagCode;
  /** Index of the imported function that computes flags of any kind. */
  readonly #anyKind: () => number;

  constructor(code: Code, locals: RegionLocals, anyKind: () => number) {
    this.#code = code;
    this.#locals = locals;
    this.#anyKind = anyKind;
    const descriptor = () => ({
      kind: code.local(Type.i32),
      a: code.local(Type.i64),
      b: code.local(Type.i64),
      r: code.local(Type.i64),
    });
    this.main = descriptor();
    this.#carry = descriptor();
    this.#flagCode = new FlagCode(code, this.main, (flag) => this.#carryFlag(flag));
  }

  // --- Between locals and the state ------------------------------------------------------------------------------

  prologue(before: Code): void {
    const load = (locals: FlagLocals, offsets: typeof MAIN | typeof CARRY) => {
      for (const f of FIELDS) {
        this.#locals.loadInto(before, f === "kind" ? Mem.i32_load : Mem.i64_load, offsets[f], locals[f]);
      }
    };
    if (this.#usesMain) load(this.main, MAIN);
    if (this.#usesCarry) load(this.#carry, CARRY);
  }

  spill(): void {
    const store = (locals: FlagLocals, offsets: typeof MAIN | typeof CARRY) => {
      for (const f of FIELDS) {
        const code: MemCode = f === "kind" ? Mem.i32_store : Mem.i64_store;
        this.#locals.storeLocal(code, offsets[f], locals[f]);
      }
    };
    if (this.#usesMain) store(this.main, MAIN);
    if (this.#usesCarry) store(this.#carry, CARRY);
  }

  /** Writes both descriptors to the state, for whoever reads them there. */
  spillAll(): void {
    this.#usesMain = true;
    this.#usesCarry = true;
    this.commit();
    this.spill();
  }

  /** Takes the flags from the state again. What is asked of the carry descriptor, a helper has not changed. */
  reload(): void {
    for (const f of FIELDS) {
      this.#locals.loadInto(this.#code, f === "kind" ? Mem.i32_load : Mem.i64_load, MAIN[f], this.main[f]);
    }
  }

  /** A block begins, or anything may have happened: kinds are only known at run time from here on; the locals hold them. */
  forget(): void {
    this.kind = -1;
    this.#carryKind = -1;
  }

  /** Makes the kind a run-time value: before any transfer of control. */
  commit(): void {
    if (this.kind < 0) return;
    this.#code.i32(this.kind);
    this.#code.set(this.main.kind);
    this.kind = -1;
  }

  // --- Setting ---------------------------------------------------------------------------------------------------

  /** Says that the flags now come from `main.a`, `main.b` and `main.r`, which the caller sets. */
  use(family: Family, bits: Bits): void {
    this.#usesMain = true;
    this.kind = flagKind(family, bits);
  }

  /** Pops an i32 with all six flags. */
  set(): void {
    this.#code.op(Op.i64_extend_i32_u);
    this.#code.set(this.main.a);
    this.use(Family.explicit, 8);
  }

  /**
   * Copies the main descriptor to the carry descriptor, before an instruction that replaces some flags only. `same`:
   * the families that replace the same flags, in ascending order without a gap; what they kept stays.
   */
  keep(same: readonly Family[]): void {
    const c = this.#code;
    this.#usesMain = true;
    this.#usesCarry = true;
    if (!same.includes(Family.rotate) && same.includes(Family.bit)) this.#settleRotation();
    const pairs = [
      [this.main.a, this.#carry.a],
      [this.main.b, this.#carry.b],
      [this.main.r, this.#carry.r],
    ] as const;
    if (this.kind >= 0) {
      if (same.includes(familyOf(this.kind))) return;
      for (const [from, to] of pairs) {
        c.get(from);
        c.set(to);
      }
      c.i32(this.kind);
      c.set(this.#carry.kind);
      this.#carryKind = this.kind;
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

  /** A rotation has flags in the carry descriptor, which cannot hold OF of one and those too: they become explicit. */
  #settleRotation(): void {
    const c = this.#code;
    if (this.kind >= 0) {
      if (familyOf(this.kind) !== Family.rotate) return;
      this.all();
      this.set();
      return;
    }
    c.get(this.main.kind);
    c.i32(flagKind(Family.rotate, 8));
    c.op(Op.i32_sub);
    c.i32(4);
    c.op(Op.i32_lt_u);
    c.if();
    this.all();
    c.op(Op.i64_extend_i32_u);
    c.set(this.main.a);
    c.i32(flagKind(Family.explicit, 8));
    c.set(this.main.kind);
    c.end();
  }

  // --- Asking ----------------------------------------------------------------------------------------------------

  #carryFlag(flag: FlagName): void {
    const c = this.#code;
    this.#usesCarry = true;
    if (this.#carryKind >= 0) {
      const nested = new FlagCode(c, this.#carry, () => c.i32(0));
      const push = { CF: "cf", PF: "pf", AF: "af", ZF: "zf", SF: "sf", OF: "of" } as const;
      nested[push[flag]](this.#carryKind);
      return;
    }
    for (const field of FIELDS) c.get(this.#carry[field]);
    c.i32(0);
    for (let i = 0; i < 3; i++) c.i64(0);
    c.call(this.#anyKind());
    c.i32(Math.log2(Flag[flag]));
    c.op(Op.i32_shr_u);
    c.i32(1);
    c.op(Op.i32_and);
  }

  /** Pushes all six as an i32. */
  all(): void {
    this.#usesMain = true;
    if (this.kind >= 0) {
      this.#flagCode.all(this.kind);
      return;
    }
    this.#usesCarry = true;
    for (const descriptor of [this.main, this.#carry]) for (const field of FIELDS) this.#code.get(descriptor[field]);
    this.#code.call(this.#anyKind());
  }

  /** Pushes 1 when the condition holds, else 0. */
  condition(code: ConditionCode): void {
    this.#usesMain = true;
    if (this.kind >= 0) {
      this.#flagCode.condition(this.kind, code);
      return;
    }
    const all = this.#locals.temp(Type.i32);
    this.all();
    this.#code.set(all);
    conditionOfFlags(this.#code, all, code);
  }

  /** Pushes CF as an i32. */
  carry(): void {
    this.#usesMain = true;
    if (this.kind >= 0) {
      this.#flagCode.cf(this.kind);
      return;
    }
    this.all();
    this.#code.i32(1);
    this.#code.op(Op.i32_and);
  }
}

/** The signature of that function. */
export const ANY_KIND = { name: "flags", params: FLAGS_PARAMS, results: [Type.i32] } as const;
