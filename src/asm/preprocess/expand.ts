import { Complaint } from "../diagnostics.ts";
import { madeToken, placeOf, type Token, textOf, tokenize } from "../lexer.ts";

/** A single-line macro: `%define name(a, b) body`. */
export interface SingleMacro {
  readonly name: string;
  /** Parameter names, nothing for an object-like macro. */
  readonly parameters: readonly string[] | undefined;
  /** The last parameter takes the rest of the arguments, commas included. */
  readonly greedy: boolean;
  readonly body: readonly Token[];
}

const MAX_TOKENS = 200_000;
const MAX_DEPTH = 200;
const MAX_WORD = 4096;

/** The single-line macros in force, by name and, with `%idefine`, by name in any case. */
export class SingleMacros {
  readonly #exact = new Map<string, SingleMacro[]>();
  readonly #folded = new Map<string, SingleMacro[]>();

  get size(): number {
    return this.#exact.size + this.#folded.size;
  }

  define(macro: SingleMacro, anyCase: boolean): void {
    const table = anyCase ? this.#folded : this.#exact;
    const key = anyCase ? macro.name.toLowerCase() : macro.name;
    const others = (table.get(key) ?? []).filter((other) => {
      return (
        macro.parameters !== undefined &&
        other.parameters !== undefined &&
        other.parameters.length !== macro.parameters.length
      );
    });
    table.set(key, [...others, macro]);
  }

  undefine(name: string): void {
    this.#exact.delete(name);
    this.#folded.delete(name.toLowerCase());
  }

  lookup(name: string): readonly SingleMacro[] | undefined {
    return this.#exact.get(name) ?? (this.#folded.size === 0 ? undefined : this.#folded.get(name.toLowerCase()));
  }
}

/** What expansion asks of the preprocessor for words that are not plain macros. */
export interface ExpansionScope {
  readonly macros: SingleMacros;
  /** `__LINE__`, `%$local`, `%!HOME` and their like; nothing when the word is none. */
  special(token: Token): readonly Token[] | undefined;
}

/** Reads the arguments of a function-like macro; `at` points at the opening parenthesis. */
function readArguments(tokens: readonly Token[], at: number): { list: Token[][]; end: number } {
  const list: Token[][] = [[]];
  let parentheses = 0;
  let braces = 0;
  for (let i = at; i < tokens.length; i++) {
    const token = tokens[i]!;
    const text = token.kind === "op" ? token.text : "";
    if (text === "{") braces++;
    if (text === "}") braces--;
    if (braces === 0 && text === "(" && ++parentheses === 1) continue;
    if (braces === 0 && text === ")" && --parentheses === 0) {
      return { list: list.map(unbrace), end: i + 1 };
    }
    if (braces === 0 && parentheses === 1 && text === ",") list.push([]);
    else list[list.length - 1]!.push(token);
  }
  throw new Complaint("Macro arguments are not closed", placeOf(tokens[at]!), 'add ")"');
}

/** `{a, b}` protects its commas; the braces go. */
export function unbrace(tokens: Token[]): Token[] {
  if (tokens.length < 2 || tokens[0]!.text !== "{" || tokens[tokens.length - 1]!.text !== "}") return tokens;
  return tokens.slice(1, -1);
}

/** Puts `%[…]` contents aside: the index behind the matching bracket. */
function indirectEnd(tokens: readonly Token[], at: number): number {
  let depth = 1;
  for (let i = at + 1; i < tokens.length; i++) {
    const { text, kind } = tokens[i]!;
    if (text === "%[" || (kind === "op" && text === "[")) depth++;
    else if (kind === "op" && text === "]" && --depth === 0) return i;
  }
  throw new Complaint("%[ is not closed", placeOf(tokens[at]!), 'add "]"');
}

/** Expands single-line macros in lines. */
export class Expander {
  readonly #scope: ExpansionScope;
  #budget = 0;

  constructor(scope: ExpansionScope) {
    this.#scope = scope;
  }

  /**
   * Expands all single-line macros in a line and joins tokens around `%+`.
   *
   * @throws {Complaint} when the expansion does not end.
   */
  expand(tokens: readonly Token[]): readonly Token[] {
    if (!this.#needed(tokens)) return tokens;
    this.#budget = MAX_TOKENS;
    return paste(this.#expand(tokens, [], 0));
  }

  #needed(tokens: readonly Token[]): boolean {
    const { macros } = this.#scope;
    for (const token of tokens) {
      if (token.kind === "pp") return true;
      if (token.kind === "id" && (token.text.startsWith("__") || (macros.size > 0 && macros.lookup(token.text))))
        return true;
    }
    return false;
  }

  #expand(tokens: readonly Token[], active: readonly SingleMacro[], depth: number): Token[] {
    const out: Token[] = [];
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (--this.#budget < 0 || depth > MAX_DEPTH) {
        throw new Complaint("Macro expansion does not end", placeOf(token), "a macro expands to itself too often");
      }
      if (token.kind === "pp" && token.text === "%[") {
        const end = indirectEnd(tokens, i);
        const inner = spaced(this.#expand(tokens.slice(i + 1, end), active, depth + 1), token);
        const next = tokens[end + 1];
        const touching = next && !next.space && isWord(next) ? [next] : [];
        i = end + touching.length;
        // What touches the brackets belongs to the same word, which may be a macro again.
        const left = !token.space && out.length > 0 && isWord(out[out.length - 1]!) ? [out.pop()!] : [];
        const whole = [left, inner, touching].reduce<readonly Token[]>(joinWords, []);
        const grown = left.length + touching.length > 0 && whole.length < 4;
        out.push(...(grown ? this.#expand(whole, active, depth + 1) : whole));
        continue;
      }
      if (token.kind !== "id" && token.kind !== "pp") {
        out.push(token);
        continue;
      }
      const end = this.#word(tokens, i, active, depth, out);
      i = end - 1;
    }
    return out;
  }

  /** Expands the word at `at` into `out`; returns the index behind what was used up. */
  #word(tokens: readonly Token[], at: number, active: readonly SingleMacro[], depth: number, out: Token[]): number {
    const token = tokens[at]!;
    const candidates = token.kind === "id" || token.text.startsWith("%$") ? this.#lookup(token) : undefined;
    if (candidates) {
      const object = candidates.find((macro) => !macro.parameters && !active.includes(macro));
      const next = tokens[at + 1];
      if (object) {
        this.#body(object, [], token, active, depth, out);
        return at + 1;
      }
      if (next?.kind === "op" && next.text === "(") {
        const { list, end } = readArguments(tokens, at + 1);
        const macro = candidates.find((candidate) => !active.includes(candidate) && takes(candidate, list));
        if (macro) {
          const wanted = macro.parameters!.length;
          const given =
            macro.greedy && list.length > wanted
              ? [...list.slice(0, wanted - 1), joined(list.slice(wanted - 1), next)]
              : list;
          this.#body(
            macro,
            given.map((argument) => this.#expand(argument, active, depth + 1)),
            token,
            active,
            depth,
            out,
          );
          return end;
        }
      }
    }
    const special = this.#scope.special(token);
    if (special) out.push(...spaced(special, token));
    else out.push(token);
    return at + 1;
  }

  #lookup(token: Token): readonly SingleMacro[] | undefined {
    const { macros } = this.#scope;
    return macros.size === 0 || token.kind !== "id" ? undefined : macros.lookup(token.text);
  }

  #body(
    macro: SingleMacro,
    args: readonly Token[][],
    at: Token,
    active: readonly SingleMacro[],
    depth: number,
    out: Token[],
  ): void {
    const body: Token[] = [];
    for (const token of macro.body) {
      const index = macro.parameters && token.kind === "id" ? macro.parameters.indexOf(token.text) : -1;
      if (index >= 0) body.push(...spaced(args[index] ?? [], token));
      else if (token.text === "%?" || token.text === "%??")
        body.push(madeToken("id", token.text === "%?" ? at.text : macro.name, token));
      else body.push(token);
    }
    out.push(...spaced(this.#expand(paste(body), [...active, macro], depth + 1), at));
  }
}

const isWord = ({ kind }: Token): boolean => kind === "id" || kind === "num" || kind === "float";

/** Two runs of tokens as one, the words at the seam glued. */
function joinWords(before: readonly Token[], after: readonly Token[]): readonly Token[] {
  const left = before[before.length - 1];
  const [first, ...rest] = after;
  if (!left || !first || !isWord(left) || !isWord(first)) return [...before, ...after];
  return [...before.slice(0, -1), ...glue(left, first), ...rest];
}

function takes(macro: SingleMacro, list: readonly Token[][]): boolean {
  if (!macro.parameters) return false;
  if (macro.parameters.length === 0) return list.length === 1 && list[0]!.length === 0;
  return macro.greedy ? list.length >= macro.parameters.length : list.length === macro.parameters.length;
}

function joined(parts: readonly Token[][], like: Token): Token[] {
  return parts.flatMap((part, i) => (i === 0 ? part : [madeToken("op", ",", like), ...part]));
}

/** Gives the first token the spacing of the token it replaces. */
function spaced(tokens: readonly Token[], like: Token): readonly Token[] {
  const [first] = tokens;
  if (!first || first.space === like.space) return tokens;
  return [{ ...first, space: like.space }, ...tokens.slice(1)];
}

/** Joins the texts around `%+` and reads the result again. */
function paste(tokens: readonly Token[]): Token[] {
  if (!tokens.some(({ text }) => text === "%+")) return tokens as Token[];
  const out: Token[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    const left = out[out.length - 1];
    const right = tokens[i + 1];
    if (token.kind !== "pp" || token.text !== "%+") out.push(token);
    else if (left && right) {
      out.pop();
      out.push(...glue(left, right));
      i++;
    }
  }
  return out;
}

/** Reads two tokens as one text: `foo` and `1` give `foo1`. */
export function glue(left: Token, right: Token): Token[] {
  const text = left.text + right.text;
  if (left.bytes || right.bytes) return [left, right];
  if (text.length > MAX_WORD) throw new Complaint("Pasted word grows without end", placeOf(left));
  return tokenize({ ...left.line, text }).map((token) => ({
    ...token,
    line: left.line,
    column: left.column,
    space: left.space,
  }));
}

/** The text of tokens as %defstr and the comparisons of %ifidn see it. */
export function flatText(tokens: readonly Token[]): string {
  return textOf(tokens).trim();
}
