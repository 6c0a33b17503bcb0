import type { SourceLine } from "./source.ts";

/** Bytes that one line of source became. */
export interface SourceRange {
  /** Address of the first byte; negative in the upper half of the 64-bit space, as `Program.origin`. */
  readonly address: number;
  /** Length in bytes, at least 1. */
  readonly size: number;
  readonly file: string;
  /** 1-based; of a macro's bytes, the line that used the macro. */
  readonly line: number;
  /** The line's text. */
  readonly text: string;
}

/** Maps addresses to source lines, for traces, crash screens and errors. */
export class SourceMap {
  /** In ascending order of addresses. */
  readonly ranges: readonly SourceRange[];

  constructor(ranges: readonly SourceRange[]) {
    this.ranges = [...ranges].sort((a, b) => a.address - b.address);
  }

  /** The range that holds an address, or nothing where no source line put anything. */
  at(address: number | bigint): SourceRange | undefined {
    const wanted = typeof address === "bigint" ? Number(BigInt.asIntN(64, address)) : address;
    let low = 0;
    let high = this.ranges.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const range = this.ranges[middle]!;
      if (wanted < range.address) high = middle - 1;
      else if (wanted >= range.address + range.size) low = middle + 1;
      else return range;
    }
    return undefined;
  }

  /** Addresses where a line's bytes begin, for breakpoints by line. */
  addressesOf(file: string, line: number): number[] {
    return this.ranges.filter((range) => range.file === file && range.line === line).map(({ address }) => address);
  }
}

/** A range that a line emitted, before the map is built. */
export function rangeOf(line: SourceLine, address: number, size: number): SourceRange {
  return { address, size, file: line.file, line: line.number, text: line.text };
}
