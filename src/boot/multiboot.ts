import { findMultibootHeader, isElf, type MultibootHeader } from "./detect.ts";
import { loadElf } from "./elf.ts";
import { GuestFile } from "./guest-file.ts";
import { checkSegments, type GuestPlan, type GuestSegment, hex, type LoadOptions } from "./guest-plan.ts";
import { multibootInfo } from "./multiboot-info.ts";

/**
 * Multiboot 1 kernels.
 * @see Multiboot Specification version 0.6.96, "OS image format" and "Machine state"
 */

/** What EAX holds on entry. */
export const MULTIBOOT_MAGIC = 0x2badb002;
const FLAG = { pageAlign: 1 << 0, memory: 1 << 1, video: 1 << 2, addresses: 1 << 16 } as const;
/** Flags 0 to 15 are demands: the kernel must not be started when one is not understood. */
const DEMANDS_KNOWN = FLAG.pageAlign | FLAG.memory | FLAG.video;

/** The image by the header's own address fields (the "a.out kludge"). */
function loadByAddresses(file: GuestFile, { offset }: MultibootHeader): { segments: GuestSegment[]; entry: bigint } {
  const field = (name: string, at: number) => file.u32(offset + at, name);
  const headerAddr = field("header_addr", 12);
  const loadAddr = field("load_addr", 16);
  const loadEnd = field("load_end_addr", 20);
  const bssEnd = field("bss_end_addr", 24);
  const entry = field("entry_addr", 28);
  if (loadAddr > headerAddr) {
    throw file.bad("load_addr", `load_addr (${hex(loadAddr)}) is above header_addr (${hex(headerAddr)})`);
  }
  const start = offset - (headerAddr - loadAddr);
  if (start < 0) {
    const problem = `header_addr - load_addr (${hex(headerAddr - loadAddr)}) exceeds the header's offset in the file (${hex(offset)})`;
    throw file.bad("header_addr", problem);
  }
  const dataBytes = loadEnd === 0 ? file.length - start : loadEnd - loadAddr;
  if (dataBytes < 0)
    throw file.bad("load_end_addr", `load_end_addr (${hex(loadEnd)}) is below load_addr (${hex(loadAddr)})`);
  if (start + dataBytes > file.length) {
    throw file.bad(
      "load_end_addr",
      `load_end_addr (${hex(loadEnd)}) asks for ${hex(dataBytes)} bytes and the file has ${hex(file.length - start)} from there`,
      "the file is truncated: build or copy it again",
    );
  }
  const bytes = bssEnd === 0 ? dataBytes : bssEnd - loadAddr;
  if (bytes < dataBytes) {
    throw file.bad(
      "bss_end_addr",
      `bss_end_addr (${hex(bssEnd)}) is below the end of the data (${hex(loadAddr + dataBytes)})`,
    );
  }
  if (entry < loadAddr || entry >= loadAddr + bytes) {
    throw file.bad(
      "entry_addr",
      `entry_addr (${hex(entry)}) lies outside ${hex(loadAddr)} to ${hex(loadAddr + bytes)}`,
    );
  }
  const data = file.bytes.subarray(start, start + dataBytes);
  return { segments: [{ what: "image", field: "load_addr", gpa: loadAddr, data, bytes }], entry: BigInt(entry) };
}

function loadImage(file: GuestFile, header: MultibootHeader, options: LoadOptions) {
  if (header.flags & FLAG.addresses) return { ...loadByAddresses(file, header), symbols: [] };
  if (!isElf(file.bytes)) {
    throw file.bad(
      "flags",
      `Multiboot flags (${hex(header.flags)}) have bit 16 clear and the file is no ELF: nothing says where to load it`,
      "set bit 16 and the address fields, or link an ELF file",
    );
  }
  const { segments, entry, symbols } = loadElf(file.bytes, { ...options, mode: "prot32" });
  return { segments, entry, symbols };
}

/**
 * A Multiboot 1 kernel: loaded by its address fields or as ELF, entered in `prot32` with EAX = 0x2badb002 and EBX pointing
 * to the information structure, which lies with command line, memory map and module list in the first free place from
 * 64 KiB on. Modules follow the kernel, page-aligned. Framebuffer fields stay clear even if the kernel asks for a video mode.
 *
 * @throws {GuestError} naming the header field that is wrong.
 */
export function loadMultiboot(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  const file = new GuestFile(options.file, bytes);
  const header = findMultibootHeader(bytes);
  if (!header) {
    throw file.bad(
      "magic",
      "its first 8192 bytes hold no Multiboot header with a right checksum",
      "give a Multiboot 1 kernel",
    );
  }
  const unknown = header.flags & 0xffff & ~DEMANDS_KNOWN;
  if (unknown) {
    throw file.bad("flags", `Multiboot flags (${hex(header.flags)}) demand something unknown: ${hex(unknown)}`);
  }
  const image = loadImage(file, header, options);
  const { segments: extra, infoGpa } = multibootInfo(file, image.segments, options);
  const segments = [...image.segments, ...extra];
  checkSegments(file.name, segments, options.memoryBytes);
  return {
    file: file.name,
    format: "multiboot",
    segments,
    mode: options.mode ?? "prot32",
    entry: options.entry === undefined ? image.entry : BigInt(options.entry),
    gprs: { rax: BigInt(MULTIBOOT_MAGIC), rbx: BigInt(infoGpa) },
    map: [],
    symbols: image.symbols,
  };
}
