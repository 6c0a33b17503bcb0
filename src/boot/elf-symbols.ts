import type { ElfHeader } from "./elf-header.ts";
import type { GuestFile } from "./guest-file.ts";
import { type GuestSymbol, hex } from "./guest-plan.ts";

const SHT_SYMTAB = 2;
const SHT_STRTAB = 3;
/** st_info's low nibble; others (section, file, TLS) name no address in the guest. */
const KINDS: Readonly<Record<number, GuestSymbol["kind"]>> = { 0: "label", 1: "object", 2: "function" };

interface Section {
  readonly index: number;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly entsize: number;
}

function readSection(file: GuestFile, header: ElfHeader, index: number): Section {
  const at = header.shoff + index * header.shentsize;
  const name = (field: string) => `${field} of section header ${index}`;
  const { wide } = header;
  const size = (offset: number, field: string) =>
    wide ? file.size64(at + offset, name(field)) : file.u32(at + offset, name(field));
  return {
    index,
    type: file.u32(at + 4, name("sh_type")),
    offset: size(wide ? 24 : 16, "sh_offset"),
    size: size(wide ? 32 : 20, "sh_size"),
    link: file.u32(at + (wide ? 40 : 24), name("sh_link")),
    entsize: size(wide ? 56 : 36, "sh_entsize"),
  };
}

function checkSectionTable(file: GuestFile, { wide, shoff, shentsize, shnum }: ElfHeader): void {
  const expected = wide ? 64 : 40;
  if (shentsize !== expected) throw file.bad("e_shentsize", `e_shentsize is ${shentsize} and not ${expected}`);
  if (shoff + shnum * shentsize > file.length) {
    throw file.bad(
      "e_shoff",
      `e_shoff (${hex(shoff)}) and e_shnum (${shnum}) place section headers behind the file's end at ${hex(file.length)}`,
      "the file is truncated: build or copy it again",
    );
  }
}

function contentOf(file: GuestFile, { index, offset, size }: Section): Uint8Array {
  return file.slice(offset, size, `sh_offset of section ${index}`);
}

function nameAt(strings: Uint8Array, offset: number): string | undefined {
  if (offset >= strings.length) return undefined;
  const end = strings.indexOf(0, offset);
  return Buffer.from(strings.subarray(offset, end < 0 ? strings.length : end)).toString("utf8");
}

function parseSymbols(file: GuestFile, header: ElfHeader, table: Section, strings: Uint8Array): GuestSymbol[] {
  const { wide } = header;
  const expected = wide ? 24 : 16;
  if (table.entsize !== expected) {
    throw file.bad("sh_entsize", `sh_entsize of symbol table ${table.index} is ${table.entsize} and not ${expected}`);
  }
  const content = contentOf(file, table);
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const symbols: GuestSymbol[] = [];
  for (let at = 0; at + expected <= content.length; at += expected) {
    const kind = KINDS[view.getUint8(at + (wide ? 4 : 12)) & 0xf];
    const section = view.getUint16(at + (wide ? 6 : 14), true);
    const name = nameAt(strings, view.getUint32(at, true));
    // Section 0: defined elsewhere.
    if (kind === undefined || section === 0 || !name) continue;
    const address = wide ? view.getBigUint64(at + 8, true) : BigInt(view.getUint32(at + 4, true));
    const bytes = wide ? Number(view.getBigUint64(at + 16, true)) : view.getUint32(at + 8, true);
    symbols.push({ name, address, bytes, kind });
  }
  return symbols;
}

const order = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * The symbols of an ELF file's symbol table, sorted by address; none when it was stripped.
 * @throws {GuestError} naming the section header field that is wrong.
 */
export function readSymbols(file: GuestFile, header: ElfHeader): GuestSymbol[] {
  if (header.shoff === 0 || header.shnum === 0) return [];
  checkSectionTable(file, header);
  const sections = Array.from({ length: header.shnum }, (_, index) => readSection(file, header, index));
  const symbols: GuestSymbol[] = [];
  for (const table of sections.filter(({ type }) => type === SHT_SYMTAB)) {
    const strings = sections[table.link];
    if (strings?.type !== SHT_STRTAB) {
      throw file.bad("sh_link", `sh_link (${table.link}) of symbol table ${table.index} names no string table`);
    }
    symbols.push(...parseSymbols(file, header, table, contentOf(file, strings)));
  }
  return symbols.toSorted((a, b) => order(a.address, b.address));
}
