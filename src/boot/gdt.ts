import type { DescriptorTable, Segment } from "../registers.ts";
import { encodeDescriptor } from "./descriptor.ts";

/** A GDT (or LDT) ready to be written to guest memory. */
export interface Gdt<Name extends string> {
  readonly bytes: Uint8Array;
  /** Selector of every entry with RPL = its DPL, ready for a segment register. */
  readonly selectors: Readonly<Record<Name, number>>;
  /** What to load into GDTR when the table lies at `base`. */
  at(base: number | bigint): DescriptorTable;
}

/** One entry: a segment, a ready-made gate of 8 or 16 bytes, or undefined for a null descriptor that keeps the place. */
export type GdtEntry = Segment | Uint8Array | undefined;

function encodeEntry(entry: GdtEntry, bits: 16 | 32 | 64): Uint8Array {
  if (entry === undefined) return new Uint8Array(8);
  if (entry instanceof Uint8Array) return entry;
  return encodeDescriptor(entry, { wide: bits === 64 && entry.s === 0 });
}

function dplOf(bytes: Uint8Array): number {
  return (bytes[5]! >>> 5) & 3;
}

/**
 * A GDT with its null descriptor first and `entries` behind it in the order given. System descriptors take two places
 * when `bits` is 64.
 *
 * @throws {RangeError} when there are more than 8191 places.
 * @see Intel SDM Vol. 3A, "Segment Descriptor Tables"
 */
export function buildGdt<Name extends string>(
  entries: Readonly<Record<Name, GdtEntry>>,
  options: { bits?: 16 | 32 | 64 } = {},
): Gdt<Name> {
  const parts: Uint8Array[] = [new Uint8Array(8)];
  const selectors: Record<string, number> = {};
  let end = 8;
  for (const [name, entry] of Object.entries<GdtEntry>(entries)) {
    const part = encodeEntry(entry, options.bits ?? 32);
    selectors[name] = end | dplOf(part);
    parts.push(part);
    end += part.length;
  }
  if (end > 0x10000) throw new RangeError(`Cannot build a GDT of ${end / 8} places: a selector reaches 8192`);
  const bytes = new Uint8Array(Buffer.concat(parts));
  return {
    bytes,
    selectors: selectors as Record<Name, number>,
    at: (base) => ({ base: BigInt(base), limit: bytes.length - 1 }),
  };
}
