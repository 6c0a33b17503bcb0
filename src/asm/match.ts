import type { Address } from "./address.ts";
import { ABSOLUTE, type Value } from "./expression.ts";
import type { Bits, Form } from "./forms.ts";
import { iced } from "./iced.ts";
import { fitsSigned, isSignedByte, toUnsigned } from "./integer.ts";
import type { ImmediateOperand, Operand } from "./operand.ts";
import { RegisterClass } from "./registers.ts";
import type { ImmediateKind, Slot } from "./slots.ts";

/** An operand with its expressions evaluated for the current pass. */
export interface Resolved {
  readonly operand: Operand;
  /** Of an immediate or a far offset. */
  readonly value: Value | undefined;
  /** Of a far pointer. */
  readonly segment: Value | undefined;
  /** Of a memory operand. */
  readonly address: Address | undefined;
}

/** What prefixes and mode demand of a form. */
export interface Demands {
  readonly bits: Bits;
  /** From o16, o32, o64, when some form of the mnemonic can satisfy it. */
  readonly operandSize: number | undefined;
  readonly addressSize: number | undefined;
  readonly encoding: "vex" | "evex" | undefined;
}

const WORDS = RegisterClass.r16 | RegisterClass.r32 | RegisterClass.r64;

/** True for a number whose value is settled, so that a shorter form may be chosen for it. */
function isPlain(value: Value): boolean {
  return value.known && value.section === ABSOLUTE;
}

function immediateFits(kind: ImmediateKind, operand: ImmediateOperand, value: Value): boolean {
  const { size, strict } = operand;
  switch (kind) {
    case "one":
      return size === 0 && !strict && isPlain(value) && value.value === 1;
    case "imm4":
    case "imm8":
      return size <= 1;
    case "imm8sex16":
    case "imm8sex32":
    case "imm8sex64": {
      if (size === 1) return true;
      const bits = kind === "imm8sex16" ? 16 : kind === "imm8sex32" ? 32 : 64;
      if (strict || (size !== 0 && size * 8 !== bits && !(bits === 64 && size === 4))) return false;
      return isPlain(value) && isSignedByte(value.value, bits);
    }
    case "imm16":
      return size === 0 || size === 2;
    case "imm32":
      return size === 0 || size === 4;
    case "imm32sex64":
      return size === 0 || size === 4 || size === 8;
    case "imm64":
      return size === 0 || size === 8;
  }
}

function memoryFits(form: Form, slot: Slot, { operand, address }: Resolved, bits: Bits): boolean {
  if (operand.kind !== "memory" || !address || slot.memory === undefined) return false;
  if (operand.broadcast > 0) {
    if (operand.broadcast !== form.broadcastCount) return false;
    return operand.size === 0 || operand.size === form.broadcastBytes;
  }
  const vector = address.index?.cls ?? 0;
  if (slot.memory === "vsib128") {
    if (vector !== RegisterClass.xmm) return false;
  } else if (slot.memory === "vsib256") {
    if (vector !== RegisterClass.ymm) return false;
  } else if (slot.memory === "vsib512") {
    if (vector !== RegisterClass.zmm) return false;
  } else if (vector > RegisterClass.mmx) return false;
  if (slot.memory === "offset") {
    if (address.base || address.index || address.ripRelative) return false;
    if (bits === 64 && operand.displacementSize !== 8) return false;
  } else if (operand.displacementSize === 8) return false;
  if (form.farMemory) {
    if (!operand.far && form.slots.length === 1) return false;
    return operand.far ? operand.size === 0 || form.memoryBytes === operand.size + 2 : operand.size === 0;
  }
  if (operand.far) return false;
  if (operand.size === 0 || form.memoryBytes === 0 || form.vsib) return true;
  return operand.size === form.memoryBytes || isOpaque(form);
}

/** Memory that is a structure rather than a number: NASM takes any size keyword for it. */
function isOpaque({ memoryBytes }: Form): boolean {
  return memoryBytes === 6 || memoryBytes === 14 || memoryBytes === 28 || memoryBytes > 64;
}

function slotMatches(form: Form, slot: Slot, resolved: Resolved, demands: Demands): boolean {
  const { operand } = resolved;
  switch (operand.kind) {
    case "register": {
      const { register } = operand;
      if (slot.fixed !== 0) return slot.fixed === register.code;
      if ((slot.registers & register.cls) === 0) return false;
      return register.number < 16 || form.encoding === "evex";
    }
    case "immediate":
      if (slot.branch !== undefined) return (slot.branch === 1) === (operand.reach === "short");
      return slot.immediate !== undefined && immediateFits(slot.immediate, operand, resolved.value!);
    case "far":
      return slot.far && (operand.size === 0 || operand.size === slot.bytes - 2);
    case "memory":
      return memoryFits(form, slot, resolved, demands.bits);
  }
}

function decoratorsFit(form: Form, operands: readonly Resolved[]): boolean {
  let masked = false;
  for (const { operand } of operands) {
    if (operand.mask) {
      if (!form.masking) return false;
      masked = true;
    }
    if (operand.zeroing && !form.zeroing) return false;
    if (operand.broadcast > 0 && form.broadcastCount === 0) return false;
    if (operand.rounding === "sae" && !form.suppressExceptions) return false;
    if (operand.rounding !== undefined && operand.rounding !== "sae" && !form.rounding) return false;
    if (operand.rounding !== undefined && operands.some((o) => o.operand.kind === "memory")) return false;
  }
  return masked || !form.maskRequired;
}

/** System instructions that read 16 bits of a register, whatever operand size is in force. */
const WORD_READERS = /^(arpl|lldt|ltr|verr|verw|lmsw)$/;

function readsWord(name: string, slot: Slot, { operand }: Resolved): boolean {
  if (operand.kind !== "register" || operand.register.cls !== RegisterClass.r16) return false;
  return WORD_READERS.test(name) && slot.registers === RegisterClass.r32;
}

/** A segment register is loaded from and stored to a general register of any size without a prefix for it. */
function isSegmentMove(form: Form, operands: readonly Resolved[]): boolean {
  if (operands.length !== 2 || form.slots.length !== 2 || form.slots[0]!.registers !== RegisterClass.segment)
    return false;
  const [to, from] = operands;
  if (to!.operand.kind !== "register" || to!.operand.register.cls !== RegisterClass.segment) return false;
  return (
    from!.operand.kind === "register" &&
    (from!.operand.register.cls & WORDS) !== 0 &&
    (form.slots[1]!.registers & WORDS) !== 0
  );
}

/** True when a form takes these operands. */
function formMatches(name: string, form: Form, operands: readonly Resolved[], demands: Demands): boolean {
  if (form.slots.length !== operands.length) return false;
  if (demands.encoding !== undefined && form.encoding !== demands.encoding) return false;
  if (demands.operandSize !== undefined && form.operandSize !== demands.operandSize) return false;
  if (demands.addressSize !== undefined && form.addressSize !== 0 && form.addressSize !== demands.addressSize)
    return false;
  if (isSegmentMove(form, operands)) return true;
  for (let i = 0; i < operands.length; i++) {
    const [slot, operand] = [form.slots[i]!, operands[i]!];
    if (!slotMatches(form, slot, operand, demands) && !readsWord(name, slot, operand)) return false;
  }
  return decoratorsFit(form, operands);
}

/** MOV to a 64-bit register: a 32-bit zero-extending form, a sign-extended one, or all 64 bits, as NASM chooses. */
function wideMoveFits(form: Form, operands: readonly Resolved[]): boolean {
  const immediate = operands[1]!.operand as ImmediateOperand;
  const value = operands[1]!.value!;
  const last = form.slots[1]!.immediate;
  if (last === "imm64") return true;
  if (immediate.size === 4) return true;
  return !immediate.strict && isPlain(value) && fitsSigned(value.value, 32);
}

/** XCHG EAX, EAX clears the upper half of RAX in 64-bit code; the one-byte form would be NOP. */
function isPlainExchange(form: Form, operands: readonly Resolved[]): boolean {
  if (form.code !== iced().Code.Xchg_r32_EAX) return false;
  return operands.every(({ operand }) => operand.kind === "register" && operand.register.number === 0);
}

/** Picks the first form that takes the operands, and every other one that would read or write another size of memory. */
export function selectForm(
  name: string,
  forms: readonly Form[],
  operands: readonly Resolved[],
  demands: Demands,
): { form: Form | undefined; others: Form[] } {
  const [first, second] = operands;
  const wideMove =
    name === "mov" &&
    first?.operand.kind === "register" &&
    first.operand.register.cls === RegisterClass.r64 &&
    second?.operand.kind === "immediate";
  const unsized = operands.find(
    ({ operand }) => operand.kind === "memory" && operand.size === 0 && operand.broadcast === 0,
  );
  let chosen: Form | undefined;
  const others: Form[] = [];
  for (const form of forms) {
    if (!formMatches(name, form, operands, demands)) continue;
    if (demands.bits === 64 && isPlainExchange(form, operands)) continue;
    if (wideMove && !wideMoveFits(form, operands)) continue;
    if (!chosen) {
      chosen = form;
      if (!unsized) break;
    } else if (form.memoryBytes !== chosen.memoryBytes) others.push(form);
  }
  return { form: chosen, others };
}

/** True when MOV r64, imm may become MOV r32, imm: the value is a settled number below 2^32. */
export function canNarrowMove(operand: ImmediateOperand, value: Value): boolean {
  return (
    (operand.size === 0 || operand.size === 8) &&
    !operand.strict &&
    isPlain(value) &&
    toUnsigned(value.value) <= 0xffffffffn
  );
}
