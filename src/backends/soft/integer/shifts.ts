import { Mnemonic, Register } from "../decoder/names.ts";
import { type Bits, Family, flagKind } from "../flags/kinds.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import type { Place } from "../translate/memory.ts";
import { Op, Type } from "../wasm/opcodes.ts";
import {
  type CoreEmitter,
  operandBits,
  operandLocal,
  pushOperand,
  readPlaceInto,
  signExtend,
  truncate,
} from "./operands.ts";

/** A shift count: a constant, or a local (i64) that is already masked. */
type Count = number | { readonly local: number };

function pushCount(e: RegionEmitter, count: Count, minus = 0): void {
  if (typeof count === "number") {
    e.code.i64(count - minus);
    return;
  }
  e.code.get(count.local);
  if (minus === 0) return;
  e.code.i64(minus);
  e.code.op(Op.i64_sub);
}

/** The count operand of a shift of `bits`, masked to 5 or 6 bits as the processor does. */
function countOperand(e: RegionEmitter, operand: number, bits: Bits): Count {
  const mask = bits === 64 ? 63 : 31;
  if (!e.insn.isRegister(operand)) return Number(e.insn.immediate(operand)) & mask;
  const local = e.temp(Type.i64);
  e.gpr(Register.CL);
  e.code.i64(mask);
  e.code.op(Op.i64_and);
  e.code.set(local);
  return { local };
}

interface Shift {
  readonly bits: Bits;
  readonly value: number;
  readonly result: number;
  readonly count: Count;
}

/** Pushes bit `bits − 1` of a local as i64 0 or 1. */
function pushTop(e: RegionEmitter, local: number, bits: Bits, below = 0): void {
  e.code.get(local);
  e.code.i64(bits - 1 - below);
  e.code.op(Op.i64_shr_u);
  e.code.i64(1);
  e.code.op(Op.i64_and);
}

/** Writes the place and the flags, all of it only when the count is not 0. `flags` sets `main`. */
function finish(e: RegionEmitter, s: Shift, place: Place, family: Family, flags: () => void): void {
  const c = e.code;
  // What CLC and kin kept is a part of what a rotation keeps.
  const same = family === Family.rotate ? [Family.rotate, Family.bit] : undefined;
  if (typeof s.count === "number") {
    if (s.count === 0) {
      e.writePlace(place, s.value);
      return;
    }
    e.writePlace(place, s.result);
    if (same !== undefined) e.keepFlags(same);
    flags();
    e.useFlags(family, s.bits);
    return;
  }
  e.writePlace(place, s.result);
  e.commitFlags();
  c.get(s.count.local);
  c.i64(0);
  c.op(Op.i64_ne);
  c.if();
  if (same !== undefined) e.keepFlags(same);
  flags();
  e.useFlags(family, s.bits);
  c.i32(flagKind(family, s.bits));
  c.set(e.main.kind);
  c.end();
  e.forgetFlags();
}

/** SHL, SHR and SAR. Flags beyond the defined ones are as AMD and Intel processors leave them. */
function shift(kind: "shl" | "shr" | "sar"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const value = e.temp(Type.i64);
    const result = e.temp(Type.i64);
    const count = countOperand(e, 1, bits);
    const place = readPlaceInto(e, 0, bits, value);
    if (kind === "sar") {
      c.get(value);
      signExtend(e, bits);
      c.set(value);
    }
    c.get(value);
    pushCount(e, count);
    c.op(kind === "shl" ? Op.i64_shl : kind === "shr" ? Op.i64_shr_u : Op.i64_shr_s);
    truncate(e, bits);
    c.set(result);
    if (typeof count === "number" && count === 0 && kind === "sar") {
      c.get(value);
      truncate(e, bits);
      c.set(value);
    }
    finish(e, { bits, value, result, count }, place, Family.result, () => {
      c.get(value);
      if (kind === "shl") {
        // The last bit shifted out: bit (bits − count), 0 when the count is greater than the width.
        if (bits === 64) {
          c.i64(64);
          pushCount(e, count);
          c.op(Op.i64_sub);
          c.op(Op.i64_shr_u);
        } else {
          pushCount(e, count);
          c.op(Op.i64_shl);
          c.i64(bits);
          c.op(Op.i64_shr_u);
        }
      } else {
        pushCount(e, count, 1);
        c.op(kind === "sar" ? Op.i64_shr_s : Op.i64_shr_u);
      }
      c.i64(1);
      c.op(Op.i64_and);
      c.set(e.main.a);
      if (kind === "shl") {
        pushTop(e, result, bits);
        c.get(e.main.a);
        c.op(Op.i64_xor);
      } else if (kind === "shr") pushTop(e, value, bits);
      else c.i64(0);
      c.set(e.main.b);
      c.get(result);
      c.set(e.main.r);
    });
  };
}

function rotate(left: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const value = e.temp(Type.i64);
    const result = e.temp(Type.i64);
    const count = countOperand(e, 1, bits);
    const place = readPlaceInto(e, 0, bits, value);
    pushRotated(e, value, bits, count, left);
    c.set(result);
    finish(e, { bits, value, result, count }, place, Family.rotate, () => {
      // CF is the bit that went round; OF says whether the sign changed by a rotation of one.
      if (left) {
        c.get(result);
        c.i64(1);
        c.op(Op.i64_and);
        c.set(e.main.a);
        pushTop(e, result, bits);
        c.get(e.main.a);
        c.op(Op.i64_xor);
      } else {
        pushTop(e, result, bits);
        c.tee(e.main.a);
        pushTop(e, result, bits, 1);
        c.op(Op.i64_xor);
      }
      c.set(e.main.b);
    });
  };
}

/** Pushes the local rotated; the count may be larger than the width. */
function pushRotated(e: RegionEmitter, value: number, bits: Bits, count: Count, left: boolean): void {
  const c = e.code;
  if (bits === 64) {
    c.get(value);
    pushCount(e, count);
    c.op(left ? Op.i64_rotl : Op.i64_rotr);
    return;
  }
  if (bits === 32) {
    c.get(value);
    c.op(Op.i32_wrap_i64);
    pushCount(e, count);
    c.op(Op.i32_wrap_i64);
    c.op(left ? Op.i32_rotl : Op.i32_rotr);
    c.op(Op.i64_extend_i32_u);
    return;
  }
  // Narrow values are repeated over 32 bits, so that any count rotates them.
  c.get(value);
  c.i64(bits === 8 ? 0x0101_0101 : 0x0001_0001);
  c.op(Op.i64_mul);
  c.op(Op.i32_wrap_i64);
  pushCount(e, count);
  c.op(Op.i32_wrap_i64);
  c.op(left ? Op.i32_rotl : Op.i32_rotr);
  c.op(Op.i64_extend_i32_u);
  truncate(e, bits);
}

/** RCL and RCR: one bit at a time through CF, at most 63 times; rare enough for a loop. */
function rotateCarry(left: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const value = e.temp(Type.i64);
    const original = e.temp(Type.i64);
    const carry = e.temp(Type.i64);
    const out = e.temp(Type.i64);
    const left64 = e.temp(Type.i64);
    const operand = countOperand(e, 1, bits);
    const place = readPlaceInto(e, 0, bits, value);
    pushCount(e, operand);
    // 8- and 16-bit operands turn through 9 and 17 bits.
    if (bits < 32) {
      c.i64(bits + 1);
      c.op(Op.i64_rem_u);
    }
    c.set(left64);
    c.get(value);
    c.set(original);
    e.carryFlag();
    c.op(Op.i64_extend_i32_u);
    c.set(carry);
    const done = c.block();
    const again = c.loop();
    c.get(left64);
    c.op(Op.i64_eqz);
    c.brIf(done);
    if (left) {
      pushTop(e, value, bits);
      c.set(out);
      c.get(value);
      c.i64(1);
      c.op(Op.i64_shl);
      c.get(carry);
      c.op(Op.i64_or);
      truncate(e, bits);
    } else {
      c.get(value);
      c.i64(1);
      c.op(Op.i64_and);
      c.set(out);
      c.get(value);
      c.i64(1);
      c.op(Op.i64_shr_u);
      c.get(carry);
      c.i64(bits - 1);
      c.op(Op.i64_shl);
      c.op(Op.i64_or);
    }
    c.set(value);
    c.get(out);
    c.set(carry);
    c.get(left64);
    c.i64(1);
    c.op(Op.i64_sub);
    c.set(left64);
    c.br(again);
    c.end();
    c.end();
    const count = e.temp(Type.i64);
    pushCount(e, operand);
    c.set(count);
    finish(e, { bits, value: original, result: value, count: { local: count } }, place, Family.rotate, () => {
      c.get(carry);
      c.set(e.main.a);
      pushTop(e, value, bits);
      if (left) c.get(carry);
      else pushTop(e, value, bits, 1);
      c.op(Op.i64_xor);
      c.set(e.main.b);
    });
  };
}

/** SHLD and SHRD. Counts above 16 with 16-bit operands are undefined: the result is what AMD makes of it. */
function double(left: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const value = e.temp(Type.i64);
    const result = e.temp(Type.i64);
    const count = countOperand(e, 2, bits);
    const place = readPlaceInto(e, 0, bits, value);
    const other = operandLocal(e, 1, bits);
    const wide = e.temp(Type.i64);
    if (bits === 64) {
      c.get(value);
      pushCount(e, count);
      c.op(left ? Op.i64_shl : Op.i64_shr_u);
      // The other operand fills in; a count of 0 shifts it by 64, which WebAssembly takes as 0: split it in 1 and 63.
      c.get(other);
      c.i64(1);
      c.op(left ? Op.i64_shr_u : Op.i64_shl);
      c.i64(63);
      pushCount(e, count);
      c.op(Op.i64_sub);
      c.op(left ? Op.i64_shr_u : Op.i64_shl);
      c.op(Op.i64_or);
    } else if (bits === 32) {
      pushConcatenated(e, left ? value : other, left ? other : value, 32);
      pushCount(e, count);
      c.op(left ? Op.i64_shl : Op.i64_shr_u);
      if (left) {
        c.i64(32);
        c.op(Op.i64_shr_u);
      }
    } else if (left) {
      pushTriple(e, value, other, other);
      pushCount(e, count);
      c.op(Op.i64_shl);
      c.i64(32);
      c.op(Op.i64_shr_u);
    } else {
      pushTriple(e, other, other, value);
      pushCount(e, count);
      c.op(Op.i64_shr_u);
    }
    truncate(e, bits);
    c.set(result);
    c.get(value);
    c.set(wide);
    finish(e, { bits, value, result, count }, place, Family.result, () => {
      c.get(wide);
      if (left) {
        c.i64(bits);
        pushCount(e, count);
        c.op(Op.i64_sub);
        c.op(Op.i64_shr_u);
      } else {
        pushCount(e, count, 1);
        c.op(Op.i64_shr_u);
      }
      c.i64(1);
      c.op(Op.i64_and);
      c.set(e.main.a);
      pushTop(e, result, bits);
      pushTop(e, wide, bits);
      c.op(Op.i64_xor);
      c.set(e.main.b);
      c.get(result);
      c.set(e.main.r);
    });
  };
}

/** Three 16-bit parts in a row: counts of 17 to 31 go on into the second operand again, as on AMD. */
function pushTriple(e: RegionEmitter, high: number, middle: number, low: number): void {
  const c = e.code;
  pushConcatenated(e, high, middle, 16);
  c.i64(16);
  c.op(Op.i64_shl);
  c.get(low);
  c.op(Op.i64_or);
}

function pushConcatenated(e: RegionEmitter, high: number, low: number, bits: number): void {
  e.code.get(high);
  e.code.i64(bits);
  e.code.op(Op.i64_shl);
  e.code.get(low);
  e.code.op(Op.i64_or);
}

/** SHLX, SHRX, SARX: count in a register, no flags. */
function shiftX(kind: "shl" | "shr" | "sar"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    pushOperand(e, 1, bits);
    if (kind === "sar") signExtend(e, bits);
    e.gpr(e.insn.register(2));
    c.i64(bits - 1);
    c.op(Op.i64_and);
    c.op(kind === "shl" ? Op.i64_shl : kind === "shr" ? Op.i64_shr_u : Op.i64_shr_s);
    e.setGpr(e.insn.register(0));
  };
}

function rorx(e: RegionEmitter): void {
  const bits = operandBits(e, 0);
  const value = operandLocal(e, 1, bits);
  pushRotated(e, value, bits, e.insn.imm8 & (bits - 1), false);
  e.setGpr(e.insn.register(0));
}

export const shifts: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Shl, shift("shl")],
  [Mnemonic.Sal, shift("shl")],
  [Mnemonic.Shr, shift("shr")],
  [Mnemonic.Sar, shift("sar")],
  [Mnemonic.Rol, rotate(true)],
  [Mnemonic.Ror, rotate(false)],
  [Mnemonic.Rcl, rotateCarry(true)],
  [Mnemonic.Rcr, rotateCarry(false)],
  [Mnemonic.Shld, double(true)],
  [Mnemonic.Shrd, double(false)],
  [Mnemonic.Shlx, shiftX("shl")],
  [Mnemonic.Shrx, shiftX("shr")],
  [Mnemonic.Sarx, shiftX("sar")],
  [Mnemonic.Rorx, rorx],
];
