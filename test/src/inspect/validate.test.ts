import { describe, expect, test } from "bun:test";
import { arrayMemory, CR0, CR4, EFER, MODES, type Mode, modeSetup, RFLAG } from "../../../src/boot/index.ts";
import { GuestStateError } from "../../../src/errors.ts";
import { type GuestState, guestStateOf } from "../../../src/inspect/guest-state.ts";
import { type ValidateOptions, validateState } from "../../../src/inspect/validate.ts";
import type { Segment, SegmentName } from "../../../src/registers.ts";
import { randomFrom } from "../boot/random.ts";

function stateOf(mode: Mode): GuestState {
  const { gprs, segments, descriptorTables, controls } = modeSetup(mode);
  return guestStateOf({
    readGpr: (index) => (index === 16 ? gprs.rip : gprs.rflags),
    readControl: (name) => controls[name] ?? 0n,
    readDebug: (name) => (name === "dr7" ? 0x400n : 0xffff0ff0n),
    readSegment: (name) => segments[name],
    readTable: (name) => descriptorTables[name],
  });
}

/** `mode` with registers and parts of segments replaced. */
function changed(
  mode: Mode,
  change: Partial<GuestState>,
  segments: Partial<Record<SegmentName, Partial<Segment>>> = {},
): GuestState {
  const state = stateOf(mode);
  const parts = Object.entries(segments).map(([name, part]) => [
    name,
    { ...state.segments[name as SegmentName], ...part },
  ]);
  return { ...state, ...change, segments: { ...state.segments, ...Object.fromEntries(parts) } };
}

const found = (state: GuestState, options?: ValidateOptions) => validateState(state, options).map(({ what }) => what);

test("validateState() finds nothing wrong with any mode that modeSetup() makes, in either ring", () => {
  for (const mode of MODES) expect([mode, found(stateOf(mode))]).toEqual([mode, []]);
});

test("validateState() finds nothing wrong with the state of a processor after reset", () => {
  const real: Partial<Segment> = { selector: 0, base: 0n, limit: 0xffff, type: 3 };
  const reset = changed(
    "real16",
    { cr0: CR0.CD | CR0.NW | CR0.ET, rip: 0xfff0n },
    { cs: { ...real, selector: 0xf000, base: 0xffff0000n, type: 11 } },
  );
  expect(found(reset)).toEqual([]);
});

test("validateState() names CS.L and CS.D and the manual's section", () => {
  expect(validateState(changed("long64", {}, { cs: { db: 1 } }))).toEqual([
    {
      what: "CS.L and CS.D are both 1",
      rule: "Intel SDM Vol. 3C, Checks on Guest Segment Registers",
      enforcedBy: ["intel", "amd"],
    },
  ]);
});

describe("validateState() names the offending bit of", () => {
  const long = (change: Partial<GuestState>) => changed("long64", change);
  const { cr0, cr4, efer } = stateOf("long64");
  const cases: [string, GuestState, string][] = [
    ["paging without protection", changed("real16", { cr0: CR0.PG }), "CR0.PG is 1 and CR0.PE is 0"],
    ["NW without CD", changed("prot32", { cr0: (cr0 & ~CR0.PG & ~CR0.WP) | CR0.NW }), "CR0.NW is 1 and CR0.CD is 0"],
    ["the upper half of CR0", long({ cr0: cr0 | (1n << 40n) }), "CR0 = 0x10080010033 has bit 40 set, which must be 0"],
    [
      "CR3 above MAXPHYADDR",
      long({ cr3: 3n << 52n }),
      "CR3 = 0x30000000000000 has bits 53:52 set, above the 52 physical address bits",
    ],
    ["reserved CR4 bits", long({ cr4: cr4 | (1n << 15n) }), "CR4 = 0x8620 has reserved bit 15 set"],
    ["CET without WP", long({ cr0: cr0 & ~CR0.WP, cr4: cr4 | CR4.CET }), "CR4.CET is 1 and CR0.WP is 0"],
    [
      "PCIDE outside long mode",
      changed("pae", { cr4: CR4.PAE | CR4.PCIDE }),
      "CR4.PCIDE is 1 outside long mode (EFER.LMA is 0)",
    ],
    ["reserved EFER bits", long({ efer: efer | 2n }), "EFER = 0xd02 has reserved bit 1 set"],
    ["long mode without PAE", long({ cr4: 0n }), "EFER.LME and CR0.PG are 1 and CR4.PAE is 0: long mode needs PAE"],
    ["LMA without paging", long({ cr0: cr0 & ~CR0.PG }), "EFER.LMA is 1 and CR0.PG is 0"],
    ["LMA without LME", long({ efer: EFER.LMA }), "EFER.LMA is 1 and EFER.LME is 0"],
    ["the upper half of DR7", long({ dr7: 1n << 32n }), "DR7 = 0x100000000 has bit 32 set, which must be 0"],
    ["a GDT base", long({ gdt: { base: 1n << 47n, limit: 7 } }), "GDTR base 0x800000000000 is not canonical"],
    ["an IDT limit", long({ idt: { base: 0n, limit: 0x10000 } }), "IDTR limit 0x10000 is above 0xffff"],
    ["RIP in 64-bit code", long({ rip: 1n << 62n }), "RIP = 0x4000000000000000 is not canonical"],
    [
      "RIP in 32-bit code",
      changed("compat32", { rip: 1n << 32n }),
      "RIP = 0x100000000 is above 4 GiB while the code is not 64-bit",
    ],
    ["RFLAGS bit 1", long({ rflags: 0n }), "RFLAGS = 0x0 has bit 1 clear, which must be 1"],
    ["reserved RFLAGS bits", long({ rflags: 0x800a_802an }), "RFLAGS = 0x800a802a has reserved bits 3, 5, 15, 31 set"],
  ];
  test.each(cases)("%s", (_, state, what) => {
    expect(found(state)).toContain(what);
  });
});

describe("validateState() names the offending segment with", () => {
  const cases: [string, GuestState, string][] = [
    [
      "data in CS",
      changed("prot32", {}, { cs: { type: 1 } }),
      "CS.type is 1: it must be 9, 11, 13, 15 (accessed code) or 3",
    ],
    [
      "real-mode data in CS above ring 0",
      changed("prot32", {}, { cs: { type: 3, dpl: 1 } }),
      "CS.type is 3 and CS.DPL is 1: it must be 0",
    ],
    [
      "SS above ring 0 beside it",
      changed("prot32", {}, { cs: { type: 3 }, ss: { dpl: 1 } }),
      "SS.DPL is 1 with CS.type 3: it must be 0",
    ],
    [
      "a limit one byte too long",
      changed("prot16", {}, { ds: { limit: 0x100000 } }),
      "DS.G is 0 and limit 0x100000 is above 0xfffff",
    ],
    [
      "CS and SS of two rings",
      changed("prot32", {}, { cs: { dpl: 3 } }),
      "CS.DPL is 3 and SS.DPL is 0: they must agree",
    ],
    [
      "conforming code above SS",
      changed("prot32", {}, { cs: { type: 15, dpl: 1 } }),
      "CS is conforming with DPL 1, above SS.DPL 0",
    ],
    [
      "a read-only stack",
      changed("prot32", {}, { ss: { type: 1 } }),
      "SS.type is 1: it must be 3 or 7 (writable, accessed)",
    ],
    [
      "SS.DPL in real mode",
      changed("real16", {}, { ss: { dpl: 1 }, cs: { dpl: 1 } }),
      "SS.DPL is 1 in real mode: it must be 0",
    ],
    ["data not accessed", changed("prot32", {}, { ds: { type: 2 } }), "DS.type is 2: bit 0 (accessed) must be 1"],
    [
      "execute-only code in ES",
      changed("prot32", {}, { es: { type: 9 } }),
      "ES.type is 9: code in a data register must be readable (bit 1)",
    ],
    ["a system type in FS", changed("prot32", {}, { fs: { s: 0 } }), "FS.S is 0: a code or data segment has S = 1"],
    ["GS absent but usable", changed("prot32", {}, { gs: { present: 0 } }), "GS.P is 0 in a usable segment"],
    [
      "a GS base with a hole",
      changed("long64", {}, { gs: { base: 1n << 47n } }),
      "GS base 0x800000000000 is not canonical",
    ],
    ["a DS base above 4 GiB", changed("long64", {}, { ds: { base: 1n << 32n } }), "DS base 0x100000000 is above 4 GiB"],
    [
      "pages that do not end whole",
      changed("prot32", {}, { ds: { limit: 0x1234 } }),
      "DS.G is 1 and limit 0x1234 does not end in 0xfff",
    ],
    [
      "bytes that do not fit",
      changed("prot32", {}, { ds: { g: 0 } }),
      "DS.G is 0 and limit 0xffffffff is above 0xfffff",
    ],
    ["no task register", changed("prot32", {}, { tr: { unusable: 1 } }), "TR is unusable: it must hold a busy TSS"],
    [
      "a 16-bit TSS in long mode",
      changed("long64", {}, { tr: { type: 3 } }),
      "TR.type is 3: it must be 11 (busy 64-bit TSS)",
    ],
    ["an idle TSS", changed("prot32", {}, { tr: { type: 9 } }), "TR.type is 9: it must be 3 or 11 (busy TSS)"],
    [
      "TR from the LDT",
      changed("prot32", {}, { tr: { selector: 0x34 } }),
      "TR selector 0x34 has TI set: a TSS lies in the GDT",
    ],
    [
      "LDTR of another type",
      changed("prot32", {}, { ldt: { unusable: 0, present: 1, type: 1 } }),
      "LDTR.type is 1: it must be 2 (LDT)",
    ],
    [
      "64-bit code outside long mode",
      changed("prot32", {}, { cs: { l: 1 } }),
      "CS.L is 1 while EFER.LMA is 0: no 64-bit code outside long mode",
    ],
  ];
  test.each(cases)("%s", (_, state, what) => {
    expect(found(state)).toContain(what);
  });
});

test("validateState() demands the one shape that virtual-8086 segments have", () => {
  const v86: Partial<Segment> = { selector: 0x100, base: 0x1000n, limit: 0xffff, type: 3, dpl: 3, db: 0, g: 0 };
  const segments = { cs: v86, ss: v86, ds: v86, es: v86, fs: v86, gs: v86 };
  const state = changed("prot32", { rflags: RFLAG.VM | 2n }, segments);
  expect(found(state)).toEqual([]);
  expect(found(changed("prot32", { rflags: RFLAG.VM | 2n }, { ...segments, ds: { ...v86, base: 0n } }))).toEqual([
    "DS base 0x0 is not selector 0x100 × 16 in virtual-8086 mode",
  ]);
  expect(found({ ...state, cr0: 0n })).toContain("RFLAGS.VM is 1 and CR0.PE is 0");
});

test("validateState() checks each part of a virtual-8086 segment", () => {
  const v86: Partial<Segment> = { selector: 0x100, base: 0x1000n, limit: 0xffff, type: 3, dpl: 3, db: 0, g: 0 };
  const with86 = (part: Partial<Segment>) =>
    found(
      changed(
        "prot32",
        { rflags: RFLAG.VM | 2n },
        { cs: v86, ss: v86, ds: { ...v86, ...part }, es: v86, fs: v86, gs: v86 },
      ),
    );
  expect(with86({ limit: 0x10000 })).toEqual(["DS limit 0x10000 is not 0xffff in virtual-8086 mode"]);
  expect(with86({ type: 11 })).toEqual(["DS is type 11, S 1, DPL 3, P 1 and not 3, 1, 3, 1 in virtual-8086 mode"]);
  for (const part of [{ s: 0 }, { dpl: 0 }, { present: 0 }] as Partial<Segment>[]) expect(with86(part)).toHaveLength(1);
});

test("validateState() allows what the manual allows: other types, 64-bit bases of FS and GS, a 16-bit TSS outside long mode", () => {
  const fine: GuestState[] = [
    changed("prot32", {}, { cs: { type: 9 } }),
    changed("prot32", {}, { cs: { type: 13 }, ss: { dpl: 3 } }),
    changed("prot32", {}, { cs: { type: 15 } }),
    changed("prot32", {}, { cs: { type: 3 } }),
    changed("prot32", {}, { ss: { type: 7 } }),
    changed("prot32", {}, { ds: { type: 1 }, es: { type: 11 }, fs: { type: 15 } }),
    changed("prot32", {}, { ds: { unusable: 1, present: 0, type: 0, s: 0 } }),
    changed("prot32", {}, { tr: { type: 3 } }),
    changed("prot32", {}, { ldt: { unusable: 0, present: 1, type: 2 } }),
    changed("long64", {}, { fs: { base: 0xffff_8000_0000_0000n }, gs: { base: 0x7fff_ffff_ffffn } }),
    changed("long64", { cr4: CR4.PAE | CR4.LA57 }, { gs: { base: 1n << 47n } }),
  ];
  expect(fine.map((state) => found(state))).toEqual(fine.map(() => []));
  const wrong: [GuestState, number][] = [
    [changed("prot32", {}, { cs: { type: 13, dpl: 1 } }), 1],
    [changed("long64", {}, { es: { base: 1n << 47n } }), 1],
    [changed("long64", {}, { fs: { base: 1n << 47n } }), 1],
    [changed("prot32", {}, { tr: { type: 1 } }), 1],
    [changed("prot32", {}, { ldt: { unusable: 0, present: 1, type: 3 } }), 1],
  ];
  expect(wrong.map(([state]) => found(state).length)).toEqual(wrong.map(([, count]) => count));
});

test("validateState() reads the PDPTEs of PAE paging from memory when it is given", () => {
  const memory = arrayMemory(0x10000);
  const view = new DataView(memory.bytes.buffer);
  const state = stateOf("pae");
  expect(found(state, { memory })).toEqual([]);
  view.setBigUint64(0xa008, 0xb003n, true);
  view.setBigUint64(0xa010, 0xffn << 52n, true);
  expect(found(state, { memory })).toEqual(["PDPTE 1 = 0xb003 has reserved bit 1 set"]);
  expect(found({ ...state, cr3: 0x20000n }, { memory })).toEqual([
    "CR3 = 0x20000 points to PDPTEs that no memory backs",
  ]);
});

test("validateState() judges by the authorities asked for", () => {
  const idle = changed("prot32", {}, { tr: { type: 9 } });
  expect(found(idle, { enforcedBy: ["amd", "kvm"] })).toEqual([]);
  expect(found(idle, { enforcedBy: ["intel"] })).toHaveLength(1);
});

test("validateState() returns what GuestStateError takes", () => {
  const violations = validateState(changed("long64", {}, { cs: { db: 1 } }));
  const error = new GuestStateError(violations, { remedy: "clear one of the two" });
  expect(error.message).toBe(
    "Cannot enter the guest: CS.L and CS.D are both 1 (Intel SDM Vol. 3C, Checks on Guest Segment Registers): clear one of the two",
  );
});

test("validateState() answers for any state at all (seeded fuzz)", () => {
  const random = randomFrom(0x57a7e);
  const word = () => (BigInt(random.below(2 ** 32)) << BigInt(random.below(33))) & 0xffff_ffff_ffff_ffffn;
  for (let round = 0; round < 500; round++) {
    const segment = (): Segment => ({
      selector: random.below(65536),
      base: word(),
      limit: random.below(2 ** 32),
      type: random.below(16),
      s: random.pick([0, 1]),
      dpl: random.pick([0, 1, 2, 3]),
      present: random.pick([0, 1]),
      avl: 0,
      l: random.pick([0, 1]),
      db: random.pick([0, 1]),
      g: random.pick([0, 1]),
      unusable: random.pick([0, 1]),
    });
    const state = guestStateOf({
      readGpr: word,
      readControl: word,
      readDebug: word,
      readSegment: segment,
      readTable: () => ({ base: word(), limit: random.below(0x20000) }),
    });
    for (const { what, rule } of validateState(state, { memory: arrayMemory(0x1000) })) {
      expect(what).not.toMatch(/undefined|NaN/);
      expect(rule.length).toBeGreaterThan(10);
    }
  }
});
