import type { GuestFile } from "./guest-file.ts";
import { findFree, type GuestModule, type GuestSegment, hex, type LoadOptions } from "./guest-plan.ts";

/**
 * The information structure that a Multiboot loader hands to the kernel.
 * @see Multiboot Specification version 0.6.96, "Boot information format"
 */

/** Offsets in bytes of the fields written here; the rest stays 0, the framebuffer's among them. */
const INFO = {
  flags: 0,
  mem_lower: 4,
  mem_upper: 8,
  cmdline: 16,
  mods_count: 20,
  mods_addr: 24,
  mmap_length: 44,
  mmap_addr: 48,
  boot_loader_name: 64,
} as const;
const INFO_BYTES = 116;
const INFO_FLAGS = { memory: 1 << 0, cmdline: 1 << 2, modules: 1 << 3, memoryMap: 1 << 6, loaderName: 1 << 9 } as const;

const LOADER_NAME = "vmexit";
const LOW_END = 0x9fc00;
const HIGH_START = 0x100000;

/** A range of the memory map. Type 1 may be used, 2 is reserved. */
interface MemoryRange {
  readonly base: number;
  readonly bytes: number;
  readonly type: 1 | 2;
}

/** What a PC's BIOS would report of `memoryBytes` from address 0: nothing to use between 639 KiB and 1 MiB. */
export function pcMemoryMap(memoryBytes: number): MemoryRange[] {
  const ranges: MemoryRange[] = [
    { base: 0, bytes: Math.min(memoryBytes, LOW_END), type: 1 },
    { base: LOW_END, bytes: 0xa0000 - LOW_END, type: 2 },
    { base: 0xf0000, bytes: 0x10000, type: 2 },
    { base: HIGH_START, bytes: Math.max(0, memoryBytes - HIGH_START), type: 1 },
  ];
  return ranges.filter(({ base, bytes }) => bytes > 0 && base < memoryBytes);
}

function encodeMemoryMap(ranges: readonly MemoryRange[]): Uint8Array {
  const bytes = new Uint8Array(ranges.length * 24);
  const view = new DataView(bytes.buffer);
  ranges.forEach((range, index) => {
    const at = index * 24;
    view.setUint32(at, 20, true); // size: of what follows
    view.setBigUint64(at + 4, BigInt(range.base), true);
    view.setBigUint64(at + 12, BigInt(range.bytes), true);
    view.setUint32(at + 20, range.type, true);
  });
  return bytes;
}

/** Puts parts one behind the other, 8-byte aligned, and tells where each went. */
class Packer {
  readonly #parts: { at: number; bytes: Uint8Array }[] = [];
  #end = 0;

  add(bytes: Uint8Array): number {
    const at = this.#end;
    this.#parts.push({ at, bytes });
    this.#end = Math.ceil((at + bytes.length) / 8) * 8;
    return at;
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.#end);
    for (const { at, bytes } of this.#parts) all.set(bytes, at);
    return all;
  }
}

const cString = (text: string) => new TextEncoder().encode(`${text}\0`);

function placeModules(file: GuestFile, image: readonly GuestSegment[], options: LoadOptions): GuestSegment[] {
  const placed: GuestSegment[] = [];
  const kernelEnd = Math.max(...image.map(({ gpa, bytes }) => gpa + bytes));
  for (const [index, module] of (options.modules ?? []).entries()) {
    const from = Math.max(kernelEnd, HIGH_START);
    const range = { from, to: Math.min(options.memoryBytes, 2 ** 32) };
    const gpa = findFree(module.bytes.length, [...image, ...placed], range);
    if (gpa === undefined) {
      const problem = `module ${index} ("${module.file}", ${hex(module.bytes.length)} bytes) does not fit behind the kernel`;
      throw file.bad(
        "modules",
        `${problem} at ${hex(from)} in ${hex(options.memoryBytes)} bytes of memory`,
        "give the guest more memory",
      );
    }
    placed.push({ what: `module ${index}`, field: "modules", gpa, data: module.bytes, bytes: module.bytes.length });
  }
  return placed;
}

/** The module list with string addresses relative to the pack, which `relocate` makes absolute. */
function encodeModules(pack: Packer, modules: readonly GuestModule[], placed: readonly GuestSegment[]) {
  const list = new Uint8Array(modules.length * 16);
  const view = new DataView(list.buffer);
  const at = pack.add(list);
  modules.forEach((module, index) => {
    const { gpa, bytes } = placed[index]!;
    view.setUint32(index * 16, gpa, true);
    view.setUint32(index * 16 + 4, gpa + bytes, true);
    view.setUint32(index * 16 + 8, pack.add(cString(module.commandLine ?? module.file)), true);
  });
  const relocate = (base: number) =>
    modules.forEach((_, index) => {
      view.setUint32(index * 16 + 8, view.getUint32(index * 16 + 8, true) + base, true);
    });
  return { at, relocate };
}

/**
 * The information structure, and what it points to, as segments.
 * @throws {GuestError} when it or a module finds no free memory.
 */
export function multibootInfo(
  file: GuestFile,
  image: readonly GuestSegment[],
  options: LoadOptions,
): { segments: GuestSegment[]; infoGpa: number } {
  const placed = placeModules(file, image, options);
  const modules = options.modules ?? [];
  const pack = new Packer();
  const info = new Uint8Array(INFO_BYTES);
  pack.add(info);
  const commandLineAt = pack.add(cString(options.commandLine ?? ""));
  const nameAt = pack.add(cString(LOADER_NAME));
  const map = encodeMemoryMap(pcMemoryMap(options.memoryBytes));
  const mapAt = pack.add(map);
  const list = encodeModules(pack, modules, placed);
  const bytes = pack.bytes().length;
  const taken = [...image, ...placed, { gpa: 0x9f000, bytes: HIGH_START - 0x9f000 }];
  const gpa = findFree(bytes, taken, { from: 0x10000, to: Math.min(options.memoryBytes, 2 ** 32) });
  if (gpa === undefined) {
    throw file.bad(
      "memoryBytes",
      "no free memory from 64 KiB on holds the Multiboot information",
      "give the guest more memory",
    );
  }
  list.relocate(gpa);
  const view = new DataView(info.buffer);
  const set = (field: keyof typeof INFO, value: number) => view.setUint32(INFO[field], value, true);
  set(
    "flags",
    INFO_FLAGS.memory | INFO_FLAGS.cmdline | INFO_FLAGS.modules | INFO_FLAGS.memoryMap | INFO_FLAGS.loaderName,
  );
  set("mem_lower", Math.floor(Math.min(options.memoryBytes, LOW_END) / 1024));
  set("mem_upper", Math.min(Math.floor(Math.max(0, options.memoryBytes - HIGH_START) / 1024), 0xffffffff));
  set("cmdline", gpa + commandLineAt);
  set("mods_count", modules.length);
  set("mods_addr", gpa + list.at);
  set("mmap_length", map.length);
  set("mmap_addr", gpa + mapAt);
  set("boot_loader_name", gpa + nameAt);
  const data = pack.bytes();
  const segment = { what: "Multiboot information", field: "memoryBytes", gpa, data, bytes: data.length };
  return { segments: [...placed, segment], infoGpa: gpa };
}
