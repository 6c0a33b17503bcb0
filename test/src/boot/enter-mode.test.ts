import { expect, test } from "bun:test";
import {
  applyMode,
  arrayMemory,
  decodeDescriptor,
  decodeGate,
  describeModes,
  enterMode,
  MODES,
  type Mode,
  type ModeRegisters,
  modeSetup,
  SELECTORS,
} from "../../../src/boot/index.ts";
import { GuestError } from "../../../src/errors.ts";
import { walkPages } from "../../../src/inspect/walk.ts";
import { GPR_NAMES } from "../../../src/registers.ts";

/** Records what a mode writes. */
function recorder() {
  const seen = new Map<string, unknown>();
  const registers: ModeRegisters = {
    writeGpr: (index, value) => seen.set(GPR_NAMES[index]!, value),
    writeSegment: (name, value) => seen.set(name, value),
    writeTable: (name, value) => seen.set(name, value),
    writeControl: (name, value) => seen.set(name, value),
  };
  return { seen, registers };
}

test("enterMode() fits every mode with its tables into 64 KiB", () => {
  for (const mode of MODES) {
    const memory = arrayMemory(0x10000);
    const { seen, registers } = recorder();
    enterMode(registers, memory, mode);
    expect([...GPR_NAMES, "cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt", "gdt", "idt", "cr0", "efer"]).toSatisfy(
      (names: string[]) => names.every((name) => seen.has(name)),
    );
    expect(seen.get("rip")).toBe(0x1000n);
    // The default load address and all below it belong to the guest.
    expect(memory.bytes.subarray(0, 0x8000).every((byte) => byte === 0)).toBe(true);
  }
});

test("enterMode() loads segment registers with exactly what its GDT holds at their selectors", () => {
  for (const mode of MODES.filter((name) => !name.endsWith("real16"))) {
    for (const ring of [0, 3] as const) {
      const memory = arrayMemory(0x10000);
      const { gprs, segments, descriptorTables, bits } = enterMode(recorder().registers, memory, mode, { ring });
      for (const name of ["cs", "ss", "ds", "tr"] as const) {
        const segment = segments[name];
        const wide = name === "tr" && (bits === 64 || mode === "compat32");
        const at = Number(descriptorTables.gdt.base) + (segment.selector & ~7);
        expect({ mode, ...decodeDescriptor(memory.read(at, wide ? 16 : 8), segment.selector) }).toEqual({
          mode,
          ...segment,
        });
      }
      expect(segments.cs.selector & 3).toBe(ring);
      expect(gprs.rflags).toBe(ring === 3 ? 0x3002n : 2n);
    }
  }
});

test("enterMode() sets MODE-defining bits: PE, PG, PAE, LMA, CS.L as each mode has them", () => {
  const facts = MODES.map((mode) => {
    const { controls, segments } = modeSetup(mode);
    const has = (value: bigint | undefined, position: bigint) => Number((value! >> position) & 1n);
    const { cr0, cr4, efer } = controls;
    return [mode, has(cr0, 0n), has(cr0, 31n), has(cr4, 5n), has(efer, 10n), segments.cs.l, segments.cs.db].join(" ");
  });
  expect(facts).toEqual([
    "real16 0 0 0 0 0 0",
    "unreal16 0 0 0 0 0 0",
    "prot16 1 0 0 0 0 0",
    "prot32 1 0 0 0 0 1",
    "paged32 1 1 0 0 0 1",
    "pae 1 1 1 0 0 1",
    "long64 1 1 1 1 1 0",
    "long64-ring3 1 1 1 1 1 0",
    "compat32 1 1 1 1 0 1",
  ]);
});

test("modeSetup() gives ring 3 a stack a page below the one that ring 0 gets from the TSS", () => {
  const { gprs, tables } = modeSetup("long64-ring3");
  const tss = tables.find((table) => table.what === "TSS")!.bytes;
  expect([gprs.rsp, new DataView(tss.buffer).getBigUint64(4, true)]).toEqual([0x7000n, 0x8000n]);
  const legacy = modeSetup("prot32", { ring: 3 }).tables.find((table) => table.what === "TSS")!.bytes;
  const view = new DataView(legacy.buffer);
  expect([view.getUint32(4, true), view.getUint16(8, true)]).toEqual([0x8000, SELECTORS.kernelData]);
  const bare = modeSetup("prot32", { tables: "none" });
  expect([bare.gprs.rsp, bare.segments.tr.base]).toEqual([0x1000n, 0n]);
});

test("modeSetup() maps the first 4 GiB, or 4 MiB in pages of 4 KiB", () => {
  const reach = (mode: Mode, pageBytes?: 0x1000) => {
    const { controls, tables } = modeSetup(mode, pageBytes ? { pageBytes } : {});
    const memory = arrayMemory(0x10000);
    for (const { gpa, bytes } of tables) memory.write(gpa, bytes);
    const { cr0, cr3, cr4, efer } = controls;
    const state = { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
    return [0n, 0x3fffffn, 0x400000n, 0xffffffffn].map((gva) => walkPages(memory, state, gva).gpa);
  };
  const all = [0, 0x3fffff, 0x400000, 0xffffffff];
  for (const mode of ["paged32", "pae", "long64", "compat32"] as const) expect(reach(mode)).toEqual(all);
  for (const mode of ["paged32", "pae"] as const)
    expect(reach(mode, 0x1000)).toEqual([0, 0x3fffff, undefined, undefined]);
});

test("SELECTORS name what the GDT of every mode holds at those places", () => {
  const wanted: Record<keyof typeof SELECTORS, [code: boolean, dpl: number]> = {
    kernelCode: [true, 0],
    kernelData: [false, 0],
    code32: [true, 0],
    userCode32: [true, 3],
    userData: [false, 3],
    userCode64: [true, 3],
    code16: [true, 0],
    data16: [false, 0],
    tss: [true, 0],
  };
  for (const mode of ["prot16", "prot32", "long64"] as const) {
    const gdt = modeSetup(mode).tables.find((table) => table.what === "GDT")!.bytes;
    for (const [name, selector] of Object.entries(SELECTORS)) {
      const segment = decodeDescriptor(gdt.subarray(selector & ~7, (selector & ~7) + 8), selector);
      if (name === "userCode64" && mode !== "long64") {
        expect(segment.present).toBe(0);
        continue;
      }
      const [code, dpl] = wanted[name as keyof typeof SELECTORS];
      expect([mode, name, (segment.type & 8) !== 0, segment.dpl, selector & 3]).toEqual([mode, name, code, dpl, dpl]);
      if (name === "tss") expect([segment.s, segment.base, segment.limit]).toEqual([0, 0x8100n, 0x67]);
      if (name.endsWith("32")) expect(segment.db).toBe(mode === "prot16" && name === "userCode32" ? 0 : 1);
      if (name.endsWith("16")) expect([segment.db, segment.limit]).toEqual([0, 0xffff]);
      if (name === "userCode64") expect(segment.l).toBe(1);
    }
  }
});

test("modeSetup() gives unreal16 4 GiB data limits, and no other segment", () => {
  const limits = (mode: "real16" | "unreal16") => {
    const { cs, ss, ds, gs } = modeSetup(mode).segments;
    return [cs, ss, ds, gs].map(({ limit }) => limit);
  };
  expect(limits("real16")).toEqual([0xffff, 0xffff, 0xffff, 0xffff]);
  expect(limits("unreal16")).toEqual([0xffff, 0xffff, 0xffffffff, 0xffffffff]);
  expect(modeSetup("real16").descriptorTables.idt).toEqual({ base: 0n, limit: 0x3ff });
});

test("modeSetup() turns CR4.PSE off when paged32 keeps to 4 KiB pages", () => {
  const small = modeSetup("paged32", { pageBytes: 0x1000 });
  expect([small.paging, small.controls.cr4! & 0x10n]).toEqual(["32-bit", 0n]);
  const large = modeSetup("paged32");
  expect([large.paging, large.controls.cr4! & 0x10n]).toEqual(["pse", 0x10n]);
  expect(modeSetup("long64", { paging: "5-level" })).toMatchObject({ paging: "5-level" });
});

test("enterMode() moves all tables with tablesGpa", () => {
  const memory = arrayMemory(0x200000);
  const setup = enterMode(recorder().registers, memory, "long64", { tablesGpa: 0x100000 });
  expect(setup.controls.cr3).toBe(0x102000n);
  expect(setup.descriptorTables.gdt.base).toBe(0x100000n);
  expect(setup.gprs.rsp).toBe(0x100000n);
  expect(memory.bytes.subarray(0, 0x100000).every((byte) => byte === 0)).toBe(true);
});

test("enterMode() writes registers only when tables is none", () => {
  const memory = arrayMemory(0);
  const { seen, registers } = recorder();
  enterMode(registers, memory, "prot32", { tables: "none" });
  expect(seen.get("gdt")).toEqual({ base: 0n, limit: 0 });
  enterMode(registers, memory, "long64", { tables: "none", cr3: 0x5000 });
  expect(seen.get("cr3")).toBe(0x5000n);
  expect(() => modeSetup("long64", { tables: "none" })).toThrow("cr3");
});

test("enterMode() names the table that memory has no room for, and writes nothing", () => {
  const memory = arrayMemory(0xb000);
  const { seen, registers } = recorder();
  const setup = modeSetup("long64");
  expect(() => applyMode(registers, memory, setup)).toThrow(GuestError);
  expect(() => applyMode(registers, memory, setup)).toThrow(
    "page tables (0x6000 bytes) at 0xa000 as memory ends at 0xb000",
  );
  expect(seen.size).toBe(0);
  expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
});

test("modeSetup() makes a real-mode entry reachable: CS covers it, or realSegment sets all segments", () => {
  expect(modeSetup("real16", { entry: 0x7c00 }).gprs.rip).toBe(0x7c00n);
  const start = (entry: number) => {
    const { segments, gprs } = modeSetup("real16", { entry });
    return [segments.cs.selector, gprs.rip];
  };
  expect([start(0), start(0xffff), start(0x10000), start(0xfffff)]).toEqual([
    [0, 0n],
    [0, 0xffffn],
    [0x1000, 0n],
    [0xf000, 0xffffn],
  ]);
  expect(() => modeSetup("real16", { entry: 0xff, realSegment: 0x10 })).toThrow("IP reaches");
  const high = modeSetup("real16", { entry: 0x23456 });
  expect([high.segments.cs.selector, high.gprs.rip]).toEqual([0x2000, 0x3456n]);
  const com = modeSetup("real16", { entry: 0x10100, realSegment: 0x1000, stack: 0xfffe });
  expect([com.segments.cs.base, com.segments.ss.selector, com.gprs.rip]).toEqual([0x10000n, 0x1000, 0x100n]);
  expect(() => modeSetup("real16", { entry: 0x200000 })).toThrow("IP reaches 64 KiB");
});

test("modeSetup() writes handlers into the IDT, or the vectors of real mode", () => {
  const idt = modeSetup("long64", { handlers: { 6: 0x2000 } }).tables.find((table) => table.what === "IDT")!;
  expect(decodeGate(idt.bytes.subarray(6 * 16, 7 * 16))).toMatchObject({
    offset: 0x2000n,
    selector: SELECTORS.kernelCode,
    present: true,
  });
  expect(modeSetup("real16", { handlers: { 8: 0x2000 } }).tables).toEqual([
    { what: "vector 8", gpa: 32, bytes: Uint8Array.of(0, 0x20, 0, 0) },
  ]);
});

test("modeSetup() refuses options that contradict the mode", () => {
  // @ts-expect-error: no such mode
  expect(() => modeSetup("real32")).toThrow("it is one of real16");
  expect(() => modeSetup("real16", { ring: 3 })).toThrow("no rings");
  expect(() => modeSetup("prot32", { realSegment: 1 })).toThrow(RangeError);
  expect(() => modeSetup("pae", { paging: "5-level" })).toThrow(RangeError);
  expect(() => modeSetup("prot32", { tablesGpa: 0x8001 })).toThrow("multiple of 4096");
  expect(() => modeSetup("prot32", { entry: 1n << 32n })).toThrow("too wide");
  expect(() => modeSetup("paged32", { pageBytes: 0x200000 })).toThrow("2097152");
});

test("describeModes() prints a row with a reason for every register of a mode", () => {
  const text = describeModes(MODES.map((mode) => modeSetup(mode)));
  for (const mode of MODES) expect(text).toContain(`### ${mode}\n`);
  expect(text).toContain("| EFER | LME \\| LMA \\| NXE | LME with PG makes LMA");
  expect(text).not.toContain("undefined");
  const rows = (mode: Mode) =>
    Object.fromEntries(modeSetup(mode).rows.map(({ register, value, why }) => [register, `${value}: ${why}`]));
  expect(rows("real16")).toMatchObject({
    CR0: "ET: PE and PG clear: real mode",
    CR4: "0x0: nothing is needed",
    "DS, ES, FS, GS": "0x0, limit 0xffff: the reset limit of 64 KiB",
    GDTR: "base 0x0, limit 0x0: none",
  });
  expect(rows("unreal16")["DS, ES, FS, GS"]).toStartWith("0x0, limit 0xffffffff: limits left behind");
  expect(rows("prot16").CR0).toBe("PE | ET: PE: protected mode");
  expect(rows("long64-ring3")).toMatchObject({
    CS: "0x33, base 0, limit 0xffffffff, DPL 3: 64-bit code (L = 1, D = 0), ring 3",
    GDTR: "base 0x8000, limit 0x57: matches the loaded segments, so that they can be reloaded",
    TR: "0x48, base 0x8100, busy: VMX refuses to enter a guest whose TR holds no busy TSS",
    RFLAGS: "0x3002: bit 1 is always 1; IOPL 3 lets ring 3 use IN and OUT; IF clear",
  });
});
