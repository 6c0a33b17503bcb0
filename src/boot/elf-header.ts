import type { GuestFile } from "./guest-file.ts";

const MACHINES = { 3: "i386", 62: "x86-64" } as Readonly<Record<number, string>>;
const TYPES = ["none", "a relocatable object", "an executable", "a shared object or PIE", "a core dump"];

/** What the ELF header says, in numbers. */
export interface ElfHeader {
  readonly wide: boolean;
  readonly entry: bigint;
  readonly phoff: number;
  readonly phentsize: number;
  readonly phnum: number;
  readonly shoff: number;
  readonly shentsize: number;
  readonly shnum: number;
}

function checkIdent(file: GuestFile): boolean {
  const kind = file.u8(4, "EI_CLASS");
  if (kind !== 1 && kind !== 2) throw file.bad("EI_CLASS", `EI_CLASS is ${kind}, neither 1 (32-bit) nor 2 (64-bit)`);
  const data = file.u8(5, "EI_DATA");
  if (data !== 1) throw file.bad("EI_DATA", `EI_DATA is ${data}: x86 is little-endian (1)`);
  const version = file.u8(6, "EI_VERSION");
  if (version !== 1) throw file.bad("EI_VERSION", `EI_VERSION is ${version} and not 1`);
  return kind === 2;
}

function checkKind(file: GuestFile, wide: boolean): void {
  const type = file.u16(16, "e_type");
  if (type !== 2) {
    const remedy = "link it as an executable at a fixed address, e.g. with ld -no-pie -Ttext";
    throw file.bad("e_type", `e_type is ${type}: ${TYPES[type] ?? "nothing known"}, not an executable`, remedy);
  }
  const machine = file.u16(18, "e_machine");
  if (machine !== (wide ? 62 : 3)) {
    const name = MACHINES[machine] ?? "another processor";
    throw file.bad(
      "e_machine",
      `e_machine is ${machine} (${name}) in a ${wide ? 64 : 32}-bit file`,
      "build it for i386 or x86-64",
    );
  }
}

/** @throws {GuestError} for a file that is no ELF executable of i386 or x86-64. */
export function readElfHeader(file: GuestFile): ElfHeader {
  const wide = checkIdent(file);
  checkKind(file, wide);
  // Offsets part ways behind e_version, where 64-bit files hold wider e_entry, e_phoff and e_shoff.
  const tail = wide ? 52 : 40;
  return {
    wide,
    entry: wide ? file.u64(24, "e_entry") : BigInt(file.u32(24, "e_entry")),
    phoff: wide ? file.size64(32, "e_phoff") : file.u32(28, "e_phoff"),
    shoff: wide ? file.size64(40, "e_shoff") : file.u32(32, "e_shoff"),
    phentsize: file.u16(tail + 2, "e_phentsize"),
    phnum: file.u16(tail + 4, "e_phnum"),
    shentsize: file.u16(tail + 6, "e_shentsize"),
    shnum: file.u16(tail + 8, "e_shnum"),
  };
}
