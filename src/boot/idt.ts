import type { DescriptorTable } from "../registers.ts";

/** An IDT ready to be written to guest memory. */
export interface Idt {
  readonly bytes: Uint8Array;
  /** What to load into IDTR when the table lies at `base`. */
  at(base: number | bigint): DescriptorTable;
}

function build(entryBytes: number, count: number, entries: Iterable<[number, Uint8Array]>): Idt {
  const bytes = new Uint8Array(entryBytes * count);
  for (const [vector, entry] of entries) {
    if (!(Number.isInteger(vector) && vector >= 0 && vector < count)) {
      throw new RangeError(`Cannot set vector ${vector}: the table has 0 to ${count - 1}`);
    }
    if (entry.length !== entryBytes) {
      throw new RangeError(
        `Cannot set vector ${vector} to a gate of ${entry.length} bytes: this IDT has ${entryBytes}`,
      );
    }
    bytes.set(entry, vector * entryBytes);
  }
  return { bytes, at: (base) => ({ base: BigInt(base), limit: bytes.length - 1 }) };
}

const numbered = <T>(record: Readonly<Record<number, T>>): [number, T][] =>
  Object.entries(record).map(([vector, value]) => [Number(vector), value]);

/**
 * A protected-mode (8 bytes per gate) or long-mode (16 bytes) IDT. Vectors not given are not present: using one raises
 * #NP, or ends in a double fault.
 *
 * @param gates By vector; see `interruptGate`, `trapGate`, `taskGate`.
 * @see Intel SDM Vol. 3A, "Interrupt Descriptor Table (IDT)"
 */
export function buildIdt(
  gates: Readonly<Record<number, Uint8Array>>,
  options: { bits: 16 | 32 | 64; vectors?: number },
): Idt {
  return build(options.bits === 64 ? 16 : 8, options.vectors ?? 256, numbered(gates));
}

/**
 * The real-mode interrupt vector table: 4 bytes per vector, offset then segment.
 * @see Intel SDM Vol. 3B, "Interrupt and Exception Handling" of 8086 emulation
 */
export function buildIvt(
  handlers: Readonly<Record<number, { segment: number; offset: number }>>,
  options: { vectors?: number } = {},
): Idt {
  const entries = numbered(handlers).map(([vector, { segment, offset }]): [number, Uint8Array] => [
    vector,
    Uint8Array.of(offset & 0xff, offset >>> 8, segment & 0xff, segment >>> 8),
  ]);
  return build(4, options.vectors ?? 256, entries);
}
