import { expect, test } from "bun:test";
import {
  arrayMemory,
  findMultibootHeader,
  type GuestPlan,
  loadMultiboot,
  placeGuest,
} from "../../../src/boot/index.ts";
import { pcMemoryMap } from "../../../src/boot/multiboot-info.ts";
import { GuestError } from "../../../src/errors.ts";
import { makeElf } from "./elf-file.ts";
import { randomFrom } from "./random.ts";
import { buildFile, lacking } from "./tools.ts";

const MIB = 0x100000;
const options = { file: "kernel", memoryBytes: 4 * MIB };

/** A header of twelve 32-bit fields; the checksum is right unless given. */
function header(flags: number, addresses: number[] = [], checksum?: number): Uint8Array {
  const fields = [0x1badb002, flags, checksum ?? -(0x1badb002 + flags), ...addresses];
  return new Uint8Array(Uint32Array.from(fields, (field) => field >>> 0).buffer);
}

/** A kernel with address fields: the header at file offset `offset`, loaded so that the file begins at 1 MiB. */
function kernel(change: { flags?: number; offset?: number; addresses?: number[] } = {}): Uint8Array {
  const { flags = 0x10003, offset = 16 } = change;
  const bytes = new Uint8Array(offset + 64).fill(0x90);
  bytes.set(header(flags, change.addresses ?? [MIB + offset, MIB, 0, 0, MIB]), offset);
  return bytes;
}

function blame(
  bytes: Uint8Array,
  change: Partial<Parameters<typeof loadMultiboot>[1]> = {},
): [string | undefined, string] {
  try {
    loadMultiboot(bytes, { ...options, ...change });
  } catch (error) {
    if (error instanceof GuestError) return [error.field, error.message];
    throw error;
  }
  return [undefined, "loaded"];
}

/** The information structure as the kernel would read it. */
function readInfo(plan: GuestPlan, memoryBytes = options.memoryBytes) {
  const memory = arrayMemory(memoryBytes);
  placeGuest(plan, memory);
  const view = new DataView(memory.bytes.buffer);
  const gpa = Number(plan.gprs.rbx);
  const u32 = (at: number) => view.getUint32(at, true);
  const text = (at: number) => memory.bytes.subarray(at, memory.bytes.indexOf(0, at)).toString().split(",").map(Number);
  const string = (at: number) => String.fromCharCode(...text(at).filter((byte) => byte > 0));
  const map: [bigint, bigint, number][] = [];
  for (let at = u32(gpa + 48); at < u32(gpa + 48) + u32(gpa + 44); at += u32(at) + 4) {
    map.push([view.getBigUint64(at + 4, true), view.getBigUint64(at + 12, true), u32(at + 20)]);
  }
  return { memory, gpa, field: (offset: number) => u32(gpa + offset), u32, string, map };
}

test("findMultibootHeader() finds a header on any 4-byte boundary of the first 8192 bytes, and only there", () => {
  for (const offset of [0, 4, 8192 - 12]) {
    const bytes = new Uint8Array(8300);
    bytes.set(header(0), offset);
    expect(findMultibootHeader(bytes)).toEqual({ offset, flags: 0 });
  }
  for (const offset of [2, 8192 - 8, 8192]) {
    const bytes = new Uint8Array(8300);
    bytes.set(header(0), offset);
    expect(findMultibootHeader(bytes)).toBeUndefined();
  }
  expect(findMultibootHeader(header(3, [], 0))).toBeUndefined();
  expect(findMultibootHeader(new Uint8Array(11))).toBeUndefined();
});

test("loadMultiboot() loads by the header's address fields and enters prot32 with the magic in EAX", () => {
  const plan = loadMultiboot(kernel({ addresses: [MIB + 16, MIB, MIB + 80, MIB + 0x2000, MIB + 4] }), options);
  expect(plan).toMatchObject({ format: "multiboot", mode: "prot32", entry: BigInt(MIB + 4) });
  expect(plan.gprs.rax).toBe(0x2badb002n);
  expect(plan.segments[0]).toMatchObject({ what: "image", gpa: MIB, bytes: 0x2000 });
  expect(plan.segments[0]!.data.length).toBe(80);
});

test("loadMultiboot() loads from where load_addr points in the file, not from its beginning", () => {
  const bytes = kernel({ offset: 0x40, addresses: [MIB + 0x10, MIB, MIB + 0x20, 0, MIB] });
  const image = loadMultiboot(bytes, options).segments[0]!;
  expect(image.data).toEqual(bytes.subarray(0x30, 0x50));
  const whole = kernel({ offset: 0x40, addresses: [MIB + 0x10, MIB, 0, 0, MIB] });
  expect(loadMultiboot(whole, options).segments[0]!.data).toEqual(whole.subarray(0x30));
});

test("loadMultiboot() hands over memory size, memory map, command line and loader name, framebuffer clear", () => {
  const info = readInfo(loadMultiboot(kernel({ flags: 0x10007 }), { ...options, commandLine: "quiet root=/dev/ram0" }));
  expect(info.field(0)).toBe((1 << 0) | (1 << 2) | (1 << 3) | (1 << 6) | (1 << 9));
  expect([info.field(4), info.field(8)]).toEqual([639, 3072]);
  expect(info.string(info.field(16))).toBe("quiet root=/dev/ram0");
  expect(info.string(info.field(64))).toBe("vmexit");
  expect(info.map).toEqual([
    [0n, 0x9fc00n, 1],
    [0x9fc00n, 0x400n, 2],
    [0xf0000n, 0x10000n, 2],
    [BigInt(MIB), BigInt(3 * MIB), 1],
  ]);
  for (let offset = 72; offset < 116; offset += 4) expect(info.field(offset)).toBe(0);
});

test("pcMemoryMap() ends where memory does", () => {
  expect(pcMemoryMap(0x80000)).toEqual([{ base: 0, bytes: 0x80000, type: 1 }]);
  expect(pcMemoryMap(MIB).filter(({ type }) => type === 1)).toEqual([{ base: 0, bytes: 0x9fc00, type: 1 }]);
  expect(pcMemoryMap(MIB + 0x1000).at(-1)).toEqual({ base: MIB, bytes: 0x1000, type: 1 });
});

test("loadMultiboot() places modules page-aligned behind the kernel and lists them", () => {
  const modules = [
    { file: "initrd", bytes: Uint8Array.of(1, 2, 3) },
    { file: "second", bytes: new Uint8Array(0x1001).fill(7), commandLine: "second --fast" },
  ];
  const info = readInfo(loadMultiboot(kernel(), { ...options, modules }));
  const list = info.field(24);
  expect(info.field(20)).toBe(2);
  const [start, end] = [info.u32(list), info.u32(list + 4)];
  expect([start % 4096, end - start]).toEqual([0, 3]);
  expect(start).toBeGreaterThanOrEqual(MIB + 80);
  expect([...info.memory.read(start, 3)]).toEqual([1, 2, 3]);
  expect(info.string(info.u32(list + 8))).toBe("initrd");
  expect(info.u32(list + 16)).toBeGreaterThanOrEqual(end);
  expect(info.string(info.u32(list + 24))).toBe("second --fast");
});

test("loadMultiboot() places modules behind a kernel that begins above 1 MiB, not before it", () => {
  const high = kernel({ addresses: [2 * MIB + 16, 2 * MIB, 0, 0, 2 * MIB] });
  const modules = [{ file: "m", bytes: Uint8Array.of(1) }];
  const placed = loadMultiboot(high, { ...options, modules }).segments.find(({ what }) => what === "module 0");
  expect(placed?.gpa).toBe(2 * MIB + 0x1000);
});

test("loadMultiboot() keeps its information out of the kernel's way, in low memory and in high", () => {
  const low = kernel({ addresses: [0x10010, 0x10000, 0, 0x90000, 0x10000] });
  const plan = loadMultiboot(low, options);
  expect(Number(plan.gprs.rbx)).toBeGreaterThanOrEqual(0x90000);
  const all = kernel({ addresses: [0x10010, 0x10000, 0, 0x9f000, 0x10000] });
  expect(Number(loadMultiboot(all, options).gprs.rbx)).toBe(MIB);
  expect(blame(all, { memoryBytes: 0x9f000 })[0]).toBe("memoryBytes");
});

test("loadMultiboot() takes an ELF kernel without address fields by its program headers", () => {
  const code = new Uint8Array(64);
  code.set(header(3), 0);
  for (const wide of [false, true]) {
    const plan = loadMultiboot(makeElf({ wide, entry: MIB + 16, segments: [{ paddr: MIB, data: code }] }), options);
    expect(plan).toMatchObject({ format: "multiboot", mode: "prot32", entry: BigInt(MIB + 16) });
  }
});

test("loadMultiboot() says which field is wrong", () => {
  const at = (...addresses: number[]) => kernel({ addresses });
  const cases: [string, Uint8Array][] = [
    ["magic", new Uint8Array(100)],
    ["flags", kernel({ flags: 0x10008 })],
    ["flags", kernel({ flags: 3 })],
    ["load_addr", at(MIB + 16, MIB + 17, 0, 0, MIB)],
    ["header_addr", at(MIB + 17, MIB, 0, 0, MIB)],
    ["load_end_addr", at(MIB + 16, MIB, MIB - 1, 0, MIB)],
    ["load_end_addr", at(MIB + 16, MIB, MIB + 81, 0, MIB)],
    ["bss_end_addr", at(MIB + 16, MIB, 0, MIB + 79, MIB)],
    ["entry_addr", at(MIB + 16, MIB, 0, 0, MIB + 80)],
    ["entry_addr", at(MIB + 16, MIB, 0, 0, MIB - 1)],
    ["load_addr", at(MIB + 16, MIB, 0, 0xffffffff, MIB)],
    ["bss_end_addr", kernel().subarray(0, 40)],
  ];
  expect(cases.map(([, bytes]) => blame(bytes)[0])).toEqual(cases.map(([field]) => field));
  expect(blame(kernel(), { modules: [{ file: "big", bytes: new Uint8Array(4 * MIB) }] })[1]).toContain(
    'module 0 ("big", 0x400000 bytes) does not fit behind the kernel',
  );
});

const SOURCE = `
        bits 32
        section .multiboot align=4
        dd 0x1badb002, 3, -(0x1badb002 + 3)
        section .text
        global _start
_start: mov al, 'k'
        out 0xe9, al
        hlt
        section .bss
        resb 0x5000
`;
const noNasm = lacking("nasm", "ld");
test.skipIf(noNasm !== "")(`loadMultiboot() loads a kernel that nasm and ld make, with its symbols${noNasm}`, () => {
  const script = "SECTIONS { . = 0x100000; .text : { *(.multiboot) *(.text) } .bss : { *(.bss) } }";
  const bytes = buildFile(
    { "k.asm": SOURCE, "k.ld": script },
    [
      ["nasm", "-f", "elf32", "k.asm", "-o", "k.o"],
      ["ld", "-m", "elf_i386", "-T", "k.ld", "-e", "_start", "k.o", "-o", "k"],
    ],
    "k",
  );
  const plan = loadMultiboot(bytes, options);
  expect(plan.entry).toBe(plan.symbols.find(({ name }) => name === "_start")!.address);
  const memory = arrayMemory(options.memoryBytes);
  placeGuest(plan, memory);
  expect([...memory.read(Number(plan.entry), 5)]).toEqual([0xb0, 0x6b, 0xe6, 0xe9, 0xf4]);
});

test("loadMultiboot() throws nothing but GuestError for mutated headers (seeded fuzz)", () => {
  const random = randomFrom(0xb007);
  const seed = kernel({ addresses: [MIB + 16, MIB, MIB + 80, MIB + 0x2000, MIB] });
  let loaded = 0;
  for (let round = 0; round < 4000; round++) {
    const bytes = seed.slice(0, random.chance(0.2) ? 16 + random.below(64) : undefined);
    for (let count = random.below(4); count > 0; count--) {
      // Behind the checksum, so that the header stays one.
      const at = 28 + random.below(Math.max(1, Math.min(20, bytes.length - 28)));
      if (at < bytes.length) bytes[at] = random.pick([0, 0x10, 0x7f, 0xff, random.below(256)]);
    }
    const [field, message] = blame(bytes);
    if (field === undefined) loaded++;
    expect(message).not.toMatch(/undefined|NaN/);
  }
  expect(loaded).toBeGreaterThan(100);
});
