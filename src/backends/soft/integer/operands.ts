import { memorySizeBytes } from "../decoder/iced.ts";
import type { Bits } from "../flags/kinds.ts";
import { MASKS } from "../flags/kinds.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { gprBits } from "../translate/insn.ts";
import type { Place } from "../translate/memory.ts";
import { Op, Type } from "../wasm/opcodes.ts";

/** Emitters of the core see the whole `RegionEmitter`, not only `Emit`. */
export type CoreEmitter = (e: RegionEmitter) => void;

/** Width of an operand in bits. */
export function operandBits(e: RegionEmitter, operand: number): Bits {
  if (e.insn.isMemory(operand)) return (memorySizeBytes(e.insn.raw.memorySize) * 8) as Bits;
  return gprBits(e.insn.register(operand));
}

/** Pushes an operand, zero-extended from `bits`. */
export function pushOperand(e: RegionEmitter, operand: number, bits: Bits): void {
  if (e.insn.isMemory(operand)) e.load(e.address(), (bits / 8) as 1 | 2 | 4 | 8);
  else if (e.insn.isRegister(operand)) e.gpr(e.insn.register(operand));
  else e.code.i64(BigInt.asIntN(64, e.insn.immediate(operand) & MASKS[bits]));
}

/** The operand in a fresh local. */
export function operandLocal(e: RegionEmitter, operand: number, bits: Bits): number {
  const local = e.temp(Type.i64);
  pushOperand(e, operand, bits);
  e.code.set(local);
  return local;
}

/** Pops an i64 into a register or memory operand that is written only. */
export function popOperand(e: RegionEmitter, operand: number, bits: Bits): void {
  if (!e.insn.isMemory(operand)) {
    e.setGpr(e.insn.register(operand));
    return;
  }
  const value = e.temp(Type.i64);
  e.code.set(value);
  e.store(e.address(), (bits / 8) as 1 | 2 | 4 | 8, value);
}

/** The operand as a place, and its present value in `into`. */
export function readPlaceInto(e: RegionEmitter, operand: number, bits: Bits, into: number): Place {
  const place = e.place(operand, bits / 8);
  e.readPlace(place);
  e.code.set(into);
  return place;
}

/** Truncates the i64 on the stack. */
export function truncate(e: RegionEmitter, bits: Bits): void {
  if (bits === 64) return;
  e.code.i64(MASKS[bits]);
  e.code.op(Op.i64_and);
}

/** Sign-extends the i64 on the stack from `bits`. */
export function signExtend(e: RegionEmitter, bits: Bits): void {
  if (bits === 8) e.code.op(Op.i64_extend8_s);
  else if (bits === 16) e.code.op(Op.i64_extend16_s);
  else if (bits === 32) e.code.op(Op.i64_extend32_s);
}
