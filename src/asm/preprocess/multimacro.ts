import { Complaint } from "../diagnostics.ts";
import { madeToken, placeOf, type Token } from "../lexer.ts";
import { parseInteger } from "../literals.ts";
import type { SourceLine } from "../source.ts";
import { glue, unbrace } from "./expand.ts";

/** A line of a macro or repetition body, kept as written. */
export interface BodyLine {
  readonly line: SourceLine;
  readonly tokens: readonly Token[];
}

/** A multi-line macro: `%macro name 1-3+ defaults`. */
export interface MultiMacro {
  readonly name: string;
  readonly minimum: number;
  readonly maximum: number;
  /** The last parameter takes the rest of the line. */
  readonly greedy: boolean;
  readonly defaults: readonly (readonly Token[])[];
  readonly body: BodyLine[];
  /** `%rmacro`: may expand inside itself. */
  readonly recursive: boolean;
  readonly anyCase: boolean;
}

/** One use of a multi-line macro. */
export interface Invocation {
  readonly macro: MultiMacro;
  parameters: readonly (readonly Token[])[];
  /** Turned by %rotate. */
  rotation: number;
  /** Makes its %%labels unique. */
  readonly unique: number;
  /** The label in front of it, for %00. */
  readonly label: readonly Token[];
}

/** Splits the arguments of a macro at its commas; braces protect them. */
export function splitArguments(tokens: readonly Token[], greedyAt: number): Token[][] {
  if (tokens.length === 0) return [];
  const list: Token[][] = [[]];
  let braces = 0;
  for (const token of tokens) {
    const text = token.kind === "op" ? token.text : "";
    if (text === "{") braces++;
    if (text === "}") braces--;
    if (text === "," && braces === 0 && list.length !== greedyAt) list.push([]);
    else list[list.length - 1]!.push(token);
  }
  return list.map((argument, i) =>
    i + 1 === greedyAt && argument.some(({ text }) => text === ",") ? argument : unbrace(argument),
  );
}

/** The macro among those of a name that takes so many arguments. */
export function matchMacro(candidates: readonly MultiMacro[], given: number): MultiMacro | undefined {
  return candidates.find((macro) => given >= macro.minimum && (given <= macro.maximum || macro.greedy));
}

/** Parameters of an invocation: the arguments, completed from the defaults. */
export function bindParameters(macro: MultiMacro, tokens: readonly Token[]): readonly (readonly Token[])[] {
  const given: (readonly Token[])[] = splitArguments(tokens, macro.greedy ? macro.maximum : 0);
  for (let i = given.length; i < macro.maximum; i++) {
    const fallback = macro.defaults[i - macro.minimum];
    if (fallback === undefined) break;
    given.push(fallback);
  }
  return given;
}

/** Reads the head of %macro: `name 1-2+.nolist default, default`. */
export function parseMacroHead(
  tokens: readonly Token[],
  recursive: boolean,
  anyCase: boolean,
  place: Token,
): MultiMacro {
  const [name, count, ...rest] = tokens;
  if (name?.kind !== "id")
    throw new Complaint("Expected the name of the macro", placeOf(name ?? place), "write: %macro name 2");
  const minimum = count?.kind === "num" ? parseInteger(count.text) : undefined;
  if (typeof minimum !== "number") {
    throw new Complaint(
      "Expected the number of parameters",
      placeOf(count ?? name),
      "write: %macro name 2, or 1-3, or 1+",
    );
  }
  let at = 0;
  let maximum = minimum;
  if (rest[at]?.text === "-" && rest[at + 1]) {
    const limit = rest[at + 1]!;
    maximum = limit.text === "*" ? Number.MAX_SAFE_INTEGER : Number(parseInteger(limit.text) ?? -1);
    if (maximum < minimum)
      throw new Complaint("The largest number of parameters is below the smallest", placeOf(limit));
    at += 2;
  }
  const greedy = rest[at]?.text === "+";
  if (greedy) at++;
  if (rest[at]?.text.toLowerCase() === ".nolist") at++;
  const defaults = splitArguments(rest.slice(at), 0);
  return { name: name.text, minimum, maximum, greedy, defaults, body: [], recursive, anyCase };
}

const CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split(" ");
const CONDITION_NAMES: ReadonlyMap<string, number> = new Map([
  ...CONDITIONS.map((name, i): [string, number] => [name, i]),
  ...(
    [
      ["c", 2],
      ["nae", 2],
      ["nb", 3],
      ["nc", 3],
      ["z", 4],
      ["nz", 5],
      ["na", 6],
      ["nbe", 7],
      ["pe", 10],
      ["po", 11],
      ["nge", 12],
      ["nl", 13],
      ["ng", 14],
      ["nle", 15],
    ] as const
  ).map(([name, i]): [string, number] => [name, i]),
]);

function conditionCode(token: Token, argument: readonly Token[], invert: boolean): Token[] {
  const [only] = argument;
  const index = only ? CONDITION_NAMES.get(only.text.toLowerCase()) : undefined;
  const register = only && /^e?cxz$/i.test(only.text);
  if (register && !invert) return [only];
  if (index === undefined)
    throw new Complaint(`Macro parameter is not a condition code`, placeOf(token), "such as e, nz or ae");
  return [madeToken("id", CONDITIONS[invert ? index ^ 1 : index]!, token)];
}

function parameterRange(token: Token, range: string, { parameters, rotation }: Invocation): Token[] {
  const count = parameters.length;
  const [from = 1, to = 1] = range.split(":").map(Number);
  const index = (n: number) => (n < 0 ? count + n : n - 1);
  const out: Token[] = [];
  const step = index(from) <= index(to) ? 1 : -1;
  for (let i = index(from), left = count; left > 0; i += step, left--) {
    if (i >= 0 && i < count) {
      if (out.length > 0) out.push(madeToken("op", ",", token));
      out.push(...parameters[(i + rotation) % count]!);
    }
    if (i === index(to)) break;
  }
  return out;
}

/** What one preprocessor token stands for inside a macro; nothing when it is no parameter. */
function substitute(token: Token, invocation: Invocation): readonly Token[] | undefined {
  const { parameters, rotation, unique, label } = invocation;
  let inner = token.text.slice(1);
  if (inner.startsWith("{") && inner.endsWith("}")) inner = inner.slice(1, -1).trim();
  if (inner === "00") return label;
  if (inner === "0") return [madeToken("num", String(parameters.length), token)];
  if (/^[1-9][0-9]{0,6}$/.test(inner)) {
    const count = Math.max(parameters.length, 1);
    const index = Number(inner) - 1;
    return index < parameters.length ? parameters[(index + rotation) % count] : [];
  }
  const condition = /^([+-])([1-9][0-9]*)$/.exec(inner);
  if (condition) {
    const index = Number(condition[2]) - 1;
    return conditionCode(
      token,
      parameters[(index + rotation) % Math.max(parameters.length, 1)] ?? [],
      condition[1] === "-",
    );
  }
  if (/^-?[0-9]+:-?[0-9]+$/.test(inner)) return parameterRange(token, inner, invocation);
  if (inner.startsWith("%") && inner.length > 1) return [madeToken("id", `..@${unique}.${inner.slice(1)}`, token)];
  return undefined;
}

const MAX_TOKENS = 200_000;

const isWord = ({ kind }: Token): boolean => kind === "id" || kind === "num" || kind === "float";

/** Puts the parameters of an invocation into a line of its macro's body, gluing what touches. */
export function substituteParameters(
  tokens: readonly Token[],
  invocation: Invocation | undefined,
  line: SourceLine,
): Token[] {
  const out: Token[] = [];
  let touched = false;
  for (const original of tokens) {
    const token = original.line === line ? original : { ...original, line };
    const replaced = token.kind === "pp" && invocation ? substitute(token, invocation) : undefined;
    const pieces = replaced === undefined ? [token] : replaced;
    const canGlue = !token.space && (touched || replaced !== undefined);
    touched = replaced !== undefined;
    if (out.length > MAX_TOKENS) throw new Complaint("Macro parameters grow without end", placeOf(token));
    pieces.forEach((piece, i) => {
      const left = out[out.length - 1];
      if (i === 0 && left && canGlue && isWord(left) && isWord(piece)) {
        out.pop();
        out.push(...glue(left, piece));
      } else out.push(i === 0 && piece.space !== token.space ? { ...piece, space: token.space } : piece);
    });
  }
  return out;
}
