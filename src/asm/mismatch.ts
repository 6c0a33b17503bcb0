import { Complaint } from "./diagnostics.ts";
import type { Bits, Form } from "./forms.ts";
import type { Resolved } from "./match.ts";
import { sizeKeywords } from "./operand.ts";
import type { Place } from "./source.ts";

const MAX_FORMS = 10;

function keywordFor(bytes: number): string {
  return [...sizeKeywords].find(([, size]) => size === bytes)?.[0] ?? `${bytes} bytes`;
}

/** The operands of a form as a reader writes them: `r/m32, imm8`. */
function formOperands(form: Form): string {
  if (form.slots.length === 0) return "no operands";
  return form.slots
    .map(({ label }) => {
      const memory = label === "m" && form.memoryBytes > 0 ? `m${form.memoryBytes * 8}` : label;
      return /^(xmm|ymm|zmm|mm|k|bnd)\/m$/.test(label) ? `${label}${form.memoryBytes * 8}` : memory;
    })
    .join(", ");
}

/** Several forms in one line, without repetition. */
function listForms(forms: readonly Form[]): string {
  const distinct = [...new Set(forms.map(formOperands))];
  const shown = distinct.slice(0, MAX_FORMS).join(" | ");
  return distinct.length > MAX_FORMS ? `${shown} | and ${distinct.length - MAX_FORMS} more` : shown;
}

function describe({ operand }: Resolved): string {
  if (operand.kind === "register") return operand.register.name;
  if (operand.kind === "far") return "segment:offset";
  const size = operand.size === 0 ? "" : `${keywordFor(operand.size)} `;
  return operand.kind === "memory" ? `${size}memory` : `${size}number`;
}

/** No form takes the operands: says which exist. */
export function explainMismatch(
  name: string,
  forms: readonly Form[],
  operands: readonly Resolved[],
  bits: Bits,
  place: Place,
): Complaint {
  const given = operands.length === 0 ? "no operands" : operands.map(describe).join(", ");
  const sameCount = forms.filter((form) => form.slots.length === operands.length);
  const listed = listForms(sameCount.length > 0 ? sameCount : forms);
  const message = `"${name}" does not take ${given} in ${bits}-bit code`;
  return new Complaint(message, operands[0]?.operand.place ?? place, `"${name}" takes ${listed}`);
}

/** The memory operand could have several sizes: asks for one. */
export function explainSizes(name: string, forms: readonly Form[], operands: readonly Resolved[]): Complaint {
  const sizes = [...new Set(forms.map((form) => form.memoryBytes))].sort((a, b) => a - b).map(keywordFor);
  const memory = operands.find(({ operand }) => operand.kind === "memory");
  return new Complaint(
    `Size of the memory operand of "${name}" is not known`,
    memory?.operand.place,
    `write ${sizes.join(" or ")} before the bracket`,
  );
}
