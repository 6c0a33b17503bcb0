import { Code, Mnemonic, Register } from "../decoder/names.ts";
import { MASKS } from "../flags/kinds.ts";
import { Vector } from "../state.ts";
import { farCall, farJump, farReturn } from "../system/control-emitters.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { Op, Type } from "../wasm/opcodes.ts";
import { type CoreEmitter, operandBits, pushOperand } from "./operands.ts";
import { moveStack, peekValue, pushValue } from "./stack.ts";

function target(e: RegionEmitter): bigint {
  return BigInt.asUintN(64, e.insn.raw.nearBranchTarget);
}

function isNearBranch(e: RegionEmitter): boolean {
  const { raw } = e.insn;
  return raw.isJmpShortOrNear || raw.isCallNear;
}

/** Whether a direct branch would leave the code segment: #GP(0) at the branch when it is taken. */
function beyondLimit(e: RegionEmitter, to: bigint): boolean {
  return e.mode.csLimit >= 0 && to > BigInt(e.mode.csLimit);
}

/** Pops a condition, and branches when it holds. */
function branch(e: RegionEmitter): void {
  const to = target(e);
  if (beyondLimit(e, to)) {
    e.raiseIf(Vector.GP, 0);
    e.jumpTo(e.insn.next);
  } else e.branch(to);
}

function jump(e: RegionEmitter): void {
  const to = target(e);
  if (beyondLimit(e, to)) e.raise(Vector.GP, 0);
  else e.jumpTo(to);
}

function jcc(e: RegionEmitter): void {
  e.condition(e.insn.raw.conditionCode);
  branch(e);
}

/** #GP(0) at the jump when its target is not canonical, or lies beyond the code segment's limit. */
function checkTarget(e: RegionEmitter, local: number): void {
  const c = e.code;
  if (e.mode.bits !== 64) {
    if (e.mode.csLimit === 0xffff_ffff) return;
    c.get(local);
    c.i64(e.mode.csLimit);
    c.op(Op.i64_gt_u);
    e.raiseIf(Vector.GP, 0);
    return;
  }
  c.get(local);
  c.i64(16);
  c.op(Op.i64_shl);
  c.i64(16);
  c.op(Op.i64_shr_s);
  c.get(local);
  c.op(Op.i64_ne);
  e.raiseIf(Vector.GP, 0);
}

function indirectTarget(e: RegionEmitter): number {
  const local = e.temp(Type.i64);
  pushOperand(e, 0, operandBits(e, 0));
  e.code.set(local);
  checkTarget(e, local);
  return local;
}

function jmp(e: RegionEmitter): void {
  const { raw } = e.insn;
  if (raw.isJmpFar || raw.isJmpFarIndirect) {
    farJump(e);
    return;
  }
  if (isNearBranch(e)) jump(e);
  else e.jumpIndirect(indirectTarget(e));
}

function call(e: RegionEmitter): void {
  const { raw } = e.insn;
  if (raw.isCallFar || raw.isCallFarIndirect) {
    farCall(e);
    return;
  }
  const bytes = -raw.stackPointerIncrement as 2 | 4 | 8;
  const direct = isNearBranch(e);
  const to = direct ? -1 : indirectTarget(e);
  if (direct && beyondLimit(e, target(e))) {
    e.raise(Vector.GP, 0);
    return;
  }
  const back = e.temp(Type.i64);
  e.code.i64(e.insn.next);
  e.code.set(back);
  pushValue(e, back, bytes);
  if (direct) e.jumpTo(target(e));
  else e.jumpIndirect(to);
}

function ret(e: RegionEmitter): void {
  const extra = e.insn.operands === 1 ? e.insn.raw.immediate16 : 0;
  const bytes = (e.insn.raw.stackPointerIncrement - extra) as 2 | 4 | 8;
  const to = peekValue(e, bytes);
  checkTarget(e, to);
  moveStack(e, bytes + extra);
  e.jumpIndirect(to);
}

/** LOOP and kin whose counter is RCX, and ECX, by their address size. */
const COUNTS_RCX: ReadonlySet<Code> = new Set([
  Code.Loop_rel8_16_RCX,
  Code.Loop_rel8_64_RCX,
  Code.Loope_rel8_16_RCX,
  Code.Loope_rel8_64_RCX,
  Code.Loopne_rel8_16_RCX,
  Code.Loopne_rel8_64_RCX,
]);
const COUNTS_ECX: ReadonlySet<Code> = new Set([
  Code.Loop_rel8_16_ECX,
  Code.Loop_rel8_32_ECX,
  Code.Loop_rel8_64_ECX,
  Code.Loope_rel8_16_ECX,
  Code.Loope_rel8_32_ECX,
  Code.Loope_rel8_64_ECX,
  Code.Loopne_rel8_16_ECX,
  Code.Loopne_rel8_32_ECX,
  Code.Loopne_rel8_64_ECX,
]);

function loopCounter(code: Code): Register {
  if (COUNTS_RCX.has(code)) return Register.RCX;
  return COUNTS_ECX.has(code) ? Register.ECX : Register.CX;
}

function loop(condition: "none" | "e" | "ne"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const counter = loopCounter(e.insn.code);
    const bits = counter === Register.RCX ? 64 : counter === Register.ECX ? 32 : 16;
    const left = e.temp(Type.i64);
    e.gpr(counter);
    c.i64(1);
    c.op(Op.i64_sub);
    c.i64(MASKS[bits]);
    c.op(Op.i64_and);
    c.set(left);
    const taken = e.temp(Type.i32);
    c.get(left);
    c.i64(0);
    c.op(Op.i64_ne);
    if (condition !== "none") {
      e.condition(e.insn.raw.conditionCode);
      c.op(Op.i32_and);
    }
    c.set(taken);
    // A target beyond the limit leaves the counter as it was.
    if (beyondLimit(e, target(e))) {
      c.get(taken);
      e.raiseIf(Vector.GP, 0);
    }
    c.get(left);
    e.setGpr(counter);
    c.get(taken);
    branch(e);
  };
}

function jcxz(counter: Register): CoreEmitter {
  return (e) => {
    e.gpr(counter);
    e.code.op(Op.i64_eqz);
    branch(e);
  };
}

const JCC = [
  Mnemonic.Ja,
  Mnemonic.Jae,
  Mnemonic.Jb,
  Mnemonic.Jbe,
  Mnemonic.Je,
  Mnemonic.Jg,
  Mnemonic.Jge,
  Mnemonic.Jl,
  Mnemonic.Jle,
  Mnemonic.Jne,
  Mnemonic.Jno,
  Mnemonic.Jnp,
  Mnemonic.Jns,
  Mnemonic.Jo,
  Mnemonic.Jp,
  Mnemonic.Js,
];

export const control: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  ...JCC.map((m) => [m, jcc] as const),
  [Mnemonic.Jmp, jmp],
  [Mnemonic.Call, call],
  [Mnemonic.Ret, ret],
  [Mnemonic.Retf, farReturn],
  [Mnemonic.Loop, loop("none")],
  [Mnemonic.Loope, loop("e")],
  [Mnemonic.Loopne, loop("ne")],
  [Mnemonic.Jcxz, jcxz(Register.CX)],
  [Mnemonic.Jecxz, jcxz(Register.ECX)],
  [Mnemonic.Jrcxz, jcxz(Register.RCX)],
];
