import { MemoryError } from "../errors.ts";

/**
 * Guest-physical memory as the boot code and the page walk need it. `GuestMemory` of any backend fits it as it is, and so
 * does a dump through `arrayMemory()`.
 */
export interface PhysicalMemory {
  /** One past the highest backed address. */
  readonly end: number;
  /** Whether memory backs the whole range. */
  has(gpa: number, bytes: number): boolean;
  /** `bytes` bytes at guest-physical address `gpa`. @throws {MemoryError} when no memory backs the whole range. */
  read(gpa: number, bytes: number): Uint8Array;
  /** @throws {MemoryError} when no memory backs the whole range. */
  write(gpa: number, data: Uint8Array): void;
}

/** An array as guest-physical memory from address 0, for tables built ahead, dumps and tests. Reads are views. */
export function arrayMemory(backing: number | Uint8Array): PhysicalMemory & { readonly bytes: Uint8Array } {
  const bytes = typeof backing === "number" ? new Uint8Array(backing) : backing;
  const has = (gpa: number, count: number) => Number.isInteger(gpa) && gpa >= 0 && gpa + count <= bytes.length;
  function slice(verb: string, gpa: number, count: number): Uint8Array {
    if (!has(gpa, count)) {
      throw new MemoryError(
        `Cannot ${verb} ${count} bytes at 0x${gpa.toString(16)} of a memory of 0x${bytes.length.toString(16)} bytes`,
        { gpa, bytes: count },
        { remedy: "use an address inside the memory" },
      );
    }
    return bytes.subarray(gpa, gpa + count);
  }
  return {
    bytes,
    end: bytes.length,
    has,
    read: (gpa, count) => slice("read", gpa, count),
    write: (gpa, data) => slice("write", gpa, data.length).set(data),
  };
}
