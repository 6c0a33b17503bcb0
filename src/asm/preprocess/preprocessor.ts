import { Complaint } from "../diagnostics.ts";
import type { Value } from "../expression.ts";
import { madeToken, placeOf, type Token, tokenize } from "../lexer.ts";
import { type Expansion, type SourceLine, sourceLines } from "../source.ts";
import { didYouMean } from "../suggest.ts";
import { builtinWord } from "./builtins.ts";
import { type Conditional, type ConditionScope, readCondition } from "./conditions.ts";
import { definitionDirectives, definitionWords } from "./definitions.ts";
import { Expander, type ExpansionScope, SingleMacros } from "./expand.ts";
import type { SourceFiles } from "./files.ts";
import {
  type BodyLine,
  bindParameters,
  type Invocation,
  type MultiMacro,
  matchMacro,
  parseMacroHead,
  splitArguments,
  substituteParameters,
} from "./multimacro.ts";

/** What the preprocessor asks of the assembly it feeds. */
export interface Host {
  /** Evaluates an expression that must be settled now. */
  evaluate(tokens: readonly Token[], line: SourceLine): Value;
  readonly bits: number;
  readonly pass: number;
  readonly sectionName: string;
  /** Takes note of an error and goes on. */
  fail(complaint: Complaint, line: SourceLine): void;
  warn(message: string, token: Token): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

interface Frame {
  readonly lines: readonly BodyLine[] | readonly SourceLine[];
  at: number;
  readonly kind: "file" | "macro" | "repeat";
  readonly path: string;
  readonly invocation: Invocation | undefined;
  readonly expansion: Expansion | undefined;
  /** Rounds of a %rep still to come. */
  rounds: number;
  /** How many conditionals were open when the frame began. */
  readonly conditionals: number;
}

/** A %push-ed context with its %$locals. */
interface Context {
  readonly name: string;
  readonly unique: number;
  readonly macros: SingleMacros;
}

interface Collecting {
  readonly macro: MultiMacro | undefined;
  readonly body: BodyLine[];
  readonly rounds: number;
  readonly at: Token;
  depth: number;
}

/** A line ready to be parsed. */
export interface ReadyLine {
  readonly tokens: readonly Token[];
  readonly line: SourceLine;
}

const MAX_FRAMES = 200;
const MAX_LINES = 500_000;
const MAX_INCLUDES = 64;

const WORDS = [
  ..."%macro %imacro %rmacro %irmacro %endmacro %endm %rep %endrep %exitrep %exitmacro %unmacro %unimacro %rotate".split(
    " ",
  ),
  ..."%include %else %endif %error %warning %fatal %note %push %pop %repl %line %use %clear %pragma %depend".split(" "),
  ..."%if %ifdef %ifndef %ifidn %ifidni %ifnum %ifstr %ifid %ifempty %ifmacro %elif %elifdef %elifndef".split(" "),
  ...definitionWords,
];

/** True when a body may end its repetition by itself. */
function exits(body: readonly BodyLine[]): boolean {
  return body.some(({ tokens }) => /^%exit/i.test(tokens[0]?.text ?? ""));
}

/** Reads a source line by line, carrying out preprocessor directives and expanding macros. */
export class Preprocessor implements ExpansionScope, ConditionScope {
  readonly host: Host;
  readonly files: SourceFiles;
  readonly macros = new SingleMacros();
  readonly #expander: Expander;
  readonly #blobs: readonly Uint8Array[];
  readonly #frames: Frame[] = [];
  readonly #conditionals: Conditional[] = [];
  readonly #contexts: Context[] = [];
  readonly #multi = new Map<string, MultiMacro[]>();
  readonly #running = new Set<MultiMacro>();
  #collecting: Collecting | undefined;
  #pending: ReadyLine[] = [];
  #unique = 0;
  #produced = 0;
  #skipRest = false;

  constructor(file: string, text: string, options: { host: Host; files: SourceFiles; blobs: readonly Uint8Array[] }) {
    this.host = options.host;
    this.files = options.files;
    this.#blobs = options.blobs;
    this.#expander = new Expander(this);
    this.#push({ lines: sourceLines(file, text), kind: "file", path: file });
  }

  #push(frame: Pick<Frame, "lines" | "kind" | "path"> & Partial<Frame>): void {
    this.#frames.push({
      at: 0,
      invocation: undefined,
      expansion: undefined,
      rounds: 0,
      conditionals: this.#conditionals.length,
      ...frame,
    });
  }

  /** The next line to parse, nothing at the end. Errors in directives go to the host and reading goes on. */
  next(): ReadyLine | undefined {
    for (;;) {
      const pending = this.#pending.shift();
      if (pending) return pending;
      const frame = this.#frames[this.#frames.length - 1];
      if (!frame || this.#skipRest) return this.#finish();
      if (frame.at >= frame.lines.length) {
        this.#leave(frame);
        continue;
      }
      const ready = this.#read(frame);
      if (ready) return ready;
    }
  }

  #finish(): undefined {
    const open =
      this.#collecting?.at ?? (this.#skipRest ? undefined : this.#conditionals[this.#conditionals.length - 1]?.at);
    if (open) {
      this.#collecting = undefined;
      this.#conditionals.length = 0;
      const end = open.text.toLowerCase().startsWith("%if")
        ? "%endif"
        : open.text.toLowerCase() === "%rep"
          ? "%endrep"
          : "%endmacro";
      this.host.fail(new Complaint(`${open.text} is not closed`, placeOf(open), `add ${end}`), open.line);
    }
    return undefined;
  }

  #leave(frame: Frame): void {
    if (frame.kind === "repeat" && frame.rounds > 1) {
      frame.rounds--;
      frame.at = 0;
      return;
    }
    this.#frames.pop();
    if (frame.kind === "macro" && frame.invocation) this.#running.delete(frame.invocation.macro);
  }

  /** Reads one line of the innermost frame; nothing when it was a directive, empty or skipped. */
  #read(frame: Frame): ReadyLine | undefined {
    const source = frame.lines[frame.at++]!;
    let line = "tokens" in source ? source.line : source;
    if (frame !== this.#frames[0] && ++this.#produced > MAX_LINES) {
      this.#skipRest = true;
      this.host.fail(
        new Complaint(
          "The source expands to too many lines",
          { line, column: 1, width: 1 },
          "check %rep and recursive macros",
        ),
        line,
      );
      return undefined;
    }
    try {
      let tokens = "tokens" in source ? source.tokens : this.#tokenize(frame, source);
      if (frame.expansion) line = { ...line, expandedFrom: frame.expansion };
      if (this.#collecting) return this.#collect(this.#collecting, tokens, line);
      if (tokens.length === 0) return undefined;
      const live = this.#active;
      if (live && frame.kind !== "file") tokens = substituteParameters(tokens, this.#invocation, line);
      const [first] = tokens;
      if (first?.kind === "pp" && this.#directive(first, tokens, live)) return undefined;
      return live ? this.#expandLine(tokens, line) : undefined;
    } catch (error) {
      if (!(error instanceof Complaint)) throw error;
      if (this.#active) this.host.fail(error, line);
      return undefined;
    }
  }

  /** Tokenizes a line of a file, joined with those that it continues on. */
  #tokenize(frame: Frame, source: SourceLine): readonly Token[] {
    if (!source.text.endsWith("\\")) return tokenize(source, this.#blobs);
    const parts: string[] = [];
    let last = source;
    while (last.text.endsWith("\\") && frame.at < frame.lines.length) {
      parts.push(last.text.slice(0, -1));
      last = frame.lines[frame.at++] as SourceLine;
    }
    parts.push(last.text);
    return tokenize({ ...source, text: parts.join("") }, this.#blobs);
  }

  get #active(): boolean {
    const inner = this.#conditionals[this.#conditionals.length - 1];
    return inner === undefined || inner.active;
  }

  get #invocation(): Invocation | undefined {
    for (let i = this.#frames.length - 1; i >= 0; i--) {
      const frame = this.#frames[i]!;
      if (frame.kind === "macro") return frame.invocation;
      if (frame.kind === "file") return undefined;
    }
    return undefined;
  }

  #collect(collecting: Collecting, tokens: readonly Token[], line: SourceLine): undefined {
    const word = tokens[0]?.kind === "pp" ? tokens[0].text.toLowerCase() : "";
    const opens = collecting.macro ? /^%i?r?macro$/ : /^%rep$/;
    const closes = collecting.macro ? /^%endm(acro)?$/ : /^%endrep$/;
    if (opens.test(word)) collecting.depth++;
    else if (closes.test(word) && --collecting.depth === 0) {
      this.#collecting = undefined;
      if (collecting.macro) this.#defineMacro(collecting.macro);
      else if (collecting.rounds * collecting.body.length > MAX_LINES && !exits(collecting.body)) {
        const why = `%rep asks for ${collecting.rounds} rounds of ${collecting.body.length} lines`;
        throw new Complaint(
          why,
          placeOf(collecting.at),
          `at most ${MAX_LINES} lines; times repeats one instruction without that limit`,
        );
      } else if (collecting.rounds > 0 && collecting.body.length > 0)
        this.#enter("repeat", collecting.body, collecting.at, "%rep", collecting.rounds);
      return undefined;
    }
    collecting.body.push({ line, tokens });
    return undefined;
  }

  #defineMacro(macro: MultiMacro): void {
    const key = macro.anyCase ? macro.name.toLowerCase() : macro.name;
    const others = (this.#multi.get(key) ?? []).filter(
      (other) => other.minimum !== macro.minimum || other.maximum !== macro.maximum,
    );
    this.#multi.set(key, [...others, macro]);
  }

  #enter(
    kind: "macro" | "repeat",
    lines: readonly BodyLine[],
    at: Token,
    what: string,
    rounds: number,
    invocation?: Invocation,
  ): void {
    if (this.#frames.length >= MAX_FRAMES)
      throw new Complaint("Macros are nested too deeply", placeOf(at), "a macro may call itself without end");
    const expansion = { what, at: at.line, include: false };
    this.#push({ lines, kind, path: this.#path, expansion, rounds, invocation });
  }

  get #path(): string {
    return this.#frames[this.#frames.length - 1]?.path ?? "";
  }

  /** The path of the file that a token of the current line is in, for the files it names. */
  get path(): string {
    return this.#path;
  }

  #candidates(name: string): readonly MultiMacro[] | undefined {
    const exact = this.#multi.get(name);
    if (exact) return exact;
    const folded = this.#multi.get(name.toLowerCase());
    return folded?.[0]?.anyCase ? folded : undefined;
  }

  #expandLine(tokens: readonly Token[], line: SourceLine): ReadyLine | undefined {
    const expanded = this.#expander.expand(tokens);
    if (this.#multi.size > 0 && this.#call(expanded, line)) return this.#pending.shift();
    return expanded.length === 0 ? undefined : { tokens: expanded, line };
  }

  /** Enters the multi-line macro that a line calls, if it calls one. */
  #call(tokens: readonly Token[], line: SourceLine): boolean {
    const [first, second] = tokens;
    if (first?.kind !== "id") return false;
    let at = 0;
    let candidates = this.#candidates(first.text);
    if (!candidates && second) {
      at = second.text === ":" ? 2 : 1;
      const name = tokens[at];
      candidates = name?.kind === "id" ? this.#candidates(name.text) : undefined;
    }
    const name = tokens[at];
    if (!candidates || !name) return false;
    const rest = tokens.slice(at + 1);
    const given = splitArguments(rest, 0).length;
    const macro = matchMacro(candidates, given);
    if (!macro) {
      this.host.warn(`Macro "${name.text}" exists, but not with ${given} parameters`, name);
      return false;
    }
    if (this.#running.has(macro) && !macro.recursive) return false;
    const label = tokens.slice(0, at);
    const usesLabel = macro.body.some((body) => body.tokens.some(({ text }) => text === "%00"));
    const name00 = label.slice(0, 1);
    const invocation = {
      macro,
      parameters: bindParameters(macro, rest),
      rotation: 0,
      unique: ++this.#unique,
      label: usesLabel ? name00 : [],
    };
    this.#enter("macro", macro.body, name, `macro "${macro.name}"`, 0, invocation);
    this.#running.add(macro);
    if (label.length > 0 && !usesLabel) {
      this.#pending.push({ tokens: label.length === 1 ? [...label, madeToken("op", ":", label[0]!)] : label, line });
    }
    return true;
  }

  /** Carries out a directive; false when the token is none. */
  #directive(first: Token, tokens: readonly Token[], live: boolean): boolean {
    const word = first.text.toLowerCase().replace(/^%\{(.*)\}$/, "%$1");
    const rest = tokens.slice(1);
    const condition = readCondition(word);
    if (condition) {
      const bound = () => substituteParameters(rest, this.#invocation, first.line);
      if (condition.branch) this.#elseIf(first, () => condition.test(bound(), this, first));
      else this.#if(first, live, () => condition.test(rest, this, first));
      return true;
    }
    if (word === "%else") this.#elseIf(first, undefined);
    else if (word === "%endif") this.#endIf(first);
    else if (!live) return true;
    else if (definitionDirectives.has(word)) definitionDirectives.get(word)!(first, rest, this);
    else return this.#structural(word, first, rest);
    return true;
  }

  #if(at: Token, live: boolean, test: () => boolean): void {
    const conditional: Conditional = { at, active: false, settled: true, sawElse: false };
    this.#conditionals.push(conditional);
    if (!live) return;
    conditional.active = test();
    conditional.settled = conditional.active;
  }

  #elseIf(at: Token, test: (() => boolean) | undefined): void {
    const conditional = this.#conditionals[this.#conditionals.length - 1];
    if (!conditional) throw new Complaint(`${at.text} has no %if before it`, placeOf(at));
    if (conditional.sawElse) throw new Complaint(`${at.text} comes after %else`, placeOf(at));
    conditional.sawElse = test === undefined;
    conditional.active = false;
    if (conditional.settled) return;
    conditional.active = test === undefined || test();
    conditional.settled = conditional.active;
  }

  #endIf(at: Token): void {
    if (!this.#conditionals.pop()) throw new Complaint("%endif has no %if before it", placeOf(at));
  }

  #structural(word: string, first: Token, rest: readonly Token[]): boolean {
    const macro = /^%(i?)(r?)macro$/.exec(word);
    if (macro) {
      const head = parseMacroHead(this.expand(rest), macro[2] === "r", macro[1] === "i", first);
      this.#collecting = { macro: head, body: head.body, rounds: 0, at: first, depth: 1 };
      return true;
    }
    switch (word) {
      case "%rep":
        this.#collecting = { macro: undefined, body: [], rounds: this.#count(rest, first), at: first, depth: 1 };
        return true;
      case "%exitrep":
      case "%exitmacro":
        this.#exit(word === "%exitrep" ? "repeat" : "macro", first);
        return true;
      case "%endrep":
      case "%endmacro":
      case "%endm":
        throw new Complaint(`${first.text} ends nothing`, placeOf(first));
      case "%unmacro":
      case "%unimacro":
        this.#multi.delete(rest[0]?.text ?? "");
        return true;
      case "%rotate":
        this.#rotate(rest, first);
        return true;
      case "%include":
        this.#include(this.expand(rest), first);
        return true;
      case "%error":
      case "%fatal":
        if (word === "%fatal") this.#skipRest = true;
        throw new Complaint(this.#message(rest), placeOf(first), `raised by ${word}`);
      case "%warning":
      case "%note":
        this.host.warn(this.#message(rest), first);
        return true;
      case "%push":
        this.#contexts.push({ name: rest[0]?.text ?? "", unique: ++this.#unique, macros: new SingleMacros() });
        return true;
      case "%pop":
        this.#pop(first, rest);
        return true;
      case "%repl": {
        const top = this.#pop(first, []);
        this.#contexts.push({ ...top, name: rest[0]?.text ?? "" });
        return true;
      }
      case "%line":
      case "%clear":
      case "%pragma":
      case "%depend":
      case "%use":
        return this.#harmless(word, first, rest);
      default:
        return this.#unknown(first);
    }
  }

  #harmless(word: string, first: Token, rest: readonly Token[]): boolean {
    const built = /^["'`]?(ifunc|fp)["'`]?$/i;
    if (word === "%use" && !built.test(rest[0]?.text ?? "")) {
      throw new Complaint(
        `Package ${rest[0]?.text ?? ""} is not available`,
        placeOf(rest[0] ?? first),
        "ifunc and fp are built in",
      );
    }
    if (word === "%use" && /fp/i.test(rest[0]!.text)) {
      for (const name of ["Inf:Infinity", "NaN:QNaN", "QNaN:QNaN", "SNaN:SNaN", "float32:float32", "float64:float64"]) {
        const [from, to] = name.split(":") as [string, string];
        this.macros.define(
          { name: from, parameters: undefined, greedy: false, body: [madeToken("id", `__?${to}?__`, first)] },
          false,
        );
      }
    }
    return true;
  }

  #unknown(first: Token): boolean {
    // Parameters and %%labels at the start of a line are no directives.
    if (!/^%[a-z]/i.test(first.text) || first.text.startsWith("%$")) return false;
    throw new Complaint(`Unknown directive "${first.text}"`, placeOf(first), didYouMean(first.text, WORDS));
  }

  #pop(first: Token, rest: readonly Token[]): Context {
    const context = this.#contexts[this.#contexts.length - 1];
    if (!context) throw new Complaint(`${first.text} has no %push before it`, placeOf(first));
    if (rest[0] && rest[0].text !== context.name)
      throw new Complaint(`The innermost context is "${context.name}", not "${rest[0].text}"`, placeOf(rest[0]));
    this.#contexts.pop();
    return context;
  }

  #message(rest: readonly Token[]): string {
    const decoder = new TextDecoder();
    return this.expand(rest)
      .map((token) => (token.bytes ? decoder.decode(token.bytes) : token.text))
      .join(" ");
  }

  #count(rest: readonly Token[], at: Token): number {
    const tokens = rest.filter(({ text }) => text.toLowerCase() !== ".nolist");
    const { value } = this.host.evaluate(this.expand(tokens), at.line);
    return typeof value === "number" ? value : value > 0n ? Number.MAX_SAFE_INTEGER : 0;
  }

  #exit(kind: "repeat" | "macro", at: Token): void {
    let index = this.#frames.length - 1;
    while (index >= 0 && this.#frames[index]!.kind !== kind) index--;
    const target = this.#frames[index];
    if (!target) throw new Complaint(`${at.text} is in no ${kind === "repeat" ? "%rep" : "%macro"}`, placeOf(at));
    this.#conditionals.length = Math.min(this.#conditionals.length, target.conditionals);
    while (this.#frames.length > index) {
      const frame = this.#frames[this.#frames.length - 1]!;
      frame.rounds = 0;
      this.#leave(frame);
    }
  }

  #rotate(rest: readonly Token[], at: Token): void {
    const invocation = this.#invocation;
    if (!invocation) throw new Complaint("%rotate is in no macro", placeOf(at));
    const { value } = this.host.evaluate(this.expand(rest), at.line);
    const count = Math.max(invocation.parameters.length, 1);
    invocation.rotation = (((invocation.rotation + (Number(value) % count)) % count) + count) % count;
  }

  #include(rest: readonly Token[], at: Token): void {
    const [name] = rest;
    if (!name?.bytes)
      throw new Complaint("Expected a quoted file name", placeOf(name ?? at), 'write: %include "file.inc"');
    if (this.#frames.filter(({ kind }) => kind === "file").length >= MAX_INCLUDES) {
      throw new Complaint("Files include each other without end", placeOf(name));
    }
    const decoder = new TextDecoder();
    const { path, bytes } = this.files.read(decoder.decode(name.bytes), this.#path, placeOf(name));
    const expansion = { what: `file included by ${at.line.file}`, at: at.line, include: true };
    const lines = sourceLines(path, decoder.decode(bytes)).map((line) => ({ ...line, expandedFrom: expansion }));
    this.#push({ lines, kind: "file", path });
  }

  expand(tokens: readonly Token[]): readonly Token[] {
    return this.#expander.expand(tokens);
  }

  evaluate(tokens: readonly Token[], at: Token): boolean {
    return this.host.evaluate(this.expand(tokens), at.line).value !== 0;
  }

  isDefined(token: Token): boolean {
    if (token.text.startsWith("%$")) return this.#local(token.text) !== undefined;
    return (
      this.macros.lookup(token.text) !== undefined || (token.text.startsWith("__") && this.special(token) !== undefined)
    );
  }

  isMacro(name: string, parameters: readonly Token[]): boolean {
    const candidates = this.#candidates(name);
    if (!candidates || parameters.length === 0) return candidates !== undefined;
    return matchMacro(candidates, Number(parameters[0]!.text)) !== undefined;
  }

  isContext(name: string): boolean {
    return this.#contexts[this.#contexts.length - 1]?.name === name;
  }

  environment(name: string): string | undefined {
    return this.host.environment[name];
  }

  /** The context a `%$$name` reaches, one more dollar one further out. */
  context(text: string): Context | undefined {
    const dollars = /^%\$*/.exec(text)![0].length - 1;
    return this.#contexts[this.#contexts.length - dollars];
  }

  #local(text: string): readonly Token[] | undefined {
    return this.context(text)?.macros.lookup(text.replace(/^%\$+/, ""))?.[0]?.body;
  }

  special(token: Token): readonly Token[] | undefined {
    const { text } = token;
    if (text.startsWith("%{$")) return this.special({ ...token, text: `%${text.slice(2, -1)}` });
    if (text.startsWith("%$")) {
      const context = this.context(text);
      if (!context) throw new Complaint(`"${text}" is outside any context`, placeOf(token), "open one with %push");
      const local = this.#local(text);
      return local
        ? this.#expander.expand(local)
        : [madeToken("id", `..@${context.unique}.${text.replace(/^%\$+/, "")}`, token)];
    }
    if (text.startsWith("%!")) {
      const name = text.slice(2).replace(/^(["'`])(.*)\1$/, "$2");
      const value = this.environment(name);
      if (value === undefined) throw new Complaint(`Environment variable "${name}" is not set`, placeOf(token));
      return tokenize({ ...token.line, text: value }).map((made) => ({
        ...made,
        line: token.line,
        column: token.column,
      }));
    }
    if (!text.startsWith("__")) return undefined;
    return builtinWord(token, this.host);
  }
}
