import type { Cursor } from "./cursor.ts";
import { Complaint } from "./diagnostics.ts";
import { ABSOLUTE, constant, type Expression, evaluate } from "./expression.ts";
import {
  encodeFloat,
  encodeFloatFunction,
  floatFunctionSizes,
  parseFloatLiteral,
  specialFloat,
  specialFloatNames,
} from "./float.ts";
import { binaryOperators } from "./integer.ts";
import { placeOf, type Token } from "./lexer.ts";
import { charactersToInt, parseInteger } from "./literals.ts";
import { registers } from "./registers.ts";

/** Turns a local name such as `.loop` into the full name of the symbol it stands for here. */
export type NameResolver = (name: string) => string;

const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["^^"],
  ["&&"],
  ["=", "==", "!=", "<>", "<", "<=", ">", ">=", "<=>"],
  ["|"],
  ["^"],
  ["&"],
  ["<<", ">>", "<<<", ">>>"],
  ["+", "-"],
  ["*", "/", "//", "%", "%%"],
];

const PRECEDENCE: Readonly<Record<string, number>> = Object.fromEntries(
  LEVELS.flatMap((operators, level) => operators.map((operator) => [operator, level])),
);

const INTEGER_FUNCTIONS = new Set(["ilog2e", "ilog2w", "ilog2f", "ilog2c", "ilog2cw", "ilog2fw", "ilog2", "clog2"]);
const MAX_DEPTH = 200;
const MAX_NODES = 4000;
/** Every folded expression is a constant, which evaluates without a scope. */
const NO_SCOPE = {
  symbol: () => constant(0),
  here: () => constant(0),
  sectionStart: () => constant(0),
};

/** `__?float32?__`, `__float32__` → `float32`; anything else → nothing. */
function bareName(text: string): string | undefined {
  return /^__\??([a-z0-9]+)\??__$/i.exec(text)?.[1]?.toLowerCase();
}

/** A signed floating-point constant, not yet in any format. */
export type FloatConstant = (size: number) => Uint8Array;

/** Parses expressions in NASM's grammar. One per statement: it bounds the size of what it builds. */
export class ExpressionParser {
  readonly #cursor: Cursor;
  readonly #resolve: NameResolver;
  #depth = 0;
  #nodes = 0;

  constructor(cursor: Cursor, resolve: NameResolver) {
    this.#cursor = cursor;
    this.#resolve = resolve;
  }

  /**
   * Parses one expression and leaves the cursor behind it.
   *
   * @throws {Complaint} where no expression can be read.
   */
  parse(): Expression {
    if (++this.#depth > MAX_DEPTH) throw this.#cursor.complaint("Expression is nested too deeply", "split it with equ");
    const condition = this.#binary(0);
    const token = this.#cursor.peek();
    let result = condition;
    if (token?.kind === "id" && token.text === "?") {
      this.#cursor.next();
      const then = this.parse();
      this.#cursor.expect(":", "between the two values of a conditional expression");
      result = { op: "choice", condition, then, else: this.parse() };
    }
    this.#depth--;
    return result;
  }

  /** Parses what may be a floating-point constant, signed; nothing, and nothing consumed, when none is there. */
  parseFloat(): FloatConstant | undefined {
    const cursor = this.#cursor;
    const signed = cursor.at("-") || cursor.at("+");
    const token = cursor.peek(signed ? 1 : 0);
    if (!token) return undefined;
    const negative = cursor.at("-");
    const special = token.kind === "id" ? specialFloatNames.get(bareName(token.text) ?? "") : undefined;
    if (special === undefined && token.kind !== "float") return undefined;
    cursor.position += signed ? 2 : 1;
    if (special !== undefined) return (size) => specialFloat(special, size, negative);
    const value = parseFloatLiteral(token.text);
    if (!value) throw new Complaint(`Cannot read "${token.text}" as a number`, placeOf(token));
    return (size) => encodeFloat(value, size, negative);
  }

  #binary(level: number): Expression {
    let left = this.#unary();
    for (;;) {
      const token = this.#cursor.peek();
      if (token?.kind !== "op") return left;
      const precedence = PRECEDENCE[token.text];
      if (precedence === undefined || precedence < level) return left;
      this.#cursor.next();
      const right = this.#binary(precedence + 1);
      left = this.#fold(token, left, right);
    }
  }

  #fold(token: Token, left: Expression, right: Expression): Expression {
    if (++this.#nodes > MAX_NODES) throw new Complaint("Expression is too long", placeOf(token), "split it with equ");
    const operator = token.text;
    const node: Expression = { op: "binary", operator, left, right, place: placeOf(token) };
    if (left.op !== "constant" || right.op !== "constant") return node;
    if (right.value.value === 0 && /^[/%]/.test(operator)) return node;
    return {
      op: "constant",
      value: { value: binaryOperators[operator]!(left.value.value, right.value.value), section: ABSOLUTE, known: true },
    };
  }

  #unary(): Expression {
    const token = this.#cursor.peek();
    if (
      token?.kind === "op" &&
      (token.text === "-" || token.text === "+" || token.text === "~" || token.text === "!")
    ) {
      this.#cursor.next();
      if (++this.#depth > MAX_DEPTH) throw new Complaint("Expression is nested too deeply", placeOf(token));
      const operand = this.#unary();
      this.#depth--;
      const node: Expression = { op: "unary", operator: token.text, operand, place: placeOf(token) };
      return operand.op === "constant" ? { op: "constant", value: evaluate(node, NO_SCOPE) } : node;
    }
    return this.#primary();
  }

  #primary(): Expression {
    const cursor = this.#cursor;
    const token = cursor.next();
    if (!token) throw cursor.complaint("Expected a value");
    if (token.kind === "num") {
      const value = parseInteger(token.text);
      if (value === undefined) {
        throw new Complaint(
          `Cannot read "${token.text}" as a number`,
          placeOf(token),
          "write 0x1f, 1fh, 0b101, 0o17 or decimal; hexadecimal with h begins with a digit",
        );
      }
      return { op: "constant", value: constant(value) };
    }
    if (token.kind === "id") return this.#name(token);
    if (token.kind === "str" && token.bytes) return { op: "constant", value: constant(charactersToInt(token.bytes)) };
    if (token.text === "(") {
      const inner = this.parse();
      cursor.expect(")", "to close the parenthesis");
      return inner;
    }
    if (token.kind === "float") {
      throw new Complaint(
        `Floating-point number "${token.text}" cannot be part of an integer expression`,
        placeOf(token),
        "use dd, dq or dt, or __?float32?__(...) for its bits",
      );
    }
    cursor.position--;
    if (token.kind === "pp") throw cursor.complaint(`Unexpected "${token.text}" here`, macroOnlyHint(token.text));
    throw cursor.complaint(`Expected a value before "${token.text}"`);
  }

  #name(token: Token): Expression {
    const { text } = token;
    if (text === "$") return { op: "here" };
    if (text === "$$") return { op: "sectionStart" };
    const register = registers().get(text) ?? registers().get(text.toLowerCase());
    if (register) return { op: "register", register, place: placeOf(token) };
    if (text.startsWith("__")) {
      const bare = bareName(text);
      if (bare !== undefined && floatFunctionSizes.has(bare)) return this.#floatFunction(bare);
    }
    if (this.#cursor.at("(") && INTEGER_FUNCTIONS.has(text.toLowerCase())) {
      this.#cursor.next();
      const operand = this.parse();
      this.#cursor.expect(")", "to close the parenthesis");
      return { op: "unary", operator: text.toLowerCase(), operand, place: placeOf(token) };
    }
    if (text === "?") throw new Complaint('Expected a value before "?"', placeOf(token));
    if (/^(seg|wrt)$/i.test(text)) {
      throw new Complaint(`"${text}" has no meaning in a flat binary`, placeOf(token), "write the segment as a number");
    }
    const name = text.startsWith("$") ? text.slice(1) : text;
    return { op: "symbol", name: this.#resolve(name), place: placeOf(token) };
  }

  #floatFunction(name: string): Expression {
    this.#cursor.expect("(", `after __?${name}?__`);
    const value = this.parseFloat();
    if (!value) throw this.#cursor.complaint("Expected a floating-point number", "such as 1.5 or __?Infinity?__");
    this.#cursor.expect(")", "to close the parenthesis");
    return { op: "constant", value: constant(charactersToInt(encodeFloatFunction(name, value))) };
  }
}

function macroOnlyHint(text: string): string {
  return /^%[%\d{+-]/.test(text) ? "macro parameters and %%labels exist only inside %macro" : "";
}
