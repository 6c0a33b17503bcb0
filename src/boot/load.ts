import { findMultibootHeader, isBootSector, isElf } from "./detect.ts";
import { loadBootSector, loadFlat } from "./flat.ts";
import type { GuestPlan, LoadOptions } from "./guest-plan.ts";

function formatOf(bytes: Uint8Array, options: LoadOptions): NonNullable<LoadOptions["format"]> {
  if (options.format) return options.format;
  if (findMultibootHeader(bytes)) return "multiboot";
  if (isElf(bytes)) return "elf";
  // An address or a mode is a wish that only a flat file can follow.
  if (options.loadAddress !== undefined || options.mode !== undefined) return "flat";
  if (isBootSector(bytes)) return "boot-sector";
  return options.file.toLowerCase().endsWith(".com") ? "com" : "flat";
}

/**
 * Works out how to start a guest file: what goes where in memory, and the mode and registers to enter it with.
 *
 * Chosen by content, first match: a Multiboot header with a right checksum, the ELF magic, a 512-byte boot sector, a name
 * that ends in `.com`; anything else is a flat binary at `loadAddress` (0x1000) in 16-bit real mode.
 *
 * @throws {GuestError} when the file cannot be used; `field` names what is wrong with it.
 */
export function loadGuest(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  switch (formatOf(bytes, options)) {
    case "multiboot":
      return (require("./multiboot.ts") as typeof import("./multiboot.ts")).loadMultiboot(bytes, options);
    case "elf":
      return (require("./elf.ts") as typeof import("./elf.ts")).loadElf(bytes, options);
    case "boot-sector":
      return loadBootSector(bytes, options);
    case "com":
      return (require("./com.ts") as typeof import("./com.ts")).loadCom(bytes, options);
    case "flat":
      return loadFlat(bytes, options);
  }
}
