import { expect, test } from "bun:test";
import { arrayMemory, buildPageTables, type PageMapping } from "../../../src/boot/index.ts";
import type { PageTableOptions } from "../../../src/boot/page-tables.ts";
import { walkPages } from "../../../src/inspect/walk.ts";
import { FORMATS, randomMappings, stateOf } from "./mappings.ts";
import { randomFrom } from "./random.ts";

const GIB = 0x4000_0000;
const MIB = 0x10_0000;

function build(ranges: readonly PageMapping[], options: PageTableOptions) {
  const tables = buildPageTables(ranges, options);
  const memory = arrayMemory(options.gpa + tables.bytes.length);
  memory.write(tables.root, tables.bytes);
  const state = stateOf(options.format, tables.root);
  return { tables, memory, walk: (gva: bigint) => walkPages(memory, state, gva) };
}

test("buildPageTables() maps 4 GiB with the fewest tables each format allows", () => {
  const all = [{ gva: 0, gpa: 0, bytes: 4 * GIB }];
  const count = (options: Omit<PageTableOptions, "gpa">) =>
    buildPageTables(all, { ...options, gpa: 0x1000 }).tables.length;
  expect(count({ format: "pse" })).toBe(1);
  expect(count({ format: "pae" })).toBe(5);
  expect(count({ format: "4-level" })).toBe(6);
  expect(count({ format: "4-level", pageBytes: GIB })).toBe(2);
  expect(count({ format: "5-level", pageBytes: GIB })).toBe(3);
  expect(count({ format: "32-bit" })).toBe(1025);
});

test("buildPageTables() names its tables in the order they lie", () => {
  const { tables } = build([{ gva: 0x1000, gpa: 0x5000, bytes: 0x1000 }], { format: "4-level", gpa: 0x2000 });
  expect(tables.tables).toEqual([
    { gpa: 0x2000, table: "PML4" },
    { gpa: 0x3000, table: "PDPT" },
    { gpa: 0x4000, table: "page directory" },
    { gpa: 0x5000, table: "page table" },
  ]);
  expect(tables.pages).toEqual(new Map([[4096, 1]]));
});

test("buildPageTables() falls back to smaller pages where a large one would not be aligned", () => {
  const { tables, walk } = build([{ gva: 2 * MIB, gpa: 3 * MIB, bytes: 4 * MIB }], { format: "4-level", gpa: 0x1000 });
  expect(tables.pages).toEqual(new Map([[4096, 1024]]));
  expect(walk(BigInt(5 * MIB + 0x123)).gpa).toBe(6 * MIB + 0x123);
  const ragged = build([{ gva: 0x1ff000, gpa: 0x1ff000, bytes: 0x202000 }], { format: "4-level", gpa: 0x1000 });
  expect(ragged.tables.pages).toEqual(
    new Map([
      [4096, 2],
      [0x200000, 1],
    ]),
  );
});

test("buildPageTables() joins neighbours that map on alike into large pages", () => {
  const halves = [MIB, 0].map((at) => ({ gva: at, gpa: at, bytes: MIB }));
  const { tables } = build(halves, { format: "4-level", gpa: 0x1000 });
  expect(tables.pages).toEqual(new Map([[0x200000, 1]]));
  const moved = [3 * MIB, 2 * MIB].map((at) => ({ gva: at, gpa: at + 0x4000_0000, bytes: MIB }));
  expect(buildPageTables(moved, { format: "4-level", gpa: 0x1000 }).pages).toEqual(new Map([[0x200000, 1]]));
  const apart = buildPageTables([moved[0]!, { ...moved[1]!, gpa: 0 }], { format: "4-level", gpa: 0x1000 });
  expect(apart.pages).toEqual(new Map([[4096, 512]]));
  const unlike = buildPageTables([halves[0]!, { ...halves[1]!, user: true }], { format: "4-level", gpa: 0x1000 });
  expect(unlike.pages).toEqual(new Map([[4096, 512]]));
});

test("buildPageTables() reaches the high half, physical addresses above 4 GiB and 57-bit addresses", () => {
  const high = build([{ gva: 0xffff_ffff_8000_0000n, gpa: 0x1_2345_6000, bytes: 0x1000 }], {
    format: "4-level",
    gpa: 0,
  });
  expect(high.walk(0xffff_ffff_8000_0abcn).gpa).toBe(0x1_2345_6abc);
  const five = build([{ gva: 0xff00_0000_0000_0000n, gpa: 2 ** 51, bytes: 0x1000 }], { format: "5-level", gpa: 0 });
  expect(five.walk(0xff00_0000_0000_0001n).gpa).toBe(2 ** 51 + 1);
  const pse36 = build([{ gva: 0, gpa: 0x12_0040_0000, bytes: 4 * MIB }], { format: "pse", gpa: 0 });
  expect(pse36.walk(0x12345n).gpa).toBe(0x12_0041_2345);
});

test("buildPageTables() gives each page its own rights, whatever its neighbours have", () => {
  const { walk } = build(
    [
      { gva: 0x1000, gpa: 0x1000, bytes: 0x1000, writable: false, noExecute: true },
      { gva: 0x2000, gpa: 0x2000, bytes: 0x1000, user: true },
    ],
    { format: "4-level", gpa: 0x10000 },
  );
  expect(walk(0x1000n).page).toMatchObject({ writable: false, user: false, executable: false });
  expect(walk(0x2000n).page).toMatchObject({ writable: true, user: true, executable: true });
  expect(walk(0x3000n).stop).toEqual({ kind: "notPresent", entry: "PTE" });
});

test("buildPageTables() sets the bits asked for in the page's entry, and only write and user rights above it", () => {
  const entry = (change: Partial<PageMapping>) => {
    const page = { gva: 0, gpa: 0x5000, bytes: 0x1000, ...change };
    const { bytes } = buildPageTables([page], { format: "4-level", gpa: 0 });
    const view = new DataView(bytes.buffer);
    return [0x3000, 0x2000, 0].map((at) => view.getBigUint64(at, true));
  };
  expect(entry({})).toEqual([0x5003n, 0x3003n, 0x1003n]);
  expect(entry({ writable: false })).toEqual([0x5001n, 0x3001n, 0x1001n]);
  expect(entry({ user: true })).toEqual([0x5007n, 0x3007n, 0x1007n]);
  expect(entry({ writeThrough: true })).toEqual([0x500bn, 0x3003n, 0x1003n]);
  expect(entry({ cacheDisable: true })).toEqual([0x5013n, 0x3003n, 0x1003n]);
  expect(entry({ global: true })).toEqual([0x5103n, 0x3003n, 0x1003n]);
  expect(entry({ noExecute: true })).toEqual([0x8000_0000_0000_5003n, 0x3003n, 0x1003n]);
});

test("buildPageTables() refuses overlaps, misalignment, and what a format cannot say", () => {
  const refuse = (ranges: PageMapping[], options: Omit<PageTableOptions, "gpa">, gpa = 0) =>
    expect(() => buildPageTables(ranges, { ...options, gpa })).toThrow(RangeError);
  const page = { gva: 0x1000, gpa: 0, bytes: 0x1000 };
  const long = { format: "4-level" } as const;
  refuse([page, { ...page, gpa: 0x9000 }], long);
  refuse([{ ...page, gva: 0x1001 }], long);
  refuse([{ ...page, bytes: 0 }], long);
  refuse([{ ...page, gpa: -0x1000 }], long);
  refuse([{ ...page, gpa: 2 ** 52 }], long);
  refuse([{ ...page, gva: 1n << 47n }], long);
  refuse([{ ...page, gva: 0x7fff_ffff_f000n, bytes: 0x2000 }], long);
  refuse([{ ...page, gva: 0xffff_f000, bytes: 0x2000 }], { format: "pae" });
  refuse([{ ...page, noExecute: true }], { format: "pse" });
  refuse([{ ...page, gpa: 2 ** 32 }], { format: "pse" });
  refuse([page], { ...long, pageBytes: 0x400000 });
  refuse([page], long, 0x800);
});

test("buildPageTables() and walkPages() agree on random mappings of all five formats", () => {
  const random = randomFrom(0x9a6e);
  for (let round = 0; round < 60; round++) {
    const format = FORMATS[round % 5]!;
    const mappings = randomMappings(random, format);
    const { walk } = build(mappings, { format, gpa: 0x3000 });
    for (const mapping of mappings) {
      for (const offset of [0, mapping.bytes - 1, random.below(mapping.bytes)]) {
        const found = walk(BigInt(mapping.gva) + BigInt(offset));
        expect([round, found.gpa]).toEqual([round, mapping.gpa + offset]);
        expect(found.page).toMatchObject({
          writable: mapping.writable!,
          user: mapping.user!,
          executable: !mapping.noExecute,
        });
      }
      expect(walk(BigInt(mapping.gva) + BigInt(mapping.bytes)).stop?.kind).toBe("notPresent");
    }
  }
});
