import { Complaint } from "./diagnostics.ts";
import { placeOf, type Token } from "./lexer.ts";
import type { Place, SourceLine } from "./source.ts";

/** Reads a list of tokens from left to right. */
export class Cursor {
  readonly tokens: readonly Token[];
  readonly #line: SourceLine;
  position = 0;

  constructor(tokens: readonly Token[], line: SourceLine) {
    this.tokens = tokens;
    this.#line = line;
  }

  get done(): boolean {
    return this.position >= this.tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.tokens[this.position + ahead];
  }

  next(): Token | undefined {
    return this.tokens[this.position++];
  }

  /** True when the next token is this operator. */
  at(operator: string): boolean {
    const token = this.tokens[this.position];
    return token !== undefined && token.text === operator && token.kind === "op";
  }

  /** Consumes the next token when it is this operator. */
  accept(operator: string): boolean {
    if (!this.at(operator)) return false;
    this.position++;
    return true;
  }

  /** The next token as a word in lower case, when it is a name. */
  word(ahead = 0): string | undefined {
    const token = this.tokens[this.position + ahead];
    return token?.kind === "id" ? token.text.toLowerCase() : undefined;
  }

  expect(operator: string, after: string): void {
    if (!this.accept(operator)) throw this.complaint(`Expected "${operator}" ${after}`);
  }

  /** Refuses whatever is left on the line. */
  expectEnd(after: string, hint = ""): void {
    if (!this.done) throw this.complaint(`Unexpected "${this.peek()!.text}" ${after}`, hint);
  }

  /** Where the next token is, or the end of the line. */
  place(): Place {
    const token = this.peek();
    if (token) return placeOf(token);
    const last = this.tokens[this.tokens.length - 1];
    if (last) return { line: last.line, column: last.column + last.text.length, width: 1 };
    return { line: this.#line, column: this.#line.text.length + 1, width: 1 };
  }

  complaint(message: string, hint = ""): Complaint {
    return new Complaint(message, this.place(), hint);
  }
}
