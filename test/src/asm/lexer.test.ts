import { expect, test } from "bun:test";
import { tokenize } from "../../../src/asm/lexer.ts";
import { decodeEscapes, parseInteger } from "../../../src/asm/literals.ts";

const words = (text: string): string[] =>
  tokenize({ file: "t", number: 1, text, expandedFrom: undefined }).map((token) => `${token.kind}:${token.text}`);

test("tokenize() tells macro parameters, local names and operators apart by what follows the percent sign", () => {
  expect(words("%1 %%x %{2}y %+ 5 % 3 %% 2 %-1 %$a %[b] %!HOME")).toEqual(
    "pp:%1 pp:%%x pp:%{2} id:y pp:%+ num:5 op:% num:3 op:%% num:2 pp:%-1 pp:%$a pp:%[ id:b op:] pp:%!HOME".split(" "),
  );
});

test("tokenize() takes exponents with a sign as part of a number, but not of a hexadecimal one", () => {
  expect(words("1e-5 1.5e+3 0x1e-5 0x1p-3 1-2")).toEqual(
    "float:1e-5 float:1.5e+3 num:0x1e op:- num:5 float:0x1p-3 num:1 op:- num:2".split(" "),
  );
});

test("tokenize() ends at a comment, but not inside a string", () => {
  expect(words("db ';' ; more")).toEqual(["id:db", "str:';'"]);
});

test("parseInteger() reads every radix NASM has, prefixed or suffixed", () => {
  const spellings = [
    "31",
    "0x1f",
    "0h1f",
    "$1f",
    "1fh",
    "0b11111",
    "0y11111",
    "11111b",
    "0o37",
    "0q37",
    "37o",
    "37q",
    "0d31",
    "31d",
    "0t31",
    "3_1",
  ];
  expect(spellings.map(parseInteger)).toEqual(spellings.map(() => 31));
  expect(parseInteger("0b1h")).toBe(0xb1);
  expect(parseInteger("0xffffffffffffffff")).toBe(-1);
  expect(["1f", "0b2", "8o", "0xg", "12x4"].map(parseInteger)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("decodeEscapes() knows C's escapes, octal, hexadecimal and Unicode ones", () => {
  expect(decodeEscapes("\\a\\e\\n\\x41\\x4\\101\\u00e9\\q").toHex()).toBe("071b0a410441c3a971");
});
