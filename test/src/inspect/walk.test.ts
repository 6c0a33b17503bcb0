import { expect, test } from "bun:test";
import { arrayMemory, buildPageTables, CR0, CR4, EFER, type PageMapping } from "../../../src/boot/index.ts";
import { formatWalk, type PagingState, pagingFormat, pagingStateOf, walkPages } from "../../../src/inspect/walk.ts";
import { randomFrom } from "../boot/random.ts";

const LONG: PagingState = {
  cr0: CR0.PE | CR0.PG | CR0.WP,
  cr3: 0x1000n,
  cr4: CR4.PAE,
  efer: EFER.LME | EFER.LMA | EFER.NXE,
};

function longMemory(...mappings: PageMapping[]) {
  const tables = buildPageTables(mappings, { format: "4-level", gpa: 0x1000 });
  const memory = arrayMemory(0x8000);
  memory.write(0x1000, tables.bytes);
  return memory;
}
const page = (rights: Partial<PageMapping>) => longMemory({ gva: 0, gpa: 0x7000, bytes: 0x1000, ...rights });

/** Changes the 8-byte entry at `gpa`. */
function poke(memory: ReturnType<typeof arrayMemory>, gpa: number, change: (value: bigint) => bigint) {
  const view = new DataView(memory.bytes.buffer);
  view.setBigUint64(gpa, change(view.getBigUint64(gpa, true)), true);
  return memory;
}

test("pagingFormat() follows CR0.PG, CR4.PSE, CR4.PAE, EFER and CR4.LA57", () => {
  const { cr0 } = LONG;
  expect(pagingFormat({ cr0: CR0.PE, cr4: CR4.PAE, efer: 0n })).toBe("none");
  expect(pagingFormat({ cr0, cr4: 0n, efer: 0n })).toBe("32-bit");
  expect(pagingFormat({ cr0, cr4: CR4.PSE, efer: 0n })).toBe("pse");
  expect(pagingFormat({ cr0, cr4: CR4.PSE | CR4.PAE, efer: 0n })).toBe("pae");
  expect(pagingFormat(LONG)).toBe("4-level");
  expect(pagingFormat({ ...LONG, cr4: CR4.PAE | CR4.LA57 })).toBe("5-level");
});

test("walkPages() returns every level's entry on the way", () => {
  const walk = walkPages(page({ user: true }), LONG, 0x123n);
  expect(walk.steps.map(({ entry, tableGpa, index, targetGpa }) => [entry, tableGpa, index, targetGpa])).toEqual([
    ["PML4E", 0x1000, 0, 0x2000],
    ["PDPTE", 0x2000, 0, 0x3000],
    ["PDE", 0x3000, 0, 0x4000],
    ["PTE", 0x4000, 0, 0x7000],
  ]);
  expect(walk.gpa).toBe(0x7123);
  expect(walk.steps[3]).toMatchObject({ value: 0x7007n, entryGpa: 0x4000, pageBytes: 4096, flags: { user: true } });
  expect(formatWalk(walk)).toBe(
    [
      "GVA 0x123, 4-level paging",
      "PML4E 0x1000[0] = 0x2007 P W U",
      "PDPTE 0x2000[0] = 0x3007 P W U",
      "PDE   0x3000[0] = 0x4007 P W U",
      "PTE   0x4000[0] = 0x7007 P W U",
      "→ GPA 0x7123 (4 KiB page)",
    ].join("\n"),
  );
});

test("walkPages() passes addresses through when paging is off", () => {
  const walk = walkPages(arrayMemory(0), { cr0: CR0.PE, cr3: 0n, cr4: 0n, efer: 0n }, 0x1234n, { kind: "write" });
  expect(walk).toMatchObject({ format: "none", gpa: 0x1234, stop: undefined });
});

test("walkPages() denies each access by the rule that forbids it, with the error code of the fault", () => {
  const ask = (
    rights: Partial<PageMapping>,
    access: Parameters<typeof walkPages>[3],
    state: Partial<PagingState> = {},
  ) => {
    const { stop, errorCode } = walkPages(page(rights), { ...LONG, ...state }, 0n, access);
    return [stop?.kind === "permission" ? `${stop.rule} ${stop.entry}` : stop, errorCode];
  };
  const smep = { cr4: CR4.PAE | CR4.SMEP };
  const smap = { cr4: CR4.PAE | CR4.SMAP };
  const fine = [undefined, undefined];
  expect(ask({}, { kind: "read", user: true })).toEqual(["user PML4E", 5]);
  expect(ask({ user: true, writable: false }, { kind: "write", user: true })).toEqual(["write PML4E", 7]);
  expect(ask({ writable: false }, { kind: "write" })).toEqual(["write PML4E", 3]);
  expect(ask({ writable: false }, { kind: "write" }, { cr0: CR0.PE | CR0.PG })).toEqual(fine);
  expect(ask({ user: true, writable: false }, { kind: "write", user: true }, { cr0: CR0.PE | CR0.PG })[1]).toBe(7);
  expect(ask({ noExecute: true }, { kind: "execute" })).toEqual(["NX PTE", 17]);
  expect(ask({ user: true }, { kind: "execute" }, smep)).toEqual(["SMEP PTE", 17]);
  expect(ask({ user: true }, { kind: "execute", user: true }, smep)).toEqual(fine);
  expect(ask({}, { kind: "execute" }, smep)).toEqual(fine);
  expect(ask({ user: true }, { kind: "read" }, smap)).toEqual(["SMAP PTE", 1]);
  expect(ask({ user: true }, { kind: "write" }, { ...smap, alignmentCheck: true })).toEqual(fine);
  expect(ask({ user: true }, undefined, smap)).toEqual(fine);
});

test("walkPages() tells a fetch in the error code only where the processor does, and each other bit by its cause", () => {
  const code = (state: Partial<PagingState>, access: Parameters<typeof walkPages>[3]) =>
    walkPages(arrayMemory(0x4000), { ...LONG, ...state }, 0n, access).errorCode;
  expect(code({}, undefined)).toBe(0);
  expect(code({}, { kind: "read" })).toBe(0);
  expect(code({}, { kind: "write" })).toBe(2);
  expect(code({}, { kind: "read", user: true })).toBe(4);
  expect(code({}, { kind: "execute" })).toBe(16);
  expect(code({ efer: EFER.LME | EFER.LMA }, { kind: "execute" })).toBe(0);
  expect(code({ efer: EFER.LME | EFER.LMA, cr4: CR4.PAE | CR4.SMEP }, { kind: "execute" })).toBe(16);
  expect(code({ efer: EFER.NXE, cr4: 0n }, { kind: "execute" })).toBe(0);
});

test("pagingStateOf() reads the control registers, and AC from RFLAGS", () => {
  const values = { cr0: 1n, cr3: 3n, cr4: 4n, efer: 5n } as Record<string, bigint>;
  const read = (rflags: bigint) =>
    pagingStateOf({ readControl: (name) => values[name]!, readGpr: (index) => (index === 17 ? rflags : 0n) });
  expect(read(2n)).toEqual({ cr0: 1n, cr3: 3n, cr4: 4n, efer: 5n, alignmentCheck: false });
  expect(read(0x40002n).alignmentCheck).toBe(true);
});

test("walkPages() names each flag by its bit", () => {
  const flags = (value: bigint) =>
    Object.entries(
      walkPages(
        poke(page({}), 0x4000, () => value),
        LONG,
        0n,
      ).steps[3]!.flags,
    ).flatMap(([name, set]) => (set ? [name] : []));
  const names = [
    "present",
    "writable",
    "user",
    "writeThrough",
    "cacheDisable",
    "accessed",
    "dirty",
    "pageSize",
    "global",
  ];
  expect(names.map((_, bit) => flags(1n << BigInt(bit)))).toEqual(names.map((name) => [name]));
  expect(flags(1n << 63n)).toEqual(["noExecute"]);
});

test("walkPages() names the entry that is not present, and the error code says not present", () => {
  for (const [entry, gpa] of [
    ["PML4E", 0x1000],
    ["PDPTE", 0x2000],
    ["PDE", 0x3000],
    ["PTE", 0x4000],
  ] as const) {
    const walk = walkPages(
      poke(page({}), gpa, (value) => value & ~1n),
      LONG,
      0n,
      { kind: "write", user: true },
    );
    expect(walk.stop).toEqual({ kind: "notPresent", entry });
    expect(walk.errorCode).toBe(6);
  }
});

test("walkPages() finds reserved bits: above MAXPHYADDR, PS in a PML4E, NX without NXE, the low bits of a large page", () => {
  const ask = (gpa: number, bit: bigint, state: Partial<PagingState> = {}) => {
    const { stop, errorCode } = walkPages(
      poke(page({}), gpa, (value) => value | (1n << bit)),
      { ...LONG, ...state },
      0n,
    );
    return stop?.kind === "reservedBit" ? `${stop.entry} ${stop.bits} ${errorCode}` : stop;
  };
  expect(ask(0x4000, 40n, { physicalBits: 40 })).toBe("PTE 40 9");
  expect(ask(0x4000, 40n)).toBeUndefined();
  expect(ask(0x4000, 52n)).toBeUndefined();
  expect(ask(0x1000, 7n)).toBe("PML4E 7 9");
  expect(ask(0x1000, 8n, { vendor: "amd" })).toBe("PML4E 8 9");
  expect(ask(0x1000, 8n)).toBeUndefined();
  expect(ask(0x4000, 63n, { efer: EFER.LME | EFER.LMA })).toBe("PTE 63 9");
  expect(ask(0x2000, 7n, { gigabytePages: false })).toBe("PDPTE 7 9");
  // A PDPTE that becomes a 1 GiB page points at 0x3000: bits 12 (PAT) is fine, bit 13 is not.
  expect(ask(0x2000, 7n)).toBe("PDPTE 13 9");
});

test("walkPages() finds the reserved bits of PAE's PDPTE and of a 4 MiB page", () => {
  const memory = arrayMemory(0x2000);
  const view = new DataView(memory.bytes.buffer);
  const pae = { ...LONG, efer: EFER.NXE };
  view.setBigUint64(0x1000, 0x1003n, true);
  expect(walkPages(memory, pae, 0n).stop).toEqual({ kind: "reservedBit", entry: "PDPTE", bits: [1] });
  const pse = { ...LONG, cr4: CR4.PSE, efer: 0n };
  view.setUint32(0x1000, 0x200083, true);
  expect(walkPages(memory, pse, 0n).stop).toEqual({ kind: "reservedBit", entry: "PDE", bits: [21] });
  view.setUint32(0x1000, 0x400083 | (1 << 20), true);
  expect(walkPages(memory, { ...pse, physicalBits: 39 }, 0n).stop).toMatchObject({ bits: [20] });
  expect(walkPages(memory, pse, 0x12345n).gpa).toBe(0x80_0041_2345);
});

test("walkPages() reserves in each kind of entry just the bits that the manual does", () => {
  /** Bits of the entry at `gpa` that are reserved beside those in `base`, when it alone decides. */
  const reserved = (state: PagingState, gpa: number, base: bigint) => {
    const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => {
      const memory = page({});
      const view = new DataView(memory.bytes.buffer);
      view.setBigUint64(0x5000, 0x3001n, true);
      view.setBigUint64(gpa, base | (1n << BigInt(bit)), true);
      const { stop } = walkPages(memory, state, 0n);
      return stop?.kind === "reservedBit" && stop.bits.includes(bit);
    });
    return bits
      .map((bit, index) => (bits[index - 1] === bit - 1 && bits[index + 1] === bit + 1 ? "." : bit))
      .join(" ")
      .replaceAll(/( \.)+ /g, "-");
  };
  const long = { ...LONG, physicalBits: 40 };
  expect(reserved(long, 0x1000, 0x2003n)).toBe("7 40-51");
  expect(reserved({ ...long, vendor: "amd" }, 0x1000, 0x2003n)).toBe("7 8 40-51");
  expect(reserved(long, 0x2000, 0x3003n)).toBe("40-51");
  expect(reserved(long, 0x2000, 0x83n)).toBe("13-29 40-51");
  expect(reserved({ ...long, gigabytePages: false }, 0x2000, 0x3003n)).toBe("7 40-51");
  expect(reserved(long, 0x3000, 0x83n)).toBe("13-20 40-51");
  expect(reserved(long, 0x4000, 0x7003n)).toBe("40-51");
  expect(reserved({ ...long, efer: EFER.LME | EFER.LMA }, 0x4000, 0x7003n)).toBe("40-51 63");
  const pae = { ...long, efer: EFER.NXE };
  expect(reserved(pae, 0x1000, 0x2001n)).toBe("1 2 5-8 40-63");
  // PAE's own tables: the PDPTE at 0x5000, the directory at 0x3000.
  const below = { ...pae, cr3: 0x5000n };
  expect(reserved(below, 0x3000, 0x83n)).toBe("13-20 40-62");
  expect(reserved({ ...below, efer: 0n }, 0x4000, 0x7003n)).toBe("40-63");
});

test("walkPages() judges rights by 32 bits and NXE: no NX without it, and no address above 4 GiB when paging is off", () => {
  expect(walkPages(page({}), { ...LONG, cr0: 0n }, 0x1_2345_6789n).gpa).toBe(0x2345_6789);
  const memory = arrayMemory(0x3000);
  const view = new DataView(memory.bytes.buffer);
  view.setUint32(0x1000, 0x2003, true);
  view.setUint32(0x2000, 0x80005003, true);
  const state = { ...LONG, cr4: 0n, efer: EFER.NXE };
  expect(walkPages(memory, state, 0n, { kind: "execute" }).page?.executable).toBe(true);
});

test("walkPages() ignores PS without CR4.PSE and an NX bit that 32-bit entries do not have", () => {
  const memory = arrayMemory(0x3000);
  const view = new DataView(memory.bytes.buffer);
  view.setUint32(0x1000, 0x2083, true);
  view.setUint32(0x2000, 0x80005003, true);
  const state = { ...LONG, cr4: 0n };
  expect(walkPages(memory, state, 0x10n, { kind: "execute" })).toMatchObject({ gpa: 0x8000_5010, format: "32-bit" });
});

test("walkPages() takes PAE's root from a 32-byte boundary", () => {
  const memory = arrayMemory(0x4000);
  const view = new DataView(memory.bytes.buffer);
  view.setBigUint64(0x1020, 0x2001n, true);
  view.setBigUint64(0x2000, 0x200083n, true);
  expect(walkPages(memory, { ...LONG, cr3: 0x1020n, efer: 0n }, 0x1234n).gpa).toBe(0x201234);
});

test("walkPages() stops at an address that is not canonical, and at a table that no memory backs", () => {
  expect(walkPages(page({}), LONG, 1n << 47n)).toMatchObject({
    stop: { kind: "notCanonical", addressBits: 48 },
    errorCode: undefined,
  });
  expect(walkPages(page({}), { ...LONG, cr3: 0x100000n }, 0n).stop).toEqual({
    kind: "noMemory",
    entry: "PML4E",
    gpa: 0x100000,
  });
});

test("walkPages() comes back from tables that point at themselves", () => {
  const memory = arrayMemory(0x2000);
  const view = new DataView(memory.bytes.buffer);
  for (let index = 0; index < 512; index++) view.setBigUint64(0x1000 + index * 8, 0x1003n, true);
  const walk = walkPages(memory, LONG, 0xffff_8000_1234_5678n);
  expect(walk.steps.length).toBe(4);
  expect(walk.gpa).toBe(0x1678);
});

test("walkPages() returns a consistent answer for any memory and any state (seeded fuzz)", () => {
  const random = randomFrom(0x77a1);
  const memory = arrayMemory(0x4000);
  for (let round = 0; round < 4000; round++) {
    if (round % 100 === 0) memory.bytes.set(random.bytes(0x4000));
    // Entries that stay in memory make deeper walks likely.
    for (let poke = 0; poke < 4; poke++) {
      new DataView(memory.bytes.buffer).setBigUint64(
        random.below(0x800) * 8,
        BigInt(random.below(4) * 0x1000 + 0x67),
        true,
      );
    }
    const word = () => (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
    const state = {
      cr0: CR0.PG | word(),
      cr3: BigInt(random.below(4) * 0x1000),
      cr4: word(),
      efer: word(),
      physicalBits: 36 + random.below(17),
    };
    const access = { kind: random.pick(["read", "write", "execute"] as const), user: random.chance(0.5) };
    const gva = BigInt.asUintN(64, BigInt.asIntN(48, word() & (random.chance(0.5) ? 0xffffn : ~0n)));
    const walk = walkPages(memory, state, gva, access);
    expect(walk.steps.length).toBeLessThanOrEqual(5);
    expect((walk.gpa === undefined) === (walk.stop !== undefined)).toBe(true);
    if (walk.gpa !== undefined) expect(Number.isSafeInteger(walk.gpa) && walk.gpa >= 0).toBe(true);
    expect(formatWalk(walk)).not.toContain("undefined");
  }
});
