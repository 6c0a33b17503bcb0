import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The oracle's path, or nothing on a host without it. */
export const nasm = Bun.which("nasm") ?? undefined;

/** What NASM made of a source. */
export interface NasmResult {
  readonly bytes: Uint8Array | undefined;
  /** Line numbers that NASM refused, with its words. */
  readonly errors: ReadonlyMap<number, string>;
  /** Offset of the first byte of each line that has any. */
  readonly offsets: ReadonlyMap<number, number>;
}

/** Runs NASM over a source text in flat format. */
export function runNasm(source: string, options: { listing?: boolean; directory?: string } = {}): NasmResult {
  const directory = mkdtempSync(join(tmpdir(), "vmexit-nasm-"));
  try {
    const [input, output, listing] = ["in.asm", "out.bin", "out.lst"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(input, source);
    const include = options.directory === undefined ? [] : ["-i", `${options.directory}/`];
    const wanted = options.listing ? ["-l", listing] : [];
    const run = Bun.spawnSync([nasm!, "-w-all", "-f", "bin", "-o", output, ...wanted, ...include, input]);
    const errors = new Map<number, string>();
    for (const line of run.stderr.toString().split("\n")) {
      const parts = /:(\d+): (?:error: |fatal: |panic: )?(.*)$/.exec(line);
      if (parts && !errors.has(Number(parts[1]))) errors.set(Number(parts[1]), parts[2]!);
    }
    if (run.exitCode !== 0) {
      if (errors.size === 0) errors.set(0, run.stderr.toString());
      return { bytes: undefined, errors, offsets: new Map() };
    }
    return {
      bytes: new Uint8Array(readFileSync(output)),
      errors,
      offsets: options.listing ? readOffsets(readFileSync(listing, "latin1")) : new Map(),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function readOffsets(listing: string): Map<number, number> {
  const offsets = new Map<number, number>();
  for (const row of listing.split("\n")) {
    const parts = /^ *(\d+) ([0-9A-F]{8}) /.exec(row);
    if (parts && !offsets.has(Number(parts[1]))) offsets.set(Number(parts[1]), Number.parseInt(parts[2]!, 16));
  }
  return offsets;
}

/** Assembles many independent lines in one run, dropping those NASM refuses: the bytes of each, or its words. */
export function nasmLines(lines: readonly string[], head: string): (Uint8Array | string)[] {
  const refused = new Map<number, string>();
  for (;;) {
    const kept = lines.map((line, i) => (refused.has(i) ? ";" : line));
    const result = runNasm(`${head}\n${kept.join("\n")}\n`, { listing: true });
    for (const [line, message] of result.errors) refused.set(line - 2, message);
    if (!result.bytes) {
      if (refused.has(-2)) throw new Error(refused.get(-2));
      continue;
    }
    const starts = [...result.offsets].sort((a, b) => a[0] - b[0]);
    const found: (Uint8Array | string)[] = lines.map((_, i) => refused.get(i) ?? new Uint8Array(0));
    starts.forEach(([line, offset], k) => {
      found[line - 2] = result.bytes!.subarray(offset, starts[k + 1]?.[1] ?? result.bytes!.length);
    });
    return found;
  }
}
