import type { Cursor } from "./cursor.ts";
import { Complaint } from "./diagnostics.ts";
import type { Expression } from "./expression.ts";
import type { ExpressionParser } from "./expressionparser.ts";
import { placeOf } from "./lexer.ts";
import { type NamedRegister, RegisterClass, registers } from "./registers.ts";
import type { Place } from "./source.ts";

/** What stands in braces behind an operand. */
export interface Decorators {
  readonly mask: NamedRegister | undefined;
  readonly zeroing: boolean;
  /** Elements of `{1toN}`, 0 for none. */
  readonly broadcast: number;
  /** `rn`, `rd`, `ru`, `rz` with suppressed exceptions, or `sae` alone. */
  readonly rounding: "rn" | "rd" | "ru" | "rz" | "sae" | undefined;
}

interface OperandPart extends Decorators {
  readonly place: Place;
  /** Bytes of a size keyword, 0 for none. */
  readonly size: number;
}

export interface RegisterOperand extends OperandPart {
  readonly kind: "register";
  readonly register: NamedRegister;
  /** `fadd to st1`. */
  readonly to: boolean;
}

export interface ImmediateOperand extends OperandPart {
  readonly kind: "immediate";
  readonly expression: Expression;
  readonly strict: boolean;
  readonly reach: "short" | "near" | "far" | undefined;
}

export interface FarOperand extends OperandPart {
  readonly kind: "far";
  readonly segment: Expression;
  readonly offset: Expression;
}

export interface MemoryOperand extends OperandPart {
  readonly kind: "memory";
  readonly expression: Expression;
  /** The second half of a split address `[base, index]` (MPX). */
  readonly split: Expression | undefined;
  /** Bytes of the displacement as written (`[dword 4]`), 0 for none. */
  readonly displacementSize: number;
  readonly segment: NamedRegister | undefined;
  readonly relative: boolean | undefined;
  readonly nosplit: boolean;
  readonly far: boolean;
}

export type Operand = RegisterOperand | ImmediateOperand | FarOperand | MemoryOperand;

/** Size keywords and their bytes. */
export const sizeKeywords: ReadonlyMap<string, number> = new Map(
  Object.entries({
    byte: 1,
    word: 2,
    dword: 4,
    qword: 8,
    tword: 10,
    oword: 16,
    yword: 32,
    zword: 64,
  }),
);

interface Modifiers {
  size: number;
  strict: boolean;
  reach: "short" | "near" | "far" | undefined;
  to: boolean;
}

function readModifiers(cursor: Cursor): Modifiers {
  const found: Modifiers = { size: 0, strict: false, reach: undefined, to: false };
  for (;;) {
    const word = cursor.word();
    if (word === undefined) return found;
    const size = sizeKeywords.get(word);
    if (size !== undefined) found.size = size;
    else if (word === "strict") found.strict = true;
    else if (word === "short" || word === "near" || word === "far") found.reach = word;
    else if (word === "to") found.to = true;
    else if (word === "ptr") throw cursor.complaint('"ptr" is MASM syntax', "write the size alone: dword [address]");
    else return found;
    cursor.next();
  }
}

function readDecorators(cursor: Cursor): Decorators {
  let mask: NamedRegister | undefined;
  let zeroing = false;
  let broadcast = 0;
  let rounding: Decorators["rounding"];
  while (cursor.at("{")) {
    const place = cursor.place();
    cursor.next();
    let text = "";
    while (!cursor.done && !cursor.at("}")) text += cursor.next()!.text.toLowerCase();
    cursor.expect("}", "to close the decorator");
    const control = /^r([ndzu])-sae$/.exec(text);
    const repeat = /^1to(2|4|8|16|32)$/.exec(text);
    const register = registers().get(text);
    if (text === "z") zeroing = true;
    else if (text === "sae") rounding = "sae";
    else if (control) rounding = `r${control[1]}` as "rn";
    else if (repeat) broadcast = Number(repeat[1]);
    else if (register?.cls === RegisterClass.mask) mask = register;
    else {
      const hint = "decorators are {k1}..{k7}, {z}, {1to2}..{1to32}, {sae}, {rn-sae}, {rd-sae}, {ru-sae}, {rz-sae}";
      throw new Complaint(`Unknown decorator "{${text}}"`, place, hint);
    }
  }
  return { mask, zeroing, broadcast, rounding };
}

const PLAIN: Decorators = { mask: undefined, zeroing: false, broadcast: 0, rounding: undefined };

function decorators(cursor: Cursor): Decorators {
  return cursor.at("{") ? readDecorators(cursor) : PLAIN;
}

function readMemory(cursor: Cursor, parser: ExpressionParser, modifiers: Modifiers, place: Place): MemoryOperand {
  let displacementSize = 0;
  let relative: boolean | undefined;
  let nosplit = false;
  let segment: NamedRegister | undefined;
  for (;;) {
    const word = cursor.word();
    if (word === undefined) break;
    const size = sizeKeywords.get(word);
    const register = cursor.peek(1)?.text === ":" ? registers().get(word) : undefined;
    if (size !== undefined) displacementSize = size;
    else if (word === "rel") relative = true;
    else if (word === "abs") relative = false;
    else if (word === "nosplit") nosplit = true;
    else if (register?.cls === RegisterClass.segment) {
      segment = register;
      cursor.next();
    } else break;
    cursor.next();
  }
  const expression = parser.parse();
  const split = cursor.accept(",") ? parser.parse() : undefined;
  cursor.expect("]", "to close the address");
  const far = modifiers.reach === "far";
  const shared = { size: modifiers.size, far, displacementSize, relative, nosplit, segment };
  return { kind: "memory", place, expression, split, ...shared, ...decorators(cursor) };
}

/**
 * Parses one operand.
 *
 * @throws {Complaint} where none can be read.
 */
function parseOperand(cursor: Cursor, parser: ExpressionParser): Operand {
  const place = cursor.place();
  const modifiers = readModifiers(cursor);
  if (cursor.accept("[")) return readMemory(cursor, parser, modifiers, place);
  const token = cursor.peek();
  if (!token) throw cursor.complaint("Expected an operand");
  const expression = parser.parse();
  const { size, strict, reach, to } = modifiers;
  if (cursor.at(":")) {
    if (expression.op === "register" && expression.register.cls === RegisterClass.segment) {
      const { name } = expression.register;
      throw cursor.complaint("A segment override stands inside the brackets", `write [${name}:address]`);
    }
    cursor.next();
    const offset = parser.parse();
    return { kind: "far", segment: expression, offset, size, place, ...PLAIN };
  }
  if (expression.op === "register") {
    return { kind: "register", register: expression.register, size, to, place: placeOf(token), ...decorators(cursor) };
  }
  return { kind: "immediate", expression, size, strict, reach, place, ...decorators(cursor) };
}

/** Parses operands separated by commas up to the end of the line. A trailing `{sae}` joins the operand before it. */
export function parseOperands(cursor: Cursor, parser: ExpressionParser): Operand[] {
  const operands: Operand[] = [];
  if (cursor.done) return operands;
  do {
    if (cursor.at("{") && operands.length > 0) {
      const last = operands.pop()!;
      const extra = readDecorators(cursor);
      operands.push({ ...last, rounding: extra.rounding ?? last.rounding });
    } else operands.push(parseOperand(cursor, parser));
  } while (cursor.accept(","));
  cursor.expectEnd("after the operand", "operands are separated by commas");
  return operands;
}
