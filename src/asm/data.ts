import type { Cursor } from "./cursor.ts";
import { Complaint } from "./diagnostics.ts";
import { type Expression, evaluate, type Scope } from "./expression.ts";
import type { ExpressionParser, FloatConstant } from "./expressionparser.ts";
import { floatSizes } from "./float.ts";
import { fitsEither, writeInt } from "./integer.ts";
import { placeOf } from "./lexer.ts";
import type { Place } from "./source.ts";

/** One item of DB, DW, DD, … */
export type DataItem =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "value"; readonly expression: Expression; readonly place: Place }
  | { readonly kind: "float"; readonly encode: FloatConstant; readonly place: Place }
  | { readonly kind: "unset" }
  | { readonly kind: "repeat"; readonly count: Expression; readonly items: readonly DataItem[]; readonly place: Place };

/** Bytes per element of each data directive. */
export const dataSizes: ReadonlyMap<string, number> = new Map(
  Object.entries({ db: 1, dw: 2, dd: 4, dq: 8, dt: 10, do: 16, ddq: 16, dy: 32, dz: 64 }),
);

/** Bytes per element of each reservation directive. */
export const reserveSizes: ReadonlyMap<string, number> = new Map(
  Object.entries({
    resb: 1,
    resw: 2,
    resd: 4,
    resq: 8,
    rest: 10,
    reso: 16,
    resdq: 16,
    resy: 32,
    resz: 64,
  }),
);

const MAX_NESTING = 64;

function atItemEnd(cursor: Cursor, ahead: number): boolean {
  const token = cursor.peek(ahead);
  return token === undefined || (token.kind === "op" && (token.text === "," || token.text === ")"));
}

function parseItem(cursor: Cursor, parser: ExpressionParser, size: number, depth: number): DataItem {
  const place = cursor.place();
  const token = cursor.peek();
  if (!token) throw cursor.complaint("Expected a value");
  if (token.bytes && (atItemEnd(cursor, 1) || token.text.charCodeAt(0) === 0xe000)) {
    cursor.next();
    const padded = new Uint8Array(Math.ceil(token.bytes.length / size) * size);
    padded.set(token.bytes);
    return { kind: "bytes", bytes: padded };
  }
  if (token.kind === "id" && token.text === "?") {
    cursor.next();
    return { kind: "unset" };
  }
  const float = parser.parseFloat();
  if (float) {
    if (!floatSizes.includes(size) && size !== 1) {
      throw new Complaint("No floating-point format has this size", placeOf(token), "use dw, dd, dq, dt or do");
    }
    return { kind: "float", encode: float, place };
  }
  const expression = parser.parse();
  if (cursor.word() !== "dup") return { kind: "value", expression, place };
  cursor.next();
  if (depth >= MAX_NESTING) throw new Complaint("DUP is nested too deeply", place);
  return { kind: "repeat", count: expression, items: parseRepeated(cursor, parser, size, depth + 1), place };
}

function parseRepeated(cursor: Cursor, parser: ExpressionParser, size: number, depth: number): DataItem[] {
  if (!cursor.accept("(")) return [parseItem(cursor, parser, size, depth)];
  const items: DataItem[] = [];
  do items.push(parseItem(cursor, parser, size, depth));
  while (cursor.accept(","));
  cursor.expect(")", "to close the list");
  return items;
}

/** Parses the items of a data directive up to the end of the line. */
export function parseDataItems(cursor: Cursor, parser: ExpressionParser, size: number): DataItem[] {
  const items: DataItem[] = [];
  do {
    if (cursor.done && items.length > 0) break; // NASM allows a trailing comma
    items.push(parseItem(cursor, parser, size, 0));
  } while (cursor.accept(","));
  cursor.expectEnd("after the value", "values are separated by commas");
  return items;
}

/** Where the bytes of data items go. */
export interface DataSink {
  readonly scope: Scope;
  emit(bytes: Uint8Array): void;
  reserve(bytes: number): void;
  /** Checks a repetition count; throws when it is negative or beyond any limit. */
  repetitions(count: Expression, place: Place): number;
  warn(message: string, place: Place): void;
  /** Counts one step of work against the assembly's limit. */
  spend(place: Place): void;
}

/** Emits data items, each `size` bytes wide. */
export function emitData(items: readonly DataItem[], size: number, sink: DataSink): void {
  for (const item of items) {
    switch (item.kind) {
      case "bytes":
        sink.emit(item.bytes);
        break;
      case "unset":
        sink.reserve(size);
        break;
      case "float":
        sink.emit(item.encode(size));
        break;
      case "value": {
        const { value, known } = evaluate(item.expression, sink.scope);
        if (size === 10)
          throw new Complaint("dt takes floating-point numbers", item.place, "write 5.0, or use dq and dw");
        if (known && !fitsEither(value, size * 8)) {
          sink.warn(`Number ${value} does not fit ${size * 8} bits and is cut`, item.place);
        }
        const bytes = new Uint8Array(size);
        writeInt(value, bytes, 0, size);
        if (size > 8 && value < 0) bytes.fill(0xff, 8);
        sink.emit(bytes);
        break;
      }
      case "repeat": {
        const count = sink.repetitions(item.count, item.place);
        for (let i = 0; i < count; i++) {
          sink.spend(item.place);
          emitData(item.items, size, sink);
        }
        break;
      }
    }
  }
}
