import { expect, test } from "bun:test";
import { arrayMemory, loadGuest, placeGuest } from "../../../src/boot/index.ts";
import { GuestError } from "../../../src/errors.ts";
import { makeElf } from "./elf-file.ts";
import { randomFrom } from "./random.ts";

const options = { file: "guest.bin", memoryBytes: 0x200000 };
const HLT = Uint8Array.of(0xf4);

function bootSector(): Uint8Array {
  const bytes = new Uint8Array(512).fill(0x90);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

test("loadGuest() takes a file without any mark as a flat binary at 0x1000 in real mode", () => {
  expect(loadGuest(HLT, options)).toMatchObject({
    format: "flat",
    mode: "real16",
    entry: 0x1000n,
    segments: [{ gpa: 0x1000, data: HLT, bytes: 1 }],
  });
});

test("loadGuest() chooses by content: Multiboot before ELF, ELF, boot sector, and .com by name", () => {
  const multiboot = new Uint8Array(new Uint32Array([0x1badb002, 0, 0xe4524ffe]).buffer);
  const elf = makeElf({ wide: false, segments: [{ data: HLT }] });
  const both = makeElf({ wide: false, segments: [{ data: multiboot }] });
  const format = (bytes: Uint8Array, file = "guest.bin") => loadGuest(bytes, { ...options, file }).format;
  expect(format(elf)).toBe("elf32");
  expect(format(both)).toBe("multiboot");
  expect(format(bootSector())).toBe("boot-sector");
  expect(format(HLT, "PROGRAM.COM")).toBe("com");
  expect(format(elf, "odd.com")).toBe("elf32");
});

test("loadGuest() is not taken in by half a mark", () => {
  const elf = makeElf({ wide: false, segments: [{ data: HLT }] });
  for (let at = 0; at < 4; at++) {
    const bytes = elf.slice();
    bytes[at]! ^= 1;
    expect(loadGuest(bytes, options).format).toBe("flat");
  }
  for (const at of [510, 511]) {
    const bytes = bootSector();
    bytes[at] = 0;
    expect(loadGuest(bytes, options).format).toBe("flat");
  }
  const long = new Uint8Array(513);
  long.set(bootSector());
  expect(loadGuest(long, options).format).toBe("flat");
});

test("loadGuest() keeps to flat when the caller asks for a format, an address or a mode", () => {
  const elf = makeElf({ wide: true, segments: [{ data: HLT }] });
  expect(loadGuest(elf, { ...options, format: "flat" })).toMatchObject({ format: "flat", segments: [{ gpa: 0x1000 }] });
  expect(loadGuest(bootSector(), { ...options, loadAddress: 0x2000 })).toMatchObject({
    format: "flat",
    entry: 0x2000n,
  });
  expect(loadGuest(bootSector(), { ...options, mode: "prot32" })).toMatchObject({ format: "flat", mode: "prot32" });
  expect(() => loadGuest(HLT, { ...options, format: "elf" })).toThrow("does not begin with");
  expect(() => loadGuest(HLT, { ...options, format: "multiboot" })).toThrow("no Multiboot header");
});

test("loadGuest() lets entry win over the file's own", () => {
  expect(loadGuest(HLT, { ...options, entry: 0x1234 }).entry).toBe(0x1234n);
  expect(loadGuest(makeElf({ wide: true, segments: [{ data: HLT }] }), { ...options, entry: 5n }).entry).toBe(5n);
});

test("loadGuest() starts a boot sector as a BIOS does", () => {
  expect(loadGuest(bootSector(), options)).toMatchObject({
    segments: [{ gpa: 0x7c00, bytes: 512 }],
    entry: 0x7c00n,
    stack: 0x7c00,
    gprs: { rdx: 0x80n },
  });
});

test("loadGuest() starts a .com program behind a PSP whose INT 20H halts", () => {
  const plan = loadGuest(HLT, { ...options, file: "a.com", commandLine: "/x" });
  expect(plan).toMatchObject({ entry: 0x1100n, stack: 0xfffe, realSegment: 0x100 });
  const memory = arrayMemory(options.memoryBytes);
  placeGuest(plan, memory);
  expect([...memory.read(0x1000, 2)]).toEqual([0xcd, 0x20]);
  expect([...memory.read(0x1080, 5)]).toEqual([3, 0x20, 0x2f, 0x78, 0x0d]);
  expect(memory.bytes[0x1100]).toBe(0xf4);
  const vector = new DataView(memory.bytes.buffer).getUint16(0x80, true);
  expect(memory.bytes[vector]).toBe(0xf4);
});

test("loadGuest() refuses what does not fit, by field", () => {
  const field = (bytes: Uint8Array, change: object) => {
    try {
      return loadGuest(bytes, { ...options, ...change }).format;
    } catch (error) {
      return error instanceof GuestError ? (error.field ?? error.message) : error;
    }
  };
  expect(field(new Uint8Array(0), {})).toBe('Cannot load "guest.bin" as it is empty: give a file with code in it');
  expect(field(HLT, { loadAddress: 0x200000 })).toBe("loadAddress");
  expect(field(new Uint8Array(0x1ff001), {})).toBe("loadAddress");
  expect(field(bootSector(), { memoryBytes: 0x7000 })).toBe("loadAddress");
  expect(field(new Uint8Array(0xfe01), { file: "big.com" })).toBe("length");
  expect(field(HLT, { file: "a.com", commandLine: "x".repeat(126) })).toBe("commandLine");
  expect(field(HLT, { file: "a.com", commandLine: "x".repeat(125) })).toBe("com");
  expect(field(HLT, { loadAddress: 0 })).toBe("flat");
  expect(field(HLT, { loadAddress: -1 })).toBeInstanceOf(RangeError);
  expect(field(HLT, { loadAddress: 0.5 })).toBeInstanceOf(RangeError);
});

test("placeGuest() writes nothing when memory lacks a segment", () => {
  const memory = arrayMemory(0x1000);
  const plan = loadGuest(
    makeElf({
      wide: true,
      segments: [
        { paddr: 0, data: HLT },
        { paddr: 0x100000, data: HLT },
      ],
    }),
    options,
  );
  expect(() => placeGuest(plan, memory)).toThrow(GuestError);
  expect(memory.bytes[0]).toBe(0);
});

test("loadGuest() loads or refuses any bytes by name (seeded fuzz)", () => {
  const random = randomFrom(0x10ad);
  const heads = [[0x7f, 0x45, 0x4c, 0x46], [0x02, 0xb0, 0xad, 0x1b], [0xeb, 0xfe], []];
  for (let round = 0; round < 1500; round++) {
    const bytes = random.bytes(random.below(200));
    bytes.set(random.pick(heads).slice(0, bytes.length));
    try {
      expect(loadGuest(bytes, { ...options, file: random.pick(["a.com", "a.bin"]) }).segments.length).toBeGreaterThan(
        0,
      );
    } catch (error) {
      expect(error).toBeInstanceOf(GuestError);
    }
  }
});
