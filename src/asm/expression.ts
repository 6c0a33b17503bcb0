import { Complaint } from "./diagnostics.ts";
import { binaryOperators, type Int, multiply, negate, normalize, toBig } from "./integer.ts";
import type { NamedRegister } from "./registers.ts";
import type { Place } from "./source.ts";

/** A parsed expression. Symbols are resolved when it is evaluated, in every pass anew. */
export type Expression =
  | { readonly op: "constant"; readonly value: Value }
  | { readonly op: "symbol"; readonly name: string; readonly place: Place }
  | { readonly op: "here" }
  | { readonly op: "sectionStart" }
  | { readonly op: "register"; readonly register: NamedRegister; readonly place: Place }
  | { readonly op: "unary"; readonly operator: string; readonly operand: Expression; readonly place: Place }
  | {
      readonly op: "binary";
      readonly operator: string;
      readonly left: Expression;
      readonly right: Expression;
      readonly place: Place;
    }
  | { readonly op: "choice"; readonly condition: Expression; readonly then: Expression; readonly else: Expression };

/** Marks a value that counts from no section: a plain number. */
export const ABSOLUTE = -1;
/** Marks a value computed from addresses in a way that is neither a number nor one address plus a number. */
export const COMPUTED = -2;

/** What an expression evaluates to. */
export interface Value {
  readonly value: Int;
  /** The section an address counts from, ABSOLUTE for a number, COMPUTED for anything else. */
  readonly section: number;
  /** False while a symbol in it has no value yet. */
  readonly known: boolean;
}

/** What evaluation needs to know about the program. */
export interface Scope {
  symbol(name: string, place: Place): Value;
  here(): Value;
  sectionStart(): Value;
}

/** A number as a value. */
export function constant(value: Int): Value {
  return { value, section: ABSOLUTE, known: true };
}

function combinedSection(operator: string, a: Value, b: Value): number {
  if (a.section === ABSOLUTE && b.section === ABSOLUTE) return ABSOLUTE;
  if (operator === "+") {
    if (a.section === ABSOLUTE) return b.section;
    if (b.section === ABSOLUTE) return a.section;
  } else if (operator === "-") {
    if (b.section === ABSOLUTE) return a.section;
    if (a.section === b.section && a.section !== COMPUTED) return ABSOLUTE;
  } else if (/^(==?|!=|<>|<=?|>=?|<=>)$/.test(operator) && a.section === b.section) return ABSOLUTE;
  return COMPUTED;
}

function unary(operator: string, operand: Value): Value {
  const { section, known } = operand;
  switch (operator) {
    case "+":
      return operand;
    case "-":
      return { value: negate(operand.value), section: section === ABSOLUTE ? ABSOLUTE : COMPUTED, known };
    case "~":
      return { value: normalize(~toBig(operand.value)), section: section === ABSOLUTE ? ABSOLUTE : COMPUTED, known };
    case "!":
      return { value: operand.value === 0 ? 1 : 0, section: ABSOLUTE, known };
    default:
      return { value: integerFunction(operator, operand.value), section: ABSOLUTE, known };
  }
}

/** The `ilog2` family of NASM's ifunc package. */
function integerFunction(name: string, value: Int): Int {
  const bits = BigInt.asUintN(64, toBig(value));
  if (bits === 0n) return name === "ilog2c" || name === "clog2" ? 0 : name === "ilog2cw" ? 0 : -1;
  const floor = bits.toString(2).length - 1;
  const exact = (bits & (bits - 1n)) === 0n;
  if (name === "ilog2c" || name === "ilog2cw" || name === "clog2") return exact ? floor : floor + 1;
  return name === "ilog2" || name === "ilog2e" ? (exact ? floor : -1) : floor;
}

/**
 * Evaluates an expression.
 *
 * @throws {Complaint} for a division by zero or a register where a number is wanted.
 */
export function evaluate(expression: Expression, scope: Scope): Value {
  switch (expression.op) {
    case "constant":
      return expression.value;
    case "symbol":
      return scope.symbol(expression.name, expression.place);
    case "here":
      return scope.here();
    case "sectionStart":
      return scope.sectionStart();
    case "register": {
      const { name } = expression.register;
      throw new Complaint(
        `Register "${name}" cannot be part of a number`,
        expression.place,
        "use it alone or inside [ ]",
      );
    }
    case "unary":
      return unary(expression.operator, evaluate(expression.operand, scope));
    case "choice": {
      const condition = evaluate(expression.condition, scope);
      return evaluate(condition.value !== 0 ? expression.then : expression.else, scope);
    }
    case "binary": {
      const left = evaluate(expression.left, scope);
      const right = evaluate(expression.right, scope);
      const known = left.known && right.known;
      const { operator } = expression;
      if (right.value === 0 && (operator === "/" || operator === "//" || operator === "%" || operator === "%%")) {
        if (!known) return { value: 0, section: ABSOLUTE, known };
        throw new Complaint("Division by zero", expression.place);
      }
      const value = binaryOperators[operator]!(left.value, right.value);
      return { value, section: combinedSection(operator, left, right), known };
    }
  }
}

/** Registers of an effective address with their factors, the rest as one value, and which register was named first. */
export interface AddressSum {
  readonly terms: { readonly register: NamedRegister; factor: number; readonly place: Place }[];
  value: Value;
  /** The register named first, and whether it was multiplied explicitly (and so cannot be meant as base). */
  first: { register: NamedRegister; multiplied: boolean } | undefined;
}

function hasRegister(expression: Expression): boolean {
  switch (expression.op) {
    case "register":
      return true;
    case "unary":
      return hasRegister(expression.operand);
    case "binary":
      return hasRegister(expression.left) || hasRegister(expression.right);
    default:
      return false;
  }
}

function addTerms(sum: AddressSum, other: AddressSum, sign: 1 | -1): void {
  for (const term of other.terms) {
    const mine = sum.terms.find(({ register }) => register === term.register);
    if (mine) mine.factor += sign * term.factor;
    else sum.terms.push({ ...term, factor: sign * term.factor });
  }
}

/** Splits `[base + index*scale + displacement]` into its terms, through any nesting of + - and multiplication by numbers. */
export function evaluateAddress(expression: Expression, scope: Scope): AddressSum {
  if (!hasRegister(expression)) return { terms: [], value: evaluate(expression, scope), first: undefined };
  if (expression.op === "register") {
    const { register, place } = expression;
    return { terms: [{ register, factor: 1, place }], value: constant(0), first: { register, multiplied: false } };
  }
  if (expression.op === "unary" && (expression.operator === "+" || expression.operator === "-")) {
    const inner = evaluateAddress(expression.operand, scope);
    if (expression.operator === "+") return inner;
    for (const term of inner.terms) term.factor = -term.factor;
    inner.value = unary("-", inner.value);
    return inner;
  }
  if (expression.op === "binary") {
    const { operator, left, right, place } = expression;
    if (operator === "+" || operator === "-") {
      const sum = evaluateAddress(left, scope);
      const other = evaluateAddress(right, scope);
      addTerms(sum, other, operator === "+" ? 1 : -1);
      sum.first ??= other.first;
      const section = combinedSection(operator, sum.value, other.value);
      const value = binaryOperators[operator]!(sum.value.value, other.value.value);
      sum.value = { value, section, known: sum.value.known && other.value.known };
      return sum;
    }
    if (operator === "*" && hasRegister(left) !== hasRegister(right)) {
      const sum = evaluateAddress(hasRegister(left) ? left : right, scope);
      const factor = evaluate(hasRegister(left) ? right : left, scope);
      for (const term of sum.terms) term.factor *= Number(factor.value);
      sum.value = { ...sum.value, value: multiply(sum.value.value, factor.value) };
      if (sum.first) sum.first.multiplied = true;
      return sum;
    }
    throw new Complaint(
      `Registers in an address cannot be combined with "${operator}"`,
      place,
      "write a sum: [base + index*scale + displacement]",
    );
  }
  throw new Complaint(
    "Registers in an address can only be added and scaled",
    undefined,
    "write [base + index*scale + displacement]",
  );
}
