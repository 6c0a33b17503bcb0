import type { Encoder, Instruction, OpKind } from "iced-x86";
import type { Address } from "./address.ts";
import { Complaint } from "./diagnostics.ts";
import type { Value } from "./expression.ts";
import type { Bits, Form } from "./forms.ts";
import { iced } from "./iced.ts";
import { type Int, low32, toBig, toUnsigned } from "./integer.ts";
import type { Resolved } from "./match.ts";
import type { RegisterOperand } from "./operand.ts";
import { generalRegister } from "./registers.ts";
import type { Slot } from "./slots.ts";

/** What goes into one encoding besides form and operands. */
export interface EncodingContext {
  readonly bits: Bits;
  /** Address of the first byte that iced writes. */
  readonly address: number | bigint;
  readonly addressPrefix: Bits | undefined;
  readonly preventVex2: boolean;
}

const encoders = new Map<Bits, Encoder>();
let instruction: Instruction | undefined;
/** True while the shared instruction holds decorations that the next one must not inherit. */
let decorated = false;

function freshInstruction(): Instruction {
  if (instruction && !decorated) return instruction;
  instruction?.free();
  instruction = new (iced().Instruction)();
  decorated = false;
  return instruction;
}

function encoderFor(bits: Bits): Encoder {
  let encoder = encoders.get(bits);
  if (!encoder) {
    encoder = iced().Encoder.withCapacity(bits, 64);
    encoders.set(bits, encoder);
  }
  return encoder;
}

function setMemory(into: Instruction, address: Address, form: Form, target: Value): void {
  const { Register } = iced();
  into.memoryBase = address.ripRelative
    ? address.addressBits === 32
      ? Register.EIP
      : Register.RIP
    : (address.base?.code ?? Register.None);
  into.memoryIndex = address.index?.code ?? Register.None;
  into.memoryIndexScale = address.scale;
  let size = address.displacementBytes;
  if (address.ripRelative) size = 8;
  // EVEX scales a one-byte displacement: iced tries that when asked for one byte, and takes four otherwise.
  else if (form.encoding === "evex" && address.base && size === 4 && target.known && target.section === -1) size = 1;
  into.memoryDisplSize = size === 4 && address.addressBits === 64 ? 8 : size;
  into.memoryDisplacement = maskDisplacement(target.value, address);
}

/** iced takes a displacement as an unsigned number of the address's width; RIP-relative ones are targets. */
function maskDisplacement(value: Int, { addressBits, ripRelative }: Address): bigint {
  if (addressBits === 64 || ripRelative) return toUnsigned(value);
  return BigInt.asUintN(addressBits, toBig(value));
}

function setImmediate(into: Instruction, index: number, slot: Slot, value: Value, second: boolean): void {
  const { OpKind } = iced();
  const number = low32(value.value);
  switch (slot.immediate) {
    case "imm4":
    case "imm8":
    case "one":
      into.setOpKind(index, second ? OpKind.Immediate8_2nd : OpKind.Immediate8);
      if (second) into.immediate8_2nd = number & 0xff;
      else into.immediate8 = slot.immediate === "imm4" ? number & 0xf : number & 0xff;
      return;
    case "imm8sex16":
      into.setOpKind(index, OpKind.Immediate8to16);
      into.immediate8to16 = (number << 24) >> 24;
      return;
    case "imm8sex32":
      into.setOpKind(index, OpKind.Immediate8to32);
      into.immediate8to32 = (number << 24) >> 24;
      return;
    case "imm8sex64":
      into.setOpKind(index, OpKind.Immediate8to64);
      into.immediate8to64 = BigInt((number << 24) >> 24);
      return;
    case "imm16":
      into.setOpKind(index, OpKind.Immediate16);
      into.immediate16 = number & 0xffff;
      return;
    case "imm32":
      into.setOpKind(index, OpKind.Immediate32);
      into.immediate32 = number >>> 0;
      return;
    case "imm32sex64":
      into.setOpKind(index, OpKind.Immediate32to64);
      into.immediate32to64 = BigInt(number);
      return;
    case "imm64":
      into.setOpKind(index, OpKind.Immediate64);
      into.immediate64 = toUnsigned(value.value);
      return;
  }
}

function impliedKind(slot: Slot, form: Form, { bits, addressPrefix }: EncodingContext): OpKind {
  const { OpKind } = iced();
  const size = addressPrefix ?? (form.addressSize === 0 ? bits : form.addressSize);
  const pick = (at16: OpKind, at32: OpKind, at64: OpKind) => (size === 16 ? at16 : size === 32 ? at32 : at64);
  if (slot.implied === "rsi") return pick(OpKind.MemorySegSI, OpKind.MemorySegESI, OpKind.MemorySegRSI);
  if (slot.implied === "rdi") return pick(OpKind.MemoryESDI, OpKind.MemoryESEDI, OpKind.MemoryESRDI);
  return pick(OpKind.MemorySegDI, OpKind.MemorySegEDI, OpKind.MemorySegRDI);
}

/** Width in bits at which iced wants a branch target. */
function branchBits(form: Form, slot: Slot, bits: Bits): number {
  if (slot.transaction) return bits === 64 ? 64 : 32;
  return form.operandSize;
}

function setBranch(into: Instruction, index: number, width: number, target: bigint): void {
  const { OpKind } = iced();
  if (width === 16) {
    into.setOpKind(index, OpKind.NearBranch16);
    into.nearBranch16 = Number(target & 0xffffn);
  } else if (width === 32) {
    into.setOpKind(index, OpKind.NearBranch32);
    into.nearBranch32 = Number(target & 0xffffffffn);
  } else {
    into.setOpKind(index, OpKind.NearBranch64);
    into.nearBranch64 = target;
  }
}

function setImplied(into: Instruction, index: number, slot: Slot, form: Form, context: EncodingContext): void {
  const { OpKind, Register } = iced();
  if (slot.implied === "rbx") {
    const size = context.addressPrefix ?? context.bits;
    into.setOpKind(index, OpKind.Memory);
    into.memoryBase = size === 16 ? Register.BX : size === 32 ? Register.EBX : Register.RBX;
    into.memoryIndex = Register.AL;
    into.memoryDisplSize = 0;
    into.memoryDisplacement = 0n;
  } else if (slot.implied) into.setOpKind(index, impliedKind(slot, form, context));
  else {
    into.setOpKind(index, OpKind.Register);
    into.setOpRegister(index, slot.fixed);
  }
}

function setRegister(into: Instruction, index: number, slot: Slot, { register }: RegisterOperand): void {
  into.setOpKind(index, iced().OpKind.Register);
  const same = slot.fixed !== 0 || (slot.registers & register.cls) !== 0;
  into.setOpRegister(index, same ? register.code : generalRegister(register.number, slot.registers));
}

function setFar(into: Instruction, index: number, slot: Slot, { value, segment }: Resolved): void {
  const { OpKind } = iced();
  const wide = slot.bytes === 6;
  into.setOpKind(index, wide ? OpKind.FarBranch32 : OpKind.FarBranch16);
  into.farBranchSelector = low32(segment!.value) & 0xffff;
  if (wide) into.farBranch32 = low32(value!.value) >>> 0;
  else into.farBranch16 = low32(value!.value) & 0xffff;
}

function decorate(into: Instruction, { operand }: Resolved): void {
  const { RoundingControl } = iced();
  if (operand.mask) into.opMask = operand.mask.code;
  if (operand.zeroing) into.zeroingMasking = true;
  if (operand.broadcast > 0) into.isBroadcast = true;
  if (operand.rounding === "sae") into.suppressAllExceptions = true;
  else if (operand.rounding) {
    const { RoundToNearest, RoundDown, RoundUp, RoundTowardZero } = RoundingControl;
    into.roundingControl = { rn: RoundToNearest, rd: RoundDown, ru: RoundUp, rz: RoundTowardZero }[operand.rounding];
  }
  if (operand.mask || operand.zeroing || operand.broadcast > 0 || operand.rounding) decorated = true;
}

/** Adds the REX prefix that iced leaves out of 3DNow! instructions whose address uses R8 to R15. */
function withRex(bytes: Uint8Array, operands: readonly Resolved[]): Uint8Array {
  const address = operands[1]?.address;
  const rex = ((address?.index?.number ?? 0) > 7 ? 2 : 0) | ((address?.base?.number ?? 0) > 7 ? 1 : 0);
  if (rex === 0) return bytes;
  const opcode = bytes.indexOf(0x0f);
  return Uint8Array.from([...bytes.subarray(0, opcode), 0x40 | rex, ...bytes.subarray(opcode)]);
}

/** A bitness mask for instruction addresses, which iced wants in range. */
function maskAddress(address: number | bigint, bits: Bits): bigint {
  const value = toBig(address);
  return BigInt.asUintN(bits, value);
}

/**
 * Encodes one instruction through iced.
 *
 * @returns its bytes without repeat, lock and segment prefixes, which the caller writes in NASM's order.
 * @throws {Complaint} with what iced says about operands that do not go together, such as AH with a REX prefix.
 */
export function encode(form: Form, operands: readonly Resolved[], context: EncodingContext): Uint8Array {
  const { OpKind } = iced();
  const into = freshInstruction();
  into.code = form.code;
  let written = 0;
  let immediates = 0;
  for (let i = 0; i < form.allSlots.length; i++) {
    const slot = form.allSlots[i]!;
    const hidden = slot.implied !== undefined || form.slots.length === 0;
    if (hidden) {
      setImplied(into, i, slot, form, context);
      continue;
    }
    const resolved = operands[written++]!;
    const { operand } = resolved;
    if (operand.kind === "register") setRegister(into, i, slot, operand);
    else if (operand.kind === "memory") {
      into.setOpKind(i, OpKind.Memory);
      setMemory(into, resolved.address!, form, resolved.address!.displacement);
    } else if (operand.kind === "far") setFar(into, i, slot, resolved);
    else if (slot.branch !== undefined)
      setBranch(into, i, branchBits(form, slot, context.bits), toUnsigned(resolved.value!.value));
    else setImmediate(into, i, slot, resolved.value!, immediates++ > 0);
    decorate(into, resolved);
  }
  const encoder = encoderFor(context.bits);
  if (context.preventVex2) encoder.preventVEX2 = true;
  try {
    encoder.encode(into, maskAddress(context.address, context.bits));
    const bytes = encoder.takeBuffer();
    return form.encoding === "3dnow" ? withRex(bytes, operands) : bytes;
  } catch (error) {
    encoder.takeBuffer();
    decorated = true;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Complaint("These operands cannot be encoded together", undefined, reason.replace(/ \([^()]*\)$/, ""));
  } finally {
    if (context.preventVex2) encoder.preventVEX2 = false;
  }
}
