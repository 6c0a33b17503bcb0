import type { RawInstruction } from "../decoder/iced.ts";
import { type Code, type Mnemonic, OpKind, Register } from "../decoder/names.ts";

/** One decoded instruction: what emitters ask most, read out of iced once. Valid until the next `decode`. */
export class Insn {
  /** iced's object, for whatever is not below. Only valid while its instruction is being emitted. */
  raw!: RawInstruction;
  code: Code = 0;
  mnemonic: Mnemonic = 0;
  /** Bytes. */
  length = 0;
  /** Operand size that `Code` implies is up to the emitter; this is the number of operands. */
  operands = 0;
  /** Instruction pointer of this instruction (offset in CS). */
  rip = 0n;
  /** Of the one behind, truncated to the code size. */
  next = 0n;

  opKind(operand: number): OpKind {
    return this.raw.opKind(operand);
  }
  register(operand: number): Register {
    return this.raw.opRegister(operand);
  }
  isRegister(operand: number): boolean {
    return this.raw.opKind(operand) === OpKind.Register;
  }
  /** An explicit memory operand (not one of the string instructions' implied ones). */
  isMemory(operand: number): boolean {
    return operand < this.operands && this.raw.opKind(operand) === OpKind.Memory;
  }
  /** Immediate, sign-extended as the form says, as unsigned 64 bits. */
  immediate(operand: number): bigint {
    return BigInt.asUintN(64, this.raw.immediate(operand));
  }
  /** An 8-bit immediate as a number, e.g. a shuffle control. */
  get imm8(): number {
    return this.raw.immediate8;
  }
  get hasLock(): boolean {
    return this.raw.hasLockPrefix;
  }
  get hasRep(): boolean {
    return this.raw.hasRepPrefix;
  }
  get hasRepne(): boolean {
    return this.raw.hasRepnePrefix;
  }
}

/** Number of the 64-bit register (0 RAX … 15 R15) that holds `register`, of any width. */
export function gprIndex(register: Register): number {
  if (register >= Register.RAX && register <= Register.R15) return register - Register.RAX;
  if (register >= Register.EAX && register <= Register.R15D) return register - Register.EAX;
  if (register >= Register.AX && register <= Register.R15W) return register - Register.AX;
  if (register >= Register.SPL && register <= Register.R15L) return register - Register.SPL + 4;
  if (register >= Register.AH && register <= Register.BH) return register - Register.AH;
  if (register >= Register.AL && register <= Register.BL) return register - Register.AL;
  throw new TypeError(`Cannot take register ${register} as a general register`);
}

/** Width of a general register in bits; 8 for AH too. */
export function gprBits(register: Register): 8 | 16 | 32 | 64 {
  if (register >= Register.RAX) return 64;
  if (register >= Register.EAX) return 32;
  if (register >= Register.AX) return 16;
  return 8;
}

export function isHighByte(register: Register): boolean {
  return register >= Register.AH && register <= Register.BH;
}
