import { expect, test } from "bun:test";
import { CodeTracker } from "../../../../src/backends/soft/code/tracker.ts";
import { type PagingState, quickWalk, walk } from "../../../../src/backends/soft/paging.ts";
import type { SoftVm } from "../../../../src/backends/soft/vm.ts";
import { createVm } from "../../../../src/index.ts";
import { Random } from "./oracle/random.ts";

/** A page of PAE's directory pointers, then tables. */
const POINTERS = 0xf000;
const TABLES = 0x10000;
const TABLES_END = 0x20000;
const FORMATS = ["32-bit", "pae", "long"] as const;

/** Entries that mostly lead to another table, with rights and reserved bits by chance. */
function fill(words: DataView, wide: boolean, r: Random): void {
  for (let at = POINTERS; at < TABLES; at += 8) {
    const target = TABLES + r.below(16) * 0x1000;
    words.setUint32(at, target | (r.chance(6) ? r.below(0x200) : 1), true);
    words.setUint32(at + 4, r.chance(8) ? r.pick([0x80000000, 1, 0x100]) : 0, true);
  }
  for (let at = TABLES; at < TABLES_END; at += 4) {
    if (wide && at % 8 === 4) {
      words.setUint32(at, r.chance(30) ? r.pick([0x80000000, 0x100, 1, 0x40000000]) : 0, true);
      continue;
    }
    const flags = r.chance(3) ? r.below(0x200) : 0x27 | (r.below(2) << 6) | (r.chance(5) ? 0x80 : 0);
    const target = r.chance(20) ? r.next() & ~0xfff : TABLES + r.below(16) * 0x1000;
    words.setUint32(at, (target | flags) >>> 0, true);
  }
}

function stateOf(format: (typeof FORMATS)[number], r: Random): PagingState {
  const [long, wide] = [format === "long", format !== "32-bit"];
  const bit = (number: number) => (r.chance(2) ? 1 << number : 0);
  return {
    cr0: (1 << 31) | bit(16),
    cr4: (wide ? 0x20 : 0) | bit(4) | bit(21) | (long ? bit(12) : 0),
    efer: (long ? 0x400 : 0) | bit(11),
    root: format === "pae" ? POINTERS + r.below(128) * 32 : TABLES + r.below(16) * 0x1000,
    ac: r.chance(2),
  };
}

for (const format of FORMATS) {
  test(`quickWalk() finds the page that walk() finds, or asks it to: ${format} tables by chance`, () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
    const { ram } = vm.engine as SoftVm;
    const memory = { ram, tracker: new CodeTracker() };
    const r = new Random(5);
    const words = new DataView(new ArrayBuffer(TABLES_END));
    let answered = 0;
    for (let round = 0; round < 20; round++) {
      fill(words, format !== "32-bit", r);
      vm.memory.write(POINTERS, new Uint8Array(words.buffer, POINTERS));
      const state = stateOf(format, r);
      for (let i = 0; i < 300; i++) {
        const low = r.next() | 0;
        const high = format === "long" ? r.next() | 0 : 0;
        const [write, user] = [r.chance(2), r.chance(2)];
        const page = quickWalk(ram, state, low, high, write, user);
        if (page < 0) continue;
        answered++;
        const found = walk(memory, state, low, high, { write, user, execute: false, system: false, mark: "no" });
        expect(found).toMatchObject({ ok: true, page });
      }
    }
    expect(answered).toBeGreaterThan(50);
  });
}
