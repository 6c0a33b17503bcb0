import { Complaint } from "../diagnostics.ts";
import { madeToken, placeOf, type Token, tokenize } from "../lexer.ts";
import { flatText, type SingleMacros } from "./expand.ts";
import { splitArguments } from "./multimacro.ts";
import type { Preprocessor } from "./preprocessor.ts";

type Definition = (at: Token, rest: readonly Token[], preprocessor: Preprocessor) => void;

interface Target {
  readonly name: string;
  readonly macros: SingleMacros;
}

/** Where a name is to be defined: globally, or in a %push-ed context for `%$name`. */
function target(at: Token, token: Token | undefined, preprocessor: Preprocessor): Target {
  if (token?.kind === "id") return { name: token.text, macros: preprocessor.macros };
  if (token?.text.startsWith("%$")) {
    const context = preprocessor.context(token.text);
    if (!context) throw new Complaint(`"${token.text}" is outside any context`, placeOf(token), "open one with %push");
    return { name: token.text.replace(/^%\$+/, ""), macros: context.macros };
  }
  throw new Complaint(`Expected a name after ${at.text}`, placeOf(token ?? at));
}

/** Reads the parameter list of a function-like macro, whose parenthesis touches the name. */
function parameterList(rest: readonly Token[]): { parameters: string[] | undefined; greedy: boolean; end: number } {
  if (rest[1]?.text !== "(" || rest[1].space) return { parameters: undefined, greedy: false, end: 1 };
  const parameters: string[] = [];
  let greedy = false;
  for (let i = 2; i < rest.length; i++) {
    const token = rest[i]!;
    if (token.text === ")") return { parameters, greedy, end: i + 1 };
    if (token.text === "+") greedy = true;
    else if (token.kind === "id") parameters.push(token.text);
    else if (!/^[,=&]+$/.test(token.text)) throw new Complaint("Expected a parameter name", placeOf(token));
  }
  throw new Complaint("The parameter list is not closed", placeOf(rest[1]), 'add ")"');
}

function define(anyCase: boolean, expandNow: boolean): Definition {
  return (at, rest, preprocessor) => {
    const { name, macros } = target(at, rest[0], preprocessor);
    const { parameters, greedy, end } = parameterList(rest);
    const body = rest.slice(end);
    macros.define({ name, parameters, greedy, body: expandNow ? preprocessor.expand(body) : body }, anyCase);
  };
}

/** Defines a name as one computed token. */
function computed(
  anyCase: boolean,
  compute: (rest: readonly Token[], at: Token, preprocessor: Preprocessor) => readonly Token[],
): Definition {
  return (at, rest, preprocessor) => {
    const { name, macros } = target(at, rest[0], preprocessor);
    macros.define(
      { name, parameters: undefined, greedy: false, body: compute(rest.slice(1), at, preprocessor) },
      anyCase,
    );
  };
}

function assign(rest: readonly Token[], at: Token, preprocessor: Preprocessor): Token[] {
  const { value } = preprocessor.host.evaluate(preprocessor.expand(rest), at.line);
  const digits = madeToken("num", String(value < 0 ? -value : value), at);
  return value < 0 ? [madeToken("op", "-", at), { ...digits, space: false }] : [digits];
}

function strings(
  rest: readonly Token[],
  at: Token,
  preprocessor: Preprocessor,
): { bytes: Uint8Array[]; others: Token[] } {
  const tokens = preprocessor.expand(rest).filter(({ text }) => text !== ",");
  const bytes = tokens.flatMap((token) => (token.bytes ? [token.bytes] : []));
  if (bytes.length === 0) throw new Complaint(`Expected a string after ${at.text}`, placeOf(rest[0] ?? at));
  return { bytes, others: tokens.filter((token) => !token.bytes) };
}

function stringToken(bytes: Uint8Array, like: Token): Token {
  return madeToken("str", quoted(bytes), like, bytes);
}

/** Back-quoted text for bytes, so that a string survives being written out and read again. */
function quoted(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x60 && byte !== 0x5c;
    text += plain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return `\`${text}\``;
}

const MAX_STRING = 1 << 20;

function concatenated(parts: readonly Uint8Array[], at: Token): Uint8Array {
  const total = parts.reduce((sum, part) => sum + part.length, 0);
  if (total > MAX_STRING) throw new Complaint(`String is longer than ${MAX_STRING} bytes`, placeOf(at));
  const whole = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

function substring(rest: readonly Token[], at: Token, preprocessor: Preprocessor): Token[] {
  const [first, ...others] = preprocessor.expand(rest);
  if (!first?.bytes) throw new Complaint(`Expected a string after ${at.text}`, placeOf(rest[0] ?? at));
  const numbers = splitArguments(others[0]?.text === "," ? others.slice(1) : others, 0);
  const number = (tokens: readonly Token[]) => Number(preprocessor.host.evaluate(tokens, at.line).value);
  if (!numbers[0]) throw new Complaint("Expected the position in the string", placeOf(at), "positions count from 1");
  const start = number(numbers[0]);
  const length = numbers[1] ? number(numbers[1]) : 1;
  const size = first.bytes.length;
  const count = length < 0 ? size - start + 1 + length + 1 : length;
  return [stringToken(first.bytes.slice(Math.max(0, start - 1), Math.max(0, start - 1 + count)), at)];
}

function reread(text: string, at: Token): Token[] {
  return tokenize({ ...at.line, text }).map((token) => ({ ...token, line: at.line, column: at.column }));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const undefine: Definition = (at, rest, preprocessor) => {
  const { name, macros } = target(at, rest[0], preprocessor);
  macros.undefine(name);
};

/** The directives that define single-line macros. */
export const definitionDirectives: ReadonlyMap<string, Definition> = new Map<string, Definition>([
  ["%define", define(false, false)],
  ["%idefine", define(true, false)],
  ["%xdefine", define(false, true)],
  ["%ixdefine", define(true, true)],
  ["%assign", computed(false, assign)],
  ["%iassign", computed(true, assign)],
  ["%undef", undefine],
  ["%undefalias", undefine],
  ["%strlen", computed(false, (rest, at, p) => [madeToken("num", String(strings(rest, at, p).bytes[0]!.length), at)])],
  ["%strcat", computed(false, (rest, at, p) => [stringToken(concatenated(strings(rest, at, p).bytes, at), at)])],
  ["%substr", computed(false, substring)],
  ["%defstr", computed(false, (rest, at, p) => [stringToken(encoder.encode(flatText(p.expand(rest))), at)])],
  ["%idefstr", computed(true, (rest, at, p) => [stringToken(encoder.encode(flatText(p.expand(rest))), at)])],
  ["%deftok", computed(false, (rest, at, p) => reread(decoder.decode(strings(rest, at, p).bytes[0]), at))],
  ["%ideftok", computed(true, (rest, at, p) => reread(decoder.decode(strings(rest, at, p).bytes[0]), at))],
  ["%pathsearch", computed(false, (rest, at, p) => [stringToken(pathOf(rest, at, p), at)])],
]);

function pathOf(rest: readonly Token[], at: Token, preprocessor: Preprocessor): Uint8Array {
  const name = decoder.decode(strings(rest, at, preprocessor).bytes[0]);
  return encoder.encode(preprocessor.files.resolve(name, preprocessor.path) ?? name);
}

/** Their names, for suggestions. */
export const definitionWords: readonly string[] = [...definitionDirectives.keys()];
