import { isElf } from "./detect.ts";
import { type ElfHeader, readElfHeader } from "./elf-header.ts";
import { readSymbols } from "./elf-symbols.ts";
import { GuestFile } from "./guest-file.ts";
import { checkSegments, type GuestPlan, type GuestSegment, hex, type LoadOptions } from "./guest-plan.ts";
import type { PageMapping } from "./page-tables.ts";

/**
 * ELF executables for i386 and x86-64.
 * @see System V ABI, "Object Files" (gABI 4.1) and the i386 and x86-64 supplements
 */

const PT_LOAD = 1;
const PT_INTERP = 3;
/** One PT_LOAD program header. */
interface LoadHeader {
  readonly index: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: number;
  readonly filesz: number;
  readonly memsz: number;
}

function checkProgramTable(file: GuestFile, { wide, phoff, phentsize, phnum }: ElfHeader): void {
  const expected = wide ? 56 : 32;
  if (phnum === 0) throw file.bad("e_phnum", "e_phnum is 0: nothing says what to load", "link it with program headers");
  if (phentsize !== expected) throw file.bad("e_phentsize", `e_phentsize is ${phentsize} and not ${expected}`);
  if (phoff + phnum * phentsize > file.length) {
    throw file.bad(
      "e_phoff",
      `e_phoff (${hex(phoff)}) and e_phnum (${phnum}) place program headers behind the file's end at ${hex(file.length)}`,
    );
  }
}

function readLoadHeader(file: GuestFile, header: ElfHeader, index: number): LoadHeader {
  const at = header.phoff + index * header.phentsize;
  const name = (field: string) => `${field} of program header ${index}`;
  if (header.wide) {
    return {
      index,
      flags: file.u32(at + 4, name("p_flags")),
      offset: file.size64(at + 8, name("p_offset")),
      vaddr: file.u64(at + 16, name("p_vaddr")),
      paddr: file.size64(at + 24, name("p_paddr")),
      filesz: file.size64(at + 32, name("p_filesz")),
      memsz: file.size64(at + 40, name("p_memsz")),
    };
  }
  const word = (offset: number, field: string) => file.u32(at + offset, name(field));
  return {
    index,
    offset: word(4, "p_offset"),
    vaddr: BigInt(word(8, "p_vaddr")),
    paddr: word(12, "p_paddr"),
    filesz: word(16, "p_filesz"),
    memsz: word(20, "p_memsz"),
    flags: word(24, "p_flags"),
  };
}

function checkLoadHeader(file: GuestFile, { index, offset, filesz, memsz }: LoadHeader): void {
  if (filesz > memsz) {
    throw file.bad("p_filesz", `p_filesz (${hex(filesz)}) exceeds p_memsz (${hex(memsz)}) in program header ${index}`);
  }
  if (offset + filesz > file.length) {
    throw file.bad(
      "p_offset",
      `p_offset (${hex(offset)}) and p_filesz (${hex(filesz)}) of program header ${index} reach behind the file's end at ${hex(file.length)}`,
      "the file is truncated: build or copy it again",
    );
  }
}

function readLoadHeaders(file: GuestFile, header: ElfHeader): LoadHeader[] {
  checkProgramTable(file, header);
  const loads: LoadHeader[] = [];
  for (let index = 0; index < header.phnum; index++) {
    const type = file.u32(header.phoff + index * header.phentsize, `p_type of program header ${index}`);
    if (type === PT_INTERP) {
      throw file.bad("p_type", `program header ${index} asks for a dynamic linker (PT_INTERP)`, "link it with -static");
    }
    if (type !== PT_LOAD) continue;
    const load = readLoadHeader(file, header, index);
    checkLoadHeader(file, load);
    if (load.memsz > 0) loads.push(load);
  }
  if (loads.length === 0) throw file.bad("p_type", "no program header is of type PT_LOAD: there is nothing to load");
  return loads;
}

/** The physical address of each segment: see `LoadOptions.addresses`. */
function placeLoads(file: GuestFile, loads: readonly LoadHeader[], options: LoadOptions): LoadHeader[] {
  const leftOut = loads.every(({ paddr }) => paddr === 0) && loads.some(({ vaddr }) => vaddr !== 0n);
  const byVirtual = options.addresses ? options.addresses === "virtual" : leftOut;
  if (!byVirtual) return [...loads];
  return loads.map((load) => {
    if (load.vaddr < 1n << 52n) return { ...load, paddr: Number(load.vaddr) };
    throw file.bad("p_vaddr", `p_vaddr (${hex(load.vaddr)}) of program header ${load.index} is no physical address`);
  });
}

function toSegment(file: GuestFile, load: LoadHeader): GuestSegment {
  const rights = [4, 2, 1].map((bit, index) => (load.flags & bit ? "rwx"[index] : "-")).join("");
  return {
    what: `segment ${load.index} (${rights})`,
    field: "p_paddr",
    gpa: load.paddr,
    data: file.bytes.subarray(load.offset, load.offset + load.filesz),
    bytes: load.memsz,
  };
}

/** Bytes from a segment's linear to its physical address. */
const shiftOf = ({ vaddr, paddr }: LoadHeader) => vaddr - BigInt(paddr);

const within = (address: bigint, start: bigint, bytes: number) => address >= start && address < start + BigInt(bytes);

/** One mapping per distance between linear and physical addresses, so that neighbours may share a page. */
function mappingsOf(loads: readonly LoadHeader[]): PageMapping[] {
  const shifts = new Set(loads.map(shiftOf).filter((shift) => shift !== 0n && shift % 4096n === 0n));
  return [...shifts].map((shift) => {
    const alike = loads.filter((load) => shiftOf(load) === shift);
    const from = Math.floor(Math.min(...alike.map(({ paddr }) => paddr)) / 4096) * 4096;
    const to = Math.ceil(Math.max(...alike.map(({ paddr, memsz }) => paddr + memsz)) / 4096) * 4096;
    return { gva: BigInt.asUintN(64, BigInt(from) + shift), gpa: from, bytes: to - from };
  });
}

/** Mappings that the identity mapping of the first 4 GiB leaves room for. */
function usableMappings(file: GuestFile, loads: readonly LoadHeader[]): PageMapping[] {
  const usable = mappingsOf(loads).filter(({ gva, bytes }) => {
    const end = BigInt(gva) + BigInt(bytes);
    const canonical = BigInt.asUintN(64, BigInt.asIntN(48, BigInt(gva))) === gva;
    return BigInt(gva) >= 1n << 32n && canonical && end <= 1n << 64n;
  });
  const sorted = usable.toSorted((a, b) => (BigInt(a.gva) < BigInt(b.gva) ? -1 : 1));
  const clash = sorted.find((next, index) => {
    const last = sorted[index - 1];
    return last !== undefined && BigInt(last.gva) + BigInt(last.bytes) > BigInt(next.gva);
  });
  if (!clash) return usable;
  throw file.bad(
    "p_vaddr",
    `linear address ${hex(clash.gva)} would map to two physical ones`,
    "link the segments apart",
  );
}

/**
 * Where execution starts. `e_entry` is a linear address by the gABI, but kernels linked high often put a physical one
 * there; without paging the two have to be told apart.
 */
function entryOf(
  file: GuestFile,
  header: ElfHeader,
  loads: readonly LoadHeader[],
  mapped: readonly PageMapping[],
): bigint {
  const { entry } = header;
  const linear = loads.find(({ vaddr, memsz }) => within(entry, vaddr, memsz));
  if (linear) {
    const reachable = mapped.some(({ gva, bytes }) => within(entry, BigInt(gva), bytes));
    return reachable ? entry : entry - shiftOf(linear);
  }
  if (loads.some(({ paddr, memsz }) => within(entry, BigInt(paddr), memsz))) return entry;
  throw file.bad(
    "e_entry",
    `e_entry (${hex(entry)}) lies in none of the loaded segments`,
    "link it with -e and an entry symbol",
  );
}

/**
 * An ELF32 or ELF64 executable: PT_LOAD segments at their physical addresses, entered in `prot32` or `long64`. A 64-bit
 * file linked above 4 GiB also gets its linear addresses mapped (`plan.map`).
 *
 * @throws {GuestError} naming the header field that is wrong.
 */
export function loadElf(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  const file = new GuestFile(options.file, bytes);
  if (!isElf(bytes)) throw file.bad("e_ident", 'it does not begin with 0x7f "ELF"', "give an ELF file");
  const header = readElfHeader(file);
  const loads = placeLoads(file, readLoadHeaders(file, header), options);
  const segments = loads.map((load) => toSegment(file, load));
  checkSegments(file.name, segments, options.memoryBytes);
  const mode = options.mode ?? (header.wide ? "long64" : "prot32");
  const map = mode === "long64" || mode === "long64-ring3" ? usableMappings(file, loads) : [];
  return {
    file: file.name,
    format: header.wide ? "elf64" : "elf32",
    segments,
    mode,
    entry: options.entry === undefined ? entryOf(file, header, loads, map) : BigInt(options.entry),
    gprs: {},
    map,
    symbols: readSymbols(file, header),
  };
}
