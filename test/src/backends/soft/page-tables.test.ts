import { expect, test } from "bun:test";
import { PageTables } from "../../../../src/backends/soft/page-tables.ts";

function tables(): { words: Int32Array; tables: PageTables; flushes: () => number } {
  const words = new Int32Array(16 * 1024);
  const made = new PageTables(words);
  let count = 0;
  made.flushes.add(() => count++);
  return { words, tables: made, flushes: () => count };
}

test("PageTables.note() empties TLBs for the first entry of a page alone", () => {
  const { tables: t, flushes } = tables();
  t.note(0x3008);
  t.note(0x3ff8);
  expect(flushes()).toBe(1);
  expect([0x2fff, 0x3000, 0x3fff, 0x4000].map((host) => t.isTable(host))).toEqual([false, true, true, false]);
});

test("PageTables.hits() is for present entries of noted pages, either half of them", () => {
  const { words, tables: t } = tables();
  words[0x3008 / 4] = 1;
  words[0x5008 / 4] = 1;
  t.note(0x3000);
  expect([0x3000, 0x3008, 0x300c, 0x300f, 0x3010].map((host) => t.hits(host, 1))).toEqual([
    false,
    true,
    true,
    true,
    false,
  ]);
  expect([t.hits(0x3000, 8), t.hits(0x3004, 8), t.hits(0x5008, 8)]).toEqual([false, true, false]);
});

test("PageTables.written() empties TLBs when a present entry changes, and forgets pages that are written as data", () => {
  const { words, tables: t, flushes } = tables();
  t.note(0x3000);
  t.written(0x3000, 4);
  expect(flushes()).toBe(1);
  words[0x3000 / 4] = 1;
  t.written(0x3000, 4);
  expect(flushes()).toBe(2);
  for (let i = 0; i < 5000; i++) t.written(0x3010, 4);
  expect([flushes(), t.isTable(0x3000)]).toEqual([3, false]);
});

test("PageTables.plain() is for writes that change no present entry, until they are too many", () => {
  const { words, tables: t, flushes } = tables();
  words[0x3008 / 4] = 1;
  t.note(0x3000);
  expect([t.plain(0x3000, 8), t.plain(0x3008, 8)]).toEqual([true, false]);
  let plain = 0;
  while (plain < 10_000 && t.plain(0x3010, 4)) plain++;
  expect(plain).toBeLessThan(5000);
  t.written(0x3010, 4);
  expect([flushes(), t.isTable(0x3000)]).toEqual([2, false]);
});
