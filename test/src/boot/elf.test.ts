import { expect, test } from "bun:test";
import { arrayMemory, findSymbol, loadElf, placeGuest } from "../../../src/boot/index.ts";
import { GuestError } from "../../../src/errors.ts";
import { type ElfFields, makeElf } from "./elf-file.ts";
import { randomFrom } from "./random.ts";
import { buildFile, lacking } from "./tools.ts";

const options = { file: "guest.elf", memoryBytes: 0x400000 };
const CODE = Uint8Array.of(0xf4, 0x90, 0x90, 0x90);

/** The field that loading blames, and the message. */
function blame(bytes: Uint8Array, change: Partial<typeof options> = {}): [string | undefined, string] {
  try {
    loadElf(bytes, { ...options, ...change });
  } catch (error) {
    if (error instanceof GuestError) return [error.field, error.message];
    throw error;
  }
  return [undefined, "loaded"];
}

const elf = (change: Partial<ElfFields> = {}) => makeElf({ wide: true, segments: [{ data: CODE }], ...change });

/** Overwrites a field of one file. */
function patched(bytes: Uint8Array, at: number, value: number | bigint, size: 1 | 2 | 4 | 8): Uint8Array {
  const copy = bytes.slice();
  for (let index = 0; index < size; index++) copy[at + index] = Number((BigInt(value) >> BigInt(index * 8)) & 0xffn);
  return copy;
}

test("loadElf() takes 32- and 64-bit executables to their physical addresses and modes", () => {
  for (const wide of [false, true]) {
    const plan = loadElf(elf({ wide, segments: [{ paddr: 0x100000, data: CODE, memsz: 0x2000 }] }), options);
    expect(plan).toMatchObject({
      format: wide ? "elf64" : "elf32",
      mode: wide ? "long64" : "prot32",
      entry: 0x100000n,
    });
    expect(plan.segments).toEqual([
      { what: "segment 0 (r-x)", field: "p_paddr", gpa: 0x100000, data: CODE, bytes: 0x2000 },
    ]);
  }
});

test("placeGuest() writes a segment and zeroes what p_memsz has beyond p_filesz", () => {
  const memory = arrayMemory(0x200000);
  memory.bytes.fill(0xaa);
  placeGuest(loadElf(elf({ segments: [{ paddr: 0x100000, data: CODE, memsz: 0x20001 }] }), options), memory);
  expect([...memory.read(0x100000, 5)]).toEqual([0xf4, 0x90, 0x90, 0x90, 0]);
  expect(memory.read(0x100004, 0x1fffd).every((byte) => byte === 0)).toBe(true);
  expect([memory.bytes[0xfffff], memory.bytes[0x120001]]).toEqual([0xaa, 0xaa]);
});

test("loadElf() goes by p_paddr, by p_vaddr when every p_paddr is 0, and by the caller's wish", () => {
  const both = elf({ entry: 0x200000, segments: [{ vaddr: 0x200000, paddr: 0x100000, data: CODE }] });
  expect(loadElf(both, options)).toMatchObject({ segments: [{ gpa: 0x100000 }], entry: 0x100000n });
  expect(loadElf(both, { ...options, addresses: "virtual" })).toMatchObject({
    segments: [{ gpa: 0x200000 }],
    entry: 0x200000n,
  });
  const leftOut = elf({ entry: 0x200000, segments: [{ vaddr: 0x200000, paddr: 0, data: CODE }] });
  expect(loadElf(leftOut, options).segments[0]!.gpa).toBe(0x200000);
  expect(loadElf(leftOut, { ...options, addresses: "physical" }).segments[0]!.gpa).toBe(0);
});

test("loadElf() maps a 64-bit kernel linked high and enters it there, or at its physical entry", () => {
  const vaddr = 0xffff_ffff_8010_0000n;
  const segments = [
    { vaddr, paddr: 0x100000, data: CODE },
    { vaddr: vaddr + 0x1800n, paddr: 0x101800, data: CODE, memsz: 0x1000 },
  ];
  const high = loadElf(elf({ entry: vaddr, segments }), options);
  expect(high.entry).toBe(vaddr);
  expect(high.map).toEqual([{ gva: vaddr, gpa: 0x100000, bytes: 0x3000 }]);
  expect(loadElf(elf({ entry: 0x100002, segments }), options).entry).toBe(0x100002n);
  const clash = [segments[0]!, { vaddr, paddr: 0x102000, data: CODE }];
  expect(blame(elf({ entry: vaddr, segments: clash }))[0]).toBe("p_vaddr");
});

test("loadElf() maps each distance between linear and physical addresses once, and none that is no whole page", () => {
  const segments = [
    { vaddr: 0xffff_ffff_8020_0000n, paddr: 0x100000, data: CODE },
    { vaddr: 0xffff_ffff_8010_0000n, paddr: 0x110000, data: CODE },
    { vaddr: 0xffff_ffff_8000_0800n, paddr: 0x120000, data: CODE },
  ];
  const plan = loadElf(elf({ entry: segments[2]!.vaddr, segments }), options);
  expect(plan.map).toEqual([
    { gva: 0xffff_ffff_8020_0000n, gpa: 0x100000, bytes: 0x1000 },
    { gva: 0xffff_ffff_8010_0000n, gpa: 0x110000, bytes: 0x1000 },
  ]);
  expect(plan.entry).toBe(0x120000n);
});

test("loadElf() passes over a PT_LOAD header without bytes", () => {
  const empty = { paddr: 0x100001, data: new Uint8Array(0) };
  expect(loadElf(elf({ segments: [{ paddr: 0x100000, data: CODE }, empty] }), options).segments.length).toBe(1);
});

test("loadElf() starts a 32-bit kernel linked high at its physical address", () => {
  const segments = [{ vaddr: 0xc0100000, paddr: 0x100000, data: CODE }];
  expect(loadElf(elf({ wide: false, entry: 0xc0100002, segments }), options)).toMatchObject({
    entry: 0x100002n,
    map: [],
  });
});

test("loadElf() says which field of the header is wrong", () => {
  const good = elf();
  const cases: [string, Uint8Array][] = [
    ["e_ident", Uint8Array.of(1, 2, 3)],
    ["EI_CLASS", patched(good, 4, 3, 1)],
    ["EI_DATA", patched(good, 5, 2, 1)],
    ["EI_VERSION", patched(good, 6, 0, 1)],
    ["e_type", elf({ type: 1 })],
    ["e_type", elf({ type: 3 })],
    ["e_machine", elf({ machine: 183 })],
    ["e_machine", elf({ wide: false, machine: 62 })],
    ["e_entry", elf({ entry: 0x300000 })],
    ["e_entry", elf({ entry: 0x100004 })],
    ["e_entry", elf({ entry: 0xfffff })],
    ["e_phoff", patched(good, 32, 0x10000, 8)],
    ["e_phoff", patched(good, 32, 1n << 60n, 8)],
    ["e_phentsize", patched(good, 54, 32, 2)],
    ["e_phnum", patched(good, 56, 0, 2)],
    ["e_phoff", patched(good, 56, 0xffff, 2)],
    ["p_type", elf({ segments: [{ data: CODE, type: 4 }] })],
    ["p_type", elf({ segments: [{ data: CODE, type: 3 }] })],
    ["p_filesz", elf({ segments: [{ data: CODE, memsz: 3 }] })],
    ["p_offset", good.subarray(0, good.length - 1)],
    ["p_offset", patched(good, 64 + 8, 0xfffff, 8)],
    ["p_memsz of program header 0", elf({ segments: [{ data: CODE, memsz: 1n << 63n }] })],
    ["p_paddr", elf({ segments: [{ data: CODE, memsz: 1n << 51n }] })],
    ["p_paddr", elf({ segments: [{ data: CODE, paddr: 0x400000 }] })],
    ["e_shentsize", patched(patched(good, 40, 64, 8), 60, 1, 2)],
    ["e_shoff", patched(patched(patched(good, 40, good.length - 63, 8), 58, 64, 2), 60, 1, 2)],
    ["e_shoff", patched(patched(patched(good, 40, 0x5000, 8), 58, 64, 2), 60, 1, 2)],
  ];
  for (const [field, bytes] of cases)
    expect([field, blame(bytes)[1]]).toEqual([field, expect.stringContaining("Cannot load")]);
  expect(cases.map(([, bytes]) => blame(bytes)[0])).toEqual(cases.map(([field]) => field));
});

test("loadElf() says what is wrong in words, with the numbers", () => {
  expect(blame(elf({ segments: [{ data: CODE, memsz: 0x300001 }] }))[1]).toBe(
    'Cannot load "guest.elf" as its segment 0 (r-x) needs 0x100000 to 0x400001 and memory ends at 0x400000: give the guest more memory or link it lower',
  );
  const overlapping = [
    { paddr: 0x100000, data: CODE, memsz: 0x1001 },
    { paddr: 0x101000, data: CODE },
  ];
  expect(blame(elf({ segments: overlapping }))[1]).toBe(
    'Cannot load "guest.elf" as its segment 1 (r-x) at 0x101000 overlaps its segment 0 (r-x): link or place them apart',
  );
  expect(blame(elf({ type: 3 }))[1]).toContain("a shared object or PIE, not an executable: link it as an executable");
});

const C_SOURCE = `
int counter = 7;
char buffer[20000];
void helper(void) { counter++; buffer[counter] = 1; }
void _start(void) { helper(); for (;;) __asm__ volatile("hlt"); }
`;

function buildC(bits: 32 | 64, ...flags: string[]): Uint8Array {
  const compile = [
    "gcc",
    `-m${bits}`,
    "-ffreestanding",
    "-fno-pic",
    "-fno-pie",
    "-mno-red-zone",
    "-O1",
    "-c",
    "k.c",
    "-o",
    "k.o",
  ];
  const emulation = bits === 32 ? "elf_i386" : "elf_x86_64";
  const link = ["ld", "-m", emulation, "-no-pie", "-z", "noexecstack", "-z", "max-page-size=4096", "-e", "_start"];
  return buildFile({ "k.c": C_SOURCE }, [compile, [...link, ...flags, "k.o", "-o", "k.elf"]], "k.elf");
}

const noGcc = lacking("gcc", "ld");
test.skipIf(noGcc !== "")(`loadElf() loads what gcc and ld make, with its symbols${noGcc}`, () => {
  for (const bits of [32, 64] as const) {
    const bytes = buildC(bits, "-Ttext=0x100000");
    const plan = loadElf(bytes, options);
    const named = new Map(plan.symbols.map((symbol) => [symbol.name, symbol]));
    expect(named.get("_start")!.address).toBe(plan.entry);
    expect(plan.symbols.every(({ address }, index) => index === 0 || plan.symbols[index - 1]!.address <= address)).toBe(
      true,
    );
    const rights = plan.segments.map(({ what }) => what.replace(/segment \d+ /, ""));
    expect(rights).toContain("(r-x)");
    expect(rights).toContain("(rw-)");
    expect(named.get("buffer")).toMatchObject({ kind: "object", bytes: 20000 });
    const helper = named.get("helper")!;
    expect(helper.kind).toBe("function");
    expect(findSymbol(plan.symbols, helper.address + 1n)).toEqual({ symbol: helper, offset: 1n });
    const memory = arrayMemory(options.memoryBytes);
    placeGuest(plan, memory);
    expect(memory.bytes[Number(named.get("counter")!.address)]).toBe(7);
    // Cut anywhere, a real file is refused by name and never half loaded.
    for (const share of [0.01, 0.2, 0.5, 0.9, 0.999]) {
      expect(blame(bytes.subarray(0, Math.floor(bytes.length * share)))[0]).toBeDefined();
    }
  }
});

const noNm = lacking("gcc", "ld", "nm");
test.skipIf(noNm !== "")(`loadElf() reads the symbols that nm reads${noNm}`, () => {
  for (const bits of [32, 64] as const) {
    const bytes = buildC(bits, "-Ttext=0x100000");
    const { stdout } = Bun.spawnSync(["nm", "-n", "--defined-only", "/dev/stdin"], { stdin: bytes });
    const listed = stdout
      .toString()
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    const read = loadElf(bytes, options).symbols.map(({ name, address }) => `${name} ${address.toString(16)}`);
    expect(read.toSorted()).toEqual(
      listed.map(([address, , name]) => `${name} ${BigInt(`0x${address}`).toString(16)}`).toSorted(),
    );
    expect(listed.length).toBeGreaterThan(4);
  }
});

test.skipIf(noGcc !== "")(`loadElf() refuses a relocatable object and a PIE that gcc makes${noGcc}`, () => {
  const object = buildFile({ "k.c": C_SOURCE }, [["gcc", "-c", "k.c", "-o", "k.o"]], "k.o");
  expect(blame(object)).toEqual(["e_type", expect.stringContaining("a relocatable object")]);
  const pie = ["gcc", "-nostdlib", "-static-pie", "k.c", "-o", "k.elf"];
  expect(blame(buildFile({ "k.c": C_SOURCE }, [pie], "k.elf"))[0]).toBe("e_type");
});

test("loadElf() throws nothing but GuestError for mutated files (seeded fuzz)", () => {
  const random = randomFrom(0xe1f);
  const seeds = [true, false].map((wide) =>
    makeElf({
      wide,
      segments: [
        { paddr: 0x100000, data: random.bytes(64), memsz: 0x1000 },
        { paddr: 0x101000, data: random.bytes(64) },
      ],
    }),
  );
  let loaded = 0;
  for (let round = 0; round < 6000; round++) {
    const bytes = random.pick(seeds).slice(0, random.chance(0.2) ? random.below(300) : undefined);
    for (let count = 1 + random.below(4); count > 0; count--) {
      bytes[random.below(bytes.length)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    }
    const [field, message] = blame(bytes);
    if (field === undefined) loaded++;
    expect(message).not.toMatch(/undefined|NaN/);
  }
  expect(loaded).toBeGreaterThan(100);
});
