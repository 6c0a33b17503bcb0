import { madeToken, type Token, tokenize } from "../lexer.ts";
import { writtenLine } from "../source.ts";

/** What the built-in words tell about the assembly. */
export interface BuiltinScope {
  readonly bits: number;
  readonly pass: number;
  readonly sectionName: string;
}

/** The value of `__LINE__`, `__?BITS?__` and their like; nothing for any other word. */
export function builtinWord(token: Token, host: BuiltinScope): readonly Token[] | undefined {
  const name = /^__\??([A-Z0-9_]+?)\??__$/.exec(token.text)?.[1] ?? "";
  const number = (value: number) => [madeToken("num", String(value), token)];
  const string = (value: string) => [madeToken("str", `'${value}'`, token, new TextEncoder().encode(value))];
  switch (name) {
    case "LINE":
      return number(writtenLine(token.line).number);
    case "FILE":
      return string(token.line.file);
    case "BITS":
      return number(host.bits);
    case "PASS":
      return number(host.pass);
    case "OUTPUT_FORMAT":
      return [madeToken("id", "bin", token)];
    case "NASM_MAJOR":
      return number(2);
    case "NASM_MINOR":
      return number(16);
    case "NASM_SUBMINOR":
      return number(1);
    case "NASM_VERSION_ID":
      return number(0x02100100);
    case "NASM_VER":
      return string("2.16.01");
    case "SECT":
      return tokenize({ ...token.line, text: `[section ${host.sectionName}]` }).map((made) => ({
        ...made,
        line: token.line,
        column: token.column,
      }));
    default:
      return undefined;
  }
}
