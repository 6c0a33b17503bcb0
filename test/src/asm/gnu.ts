import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The second oracle's path, or nothing on a host without it. */
export const gnuAs = Bun.which("as") ?? undefined;

const POINTERS: Readonly<Record<string, string>> = {
  byte: "byte ptr",
  word: "word ptr",
  dword: "dword ptr",
  qword: "qword ptr",
  tword: "tbyte ptr",
  oword: "xmmword ptr",
  yword: "ymmword ptr",
  zword: "zmmword ptr",
};

/** Rewrites a NASM line for GNU as in Intel syntax. */
function translate(line: string): string {
  return line
    .replace(/\b([bwdqtoyz]\w*) (?=\[)/g, (whole, size: string) => (POINTERS[size] ? `${POINTERS[size]} ` : whole))
    .replace(/\[(\w\w):/g, "$1:[")
    .replace(/\[rel /, "[")
    .replace(/\bstrict \w+ /, "")
    .replace(/, \{(r.-sae|sae)\}, (.*)$/, ", {$1}, $2");
}

/** Assembles many independent lines in one run, dropping those GNU as refuses: the bytes of each, or its words. */
export function gnuLines(lines: readonly string[], bits: 16 | 32 | 64): (Uint8Array | string)[] {
  const directory = mkdtempSync(join(tmpdir(), "vmexit-gas-"));
  const refused = new Map<number, string>();
  try {
    const [input, output] = [join(directory, "in.s"), join(directory, "out.o")];
    for (;;) {
      const kept = lines.map((line, i) => (refused.has(i) ? "" : translate(line)));
      writeFileSync(input, `.intel_syntax noprefix\n.code${bits}\n${kept.join("\n")}\n`);
      const run = Bun.spawnSync([
        gnuAs!,
        bits === 64 ? "--64" : "--32",
        "-aln",
        "--listing-lhs-width=4",
        "-o",
        output,
        input,
      ]);
      const before = refused.size;
      for (const row of run.stderr.toString().split("\n")) {
        const parts = /:(\d+): Error: (.*)$/.exec(row);
        if (parts) refused.set(Number(parts[1]) - 3, parts[2]!);
      }
      if (refused.size > before) continue;
      const hex = new Map<number, string>();
      for (const row of run.stdout.toString().split("\n")) {
        const parts = /^ *(\d+) (?:[0-9a-f]{4} | {5})([0-9A-F ]+?)(?:\t|$)/.exec(row);
        if (parts) hex.set(Number(parts[1]), (hex.get(Number(parts[1])) ?? "") + parts[2]!.replaceAll(" ", ""));
      }
      return lines.map((_, i) => refused.get(i) ?? Uint8Array.fromHex(hex.get(i + 3) ?? ""));
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}
