import { Complaint } from "./diagnostics.ts";
import { encode } from "./encoder.ts";
import type { Value } from "./expression.ts";
import type { Form } from "./forms.ts";
import type { InstructionContext, InstructionStatement } from "./instruction.ts";
import { fitsSigned, subtract } from "./integer.ts";
import type { Resolved } from "./match.ts";
import type { ImmediateOperand } from "./operand.ts";
import { prefixBytes } from "./prefixes.ts";
import { RegisterClass } from "./registers.ts";

/** True when the operands are a branch target rather than a value, a register or a pointer in memory. */
export function isBranch(forms: readonly Form[], operands: readonly Resolved[]): boolean {
  if (operands[0]?.operand.kind !== "immediate") return false;
  return forms.some((form) => form.slots[0]?.branch !== undefined);
}

/** `loop target, ecx`: the count register says the address size. */
function countRegisterBits(operands: readonly Resolved[]): number | undefined {
  const count = operands[1]?.operand;
  if (count?.kind !== "register") return undefined;
  const { cls, number } = count.register;
  if (number !== 1) return undefined;
  return cls === RegisterClass.r16 ? 16 : cls === RegisterClass.r32 ? 32 : cls === RegisterClass.r64 ? 64 : undefined;
}

function branchForms(
  statement: InstructionStatement,
  forms: readonly Form[],
  operands: readonly Resolved[],
  context: InstructionContext,
): Form[] {
  const { bits } = context;
  const target = operands[0]!.operand as ImmediateOperand;
  const sizes: Readonly<Record<number, number>> = { 2: 16, 4: 32, 8: 64 };
  const wanted = bits === 64 ? 64 : (sizes[target.size] ?? statement.prefixes.operandSize ?? bits);
  // JCXZ and JECXZ say the address size themselves, LOOP takes it from its register, a prefix or the mode.
  const counted = forms.some((form) => form.addressSize === bits) ? bits : (forms[0]?.addressSize ?? bits);
  const address = countRegisterBits(operands) ?? statement.prefixes.addressSize ?? counted;
  const found = forms.filter(
    (form) =>
      form.slots[0]?.branch !== undefined &&
      (form.operandSize === 0 || form.operandSize === wanted || form.slots[0].transaction) &&
      (form.addressSize === 0 || form.addressSize === address),
  );
  const { reach } = target;
  if (found.every((form) => form.slots[0]!.transaction))
    return found.filter((form) => form.operandSize === Math.min(wanted, 32));
  if (reach === "short") return found.filter((form) => form.slots[0]!.branch === 1);
  if (reach === "near" || target.strict) {
    const near = found.filter((form) => form.slots[0]!.branch !== 1);
    return near.length > 0 ? near : found;
  }
  return found;
}

function inReach(target: Value, form: Form, length: number, context: InstructionContext): boolean {
  if (!target.known) return true;
  const end = typeof context.address === "number" ? context.address + length : context.address + BigInt(length);
  const distance = subtract(target.value, end);
  const bytes = form.slots[0]!.branch!;
  if (bytes === 4) return fitsSigned(distance, 33);
  // 16-bit code wraps around at 64 KiB.
  return bytes === 2 || fitsSigned(distance, 8);
}

/**
 * Assembles a relative branch. A short form is taken while the target is not known, and dropped once it proves too far, as
 * NASM's default optimisation does; a target outside the section always gets the near form.
 */
export function emitBranch(
  statement: InstructionStatement,
  forms: readonly Form[],
  operands: readonly Resolved[],
  context: InstructionContext,
): Uint8Array {
  const { name, prefixes } = statement;
  const target = operands[0]!.value!;
  const operand = operands[0]!.operand as ImmediateOperand;
  if (operand.reach === "far") {
    throw new Complaint("A far target needs its segment", operand.place, `write: ${name} segment:offset`);
  }
  const usable = branchForms(statement, forms, operands, context);
  const front = branchPrefixes(statement, context);
  const { bits } = context;
  const [short, near] = [usable.find((f) => f.slots[0]!.branch === 1), usable.find((f) => f.slots[0]!.branch !== 1)];
  const lengthOf = (form: Form) => front.length + form.cost[bits];
  let form = short ?? near;
  if (!form)
    throw new Complaint(
      `"${name}" has no form for this target`,
      operand.place,
      `size or reach does not go with ${bits}-bit code`,
    );
  // A size keyword asks for a displacement of that size.
  if (short && near && operand.size !== 0) form = near;
  else if (short && near) {
    const local = !target.known || target.section === context.section;
    form = local && inReach(target, short, lengthOf(short), context) ? short : near;
  }
  // A short JMP leaves the bound registers alone as it is, so that NASM drops its BND prefix.
  if (form === short && name === "jmp" && prefixes.repeat !== 0) front.splice(front.indexOf(prefixes.repeat), 1);
  const length = lengthOf(form);
  const address =
    typeof context.address === "number" ? context.address + front.length : context.address + BigInt(front.length);
  if (!inReach(target, form, length, context)) {
    context.fail(new Complaint(`Target of "${name}" is out of reach`, operand.place, reachHint(name, forms)));
    return new Uint8Array(length);
  }
  if (!target.known) return new Uint8Array(length);
  const bytes = encode(form, operands.slice(0, 1), { bits, address, addressPrefix: undefined, preventVex2: false });
  if (front.length === 0) return bytes;
  return Uint8Array.from([...front, ...bytes]);
}

function branchPrefixes({ prefixes }: InstructionStatement, { bits }: InstructionContext): number[] {
  const front = prefixBytes(prefixes, []);
  if (bits === 64 && prefixes.operandSize === 16) front.push(0x66);
  return front;
}

function reachHint(name: string, forms: readonly Form[]): string {
  if (forms.some((form) => form.slots[0]?.branch !== 1))
    return "a short branch reaches -128 to +127 bytes: drop the word short";
  return `${name} reaches -128 to +127 bytes: jump over a near jump instead`;
}
