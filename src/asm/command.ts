import { readFileSync } from "node:fs";
import { GuestError } from "../errors.ts";
import { assemble } from "./assemble.ts";
import { AsmError, formatDiagnostic } from "./diagnostics.ts";
import type { Bits } from "./forms.ts";
import { parseInteger } from "./literals.ts";
import type { Program } from "./program.ts";

/** What `vmexit asm` wants done: the caller prints, writes the files and exits. */
export interface AsmCommandResult {
  readonly exitCode: 0 | 1 | 2;
  readonly stdout: string;
  readonly stderr: string;
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
}

export const ASM_USAGE = `Usage: vmexit asm FILE [-o FILE.bin] [--listing] [--symbols] [options]

Assembles NASM syntax into a flat binary.

  -o, --output FILE    write the bytes there; FILE with .bin unless --listing or --symbols is given
      --listing        print addresses, bytes and source
      --symbols        print every symbol with its value
  -f, --bits 16|32|64  mode the source begins in (16)
      --origin ADDRESS address of the first byte unless org says otherwise (0)
  -I, --include DIR    look for %include and incbin files there, too
  -D, --define NAME[=VALUE]
`;

interface Arguments {
  readonly file: string;
  readonly output: string | undefined;
  readonly listing: boolean;
  readonly symbols: boolean;
  readonly bits: Bits;
  readonly origin: number;
  readonly includePaths: string[];
  readonly defines: Record<string, string>;
}

/** A command line that makes no sense. */
class UsageError extends Error {
  override name = "UsageError";
}

const SHORT: ReadonlyMap<string, string> = new Map([
  ["-o", "--output"],
  ["-f", "--bits"],
  ["-I", "--include"],
  ["-i", "--include"],
  ["-D", "--define"],
  ["-d", "--define"],
]);

/** Splits `-Ipath`, `--bits=32` and `-o file` into an option and its value. */
function* options(args: readonly string[]): Generator<readonly [name: string, value: () => string]> {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const next = () => {
      const value = args[++i];
      if (value === undefined) throw new UsageError(`Option ${arg} needs a value`);
      return value;
    };
    if (!arg.startsWith("-") || arg === "-") yield ["", () => arg];
    else if (arg.startsWith("--")) {
      const equals = arg.indexOf("=");
      yield equals < 0 ? [arg, next] : [arg.slice(0, equals), () => arg.slice(equals + 1)];
    } else {
      const long = SHORT.get(arg.slice(0, 2));
      if (long === undefined) throw new UsageError(`Unknown option "${arg}"`);
      yield arg.length === 2 ? [long, next] : [long, () => arg.slice(2)];
    }
  }
}

function number(text: string, what: string): number {
  const value = /^[0-9$]/.test(text) ? parseInteger(text) : undefined;
  if (typeof value !== "number" || value < 0) throw new UsageError(`Cannot read "${text}" as ${what}`);
  return value;
}

function parseArguments(args: readonly string[]): Arguments {
  const found = {
    file: "",
    output: undefined as string | undefined,
    listing: false,
    symbols: false,
    bits: 16 as Bits,
    origin: 0,
    includePaths: [] as string[],
    defines: {} as Record<string, string>,
  };
  for (const [name, value] of options(args)) {
    switch (name) {
      case "":
        if (found.file !== "") throw new UsageError("Give one file");
        found.file = value();
        break;
      case "--output":
        found.output = value();
        break;
      case "--listing":
      case "--symbols":
        found[name === "--listing" ? "listing" : "symbols"] = true;
        break;
      case "--bits": {
        const bits = number(value(), "a mode");
        if (bits !== 16 && bits !== 32 && bits !== 64) throw new UsageError("The modes are 16, 32 and 64");
        found.bits = bits;
        break;
      }
      case "--origin":
        found.origin = number(value(), "an address");
        break;
      case "--include":
        found.includePaths.push(value());
        break;
      case "--define": {
        const [macro = "", ...rest] = value().split("=");
        found.defines[macro] = rest.length === 0 ? "1" : rest.join("=");
        break;
      }
      default:
        throw new UsageError(`Unknown option "${name}"`);
    }
  }
  if (found.file === "") throw new UsageError("Give the file to assemble");
  return found;
}

function symbolTable({ symbols }: Program): string {
  const rows = [...symbols].sort((a, b) => (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0));
  return rows.map(([name, value]) => `${value.toString(16).toUpperCase().padStart(16, "0")} ${name}\n`).join("");
}

function outputs(args: Arguments, program: Program): AsmCommandResult["files"] {
  const silent = args.output === undefined && (args.listing || args.symbols);
  if (silent) return [];
  const path = args.output ?? (args.file.replace(/\.(asm|s|nasm)$/i, "") || args.file);
  return [{ path: args.output ?? `${path}.bin`, bytes: program.bytes }];
}

/** @throws {GuestError} when the source cannot be read. */
function readSource(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const { code } = cause as { code?: string };
    const why = code === "ENOENT" ? "there is no such file" : `the system returned ${code}`;
    throw new GuestError(file, `Cannot read "${file}" as ${why}`, { remedy: "check the path", cause });
  }
}

/**
 * Carries out `vmexit asm` without touching anything but the sources: what to print and to write comes back.
 *
 * @param args Command line behind `asm`.
 * @throws {GuestError} when the source cannot be read.
 */
export function runAsmCommand(args: readonly string[]): AsmCommandResult {
  if (args.includes("--help") || args.includes("-h")) return { exitCode: 0, stdout: ASM_USAGE, stderr: "", files: [] };
  try {
    const parsed = parseArguments(args);
    const { file, bits, origin, includePaths, defines } = parsed;
    const program = assemble(readSource(file), { file, bits, origin, includePaths, defines });
    const stdout = (parsed.listing ? program.listing() : "") + (parsed.symbols ? symbolTable(program) : "");
    const stderr = program.warnings.map((warning) => `${formatDiagnostic(warning)}\n`).join("");
    return { exitCode: 0, stdout, stderr, files: outputs(parsed, program) };
  } catch (error) {
    if (error instanceof UsageError)
      return { exitCode: 2, stdout: "", stderr: `${error.message}\n\n${ASM_USAGE}`, files: [] };
    if (error instanceof AsmError) {
      return { exitCode: 1, stdout: "", stderr: `${error.diagnostics.map(formatDiagnostic).join("\n")}\n`, files: [] };
    }
    throw error;
  }
}
