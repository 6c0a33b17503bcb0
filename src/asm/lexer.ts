import { Complaint } from "./diagnostics.ts";
import { decodeEscapes } from "./literals.ts";
import type { Place, SourceLine } from "./source.ts";

/**
 * What a token is: a name, an integer or floating literal, a string (or interpolated bytes), an operator, or a preprocessor
 * token (`%define`, `%1`, `%%label`, `%{…}`, `%[`), whose text keeps its percent sign.
 */
export type TokenKind = "id" | "num" | "float" | "str" | "op" | "pp";

export interface Token {
  readonly kind: TokenKind;
  /** As written; for a string, with its quotes. */
  readonly text: string;
  readonly line: SourceLine;
  /** 1-based. */
  readonly column: number;
  /** White space stands before it. */
  readonly space: boolean;
  /** The bytes of a string. */
  readonly bytes?: Uint8Array;
}

/** Interpolated bytes stand in the source as this character, an index into the blobs, and BLOB_END. */
export const BLOB_START = "\ue000";
export const BLOB_END = "\ue001";

const ID_START = 1;
const ID_PART = 2;
const DIGIT = 4;
const NUM_PART = 8;

const CLASSES = new Uint8Array(128);
for (let c = 0; c < 128; c++) {
  const char = String.fromCharCode(c);
  if (/[A-Za-z_.?@]/.test(char)) CLASSES[c]! |= ID_START | ID_PART;
  if (/[0-9$#~]/.test(char)) CLASSES[c]! |= ID_PART;
  if (/[0-9]/.test(char)) CLASSES[c]! |= DIGIT;
  if (/[0-9A-Za-z_]/.test(char)) CLASSES[c]! |= NUM_PART;
}

const isIdStart = (c: number): boolean => (c < 128 ? (CLASSES[c]! & ID_START) !== 0 : c !== 0xe000 && c !== 0xe001);
const isIdPart = (c: number): boolean => (c < 128 ? (CLASSES[c]! & ID_PART) !== 0 : c !== 0xe000 && c !== 0xe001);
const isDigit = (c: number): boolean => c >= 48 && c <= 57;
const isNumPart = (c: number): boolean => c < 128 && (CLASSES[c]! & NUM_PART) !== 0;

const OPERATORS3 = new Set(["<=>", "<<<", ">>>"]);
const OPERATORS2 = new Set(["<<", ">>", "<=", ">=", "<>", "==", "!=", "&&", "||", "^^", "//", "%%", "::"]);

const utf8 = new TextEncoder();

/** The place of a token, for a diagnostic. */
export function placeOf(token: Token): Place {
  return { line: token.line, column: token.column, width: token.text.length };
}

function numberEnd(text: string, start: number): { end: number; float: boolean } {
  let i = start;
  let hex = text[i] === "$";
  if (hex) i++;
  let float = false;
  let exponent = false;
  for (; i < text.length; i++) {
    const c = text[i]!;
    if (c === "." && /^\.nolist/i.test(text.slice(i, i + 7))) break;
    if (c === ".") float = true;
    else if (!isNumPart(c.charCodeAt(0))) break;
    else if (!hex && (c === "e" || c === "E")) {
      exponent = true;
      if (text[i + 1] === "+" || text[i + 1] === "-") i++;
    } else if (c === "p" || c === "P") {
      float = true;
      if (text[i + 1] === "+" || text[i + 1] === "-") i++;
    } else if (c === "h" || c === "H" || c === "x" || c === "X") hex = true;
  }
  return { end: i, float: float || (exponent && !hex) };
}

function preprocessorEnd(text: string, start: number): number {
  let i = start + 1;
  const next = text[i] ?? "";
  if (next === "{") {
    let depth = 0;
    for (; i < text.length; i++) {
      if (text[i] === "{") depth++;
      else if (text[i] === "}" && --depth === 0) return i + 1;
    }
    return text.length;
  }
  if (next === "[") return i + 1;
  if (next === "!" && /["'`]/.test(text[i + 1] ?? "")) {
    const close = text.indexOf(text[i + 1]!, i + 2);
    return close < 0 ? text.length : close + 1;
  }
  if (next === "?") return text[i + 1] === "?" ? i + 2 : i + 1;
  if ((next === "+" || next === "-" || next === "*") && isDigit(text.charCodeAt(i + 1))) i++;
  else if (next === "+") return i + 1;
  else if (next === ",") return i + 1;
  else if (next === "%") {
    if (!isIdStart(text.charCodeAt(i + 1))) return start;
    i++;
  } else if (next === "$") while (text[i] === "$") i++;
  else if (next === "!") i++;
  else if (!isIdStart(text.charCodeAt(i)) && !isDigit(text.charCodeAt(i))) return start;
  if (isDigit(text.charCodeAt(i))) {
    while (isDigit(text.charCodeAt(i))) i++;
    return i;
  }
  while (i < text.length && isIdPart(text.charCodeAt(i))) i++;
  return i;
}

function stringEnd(line: SourceLine, start: number): number {
  const { text } = line;
  const quote = text[start]!;
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === quote) return i + 1;
    if (quote === "`" && text[i] === "\\") i++;
  }
  throw new Complaint("String is not closed", { line, column: start + 1, width: 1 }, `add the closing ${quote}`);
}

/**
 * Splits one line into tokens; a comment ends it.
 *
 * @throws {Complaint} for an unclosed string or a character that begins nothing.
 */
export function tokenize(line: SourceLine, blobs: readonly Uint8Array[] = []): Token[] {
  const { text } = line;
  const tokens: Token[] = [];
  const { length } = text;
  let space = false;
  let i = 0;
  while (i < length) {
    const c = text.charCodeAt(i);
    if (c === 32 || c === 9 || c === 11 || c === 12 || c === 0) {
      space = true;
      i++;
      continue;
    }
    if (c === 59) break; // ;
    const start = i;
    const column = start + 1;
    let kind: TokenKind = "op";
    let bytes: Uint8Array | undefined;
    if (isIdStart(c)) {
      kind = "id";
      while (++i < length && isIdPart(text.charCodeAt(i)));
    } else if (isDigit(c) || (c === 36 && isDigit(text.charCodeAt(i + 1)))) {
      const { end, float } = numberEnd(text, i);
      kind = float ? "float" : "num";
      i = end;
    } else if (c === 36) {
      // $name, $$ or $
      kind = "id";
      i++;
      if (text.charCodeAt(i) === 36) i++;
      else while (i < length && isIdPart(text.charCodeAt(i))) i++;
    } else if (c === 39 || c === 34 || c === 96) {
      kind = "str";
      i = stringEnd(line, i);
      const body = text.slice(start + 1, i - 1);
      bytes = c === 96 ? decodeEscapes(body) : utf8.encode(body);
    } else if (c === 37) {
      const end = preprocessorEnd(text, i);
      if (end > i) {
        kind = "pp";
        i = end;
      } else i += text[i + 1] === "%" ? 2 : 1;
    } else if (c === 0xe000) {
      const end = text.indexOf(BLOB_END, i);
      bytes = blobs[Number(text.slice(i + 1, end < 0 ? i + 1 : end))];
      if (end < 0 || bytes === undefined) {
        throw new Complaint("Unexpected character U+E000", { line, column, width: 1 }, "remove it");
      }
      kind = "str";
      i = end + 1;
    } else if (OPERATORS3.has(text.slice(i, i + 3))) i += 3;
    else if (OPERATORS2.has(text.slice(i, i + 2))) i += 2;
    else if ("+-*/&|^~!()[]{},:=<>\\".includes(text[i]!)) i++;
    else {
      const shown = c < 32 || c === 127 ? `U+${c.toString(16).padStart(4, "0")}` : `"${text[i]}"`;
      throw new Complaint(`Unexpected character ${shown}`, { line, column, width: 1 }, "remove it or quote it");
    }
    const word = text.slice(start, i);
    tokens.push(bytes ? { kind, text: word, line, column, space, bytes } : { kind, text: word, line, column, space });
    space = false;
  }
  return tokens;
}

/** A token of a macro body, moved to the line that is being expanded. */
export function madeToken(kind: TokenKind, text: string, like: Token, bytes?: Uint8Array): Token {
  const { line, column, space } = like;
  return bytes ? { kind, text, line, column, space, bytes } : { kind, text, line, column, space };
}

/** Writes tokens back as source, with the spaces they had. */
export function textOf(tokens: readonly Token[]): string {
  let text = "";
  for (const token of tokens) text += token.space && text !== "" ? ` ${token.text}` : token.text;
  return text;
}
