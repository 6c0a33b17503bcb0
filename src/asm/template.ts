import { type AssembleOptions, assemble } from "./assemble.ts";
import { BLOB_END, BLOB_START } from "./lexer.ts";
import type { Program } from "./program.ts";

/**
 * What `${}` in a template takes: numbers and bigints (as written), text (a label, a register, whole lines), and bytes or another
 * program, which stand where `db` values or a line of their own may stand.
 */
export type Interpolation = number | bigint | string | Uint8Array | readonly number[] | Program;

/** A template tag that assembles its text. */
export type AsmTag = (strings: TemplateStringsArray, ...values: readonly Interpolation[]) => Program;

/** Where the tags `asm.real16`, `asm.prot32` and `asm.long64` put code unless ORG says otherwise. */
export const DEFAULT_ORIGIN = 0x1000;

function numberText(value: number): string {
  if (Number.isInteger(value)) return Number.isSafeInteger(value) ? String(value) : String(BigInt(value));
  if (Number.isNaN(value)) return "__?QNaN?__";
  if (!Number.isFinite(value)) return value < 0 ? "-__?Infinity?__" : "__?Infinity?__";
  const text = String(value);
  return text.includes(".") || text.includes("e") ? text : `${text}.0`;
}

function bytesOf(value: Exclude<Interpolation, number | bigint | string>): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if ("bytes" in value) return value.bytes;
  const odd = value.find((byte) => !Number.isInteger(byte) || byte < -128 || byte > 255);
  if (odd !== undefined) throw new RangeError(`Cannot interpolate ${odd} as a byte: bytes are -128 to 255`);
  return Uint8Array.from(value);
}

/** Source text of a template as its author sees it: only the escapes that a template literal itself demands are undone. */
function sourceText(raw: string): string {
  return raw.replace(/\\(`|\$\{)/g, "$1");
}

function interpolate(
  strings: TemplateStringsArray,
  values: readonly Interpolation[],
): { source: string; blobs: Uint8Array[] } {
  const blobs: Uint8Array[] = [];
  let source = sourceText(strings.raw[0]!);
  values.forEach((value, i) => {
    if (typeof value === "number") source += numberText(value);
    else if (typeof value === "bigint") source += String(value);
    else if (typeof value === "string") source += value;
    else if (typeof value === "object" && value !== null)
      source += `${BLOB_START}${blobs.push(bytesOf(value)) - 1}${BLOB_END}`;
    else throw new TypeError(`Cannot interpolate a value of type ${typeof value} into assembly`);
    source += sourceText(strings.raw[i + 1]!);
  });
  return { source, blobs };
}

function tag(options: AssembleOptions): AsmTag {
  return (strings, ...values) => {
    const { source, blobs } = interpolate(strings, values);
    return assemble(source, { file: "<asm>", ...options, blobs });
  };
}

/** `asm({ bits, origin })` makes a tag; the three properties are the usual ones. */
export interface Asm {
  (options: AssembleOptions): AsmTag;
  /** 16-bit code at 0x1000. */
  readonly real16: AsmTag;
  /** 32-bit code at 0x1000. */
  readonly prot32: AsmTag;
  /** 64-bit code at 0x1000. */
  readonly long64: AsmTag;
}

/**
 * Assembles NASM syntax in a template.
 *
 * ```ts
 * const { bytes } = asm.real16`
 *     mov al, ${"A".charCodeAt(0)}
 *     out 0xe9, al
 *     hlt
 * `;
 * ```
 *
 * @throws {AsmError} with every error in the text.
 */
export const asm: Asm = Object.assign((options: AssembleOptions) => tag({ origin: DEFAULT_ORIGIN, ...options }), {
  real16: tag({ bits: 16, origin: DEFAULT_ORIGIN }),
  prot32: tag({ bits: 32, origin: DEFAULT_ORIGIN }),
  long64: tag({ bits: 64, origin: DEFAULT_ORIGIN }),
});
