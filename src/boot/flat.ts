import { GuestError } from "../errors.ts";
import { checkSegments, type GuestPlan, type GuestSegment, type LoadOptions } from "./guest-plan.ts";
import { DEFAULT_ENTRY } from "./mode.ts";

/** Where a BIOS loads a boot sector. */
export const BOOT_SECTOR_ADDRESS = 0x7c00;
function segment(gpa: number, bytes: Uint8Array): GuestSegment {
  return { what: "image", field: "loadAddress", gpa, data: bytes, bytes: bytes.length };
}

/** @throws {GuestError} for a file without a byte. */
export function refuseEmpty(bytes: Uint8Array, { file }: LoadOptions): void {
  if (bytes.length > 0) return;
  throw new GuestError(file, `Cannot load "${file}" as it is empty`, { remedy: "give a file with code in it" });
}

/** A binary without any header: at `loadAddress`, entered at its first byte. */
export function loadFlat(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  refuseEmpty(bytes, options);
  const gpa = options.loadAddress ?? DEFAULT_ENTRY;
  if (!(Number.isSafeInteger(gpa) && gpa >= 0)) {
    throw new RangeError(`Cannot load at ${gpa}: the load address is a guest-physical address`);
  }
  const segments = [segment(gpa, bytes)];
  checkSegments(options.file, segments, options.memoryBytes);
  return {
    file: options.file,
    format: "flat",
    segments,
    mode: options.mode ?? "real16",
    entry: BigInt(options.entry ?? gpa),
    gprs: {},
    map: [],
    symbols: [],
  };
}

/** A boot sector as a BIOS starts it: at 0:0x7c00, the stack below, DL the first hard disk. */
export function loadBootSector(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  const plan = loadFlat(bytes, { ...options, loadAddress: BOOT_SECTOR_ADDRESS });
  return { ...plan, format: "boot-sector", stack: BOOT_SECTOR_ADDRESS, gprs: { rdx: 0x80n } };
}
