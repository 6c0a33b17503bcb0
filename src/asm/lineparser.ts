import { Cursor } from "./cursor.ts";
import { dataSizes, parseDataItems, reserveSizes } from "./data.ts";
import { Complaint } from "./diagnostics.ts";
import { directives, isDirective, parseDirective } from "./directives.ts";
import { ExpressionParser } from "./expressionparser.ts";
import type { InstructionStatement } from "./instruction.ts";
import { BLOB_START, placeOf, type Token } from "./lexer.ts";
import { allMnemonics, isMnemonic } from "./mnemonics.ts";
import { parseOperands } from "./operand.ts";
import { isPrefix, readPrefixes } from "./prefixes.ts";
import { registers } from "./registers.ts";
import type { SourceLine } from "./source.ts";
import type { Statement } from "./statements.ts";
import { didYouMean } from "./suggest.ts";

/** Reads a file named by INCBIN. */
export type BinaryLoader = (path: string, token: Token) => Uint8Array;

/** Directives that NASM forwards to its object formats and a flat binary has no use for. */
const REFUSED: ReadonlyMap<string, string> = new Map(
  Object.entries({
    global: "a flat binary exports nothing: every label is in the result's symbols, so drop the line",
    extern: "a flat binary is not linked: define the symbol here, or %include its source",
    common: "a flat binary is not linked: reserve the bytes with resb",
    static: "a flat binary exports nothing: drop the line",
    required: "a flat binary is not linked: define the symbol here, or %include its source",
  }),
);

/** Turns macro-expanded lines into statements. Knows the last label, which local labels (`.name`) hang off. */
export class LineParser {
  readonly #load: BinaryLoader;
  #lastLabel = "";
  #structure = "";

  constructor(load: BinaryLoader) {
    this.#load = load;
  }

  /** The full name of a label as written: `.loop` after `start` is `start.loop`. */
  fullName(name: string): string {
    return name.startsWith(".") && !name.startsWith("..") ? this.#lastLabel + name : name;
  }

  /** The structure that ISTRUC is filling in, whose fields `at .field` names. */
  get structure(): string {
    return this.#structure;
  }

  set structure(name: string) {
    this.#structure = name;
  }

  /** Makes the labels that follow hang off this name. */
  beginScope(name: string): void {
    this.#lastLabel = name;
  }

  /** Reads the file an INCBIN names. */
  load(path: string, token: Token): Uint8Array {
    return this.#load(path, token);
  }

  /**
   * Parses one line.
   *
   * @returns its statements: a label and what follows it.
   * @throws {Complaint} when the line makes no sense.
   */
  parse(tokens: readonly Token[], line: SourceLine): Statement[] {
    if (tokens.length === 0) return [];
    const cursor = new Cursor(tokens, line);
    const parser = new ExpressionParser(cursor, (name) => this.fullName(name));
    if (cursor.at("[") && tokens[tokens.length - 1]!.text === "]") {
      const inner = new Cursor(tokens.slice(1, -1), line);
      return this.#body(inner, new ExpressionParser(inner, (name) => this.fullName(name)), true);
    }
    const statements: Statement[] = [];
    const label = this.#label(cursor);
    if (label && cursor.word() === "equ") {
      cursor.next();
      const expression = parser.parse();
      cursor.expectEnd("after the value of equ");
      const name = this.fullName(label.text.replace(/^\$/, ""));
      return [{ kind: "equ", name, expression, place: placeOf(label) }];
    }
    if (label) statements.push({ kind: "label", name: this.#define(label.text), place: placeOf(label) });
    if (!cursor.done) statements.push(...this.#body(cursor, parser));
    return statements;
  }

  #define(text: string): string {
    const name = text.startsWith("$") ? text.slice(1) : text;
    const full = this.fullName(name);
    if (!name.startsWith(".")) this.#lastLabel = name;
    return full;
  }

  /** Consumes a label and its colon, if the line begins with one. */
  #label(cursor: Cursor): Token | undefined {
    const token = cursor.peek();
    if (token?.kind !== "id" || token.text === "$" || token.text === "$$") return undefined;
    const word = token.text.toLowerCase();
    const next = cursor.peek(1);
    if (next?.kind === "op" && next.text === ":") {
      if (registers().has(word))
        throw new Complaint(`"${token.text}" is a register and cannot be a label`, placeOf(token));
      cursor.position += 2;
      return token;
    }
    if (this.#begins(word) || registers().has(word)) return undefined;
    const following = next?.kind === "id" ? next.text.toLowerCase() : undefined;
    if (next === undefined || following === "equ" || (following !== undefined && this.#begins(following))) {
      cursor.position++;
      return token;
    }
    return undefined;
  }

  /** True for a word that begins a statement. */
  #begins(word: string): boolean {
    return (
      isMnemonic(word) ||
      dataSizes.has(word) ||
      reserveSizes.has(word) ||
      isDirective(word) ||
      isPrefix(word) ||
      REFUSED.has(word)
    );
  }

  #body(cursor: Cursor, parser: ExpressionParser, bracketed = false): Statement[] {
    const token = cursor.peek();
    if (!token) throw cursor.complaint("Expected a directive");
    const place = placeOf(token);
    if (token.kind === "str" && token.text.startsWith(BLOB_START)) {
      cursor.next();
      cursor.expectEnd("after interpolated bytes", "write db before a list");
      return [{ kind: "bytes", bytes: token.bytes!, place }];
    }
    const word = token.kind === "id" ? token.text.toLowerCase() : "";
    const dataSize = dataSizes.get(word);
    if (dataSize !== undefined) {
      cursor.next();
      return [{ kind: "data", size: dataSize, items: parseDataItems(cursor, parser, dataSize), place }];
    }
    const reserveSize = reserveSizes.get(word);
    if (reserveSize !== undefined) {
      cursor.next();
      const count = parser.parse();
      cursor.expectEnd("after the count");
      return [{ kind: "reserve", size: reserveSize, count, place }];
    }
    if (REFUSED.has(word)) throw new Complaint(`"${word}" has no meaning in a flat binary`, place, REFUSED.get(word));
    if (isDirective(word))
      return parseDirective(word, cursor, parser, { parser: this, bracketed, rest: (c) => this.#body(c, parser) });
    return [this.#instruction(cursor, parser)];
  }

  #instruction(cursor: Cursor, parser: ExpressionParser): InstructionStatement {
    const prefixes = readPrefixes(cursor, isMnemonic);
    const token = cursor.peek();
    if (!token && prefixes.wait) throw cursor.complaint("Expected an instruction after the prefix");
    if (token?.kind !== "id") {
      if (!token) return this.#prefixAlone(cursor, prefixes);
      throw cursor.complaint(
        `Expected an instruction, not "${token.text}"`,
        token.kind === "pp" ? "unknown preprocessor word" : "",
      );
    }
    const name = token.text.toLowerCase();
    if (!isMnemonic(name)) {
      const hint = didYouMean(name, [...allMnemonics(), ...directives, ...dataSizes.keys(), ...reserveSizes.keys()]);
      throw new Complaint(
        `"${token.text}" is not an instruction`,
        placeOf(token),
        hint || "a label on its own line ends in a colon",
      );
    }
    cursor.next();
    const operands = parseOperands(cursor, parser);
    return { kind: "instruction", name, prefixes, operands, place: placeOf(token), cache: undefined };
  }

  /** `rep` or `lock` on a line of its own is NASM for its byte. */
  #prefixAlone(cursor: Cursor, prefixes: InstructionStatement["prefixes"]): InstructionStatement {
    return { kind: "instruction", name: "", prefixes, operands: [], place: cursor.place(), cache: undefined };
  }
}
