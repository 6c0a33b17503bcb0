import { Assembly, DEFAULT_LIMITS, type Limits } from "./assembly.ts";
import { Cursor } from "./cursor.ts";
import { AsmError, Complaint, type Diagnostic, diagnosticAt, TooMuch } from "./diagnostics.ts";
import { evaluate, type Value } from "./expression.ts";
import { ExpressionParser } from "./expressionparser.ts";
import type { Bits } from "./forms.ts";
import { toUnsigned } from "./integer.ts";
import { placeOf, type Token, tokenize } from "./lexer.ts";
import { LineParser } from "./lineparser.ts";
import { formatListing } from "./listing.ts";
import { SourceFiles } from "./preprocess/files.ts";
import { type Host, Preprocessor } from "./preprocess/preprocessor.ts";
import type { Program } from "./program.ts";
import { placeSections, type Section } from "./sections.ts";
import { type SourceLine, sourceLines, writtenLine } from "./source.ts";
import { rangeOf, SourceMap, type SourceRange } from "./sourcemap.ts";
import type { Statement } from "./statements.ts";

/** How a source is assembled. */
export interface AssembleOptions {
  /** Mode the source begins in, 16 unless given. BITS changes it. */
  readonly bits?: Bits;
  /** Address of the first byte unless ORG says otherwise, 0 unless given. */
  readonly origin?: number;
  /** Name for diagnostics and the source map; files that the source names are looked for beside it. */
  readonly file?: string;
  /** Directories for %include and incbin, after the file's own. */
  readonly includePaths?: readonly string[];
  /** Single-line macros defined from outside, as with NASM's -D. */
  readonly defines?: Readonly<Record<string, string | number | bigint>>;
  /** Bounds on what the source may ask for. */
  readonly limits?: Partial<Limits>;
  /** Bytes that the source refers to by index between U+E000 and U+E001: how templates pass binary data. */
  readonly blobs?: readonly Uint8Array[];
}

interface Run {
  readonly assembly: Assembly;
  readonly file: string;
  readonly text: string;
  readonly files: SourceFiles;
  readonly options: AssembleOptions;
  /** What parsing found wrong in the last expansion of the source. */
  syntaxErrors: Diagnostic[];
  /** What %warning and macro calls had to say in it. */
  notices: Diagnostic[];
}

function evaluateNow(run: Run, tokens: readonly Token[], line: SourceLine, parser: LineParser): Value {
  const cursor = new Cursor(tokens, line);
  const expression = new ExpressionParser(cursor, (name) => parser.fullName(name)).parse();
  cursor.expectEnd("after the expression");
  const { assembly } = run;
  const value = evaluate(expression, {
    symbol: (name, place) => {
      assembly.layoutRead = true;
      const ahead = assembly.symbols.isAhead(name);
      const found = assembly.symbol(name, place);
      if (ahead || !found.known)
        throw new Complaint(
          `Symbol "${name}" has no value here yet`,
          place,
          "%if, %assign and %rep see only what is defined above them",
        );
      return found;
    },
    here: () => {
      assembly.layoutRead = true;
      return assembly.position();
    },
    sectionStart: () => {
      assembly.layoutRead = true;
      return assembly.sectionStart();
    },
  });
  return value;
}

function hostOf(run: Run, parser: LineParser): Host {
  const { assembly } = run;
  return {
    evaluate: (tokens, line) => evaluateNow(run, tokens, line, parser),
    get bits() {
      return assembly.bits;
    },
    get pass() {
      return assembly.symbols.pass;
    },
    get sectionName() {
      return assembly.sectionName;
    },
    fail: (complaint, line) => report(run, complaint, line),
    warn: (message, token) => {
      if (run.notices.length < assembly.limits.errors)
        run.notices.push(diagnosticAt("warning", placeOf(token), message, ""));
    },
    environment: process.env,
  };
}

function report(run: Run, complaint: Complaint, line: SourceLine): void {
  const place = complaint.place ?? { line, column: 1, width: Math.max(1, line.text.length) };
  run.syntaxErrors.push(diagnosticAt("error", place, complaint.message, complaint.hint));
  if (run.syntaxErrors.length >= run.assembly.limits.errors) throw new TooMuch("Too many errors", place);
}

function predefine(preprocessor: Preprocessor, defines: AssembleOptions["defines"]): void {
  for (const [name, value] of Object.entries(defines ?? {})) {
    const line = { file: "<defines>", number: 1, text: String(value), expandedFrom: undefined };
    preprocessor.macros.define({ name, parameters: undefined, greedy: false, body: tokenize(line) }, false);
  }
}

/** Expands and parses the source, carrying out every statement as it comes so that %if can see the labels above it. */
function firstPass(run: Run): Statement[] {
  const { assembly, files, options } = run;
  const statements: Statement[] = [];
  const parser = new LineParser((path, token) => files.read(path, token.line.file, placeOf(token)).bytes);
  run.syntaxErrors = [];
  run.notices = [];
  const blobs = options.blobs ?? [];
  const preprocessor = new Preprocessor(run.file, run.text, { host: hostOf(run, parser), files, blobs });
  predefine(preprocessor, options.defines);
  for (let ready = preprocessor.next(); ready; ready = preprocessor.next()) {
    try {
      for (const statement of parser.parse(ready.tokens, ready.line)) {
        statements.push(statement);
        assembly.execute(statement);
      }
    } catch (error) {
      if (!(error instanceof Complaint) || error.fatal) throw error;
      report(run, error, ready.line);
    }
  }
  return statements;
}

function settle(run: Run): void {
  const { assembly } = run;
  let statements: Statement[] = [];
  for (;;) {
    assembly.beginPass();
    if (assembly.symbols.pass === 1 || assembly.layoutRead) statements = firstPass(run);
    else for (const statement of statements) assembly.execute(statement);
    if (!assembly.endPass()) return;
    if (assembly.symbols.pass >= assembly.limits.passes) {
      const line = sourceLines(run.file, run.text)[0]!;
      const hint = "some size depends on an address that depends on that size";
      throw new Complaint(
        `Addresses still move after ${assembly.limits.passes} passes`,
        { line, column: 1, width: 1 },
        hint,
      );
    }
  }
}

/** Puts the sections together. */
function link(run: Run): {
  bytes: Uint8Array;
  memoryBytes: number;
  loads: Map<number, { section: Section; virtual: number }>;
} {
  const { assembly } = run;
  const placed = placeSections(assembly.sections, assembly.origin);
  const loads = new Map(placed.map(({ section, virtual }) => [section.index, { section, virtual }]));
  const full = placed.filter(({ section }) => section.size > 0);
  const initialised = full.filter(({ section }) => !section.nobits).sort((a, b) => a.load - b.load);
  const { origin } = assembly;
  let end = origin;
  for (const { section, load } of initialised) {
    const place = section.place ?? { line: sourceLines(run.file, run.text)[0]!, column: 1, width: 1 };
    if (load < origin) throw new Complaint(`Section "${section.name}" starts below the origin`, place);
    if (load < end) throw new Complaint(`Section "${section.name}" overlaps the one before it`, place, "check start=");
    end = load + section.size;
    if (end - origin > assembly.limits.outputBytes)
      throw new Complaint(
        `The output is longer than ${assembly.limits.outputBytes} bytes`,
        place,
        "check start= and org",
      );
  }
  const bytes = new Uint8Array(end - origin);
  for (const { section, load } of initialised) bytes.set(section.bytes.subarray(0, section.size), load - origin);
  const memoryBytes = full.reduce(
    (most, { section, load }) => Math.max(most, load + section.size - origin),
    bytes.length,
  );
  return { bytes, memoryBytes, loads };
}

function finish(run: Run): Program {
  const { assembly, file, text, options } = run;
  const { bytes, memoryBytes, loads } = link(run);
  const symbols = new Map<string, bigint>();
  for (const { name, value } of assembly.symbols.entries()) {
    if (!name.startsWith("..@")) symbols.set(name, toUnsigned(value));
  }
  const { emissions, origin, warnings } = assembly;
  const contents = new Map<SourceRange, Uint8Array>();
  let sourceMap: SourceMap | undefined;
  const mapped = () => {
    sourceMap ??= new SourceMap(
      emissions.map(({ line, section, offset, size }) => {
        const { section: at, virtual } = loads.get(section)!;
        const range = rangeOf(writtenLine(line), virtual + offset, size);
        contents.set(range, at.nobits ? new Uint8Array(0) : at.bytes.subarray(offset, offset + size));
        return range;
      }),
    );
    return sourceMap;
  };
  return {
    bits: options.bits ?? 16,
    origin,
    bytes,
    memoryBytes,
    symbols,
    get sourceMap() {
      return mapped();
    },
    warnings: inSourceOrder([...run.notices, ...warnings]),
    listing: () =>
      formatListing(sourceLines(file, text), mapped(), (range) => contents.get(range) ?? new Uint8Array(0)),
  };
}

function inSourceOrder(errors: readonly Diagnostic[]): Diagnostic[] {
  return errors
    .map((error, index) => ({ error, index }))
    .sort((a, b) => (a.error.file === b.error.file ? a.error.line - b.error.line : 0) || a.index - b.index)
    .map(({ error }) => error);
}

/**
 * Assembles NASM syntax.
 *
 * @param source Text of the whole source; lines end in LF or CRLF.
 * @returns the bytes, the symbols and the source map.
 * @throws {AsmError} with every error found, for any source that does not assemble.
 * @throws {RangeError} for an origin that is no address.
 * @see "The Netwide Assembler", NASM 2.16 manual, "The NASM Language" and "The NASM Preprocessor"
 */
export function assemble(source: string, options: AssembleOptions = {}): Program {
  const { bits = 16, origin = 0, file = "<source>", includePaths = [] } = options;
  if (!Number.isSafeInteger(origin) || origin < 0)
    throw new RangeError(`Cannot assemble for origin ${origin}: it is no address`);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const assembly = new Assembly({ bits, origin, limits });
  const files = new SourceFiles(includePaths, limits.outputBytes);
  const run: Run = { assembly, file, text: source, files, options, syntaxErrors: [], notices: [] };
  let fatal: Diagnostic[] = [];
  let program: Program | undefined;
  try {
    settle(run);
    if (run.syntaxErrors.length + assembly.errors.length === 0) program = finish(run);
  } catch (error) {
    if (!(error instanceof Complaint) || !error.place) throw error;
    fatal = [diagnosticAt("error", error.place, error.message, error.hint)];
  }
  if (program) return program;
  throw new AsmError([...inSourceOrder([...run.syntaxErrors, ...assembly.errors]), ...fatal]);
}
