import { describe, expect, test } from "bun:test";
import { CapabilityError, MemoryError } from "../../src/errors.ts";
import { GuestMemory, type MemorySlot } from "../../src/memory.ts";
import { FakeBackend, type FakeVm } from "./fake-backend.ts";

/** Memory of a fake engine with slots at the given places. */
function memoryWith(
  places: readonly (readonly [gpa: number, bytes: number])[],
  changes: ConstructorParameters<typeof FakeBackend>[0] = {},
): { memory: GuestMemory; vm: FakeVm; slots: MemorySlot[] } {
  const backend = new FakeBackend(changes);
  const vm = backend.createVm();
  const memory = new GuestMemory(vm, backend);
  const slots = places.map(([gpa, bytes]) => memory.add({ gpa, bytes }));
  return { memory, vm, slots };
}

/** Two slots that touch at 0x2000, and a third behind a gap. */
const touching = () =>
  memoryWith([
    [0, 0x2000],
    [0x2000, 0x1000],
    [0x10000, 0x1000],
  ]);

describe("GuestMemory.add()", () => {
  for (const [gpa, bytes] of [
    [0, 0],
    [0, -4096],
    [0, 4095],
    [0, Number.NaN],
    [0, Number.POSITIVE_INFINITY],
    [-4096, 4096],
    [1, 4096],
    [0.5, 4096],
    [Number.NaN, 4096],
    [2 ** 52, 4096],
    [2 ** 52 - 4096, 8192],
  ] as const) {
    test(`refuses ${bytes} bytes at ${gpa} as RangeError, before any memory is allocated`, () => {
      const { memory, vm } = memoryWith([]);
      expect(() => memory.add({ gpa, bytes })).toThrow(RangeError);
      expect(vm.memories).toEqual([]);
    });
  }

  for (const [what, gpa, bytes] of [
    ["its first page", 0x3000, 0x2000],
    ["its last page", 0x6000, 0x4000],
    ["its middle", 0x5000, 0x1000],
    ["all of it", 0x1000, 0x10000],
    ["exactly it", 0x4000, 0x3000],
  ] as const) {
    test(`refuses a range that covers ${what} of a slot, naming both, before any memory is allocated`, () => {
      const { memory, vm } = memoryWith([[0x4000, 0x3000]]);
      expect(() => memory.add({ gpa, bytes })).toThrow(MemoryError);
      expect(() => memory.add({ gpa, bytes })).toThrow(`0x${gpa.toString(16)}`);
      expect(() => memory.add({ gpa, bytes })).toThrow("0x4000-0x6fff");
      expect(vm.memories.length).toBe(1);
    });
  }

  test("takes ranges that only touch", () => {
    const { memory } = memoryWith([[0x4000, 0x1000]]);
    memory.add({ gpa: 0x5000, bytes: 0x1000 });
    memory.add({ gpa: 0x3000, bytes: 0x1000 });
    expect(memory.slots.map(({ gpa }) => gpa)).toEqual([0x3000, 0x4000, 0x5000]);
    expect([memory.bytes, memory.end]).toEqual([0x3000, 0x6000]);
  });

  test("refuses more slots than the backend has, by number, and takes one again when one is freed", () => {
    const { memory, vm, slots } = memoryWith(
      [
        [0, 4096],
        [8192, 4096],
      ],
      { maxSlots: 2 },
    );
    const third = { gpa: 0x10000, bytes: 4096 };
    expect(() => memory.add(third)).toThrow(/slot 2.*soft backend has 2 slots/);
    expect(vm.memories.length).toBe(2);
    slots[0]?.[Symbol.dispose]();
    expect(memory.add(third).slot).toBe(0);
  });

  test("frees the memory again when the engine refuses the slot", () => {
    const { memory, vm } = memoryWith([]);
    vm.mapError = new Error("no");
    expect(() => memory.add({ gpa: 0, bytes: 4096 })).toThrow("no");
    expect([vm.memories[0]?.disposals, memory.slots.length]).toEqual([1, 0]);
  });

  test("refuses read-only and logged slots by name where the backend has none", () => {
    const { memory } = memoryWith([], { readOnlyMemory: false, dirtyLog: false });
    expect(() => memory.add({ gpa: 0, bytes: 4096, readOnly: true })).toThrow(CapabilityError);
    expect(() => memory.add({ gpa: 0, bytes: 4096, logDirty: true })).toThrow("dirty log");
  });

  test("hands hugePages and noReserve on to the engine", () => {
    const { memory, vm } = memoryWith([]);
    memory.add({ gpa: 0, bytes: 4096, hugePages: true, noReserve: true });
    expect(vm.allocations[0]).toMatchObject({ hugePages: true, noReserve: true });
  });
});

describe("GuestMemory reads and writes", () => {
  test("values of every width round-trip at every distance from a border, little-endian", () => {
    const { memory } = touching();
    for (let gpa = 0x2000 - 8; gpa <= 0x2000; gpa++) {
      memory.writeU64(gpa, 0x8877665544332211n);
      expect(memory.readU64(gpa)).toBe(0x8877665544332211n);
      expect([memory.readU32(gpa), memory.readU16(gpa), memory.readU8(gpa)]).toEqual([0x44332211, 0x2211, 0x11]);
      memory.writeU32(gpa, 0xddccbbaa);
      memory.writeU16(gpa, 0x1234);
      memory.writeU8(gpa, 0x99);
      expect([...memory.read(gpa, 8)]).toEqual([0x99, 0x12, 0xcc, 0xdd, 0x55, 0x66, 0x77, 0x88]);
    }
  });

  const BAD: readonly [gpa: number, length: number, gap: string][] = [
    [0x3000, 1, "0x3000"],
    [0x2fff, 2, "0x3000"],
    [0x1fff, 0x2000, "0x3000"],
    [0xffff, 2, "0xffff"],
    [0x10fff, 2, "0x11000"],
    [-1, 1, "0x-1"],
    [-4096, 8192, "0x-1000"],
    [0.5, 1, "0x0.8"],
    [Number.NaN, 1, "NaN"],
    [2 ** 53, 1, "0x20000000000000"],
  ];
  for (const [gpa, length, gap] of BAD) {
    test(`${length} bytes at ${gpa} are refused by every access, naming the first that nothing backs, and nothing is written`, () => {
      const { memory } = touching();
      const before = memory.slots.map(({ data }) => data.slice());
      for (const access of [
        () => memory.read(gpa, length),
        () => memory.readInto(gpa, new Uint8Array(length)),
        () => memory.write(gpa, new Uint8Array(length).fill(1)),
        () => memory.fill(gpa, length, 1),
        () => memory.copy(0, gpa, length),
        () => memory.copy(gpa, 0, length),
      ]) {
        expect(access).toThrow(MemoryError);
        expect(access).toThrow(gap);
      }
      expect(memory.has(gpa, length)).toBe(false);
      expect(memory.slots.map(({ data }) => data.slice())).toEqual(before);
    });
  }

  for (const gpa of [-1, 0x3000, 0x11000, 0.5, 2.25, Number.NaN, Number.POSITIVE_INFINITY]) {
    test(`single values at ${gpa} are refused, read and written, also right after a good access`, () => {
      const { memory } = touching();
      for (const access of [
        () => memory.readU8(gpa),
        () => memory.readU16(gpa),
        () => memory.readU32(gpa),
        () => memory.readU64(gpa),
        () => memory.writeU8(gpa, 1),
        () => memory.writeU16(gpa, 1),
        () => memory.writeU32(gpa, 1),
        () => memory.writeU64(gpa, 1n),
        () => memory.view(gpa, 1),
      ]) {
        memory.readU8(0);
        expect(access).toThrow(MemoryError);
      }
    });
  }

  test("an access of no bytes is possible anywhere", () => {
    const { memory } = touching();
    expect(memory.read(0x3000, 0)).toEqual(new Uint8Array(0));
    memory.write(0x3000, new Uint8Array(0));
    memory.fill(0x9000, 0, 1);
    expect(memory.has(0x9000, 0)).toBe(true);
  });

  test("fill() and copy() cross borders", () => {
    const { memory } = touching();
    memory.fill(0x1ffe, 4, 0xab);
    expect([...memory.read(0x1ffd, 6)]).toEqual([0, 0xab, 0xab, 0xab, 0xab, 0]);
    memory.write(0x1ff0, Uint8Array.of(1, 2, 3, 4));
    memory.copy(0x1ff0, 0x1ffe, 4);
    expect([...memory.read(0x1ffe, 4)]).toEqual([1, 2, 3, 4]);
  });

  test("copy() of ranges that overlap moves what was there before, in both directions", () => {
    const { memory } = touching();
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i);
    memory.write(0x1ff8, bytes);
    memory.copy(0x1ff8, 0x1ffc, 16);
    expect(memory.read(0x1ffc, 16)).toEqual(bytes);
    memory.copy(0x1ffc, 0x1ff8, 16);
    expect(memory.read(0x1ff8, 16)).toEqual(bytes);
  });

  test("view() is the memory itself, and is refused across a border", () => {
    const { memory } = touching();
    memory.view(0x1000, 4)[3] = 7;
    expect(memory.readU8(0x1003)).toBe(7);
    expect(() => memory.view(0x1fff, 2)).toThrow(/slot ends at 0x2000/);
  });

  test("errors say what memory there is, or that there is none", () => {
    expect(() => touching().memory.readU8(0x5000)).toThrow("0x0-0x1fff, 0x2000-0x2fff, 0x10000-0x10fff");
    expect(() => memoryWith([]).memory.readU8(0)).toThrow("add a memory slot first");
  });
});

describe("GuestMemory.readCString()", () => {
  test("ends at NUL, across a border, decoding UTF-8", () => {
    const { memory } = touching();
    const text = new TextEncoder().encode("grüße\0hidden");
    memory.write(0x1ffd, text);
    expect(memory.readCString(0x1ffd)).toBe("grüße");
  });

  test("ends at maxBytes where no NUL comes", () => {
    const { memory } = touching();
    memory.fill(0, 0x1000, 0x41);
    expect(memory.readCString(0, 8)).toBe("AAAAAAAA");
    expect(memory.readCString(0).length).toBe(4096);
    expect(memory.readCString(0, 0)).toBe("");
  });

  test("is refused when memory ends before the string does", () => {
    const { memory } = touching();
    memory.fill(0x2ff0, 16, 0x41);
    expect(() => memory.readCString(0x2ff0)).toThrow(MemoryError);
  });
});

describe("GuestMemory.find()", () => {
  test("finds the first of several, within a slot, across a border and behind a gap", () => {
    const { memory } = touching();
    memory.write(0x10010, Uint8Array.of(1, 2, 3));
    expect(memory.find(Uint8Array.of(1, 2, 3))).toBe(0x10010);
    memory.write(0x1fff, Uint8Array.of(1, 2, 3));
    expect(memory.find(Uint8Array.of(1, 2, 3))).toBe(0x1fff);
    memory.write(0x100, Uint8Array.of(1, 2, 3));
    expect(memory.find(Uint8Array.of(1, 2, 3))).toBe(0x100);
    expect(memory.find("nowhere")).toBeUndefined();
  });

  test("keeps within from and to", () => {
    const { memory } = touching();
    memory.write(0x1fff, new TextEncoder().encode("key"));
    expect(memory.find("key", { from: 0x1fff })).toBe(0x1fff);
    expect(memory.find("key", { from: 0x2000 })).toBeUndefined();
    expect(memory.find("key", { to: 0x2002 })).toBe(0x1fff);
    expect(memory.find("key", { to: 0x2001 })).toBeUndefined();
  });

  test("does not join slots over a gap", () => {
    const { memory } = touching();
    memory.writeU8(0x2fff, 0xaa);
    memory.writeU8(0x10000, 0xbb);
    expect(memory.find(Uint8Array.of(0xaa, 0xbb))).toBeUndefined();
  });

  test("finds a pattern longer than the slots it lies in, next to a gap on either side", () => {
    const { memory } = memoryWith([
      [0x8000, 0x1000],
      [0x9000, 0x1000],
      [0xa000, 0x1000],
      [0x20000, 0x4000],
    ]);
    const pattern = Uint8Array.from({ length: 0x1800 }, (_, i) => (i % 251) + 1);
    memory.write(0x8900, pattern);
    expect(memory.find(pattern)).toBe(0x8900);
    memory.fill(0x8000, 0x3000, 0);
    memory.write(0x9700, pattern);
    expect(memory.find(pattern)).toBe(0x9700);
  });

  test("refuses an empty pattern", () => {
    expect(() => touching().memory.find("")).toThrow(RangeError);
  });
});

describe("GuestMemory.alias() and remove()", () => {
  test("both places show the same bytes, and the memory goes with the last of them", () => {
    const { memory, vm, slots } = memoryWith([[0, 0x4000]]);
    const ram = slots[0] as MemorySlot;
    const alias = memory.alias({ gpa: 0x100000, of: ram, offset: 0x3000 });
    expect(alias.bytes).toBe(0x1000);
    memory.writeU8(0x100010, 0x5a);
    expect(memory.readU8(0x3010)).toBe(0x5a);
    const again = memory.alias({ gpa: 0x200000, of: alias });
    expect(vm.slots.get(again.slot)).toMatchObject({ gpa: 0x200000, offset: 0x3000, bytes: 0x1000 });
    memory.remove(ram);
    expect([memory.readU8(0x200010), vm.memories[0]?.disposals]).toEqual([0x5a, 0]);
    alias[Symbol.dispose]();
    again[Symbol.dispose]();
    again[Symbol.dispose]();
    expect(vm.memories[0]?.disposals).toBe(1);
    expect([ram.data.length, alias.data.length, again.data.length]).toEqual([0, 0, 0]);
  });

  test("refuses a part outside the slot, a misaligned part, and a slot of another guest", () => {
    const { memory, slots } = memoryWith([[0, 0x4000]]);
    const of = slots[0] as MemorySlot;
    for (const part of [{ offset: 0x4000 }, { offset: 0x3000, bytes: 0x2000 }, { offset: 1 }, { offset: -4096 }]) {
      expect(() => memory.alias({ gpa: 0x100000, of, ...part })).toThrow(RangeError);
    }
    expect(() => memory.alias({ gpa: 0x100000, of: memoryWith([[0, 4096]]).slots[0] as MemorySlot })).toThrow(
      "not part of this guest",
    );
    of[Symbol.dispose]();
    expect(() => memory.alias({ gpa: 0x100000, of })).toThrow(RangeError);
  });

  test("a removed slot is gone for every access, also for the one that used it last", () => {
    const { memory, vm, slots } = touching();
    memory.readU8(0x2000);
    slots[1]?.[Symbol.dispose]();
    expect(() => memory.readU8(0x2000)).toThrow(MemoryError);
    expect(vm.slots.size).toBe(2);
  });

  test("dispose frees every memory once, and nothing is backed any more", () => {
    const { memory, vm, slots } = touching();
    memory[Symbol.dispose]();
    memory[Symbol.dispose]();
    expect([memory.bytes, memory.end, ...slots.map(({ data }) => data.length)]).toEqual([0, 0, 0, 0, 0]);
    expect(() => memory.readU8(0)).toThrow(MemoryError);
    expect(vm.memories.map(({ disposals }) => disposals)).toEqual([1, 1, 1]);
  });
});

describe("GuestMemory.dirtyPages()", () => {
  /** Ranges told for a log with the given pages set. */
  function ranges(pages: number, dirty: readonly number[]): [first: number, count: number][] {
    const { memory, vm } = memoryWith([]);
    const slot = memory.add({ gpa: 0x100000, bytes: pages * 4096, logDirty: true });
    const bitmap = new Uint32Array(Math.ceil(pages / 64) * 2);
    for (const page of dirty) bitmap[page >>> 5] = ((bitmap[page >>> 5] ?? 0) | (1 << (page & 31))) >>> 0;
    vm.dirty.set(slot.slot, bitmap);
    return [...memory.dirtyPages(slot)].map(({ gpa, bytes }) => [(gpa - 0x100000) / 4096, bytes / 4096]);
  }
  const span = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

  for (const [what, pages, dirty, expected] of [
    ["nothing", 100, [], []],
    ["one page", 1, [0], [[0, 1]]],
    ["both sides of a word border as one range", 64, [31, 32], [[31, 2]]],
    ["both sides of a 64-bit border as one range", 200, [63, 64], [[63, 2]]],
    ["a whole word and no more", 96, span(32, 64), [[32, 32]]],
    ["the last page of a slot that fills its words", 64, [63], [[63, 1]]],
    ["the last page of one that does not", 65, [64], [[64, 1]]],
    ["everything as one range", 130, span(0, 130), [[0, 130]]],
    [
      "ranges apart by a clean page",
      40,
      [0, 2, 3],
      [
        [0, 1],
        [2, 2],
      ],
    ],
    ["a page behind many clean words", 4096, [4000], [[4000, 1]]],
    [
      "a page a clean word behind a range that ends at a border",
      96,
      [31, 64],
      [
        [31, 1],
        [64, 1],
      ],
    ],
    ["a page right behind a skipped word", 96, [32], [[32, 1]]],
  ] as const) {
    test(`tells ${what}`, () => {
      expect(ranges(pages, dirty)).toEqual(expected as unknown as [number, number][]);
    });
  }

  test("passes over bits behind the slot's end", () => {
    expect(ranges(3, [2, 3, 4])).toEqual([[2, 1]]);
  });

  test("asks every slot that logs, lowest first, and refuses one that does not", () => {
    const { memory, vm } = memoryWith([[0, 4096]]);
    const high = memory.add({ gpa: 0x20000, bytes: 4096, logDirty: true });
    const low = memory.add({ gpa: 0x10000, bytes: 4096, logDirty: true });
    for (const { slot } of [high, low]) vm.dirty.set(slot, Uint32Array.of(1, 0));
    expect([...memory.dirtyPages()].map(({ gpa }) => gpa)).toEqual([0x10000, 0x20000]);
    expect(() => [...memory.dirtyPages(memory.slots[0])]).toThrow(CapabilityError);
  });
});
