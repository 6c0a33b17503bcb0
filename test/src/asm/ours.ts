import type { Bits } from "../../../src/asm/index.ts";
import { AsmError, assemble } from "../../../src/asm/index.ts";

/** Assembles many independent lines in one go, dropping those that do not assemble: the bytes of each, or the message. */
export function ours(lines: readonly string[], bits: Bits): (Uint8Array | string)[] {
  const refused = new Map<number, string>();
  for (;;) {
    const source = lines.map((line, i) => (refused.has(i) ? ";" : line)).join("\n");
    try {
      const program = assemble(source, { bits, limits: { errors: lines.length + 1 } });
      const found: (Uint8Array | string)[] = lines.map((_, i) => refused.get(i) ?? new Uint8Array(0));
      for (const range of program.sourceMap.ranges) {
        found[range.line - 1] = program.bytes.subarray(range.address, range.address + range.size);
      }
      return found;
    } catch (error) {
      if (!(error instanceof AsmError)) throw error;
      for (const { line, message } of error.diagnostics) refused.set(line - 1, message);
    }
  }
}
