import { expect, test } from "bun:test";
import { packForms } from "../../../src/asm/formtable.ts";
import { FORM_TABLE } from "../../../src/asm/generated/forms.ts";

test("FORM_TABLE is what iced's opcode table says; bun src/asm/forms.generate.ts remakes it", () => {
  expect(packForms().toBase64() === FORM_TABLE).toBe(true);
});
