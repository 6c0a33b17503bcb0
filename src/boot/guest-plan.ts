import { GuestError } from "../errors.ts";
import type { GprName } from "../registers.ts";
import type { Mode } from "./mode.ts";
import type { PageMapping } from "./page-tables.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

export const hex = (value: number | bigint) => `0x${value.toString(16)}`;

/** A piece of guest memory that a guest brings along. */
export interface GuestSegment {
  /** For people: `segment 1 (r-x)`, `module 0`. */
  readonly what: string;
  /** The file's field that decides where it goes, e.g. `p_paddr`. */
  readonly field: string;
  /** Guest-physical start in bytes. */
  readonly gpa: number;
  /** What to write there. */
  readonly data: Uint8Array;
  /** Bytes occupied: those behind `data` become zero. */
  readonly bytes: number;
}

/** A name for an address, for traces and crash screens. */
export interface GuestSymbol {
  readonly name: string;
  readonly address: bigint;
  /** 0 when the file does not say. */
  readonly bytes: number;
  readonly kind: "function" | "object" | "label";
}

/** How to start a guest: what to put where, and in which state to enter it. */
export interface GuestPlan {
  readonly file: string;
  readonly format: GuestFormat;
  readonly segments: readonly GuestSegment[];
  readonly mode: Mode;
  /** Linear address of the first instruction. */
  readonly entry: bigint;
  /** Linear address of the initial stack, when the format sets one. */
  readonly stack?: number;
  /** Value of the segment registers in real mode, when the format sets one. */
  readonly realSegment?: number;
  /** Registers that the format hands to the guest. */
  readonly gprs: Partial<Readonly<Record<GprName, bigint>>>;
  /** Linear addresses to map beside the identity mapping, for an ELF64 file linked elsewhere than loaded. */
  readonly map: readonly PageMapping[];
  /** Sorted by address. */
  readonly symbols: readonly GuestSymbol[];
}

export type GuestFormat = "flat" | "boot-sector" | "com" | "elf32" | "elf64" | "multiboot";

/** What every loader is told. */
export interface LoadOptions {
  /** The path, or what stands for it in messages. */
  readonly file: string;
  /** Guest memory in bytes, from address 0. */
  readonly memoryBytes: number;
  /** Default: by content, and `.com` by name. `elf` and `multiboot` insist on one, `flat` takes the bytes as they are. */
  readonly format?: "flat" | "boot-sector" | "com" | "elf" | "multiboot";
  /** Default: what the format starts in; `real16` for flat files. */
  readonly mode?: Mode;
  /** `flat`: where the file goes. Default 0x1000. The other formats say it themselves. */
  readonly loadAddress?: number;
  /** Linear address to start at instead of the file's own. */
  readonly entry?: number | bigint;
  /**
   * ELF: load by `p_paddr` or `p_vaddr`. Default `p_paddr`, as GRUB and QEMU do, unless it is 0 in every segment while
   * `p_vaddr` is not (some linkers leave it out).
   */
  readonly addresses?: "physical" | "virtual";
  /** Multiboot's command line; the tail in a .com file's PSP. */
  readonly commandLine?: string;
  /** Multiboot's modules. */
  readonly modules?: readonly GuestModule[];
}

/** A file that Multiboot hands to the guest beside the kernel. */
export interface GuestModule {
  readonly file: string;
  readonly bytes: Uint8Array;
  /** Default: `file`. */
  readonly commandLine?: string;
}

/**
 * Checks that segments lie in memory and apart from each other.
 * @throws {GuestError} naming the segment and its field.
 */
export function checkSegments(file: string, segments: readonly GuestSegment[], memoryBytes: number): void {
  for (const { what, field, gpa, bytes } of segments) {
    if (gpa + bytes <= memoryBytes) continue;
    throw new GuestError(
      file,
      `Cannot load "${file}" as its ${what} needs ${hex(gpa)} to ${hex(gpa + bytes)} and memory ends at ${hex(memoryBytes)}`,
      { remedy: "give the guest more memory or link it lower", field },
    );
  }
  const sorted = segments.filter(({ bytes }) => bytes > 0).toSorted((a, b) => a.gpa - b.gpa);
  for (const [index, next] of sorted.entries()) {
    const last = sorted[index - 1];
    if (!last || last.gpa + last.bytes <= next.gpa) continue;
    throw new GuestError(
      file,
      `Cannot load "${file}" as its ${next.what} at ${hex(next.gpa)} overlaps its ${last.what}`,
      {
        remedy: "link or place them apart",
        field: next.field,
      },
    );
  }
}

const ZEROS = new Uint8Array(0x10000);

function writeZeros(memory: PhysicalMemory, from: number, to: number): void {
  for (let at = from; at < to; at += ZEROS.length) memory.write(at, ZEROS.subarray(0, Math.min(ZEROS.length, to - at)));
}

/**
 * Writes a guest's segments into memory, zeros where they are longer than their data.
 * @throws {GuestError} when no memory backs a segment; nothing is written then.
 */
export function placeGuest(plan: GuestPlan, memory: PhysicalMemory): void {
  for (const { what, field, gpa, bytes } of plan.segments) {
    if (bytes === 0 || memory.has(gpa, bytes)) continue;
    throw new GuestError(
      plan.file,
      `Cannot place the ${what} of "${plan.file}" at ${hex(gpa)} to ${hex(gpa + bytes)}: no memory backs all of it`,
      { remedy: "add memory there or load the guest elsewhere", field },
    );
  }
  for (const { gpa, data, bytes } of plan.segments) {
    memory.write(gpa, data);
    writeZeros(memory, gpa + data.length, gpa + bytes);
  }
}

/** A range of guest-physical memory. */
export interface Extent {
  readonly gpa: number;
  readonly bytes: number;
}

/** The lowest page-aligned place for `bytes` at or above `from` that meets none of `taken` and ends below `to`. */
export function findFree(
  bytes: number,
  taken: readonly Extent[],
  range: { from: number; to: number },
): number | undefined {
  const alignUp = (address: number) => Math.ceil(address / 4096) * 4096;
  let at = alignUp(range.from);
  for (const { gpa, bytes: length } of taken.toSorted((a, b) => a.gpa - b.gpa)) {
    if (at + bytes <= gpa) break;
    at = Math.max(at, alignUp(gpa + length));
  }
  return at + bytes <= range.to ? at : undefined;
}

/** The symbol that `address` lies in or behind, and how far. Bounded by the symbol's size when it has one. */
export function findSymbol(
  symbols: readonly GuestSymbol[],
  address: bigint,
): { symbol: GuestSymbol; offset: bigint } | undefined {
  let low = 0;
  let high = symbols.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (symbols[middle]!.address <= address) low = middle + 1;
    else high = middle;
  }
  const symbol = symbols[low - 1];
  if (!symbol) return undefined;
  const offset = address - symbol.address;
  return symbol.bytes > 0 && offset >= BigInt(symbol.bytes) ? undefined : { symbol, offset };
}
