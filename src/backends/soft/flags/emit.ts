import { ConditionCode } from "../decoder/names.ts";
import type { Code } from "../wasm/code.ts";
import { Op, Type } from "../wasm/opcodes.ts";
import { type Bits, bitsOf, Family, Flag, type FlagName, familyOf } from "./kinds.ts";

/** The locals of a flag descriptor: kind (i32), then a, b and r (i64). */
export interface FlagLocals {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly r: number;
}

/** Writes code that computes single flags from a descriptor whose kind is known while translating. */
export class FlagCode {
  readonly #code: Code;
  readonly #main: FlagLocals;
  /** Pushes a flag of the carry descriptor as i32. */
  readonly #carry: (flag: FlagName) => void;

  constructor(code: Code, main: FlagLocals, carry: (flag: FlagName) => void) {
    this.#code = code;
    this.#main = main;
    this.#carry = carry;
  }

  /** Bit `bit` of the i64 on the stack, as i32. */
  #bit(bit: number): void {
    const c = this.#code;
    if (bit !== 0) {
      c.i64(bit);
      c.op(Op.i64_shr_u);
    }
    c.op(Op.i32_wrap_i64);
    c.i32(1);
    c.op(Op.i32_and);
  }

  #operand(local: number, bits: Bits, signed: boolean): void {
    const c = this.#code;
    c.get(local);
    if (!signed) return;
    if (bits === 8) c.op(Op.i64_extend8_s);
    else if (bits === 16) c.op(Op.i64_extend16_s);
    else if (bits === 32) c.op(Op.i64_extend32_s);
  }

  /** Carries (or borrows) out of every bit, as i64: Hacker's Delight, "Overflow of Addition and Subtraction". */
  #carries(family: Family): void {
    const c = this.#code;
    const { a, b, r } = this.#main;
    const add = family === Family.add || family === Family.adc;
    c.get(a);
    if (!add) this.#not();
    c.get(b);
    c.op(Op.i64_and);
    c.get(a);
    if (!add) this.#not();
    c.get(b);
    c.op(Op.i64_or);
    c.get(r);
    if (add) this.#not();
    c.op(Op.i64_and);
    c.op(Op.i64_or);
  }

  #not(): void {
    this.#code.i64(-1);
    this.#code.op(Op.i64_xor);
  }

  #constant(value: number): void {
    this.#code.i32(value);
  }

  /** Pushes CF as 0 or 1. */
  cf(kind: number): void {
    const c = this.#code;
    const { a, b, r } = this.#main;
    switch (familyOf(kind)) {
      case Family.explicit:
        c.get(a);
        this.#bit(0);
        return;
      case Family.add:
        c.get(r);
        c.get(a);
        c.op(Op.i64_lt_u);
        return;
      case Family.sub:
        c.get(a);
        c.get(b);
        c.op(Op.i64_lt_u);
        return;
      case Family.adc:
      case Family.sbb:
        this.#carries(familyOf(kind));
        this.#bit(bitsOf(kind) - 1);
        return;
      case Family.logic:
        this.#constant(0);
        return;
      case Family.result:
      case Family.rotate:
      case Family.bit:
        c.get(a);
        c.op(Op.i32_wrap_i64);
        return;
      default:
        this.#carry("CF");
        return;
    }
  }

  zf(kind: number): void {
    const c = this.#code;
    if (familyOf(kind) >= Family.rotate) {
      this.#carry("ZF");
      return;
    }
    if (familyOf(kind) === Family.explicit) {
      c.get(this.#main.a);
      this.#bit(6);
      return;
    }
    c.get(this.#main.r);
    c.op(Op.i64_eqz);
  }

  sf(kind: number): void {
    const c = this.#code;
    if (familyOf(kind) >= Family.rotate) {
      this.#carry("SF");
      return;
    }
    if (familyOf(kind) === Family.explicit) {
      c.get(this.#main.a);
      this.#bit(7);
      return;
    }
    c.get(this.#main.r);
    this.#bit(bitsOf(kind) - 1);
  }

  pf(kind: number): void {
    const c = this.#code;
    if (familyOf(kind) >= Family.rotate) {
      this.#carry("PF");
      return;
    }
    if (familyOf(kind) === Family.explicit) {
      c.get(this.#main.a);
      this.#bit(2);
      return;
    }
    c.get(this.#main.r);
    c.op(Op.i32_wrap_i64);
    c.i32(0xff);
    c.op(Op.i32_and);
    c.op(Op.i32_popcnt);
    c.i32(1);
    c.op(Op.i32_and);
    c.op(Op.i32_eqz);
  }

  af(kind: number): void {
    const c = this.#code;
    const { a, b, r } = this.#main;
    switch (familyOf(kind)) {
      case Family.explicit:
        c.get(a);
        this.#bit(4);
        return;
      case Family.logic:
      case Family.result:
        this.#constant(0);
        return;
      case Family.rotate:
      case Family.bit:
        this.#carry("AF");
        return;
      case Family.inc:
      case Family.dec:
        c.get(r);
        c.i64(15);
        c.op(Op.i64_and);
        c.i64(familyOf(kind) === Family.inc ? 0 : 15);
        c.op(Op.i64_eq);
        return;
      default:
        c.get(a);
        c.get(b);
        c.op(Op.i64_xor);
        c.get(r);
        c.op(Op.i64_xor);
        this.#bit(4);
        return;
    }
  }

  of(kind: number): void {
    const c = this.#code;
    const { a, b, r } = this.#main;
    const bits = bitsOf(kind);
    const family = familyOf(kind);
    switch (family) {
      case Family.explicit:
        c.get(a);
        this.#bit(11);
        return;
      case Family.logic:
        this.#constant(0);
        return;
      case Family.bit:
        this.#carry("OF");
        return;
      case Family.result:
      case Family.rotate:
        c.get(b);
        c.op(Op.i32_wrap_i64);
        return;
      case Family.inc:
      case Family.dec: {
        const top = 1n << BigInt(bits - 1);
        c.get(r);
        c.i64(family === Family.inc ? top : top - 1n);
        c.op(Op.i64_eq);
        return;
      }
      default: {
        const add = family === Family.add || family === Family.adc;
        c.get(a);
        c.get(add ? r : b);
        c.op(Op.i64_xor);
        c.get(add ? b : a);
        c.get(r);
        c.op(Op.i64_xor);
        c.op(Op.i64_and);
        this.#bit(bits - 1);
        return;
      }
    }
  }

  /** Pushes 1 when the condition holds. */
  condition(kind: number, code: ConditionCode): void {
    const c = this.#code;
    const negated = code % 2 === 0;
    // Odd condition codes are the plain ones; each is followed by its negation.
    const plain = negated ? code - 1 : code;
    if (familyOf(kind) === Family.sub && this.#compare(kind, code)) return;
    switch (plain) {
      case ConditionCode.o:
        this.of(kind);
        break;
      case ConditionCode.b:
        this.cf(kind);
        break;
      case ConditionCode.e:
        this.zf(kind);
        break;
      case ConditionCode.be:
        this.cf(kind);
        this.zf(kind);
        c.op(Op.i32_or);
        break;
      case ConditionCode.s:
        this.sf(kind);
        break;
      case ConditionCode.p:
        this.pf(kind);
        break;
      case ConditionCode.l:
        this.sf(kind);
        this.of(kind);
        c.op(Op.i32_xor);
        break;
      default:
        this.sf(kind);
        this.of(kind);
        c.op(Op.i32_xor);
        this.zf(kind);
        c.op(Op.i32_or);
    }
    if (negated) c.op(Op.i32_eqz);
  }

  /** A comparison of the operands themselves, which is what most conditions behind CMP are. */
  #compare(kind: number, code: ConditionCode): boolean {
    const op = COMPARISONS[code];
    if (op === undefined) return false;
    const c = this.#code;
    const bits = bitsOf(kind);
    const signed = code >= ConditionCode.l;
    this.#operand(this.#main.a, bits, signed);
    this.#operand(this.#main.b, bits, signed);
    c.op(op);
    return true;
  }

  /** Pushes all six flags at their places in RFLAGS. */
  all(kind: number): void {
    const c = this.#code;
    if (familyOf(kind) === Family.explicit) {
      c.get(this.#main.a);
      c.op(Op.i32_wrap_i64);
      return;
    }
    this.cf(kind);
    for (const [push, at] of [
      [() => this.pf(kind), Flag.PF],
      [() => this.af(kind), Flag.AF],
      [() => this.zf(kind), Flag.ZF],
      [() => this.sf(kind), Flag.SF],
      [() => this.of(kind), Flag.OF],
    ] as const) {
      push();
      c.i32(Math.log2(at));
      c.op(Op.i32_shl);
      c.op(Op.i32_or);
    }
  }
}

const COMPARISONS: Partial<Record<ConditionCode, (typeof Op)[keyof typeof Op]>> = {
  [ConditionCode.b]: Op.i64_lt_u,
  [ConditionCode.ae]: Op.i64_ge_u,
  [ConditionCode.e]: Op.i64_eq,
  [ConditionCode.ne]: Op.i64_ne,
  [ConditionCode.be]: Op.i64_le_u,
  [ConditionCode.a]: Op.i64_gt_u,
  [ConditionCode.l]: Op.i64_lt_s,
  [ConditionCode.ge]: Op.i64_ge_s,
  [ConditionCode.le]: Op.i64_le_s,
  [ConditionCode.g]: Op.i64_gt_s,
};

/** Pushes 1 when the condition holds of the flags in an i32 local. */
export function conditionOfFlags(c: Code, flags: number, code: ConditionCode): void {
  const negated = code % 2 === 0;
  const plain = negated ? code - 1 : code;
  const masks: Partial<Record<ConditionCode, number>> = {
    [ConditionCode.o]: Flag.OF,
    [ConditionCode.b]: Flag.CF,
    [ConditionCode.e]: Flag.ZF,
    [ConditionCode.be]: Flag.CF | Flag.ZF,
    [ConditionCode.s]: Flag.SF,
    [ConditionCode.p]: Flag.PF,
  };
  const mask = masks[plain as ConditionCode];
  if (mask !== undefined) {
    c.get(flags);
    c.i32(mask);
    c.op(Op.i32_and);
    c.op(Op.i32_eqz);
    if (!negated) c.op(Op.i32_eqz);
    return;
  }
  // SF differs from OF: bit 7 against bit 11.
  c.get(flags);
  c.get(flags);
  c.i32(4);
  c.op(Op.i32_shr_u);
  c.op(Op.i32_xor);
  c.i32(Flag.SF);
  c.op(Op.i32_and);
  if (plain === ConditionCode.le) {
    c.get(flags);
    c.i32(Flag.ZF);
    c.op(Op.i32_and);
    c.op(Op.i32_or);
  }
  c.op(Op.i32_eqz);
  if (!negated) c.op(Op.i32_eqz);
}

/** Type of the runtime's `flags` function: main descriptor, then carry descriptor, to the six flags. */
export const FLAGS_PARAMS = [Type.i32, Type.i64, Type.i64, Type.i64, Type.i32, Type.i64, Type.i64, Type.i64] as const;
