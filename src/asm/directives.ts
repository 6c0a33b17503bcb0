import type { Cursor } from "./cursor.ts";
import { Complaint } from "./diagnostics.ts";
import { constant, type Expression, evaluate } from "./expression.ts";
import type { ExpressionParser } from "./expressionparser.ts";
import type { Bits } from "./forms.ts";
import { placeOf, type Token } from "./lexer.ts";
import type { LineParser } from "./lineparser.ts";
import type { Place } from "./source.ts";
import type { SectionAttributes, Statement } from "./statements.ts";

/** What a directive may use beside its own line. */
interface Helpers {
  /** The directive is written in brackets. */
  readonly bracketed: boolean;
  readonly parser: LineParser;
  /** Parses the statement that follows on the same line. */
  rest(cursor: Cursor): Statement[];
}

type Directive = (cursor: Cursor, parser: ExpressionParser, place: Place, helpers: Helpers) => Statement[];

const NUMBERS_ONLY = {
  symbol: (name: string, place: Place) => {
    throw new Complaint(`"${name}" is not a number here`, place);
  },
  here: () => constant(0),
  sectionStart: () => constant(0),
};

function name(cursor: Cursor, what: string): Token {
  const token = cursor.next();
  if (token?.kind === "id" || token?.kind === "str") return token;
  cursor.position--;
  throw cursor.complaint(`Expected the name of ${what}`);
}

function single(build: (expression: Expression, place: Place) => Statement): Directive {
  return (cursor, parser, place) => {
    const expression = parser.parse();
    cursor.expectEnd("after the number");
    return [build(expression, place)];
  };
}

const bits: Directive = (cursor, parser, place) => {
  const at = cursor.place();
  const { value } = evaluate(parser.parse(), NUMBERS_ONLY);
  cursor.expectEnd("after the number of bits");
  if (value !== 16 && value !== 32 && value !== 64)
    throw new Complaint(`"bits ${value}" is not a mode`, at, "the modes are 16, 32 and 64");
  return [{ kind: "bits", bits: value as Bits, place }];
};

const mode =
  (wanted: Bits): Directive =>
  (cursor, _parser, place) => {
    cursor.expectEnd("after the mode");
    return [{ kind: "bits", bits: wanted, place }];
  };

const section: Directive = (cursor, parser, place, helpers) => {
  const token = name(cursor, "a section");
  const found: { -readonly [K in keyof SectionAttributes]: SectionAttributes[K] } = {
    nobits: undefined,
    align: undefined,
    start: undefined,
    vstart: undefined,
    follows: undefined,
    vfollows: undefined,
  };
  while (!cursor.done) {
    const word = cursor.word();
    cursor.next();
    if (word === "nobits" || word === "progbits") found.nobits = word === "nobits";
    else if (word === "align" || word === "start" || word === "vstart") {
      cursor.expect("=", `after ${word}`);
      found[word] = parser.parse();
    } else if (word === "follows" || word === "vfollows") {
      cursor.expect("=", `after ${word}`);
      found[word] = name(cursor, "a section").text;
    } else if (!/^(code|data|bss|text|rdata|exec|noexec|write|nowrite|alloc|noalloc)$/.test(word ?? "")) {
      cursor.position--;
      throw cursor.complaint(
        "Unknown section attribute",
        "a flat binary knows progbits, nobits, align=, start=, vstart=, follows= and vfollows=",
      );
    }
  }
  return [{ kind: "section", name: token.text, attributes: found, primitive: helpers.bracketed, place }];
};

const align =
  (reserve: boolean): Directive =>
  (cursor, parser, place, helpers) => {
    const boundary = parser.parse();
    let fill: Statement | undefined;
    if (cursor.accept(",")) {
      const statements = helpers.rest(cursor);
      if (statements.length !== 1) throw new Complaint("Expected one filling statement", place, "such as db 0");
      fill = statements[0];
    }
    cursor.expectEnd("after the boundary");
    return [{ kind: "align", boundary, fill, reserve, place }];
  };

const times: Directive = (cursor, parser, place, helpers) => {
  const count = parser.parse();
  cursor.accept(","); // NASM ignores a comma here
  if (cursor.done) return [];
  const statements = helpers.rest(cursor);
  if (statements.length !== 1) throw new Complaint("Expected one statement to repeat", place);
  const [body] = statements;
  // NASM has one count: of two TIMES on a line the second wins.
  return body!.kind === "times" ? [body!] : [{ kind: "times", count, body: body!, place }];
};

const incbin: Directive = (cursor, parser, place, { parser: lines }) => {
  const token = cursor.next();
  if (token?.kind !== "str") {
    cursor.position--;
    throw cursor.complaint("Expected a quoted file name", 'write: incbin "file.bin"');
  }
  const bytes = lines.load(new TextDecoder().decode(token.bytes), token);
  const number = () => Number(evaluate(parser.parse(), NUMBERS_ONLY).value);
  const skip = cursor.accept(",") ? number() : 0;
  const length = cursor.accept(",") ? number() : bytes.length;
  cursor.expectEnd("after the file");
  if (skip < 0 || length < 0) throw new Complaint("Offset and length of incbin cannot be negative", placeOf(token));
  return [{ kind: "bytes", bytes: bytes.subarray(skip, skip + length), place }];
};

const struc: Directive = (cursor, parser, _place, { parser: lines }) => {
  const token = name(cursor, "the structure");
  const origin = cursor.accept(",") ? parser.parse() : undefined;
  cursor.expectEnd("after the name");
  lines.beginScope(token.text);
  return [{ kind: "struc", name: token.text, origin, place: placeOf(token) }];
};

const istruc: Directive = (cursor, _parser, place, { parser: lines }) => {
  const token = name(cursor, "the structure");
  cursor.expectEnd("after the name");
  lines.structure = token.text;
  return [{ kind: "istruc", name: token.text, place }];
};

const at: Directive = (cursor, parser, place, { parser: lines, rest }) => {
  const word = cursor.peek();
  let field: Expression;
  if (word?.kind === "id" && word.text.startsWith(".")) {
    cursor.next();
    field = { op: "symbol", name: lines.structure + word.text, place: placeOf(word) };
  } else field = parser.parse();
  const statements: Statement[] = [{ kind: "at", field, place }];
  if (cursor.accept(",") && !cursor.done) statements.push(...rest(cursor));
  return statements;
};

const defaults: Directive = (cursor, _parser, place) => {
  const word = cursor.word();
  if (word !== "rel" && word !== "abs") throw cursor.complaint("Expected rel or abs after default");
  cursor.next();
  return [{ kind: "default", relative: word === "rel", place }];
};

/** CPU levels, listing switches and the like: nothing in a flat binary depends on them. */
const ignored: Directive = (cursor) => {
  cursor.position = cursor.tokens.length;
  return [];
};

const TABLE: Readonly<Record<string, Directive>> = {
  bits,
  use16: mode(16),
  use32: mode(32),
  use64: mode(64),
  org: single((origin, place) => ({ kind: "org", origin, place })),
  section,
  segment: section,
  absolute: single((origin, place) => ({ kind: "absolute", origin, place })),
  align: align(false),
  alignb: align(true),
  times,
  incbin,
  struc,
  endstruc: (_cursor, _parser, place) => [{ kind: "endstruc", place }],
  istruc,
  at,
  iend: (_cursor, _parser, place) => [{ kind: "iend", place }],
  default: defaults,
  cpu: ignored,
  float: ignored,
  warning: ignored,
  list: ignored,
  sectalign: ignored,
  map: ignored,
};

/** Every directive's name. */
export const directives: readonly string[] = [...Object.keys(TABLE), "equ"];

export function isDirective(word: string): boolean {
  return Object.hasOwn(TABLE, word);
}

/** Parses the directive the cursor stands on. */
export function parseDirective(word: string, cursor: Cursor, parser: ExpressionParser, helpers: Helpers): Statement[] {
  const place = cursor.place();
  cursor.next();
  return TABLE[word]!(cursor, parser, place, helpers);
}
