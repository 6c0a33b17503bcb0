import { type DataSink, emitData } from "./data.ts";
import { Complaint, type Diagnostic, diagnosticAt, TooMuch } from "./diagnostics.ts";
import { ABSOLUTE, constant, type Expression, evaluate, type Scope, type Value } from "./expression.ts";
import type { Bits } from "./forms.ts";
import { assembleInstruction, type InstructionStatement } from "./instruction.ts";
import { add, type Int, subtract } from "./integer.ts";
import { prefixBytes } from "./prefixes.ts";
import { grow, newSection, placeSections, type Section } from "./sections.ts";
import type { Place, SourceLine } from "./source.ts";
import type { Statement } from "./statements.ts";
import { didYouMean } from "./suggest.ts";
import { SymbolTable } from "./symbols.ts";

/** Bounds that keep any input from running away. */
export interface Limits {
  /** Bytes of output, and of any one section. */
  readonly outputBytes: number;
  /** Statements carried out over all passes, each repetition of TIMES counted, freshly encoded instructions eightfold. */
  readonly statements: number;
  readonly passes: number;
  readonly errors: number;
}

export const DEFAULT_LIMITS: Limits = { outputBytes: 1 << 26, statements: 20_000_000, passes: 60, errors: 100 };

const ENCODING_COST = 8;

/** What a line became, in the last pass. */
export interface Emission {
  readonly line: SourceLine;
  readonly section: number;
  /** Offset in the section. */
  readonly offset: number;
  readonly size: number;
}

/** Notes whether an instruction looked at anything that another pass may change. */
class Watch implements Scope {
  readonly #scope: Scope;
  used = false;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  symbol(name: string, place: Place): Value {
    this.used = true;
    return this.#scope.symbol(name, place);
  }

  here(): Value {
    this.used = true;
    return this.#scope.here();
  }

  sectionStart(): Value {
    this.used = true;
    return this.#scope.sectionStart();
  }
}

/** One pass over another: places statements in sections, gives symbols their values, and repeats until nothing moves. */
export class Assembly implements Scope, DataSink {
  readonly symbols = new SymbolTable();
  readonly sections: Section[] = [];
  readonly limits: Limits;
  emissions: Emission[] = [];
  errors: Diagnostic[] = [];
  warnings: Diagnostic[] = [];
  origin: number;
  bits: Bits;
  /** Set by whoever reads an address while the source is still being expanded: the expansion then depends on the layout. */
  layoutRead = false;
  readonly #initial: { bits: Bits; origin: number };
  #section: Section;
  #sectionName = ".text";
  #orgSeen = false;
  #originLate = false;
  #structure: { name: string; outside: Section } | undefined;
  #instance: { name: string; start: Value } | undefined;
  #defaultRelative = false;
  #repeating = 0;
  #here: Value = constant(0);
  readonly #watch = new Watch(this);
  #statements = 0;
  /** What is being emitted, for a complaint about its size. */
  #place: Place | undefined;

  constructor(options: { bits: Bits; origin: number; limits: Limits }) {
    this.#initial = options;
    this.origin = options.origin;
    this.bits = options.bits;
    this.limits = options.limits;
    this.#section = newSection(0, ".text", undefined);
    this.#section.base = options.origin;
    this.sections.push(this.#section);
  }

  /** The section that __SECT__ goes back to: the last one entered without brackets. */
  get sectionName(): string {
    return this.#sectionName;
  }

  get scope(): Scope {
    return this;
  }

  /** Starts a pass: everything is empty again but symbols keep their values. */
  beginPass(): void {
    const { symbols } = this;
    symbols.pass++;
    symbols.changed = false;
    symbols.missing = false;
    this.bits = this.#initial.bits;
    this.#section = this.sections[0]!;
    this.#orgSeen = false;
    this.#sectionName = ".text";
    this.#structure = undefined;
    this.#instance = undefined;
    this.#defaultRelative = false;
    this.errors = [];
    this.warnings = [];
    this.emissions = [];
    for (const section of this.sections) section.size = 0;
  }

  /**
   * Ends a pass.
   *
   * @returns true when another one is needed because something moved.
   */
  endPass(): boolean {
    const { symbols, sections } = this;
    let moved = symbols.changed || (symbols.pass === 1 && (symbols.missing || this.#originLate));
    for (const { section, virtual } of placeSections(sections, this.origin)) {
      if (section.base !== virtual) moved = true;
      section.base = virtual;
    }
    return moved;
  }

  /** The value of `$`: where the current statement begins, also inside TIMES and for every item of DB. */
  here(): Value {
    return this.#here;
  }

  /** Where the next byte goes. */
  position(): Value {
    const { absolute, base, size, index } = this.#section;
    return { value: base + size, section: absolute ? ABSOLUTE : index, known: true };
  }

  sectionStart(): Value {
    const { absolute, base, index } = this.#section;
    return { value: base, section: absolute ? ABSOLUTE : index, known: true };
  }

  symbol(name: string, place: Place): Value {
    const found = this.symbols.lookup(name);
    if (found) return found;
    const special = this.#sectionSymbol(name);
    if (special) return special;
    if (this.symbols.pass > 1) {
      const hint = /^[re]ip$/i.test(name)
        ? "write [rel address] for RIP-relative"
        : didYouMean(name, this.symbols.names());
      this.fail(new Complaint(`Symbol "${name}" is not defined`, place, hint));
    }
    return { value: 0, section: ABSOLUTE, known: false };
  }

  /** `section..data.start` and `section..data.vstart`. */
  #sectionSymbol(name: string): Value | undefined {
    const parts = /^section\.(.+)\.(start|vstart|length)$/.exec(name);
    const section = parts && this.sections.find((candidate) => candidate.name === parts[1]);
    if (!parts || !section) return undefined;
    return parts[2] === "length"
      ? constant(section.size)
      : { value: section.base, section: section.index, known: true };
  }

  /** Records an error; the statement goes on. */
  fail(complaint: Complaint, fallback?: Place): void {
    const place = complaint.place ?? fallback;
    if (!place) throw complaint;
    if (this.errors.length >= this.limits.errors) return;
    const diagnostic = diagnosticAt("error", place, complaint.message, complaint.hint);
    const same = this.errors.some(
      (e) =>
        e.line === diagnostic.line &&
        e.column === diagnostic.column &&
        e.file === diagnostic.file &&
        e.message === diagnostic.message,
    );
    if (!same) this.errors.push(diagnostic);
  }

  warn(message: string, place: Place): void {
    if (this.warnings.length < this.limits.errors) this.warnings.push(diagnosticAt("warning", place, message, ""));
  }

  /** Carries out one statement, turning what is wrong with it into a diagnostic. */
  execute(statement: Statement): void {
    const { index, size } = this.#section;
    this.#here = this.position();
    try {
      this.#run(statement);
    } catch (error) {
      if (!(error instanceof Complaint) || error.fatal) throw error;
      this.fail(error, statement.place);
    }
    const section = this.#section;
    if (index >= 0 && section.index === index && section.size !== size) {
      this.emissions.push({ line: statement.place.line, section: index, offset: size, size: section.size - size });
    }
  }

  /** Counts one step of work against the limit. */
  spend(place: Place, cost = 1): void {
    this.#statements += cost;
    if (this.#statements > this.limits.statements) {
      throw new TooMuch("The source asks for too much work", place, "reduce its repetitions");
    }
  }

  #run(statement: Statement): void {
    this.spend(statement.place);
    switch (statement.kind) {
      case "instruction":
        this.emit(this.#encoded(statement));
        return;
      case "label":
        this.#define(statement.name, this.position(), statement.place);
        return;
      case "equ":
        this.#define(statement.name, evaluate(statement.expression, this), statement.place);
        return;
      case "data":
        emitData(statement.items, statement.size, this);
        return;
      case "reserve":
        this.reserve(this.repetitions(statement.count, statement.place) * statement.size);
        return;
      case "bytes":
        this.emit(statement.bytes);
        return;
      case "times":
        this.#times(statement.count, statement.body, statement.place);
        return;
      case "align":
        this.#align(statement.boundary, statement.fill, statement.reserve, statement.place);
        return;
      case "bits":
        this.bits = statement.bits;
        return;
      case "default":
        this.#defaultRelative = statement.relative;
        return;
      case "org":
        this.#org(statement.origin, statement.place);
        return;
      case "section":
        this.#enterSection(statement);
        return;
      case "absolute":
        this.#enterAbsolute(this.#number(statement.origin));
        return;
      case "struc":
        this.#beginStruc(statement);
        return;
      case "endstruc":
        this.#endStruc(statement.place);
        return;
      case "istruc":
        this.#instance = { name: statement.name, start: this.position() };
        return;
      case "at":
        this.#at(statement.field, statement.place);
        return;
      case "iend":
        this.#endInstance(statement.place);
        return;
    }
  }

  /** The bytes of an instruction here, from its cache when nothing it depends on can have changed. */
  #encoded(statement: InstructionStatement): Uint8Array {
    const { bits } = this;
    const { cache } = statement;
    const defaultRelative = this.#defaultRelative;
    if (cache && cache.bits === bits && cache.defaultRelative === defaultRelative) return cache.bytes;
    if (statement.name === "") return Uint8Array.from(prefixBytes(statement.prefixes, []));
    this.spend(statement.place, ENCODING_COST);
    const here = this.position();
    const watch = this.#watch;
    watch.used = false;
    const warnings = this.warnings.length;
    const { bytes, relative } = assembleInstruction(statement, {
      scope: watch,
      bits,
      address: here.value,
      section: here.section,
      defaultRelative,
      warn: (message, place) => this.warn(message, place),
      fail: (complaint) => this.fail(complaint, statement.place),
    });
    if (!watch.used && !relative && warnings === this.warnings.length) {
      statement.cache = { bits, defaultRelative, bytes };
    }
    return bytes;
  }

  #define(name: string, value: Value, place: Place): void {
    if (this.#repeating > 0) throw new Complaint("A label cannot be inside times", place);
    const earlier = this.symbols.define(name, value, place);
    if (earlier) {
      throw new Complaint(
        `Label "${name}" is defined twice`,
        place,
        `the first is at ${earlier.line.file}:${earlier.line.number}`,
      );
    }
  }

  #number(expression: Expression): number {
    return Number(evaluate(expression, this).value);
  }

  emit(bytes: Uint8Array): void {
    const section = this.#section;
    if (!section.absolute && !section.nobits) {
      this.#checkSize(bytes.length);
      grow(section, bytes.length);
      section.bytes.set(bytes, section.size);
    }
    section.size += bytes.length;
  }

  reserve(bytes: number): void {
    const section = this.#section;
    if (!section.absolute && !section.nobits) {
      this.#checkSize(bytes);
      grow(section, bytes);
      section.bytes.fill(0, section.size, section.size + bytes);
    }
    section.size += bytes;
  }

  #checkSize(more: number): void {
    if (this.#section.size + more > this.limits.outputBytes) {
      throw new TooMuch(
        `Section "${this.#section.name}" grows beyond ${this.limits.outputBytes} bytes`,
        this.#place,
        "check the counts of times and resb",
      );
    }
  }

  repetitions(count: Expression, place: Place): number {
    this.#place = place;
    const { value } = evaluate(count, this);
    if (value < 0)
      throw new Complaint(`Count is negative: ${value}`, place, "the space counted from is already used up");
    if (value > Number.MAX_SAFE_INTEGER / 256) throw new Complaint(`Count is absurd: ${value}`, place);
    return Number(value);
  }

  #times(count: Expression, body: Statement, place: Place): void {
    const times = this.repetitions(count, place);
    const section = this.#section;
    const before = section.size;
    this.#repeating++;
    try {
      for (let i = 0; i < times; i++) {
        this.#run(body);
        const size = section.size - before;
        // Only a branch comes out different the second time: the rest is copied.
        if (i === 0 && isUniform(body) && this.#section === section) {
          this.#repeatLast(before, size, times - 1);
          return;
        }
      }
    } finally {
      this.#repeating--;
    }
  }

  #repeatLast(start: number, size: number, times: number): void {
    const section = this.#section;
    if (size === 0) return;
    if (section.absolute || section.nobits) {
      section.size += size * times;
      return;
    }
    this.#checkSize(size * times);
    grow(section, size * times);
    const end = section.size + size * times;
    // Doubles what is there until it reaches the end.
    for (let done = start + size; done < end; ) {
      const length = Math.min(done - start, end - done);
      section.bytes.copyWithin(done, start, start + length);
      done += length;
    }
    section.size = end;
  }

  #align(boundary: Expression, fill: Statement | undefined, reserve: boolean, place: Place): void {
    const { value } = evaluate(boundary, this);
    if (typeof value !== "number" || value < 1 || value > 2 ** 32 || (value & (value - 1)) !== 0) {
      throw new Complaint(`Boundary ${value} is not a power of two`, place);
    }
    const section = this.#section;
    if (!section.absolute && section.align < value) section.align = value;
    const missing = (value - (section.size % value)) % value;
    if (fill) {
      this.#times({ op: "constant", value: constant(missing) }, fill, place);
    } else if (reserve) this.reserve(missing);
    else {
      this.#place = place;
      this.#checkSize(missing);
      this.emit(new Uint8Array(missing).fill(0x90));
    }
  }

  #org(expression: Expression, place: Place): void {
    const origin = this.#number(expression);
    if (this.#orgSeen && origin !== this.origin)
      throw new Complaint("The origin is set twice", place, "use section ... vstart= for code that runs elsewhere");
    if (!Number.isSafeInteger(origin)) throw new Complaint("The origin is beyond 2^53", place);
    this.#orgSeen = true;
    if (this.symbols.pass === 1 && origin !== this.origin) {
      this.sections[0]!.base = origin;
      // Whatever looked at an address before must look again.
      if (this.symbols.size > 0 || this.emissions.length > 0 || this.layoutRead) this.#originLate = true;
    }
    this.origin = origin;
  }

  #enterSection(statement: Extract<Statement, { kind: "section" }>): void {
    const { name, attributes, place } = statement;
    let section = this.sections.find((candidate) => candidate.name === name && !candidate.absolute);
    if (!section) {
      section = newSection(this.sections.length, name, place);
      section.base = this.origin;
      this.sections.push(section);
    }
    const { nobits, align, start, vstart, follows, vfollows } = attributes;
    if (nobits !== undefined) section.nobits = nobits;
    if (align) section.align = Math.max(1, this.#number(align));
    if (start) section.start = this.#number(start);
    if (vstart) section.vstart = this.#number(vstart);
    if (follows !== undefined) section.follows = follows;
    if (vfollows !== undefined) section.vfollows = vfollows;
    this.#section = section;
    if (!statement.primitive) this.#sectionName = name;
  }

  #enterAbsolute(origin: number): void {
    this.#section = { ...newSection(-3, "absolute", undefined), absolute: true, base: origin };
  }

  #beginStruc(statement: Extract<Statement, { kind: "struc" }>): void {
    if (this.#structure)
      throw new Complaint("A struc cannot be inside another", statement.place, "end the first with endstruc");
    this.#structure = { name: statement.name, outside: this.#section };
    this.#enterAbsolute(statement.origin ? this.#number(statement.origin) : 0);
    this.#define(statement.name, this.position(), statement.place);
  }

  #endStruc(place: Place): void {
    const structure = this.#structure;
    if (!structure) throw new Complaint("endstruc has no struc before it", place);
    const { size } = this.#section;
    this.#section = structure.outside;
    this.#structure = undefined;
    this.#define(`${structure.name}_size`, constant(size), place);
  }

  #at(field: Expression, place: Place): void {
    const instance = this.#instance;
    if (!instance) throw new Complaint("at has no istruc before it", place);
    this.#padTo(evaluate(field, this), instance, place);
  }

  #endInstance(place: Place): void {
    const instance = this.#instance;
    if (!instance) throw new Complaint("iend has no istruc before it", place);
    this.#instance = undefined;
    const size = this.symbol(`${instance.name}_size`, place);
    this.#padTo({ ...size, value: add(size.value, this.symbol(instance.name, place).value) }, instance, place);
  }

  /** Zero-fills a structure instance up to a field. */
  #padTo(field: Value, instance: { name: string; start: Value }, place: Place): void {
    const base = this.symbol(instance.name, place);
    if (!field.known || !base.known) return;
    const used: Int = subtract(this.position().value, instance.start.value);
    const missing = Number(subtract(subtract(field.value, base.value), used));
    if (missing < 0)
      throw new Complaint(
        "The structure is already filled beyond this field",
        place,
        "fields stand in the order of the structure",
      );
    this.#place = place;
    this.reserve(missing);
  }
}

function isUniform(body: Statement): boolean {
  switch (body.kind) {
    case "instruction":
      return body.cache !== undefined;
    case "bytes":
    case "reserve":
      return true;
    case "data":
      return body.items.every(
        (item) => item.kind !== "repeat" && (item.kind !== "value" || item.expression.op === "constant"),
      );
    default:
      return false;
  }
}
