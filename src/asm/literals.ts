import { type Int, normalize } from "./integer.ts";

const SUFFIX_RADIX: Readonly<Record<string, number>> = { h: 16, x: 16, d: 10, t: 10, o: 8, q: 8, b: 2, y: 2 };

function digitsToInt(digits: string, radix: number): Int | undefined {
  const bare = digits.includes("_") ? digits.replaceAll("_", "") : digits;
  if (bare === "" || bare.length > 4096) return undefined;
  if (radix === 10 || radix === 16 || radix === 8 || radix === 2) {
    const pattern = radix === 10 ? /^[0-9]+$/ : radix === 16 ? /^[0-9a-f]+$/i : radix === 8 ? /^[0-7]+$/ : /^[01]+$/;
    if (!pattern.test(bare)) return undefined;
    if (bare.length <= 11) return Number.parseInt(bare, radix);
    if (radix === 10) return normalize(BigInt(bare));
    return normalize(BigInt((radix === 16 ? "0x" : radix === 8 ? "0o" : "0b") + bare));
  }
  return undefined;
}

/**
 * Reads an integer literal in any of NASM's spellings: `0x1f`, `$1f`, `1fh`, `0b101`, `101y`, `17q`, `0d10`, with `_` anywhere.
 *
 * @returns the value modulo 2^64, or nothing when the text is no integer.
 */
export function parseInteger(text: string): Int | undefined {
  if (/^[0-9]{1,15}$/.test(text)) return Number(text);
  if (text[0] === "$") return digitsToInt(text.slice(1), 16);
  const second = text[0] === "0" ? (text[1]?.toLowerCase() ?? "") : "";
  const prefixRadix = SUFFIX_RADIX[second];
  const last = text[text.length - 1]!.toLowerCase();
  const suffixRadix = SUFFIX_RADIX[last];
  if (prefixRadix !== undefined && text.length > 2) {
    const value = digitsToInt(text.slice(2), prefixRadix);
    // "0bh" is hexadecimal 0b and "0d" needs digits: the suffix decides when the prefix reading fails.
    if (value !== undefined && !(suffixRadix === 16 && last === "h")) return value;
  }
  if (suffixRadix !== undefined) return digitsToInt(text.slice(0, -1), suffixRadix);
  return digitsToInt(text, 10);
}

const ESCAPES: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  e: 27,
};

/** Decodes the inside of a back-quoted string: C escapes, `\x41`, `\101`, `\u00e9` and `\U0001f600` (as UTF-8). */
export function decodeEscapes(body: string): Uint8Array {
  const bytes: number[] = [];
  const encoder = new TextEncoder();
  for (let i = 0; i < body.length; i++) {
    const char = body[i]!;
    if (char !== "\\") {
      const point = body.codePointAt(i)!;
      if (point < 0x80) bytes.push(point);
      else bytes.push(...encoder.encode(String.fromCodePoint(point)));
      if (point > 0xffff) i++;
      continue;
    }
    const next = body[++i] ?? "\\";
    const simple = ESCAPES[next];
    if (simple !== undefined) bytes.push(simple);
    else if (next === "x") {
      const hex = /^[0-9a-f]{1,2}/i.exec(body.slice(i + 1, i + 3))?.[0] ?? "";
      bytes.push(hex === "" ? 0x78 : Number.parseInt(hex, 16));
      i += hex.length;
    } else if (next === "u" || next === "U") {
      const wanted = next === "u" ? 4 : 8;
      const hex = /^[0-9a-f]+/i.exec(body.slice(i + 1, i + 1 + wanted))?.[0] ?? "";
      const point = Number.parseInt(hex, 16);
      if (hex === "" || point > 0x10ffff) bytes.push(next.charCodeAt(0));
      else {
        bytes.push(...encoder.encode(String.fromCodePoint(point)));
        i += hex.length;
      }
    } else if (next >= "0" && next <= "7") {
      const octal = /^[0-7]{1,3}/.exec(body.slice(i, i + 3))![0];
      bytes.push(Number.parseInt(octal, 8) & 0xff);
      i += octal.length - 1;
    } else bytes.push(...encoder.encode(next));
  }
  return Uint8Array.from(bytes);
}

/** The value of a character constant: its first 8 bytes, little-endian. */
export function charactersToInt(bytes: Uint8Array): Int {
  let value = 0n;
  for (let i = Math.min(bytes.length, 8) - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return normalize(value);
}
