import { Complaint } from "../diagnostics.ts";
import { placeOf, type Token } from "../lexer.ts";
import { parseInteger } from "../literals.ts";
import { flatText } from "./expand.ts";
import { splitArguments } from "./multimacro.ts";

/** What the conditions of the %if family ask of the preprocessor. */
export interface ConditionScope {
  expand(tokens: readonly Token[]): readonly Token[];
  evaluate(tokens: readonly Token[], at: Token): boolean;
  isDefined(token: Token): boolean;
  isMacro(name: string, parameters: readonly Token[]): boolean;
  isContext(name: string): boolean;
  environment(name: string): string | undefined;
}

type Test = (tokens: readonly Token[], scope: ConditionScope, at: Token) => boolean;

const first =
  (test: (token: Token) => boolean): Test =>
  (tokens, scope) => {
    const [token] = scope.expand(tokens);
    return token !== undefined && test(token);
  };

function identical(fold: (text: string) => string): Test {
  return (tokens, scope, at) => {
    const parts = splitArguments(scope.expand(tokens), 0);
    if (parts.length !== 2 && tokens.length > 0 && parts.length !== 1) {
      throw new Complaint("Expected two texts separated by a comma", placeOf(at));
    }
    const text = (part: Token[] | undefined) => fold(flatTexts(part ?? []));
    return text(parts[0]) === text(parts[1]);
  };
}

/** Compares strings by content, whatever their quotes. */
function flatTexts(tokens: readonly Token[]): string {
  return tokens
    .map((token) => (token.bytes ? `'${new TextDecoder("latin1").decode(token.bytes)}'` : token.text))
    .join(" ");
}

const TESTS: ReadonlyMap<string, Test> = new Map<string, Test>([
  ["", (tokens, scope, at) => scope.evaluate(tokens, at)],
  ["def", (tokens, scope) => tokens.some((token) => scope.isDefined(token))],
  ["defalias", () => false],
  ["macro", (tokens, scope) => tokens[0] !== undefined && scope.isMacro(tokens[0].text, tokens.slice(1))],
  ["ctx", (tokens, scope) => tokens.some(({ text }) => scope.isContext(text))],
  ["idn", identical((text) => text)],
  ["idni", identical((text) => text.toLowerCase())],
  ["id", first(({ kind }) => kind === "id")],
  ["num", (tokens, scope) => isNumber(scope.expand(tokens))],
  ["str", first(({ kind }) => kind === "str")],
  ["token", (tokens, scope) => scope.expand(tokens).length === 1],
  ["empty", (tokens, scope) => scope.expand(tokens).length === 0],
  [
    "env",
    (tokens, scope) =>
      scope.environment(
        flatText(tokens)
          .replace(/^%!/, "")
          .replace(/^(["'`])(.*)\1$/, "$2"),
      ) !== undefined,
  ],
  ["file", () => false],
]);

function isNumber(tokens: readonly Token[]): boolean {
  const at = tokens[0]?.text === "-" || tokens[0]?.text === "+" ? 1 : 0;
  const token = tokens[at];
  return token?.kind === "num" && parseInteger(token.text) !== undefined;
}

/** Splits `%elifnidn` into its parts; nothing for a word outside the family. */
export function readCondition(word: string): { branch: boolean; test: Test } | undefined {
  const parts = /^%(el)?if(n?)(.*)$/.exec(word);
  if (!parts) return undefined;
  // "%ifnum" is a test of its own; "%ifnnum" its negation.
  const plain = TESTS.get(parts[2]! + parts[3]!);
  const negated = parts[2] === "n" ? TESTS.get(parts[3]!) : undefined;
  const branch = parts[1] === "el";
  if (plain) return { branch, test: plain };
  if (negated) return { branch, test: (tokens, scope, at) => !negated(tokens, scope, at) };
  return undefined;
}

/** One %if with its branches. */
export interface Conditional {
  readonly at: Token;
  /** Lines of the current branch count. */
  active: boolean;
  /** A branch has already been taken, or none may be since the whole is skipped. */
  settled: boolean;
  sawElse: boolean;
}
