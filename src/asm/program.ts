import type { Diagnostic } from "./diagnostics.ts";
import type { Bits } from "./forms.ts";
import type { SourceMap } from "./sourcemap.ts";

/** An assembled program. */
export interface Program {
  /** The mode the source began in. */
  readonly bits: Bits;
  /** Address of the first byte. ORG in the upper half of the 64-bit space makes it negative: 0xffffffff80000000 is -0x80000000. */
  readonly origin: number;
  /** What to load at `origin`: initialised sections, gaps zero-filled. */
  readonly bytes: Uint8Array;
  /** Bytes from `origin` to the end of the last section, uninitialised ones included; at least `bytes.length`. */
  readonly memoryBytes: number;
  /**
   * Every label and EQU by its full name (`start.loop` for a local label), as an unsigned 64-bit number: a bigint, like the registers
   * that will hold it. Names that macros made up (`..@1.x`) are left out.
   */
  readonly symbols: ReadonlyMap<string, bigint>;
  /** Which source line each address came from. */
  readonly sourceMap: SourceMap;
  /** What looked doubtful and was assembled all the same. */
  readonly warnings: readonly Diagnostic[];
  /** Line number, address, bytes and source of every line. */
  listing(): string;
}
