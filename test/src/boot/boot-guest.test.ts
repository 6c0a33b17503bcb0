import { expect, test } from "bun:test";
import { arrayMemory, bootGuest, loadGuest, type ModeRegisters } from "../../../src/boot/index.ts";
import { GuestError } from "../../../src/errors.ts";
import { walkPages } from "../../../src/inspect/walk.ts";
import { makeElf } from "./elf-file.ts";

const NOWHERE: ModeRegisters = { writeGpr() {}, writeSegment() {}, writeTable() {}, writeControl() {} };

function boot(bytes: Uint8Array, change: Partial<Parameters<typeof loadGuest>[1]> & { tablesGpa?: number } = {}) {
  const { tablesGpa, ...rest } = change;
  const memoryBytes = rest.memoryBytes ?? 0x200000;
  const memory = arrayMemory(memoryBytes);
  const plan = loadGuest(bytes, { file: "guest", memoryBytes, ...rest });
  return { memory, setup: bootGuest(NOWHERE, memory, plan, tablesGpa === undefined ? {} : { tablesGpa }) };
}

test("bootGuest() puts guest and tables into memory and starts at the plan's entry", () => {
  const { memory, setup } = boot(Uint8Array.of(0xf4), { mode: "long64", memoryBytes: 0x10000 });
  expect(memory.bytes[0x1000]).toBe(0xf4);
  expect(setup.gprs.rip).toBe(0x1000n);
  expect(setup.controls.cr3).toBe(0xa000n);
});

test("bootGuest() moves the tables, and the stack below them, behind a guest that needs their place", () => {
  const { memory, setup } = boot(new Uint8Array(0x9001).fill(0x90), { mode: "prot32" });
  // The guest ends at 0xa001: 8 KiB for the stack from the next page on, then the tables.
  expect(setup.descriptorTables.gdt.base).toBe(0xd000n);
  expect(setup.gprs.rsp).toBe(0xd000n);
  expect(memory.read(0x1000, 0x9001).every((byte) => byte === 0x90)).toBe(true);
});

test("bootGuest() leaves the tables where they are as long as they and 8 KiB of stack are clear of the guest", () => {
  const gdt = (bytes: number, loadAddress?: number) =>
    boot(new Uint8Array(bytes), { mode: "prot32", ...(loadAddress === undefined ? {} : { loadAddress }) }).setup
      .descriptorTables.gdt.base;
  expect(gdt(0x5000)).toBe(0x8000n);
  expect(gdt(0x5001)).toBe(0x9000n);
  // prot32's tables end at 0x9800.
  expect(gdt(0x1000, 0xa000)).toBe(0x8000n);
  expect(gdt(0x1000, 0x9800)).toBe(0x8000n);
  expect(gdt(0x1000, 0x97ff)).toBe(0xd000n);
});

test("bootGuest() takes tables right behind or right before the guest when asked to", () => {
  const gdt = (tablesGpa: number) =>
    boot(new Uint8Array(0x1000), { mode: "prot32", loadAddress: 0x10000, tablesGpa }).setup.descriptorTables.gdt.base;
  expect(gdt(0x11000)).toBe(0x11000n);
  expect(gdt(0xe000)).toBe(0xe000n);
  expect(() => gdt(0xf000)).toThrow("lies there");
  expect(() => gdt(0x10000)).toThrow("lies there");
});

test("bootGuest() writes real-mode vectors and leaves the guest where it is", () => {
  const memory = arrayMemory(0x10000);
  const plan = loadGuest(new Uint8Array(0xe000).fill(0x90), { file: "g", memoryBytes: 0x10000 });
  const setup = bootGuest(NOWHERE, memory, plan, { handlers: { 6: 0x1234 } });
  expect([...memory.read(24, 4)]).toEqual([0x34, 0x12, 0, 0]);
  expect(setup.gprs.rip).toBe(0x1000n);
});

test("bootGuest() refuses a guest that leaves no room for the tables, and tables asked for on the guest", () => {
  const big = new Uint8Array(0xf000).fill(0x90);
  expect(() => boot(big, { mode: "prot32", memoryBytes: 0x10000 })).toThrow(GuestError);
  expect(() => boot(big, { mode: "prot32", tablesGpa: 0x9000 })).toThrow('at 0x9000 as "guest" lies there');
  expect(() => boot(Uint8Array.of(0xf4), { mode: "prot32", memoryBytes: 0x2000 })).toThrow(
    "GDT at 0x8000 as no memory backs it",
  );
});

test("bootGuest() hands over registers, stack and segments that the format sets", () => {
  const { setup } = boot(Uint8Array.of(0xf4), { file: "a.com" });
  expect([setup.segments.cs.selector, setup.segments.ds.selector, setup.gprs.rip, setup.gprs.rsp]).toEqual([
    0x100,
    0x100,
    0x100n,
    0xfffen,
  ]);
});

test("bootGuest() maps a kernel linked high beside the identity mapping", () => {
  const vaddr = 0xffff_ffff_8010_0000n;
  const kernel = makeElf({
    wide: true,
    entry: vaddr,
    segments: [{ vaddr, paddr: 0x100000, data: Uint8Array.of(0xf4) }],
  });
  const { memory, setup } = boot(kernel);
  const { cr0, cr3, cr4, efer } = setup.controls;
  const state = { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
  expect(setup.gprs.rip).toBe(vaddr);
  expect(walkPages(memory, state, vaddr).gpa).toBe(0x100000);
  expect(walkPages(memory, state, 0x100000n).gpa).toBe(0x100000);
  expect(walkPages(memory, state, vaddr).page?.user).toBe(false);
  const user = boot(kernel, { mode: "long64-ring3" });
  for (const gva of [vaddr, 0x100000n]) expect(walkPages(user.memory, state, gva).page?.user).toBe(true);
});
