import { expect, test } from "bun:test";
import { asm } from "../../../../../src/asm/index.ts";
import { createVm } from "../../../../../src/index.ts";
import { pagingStateOf, walkPages } from "../../../../../src/inspect/index.ts";

const GATE = 0x40;
const STACK_TOP = 0x30000;
const USER_BIT = 4;

/** Ring 3, and an INT through a gate that stays in ring 3; #PF and #GP lead to ring 0, which halts. */
function interruptInRing3(stackIsUsers: boolean) {
  const vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
  const vcpu = vm.createVcpu();
  vm.memory.write(0x1000, asm.prot32`int ${GATE}`.bytes);
  vm.memory.write(0x3000, asm.prot32`hlt`.bytes);
  vm.memory.write(0x3800, asm.prot32`mov [0x3f000], al`.bytes);
  vcpu.enterMode("paged32", {
    ring: 3,
    pageBytes: 0x1000,
    entry: 0x1000,
    stack: STACK_TOP,
    handlers: { 13: 0x3000, 14: 0x3000 },
  });
  const gate = Number(vcpu.registers.idt.base) + GATE * 8;
  vm.memory.writeU32(gate, vcpu.registers.cs.selector * 0x10000 + 0x3800);
  vm.memory.writeU32(gate + 4, 0xee00);
  const { steps } = walkPages(vm.memory, pagingStateOf(vcpu.access), BigInt(STACK_TOP - 4096));
  const leaf = Number(steps.at(-1)?.entryGpa);
  if (!stackIsUsers) vm.memory.writeU32(leaf, vm.memory.readU32(leaf) & ~USER_BIT);
  return { vm, vcpu };
}

test("a frame that ring 3 pushes onto its own stack has ring 3's rights: #PF on a supervisor page", () => {
  const { vm, vcpu } = interruptInRing3(false);
  using _vm = vm;
  expect(vcpu.run({ maxInstructions: 100 }).kind).toBe("hlt");
  expect(vcpu.registers.cs.selector & 3).toBe(0);
  expect(vcpu.registers.cr2).toBe(BigInt(STACK_TOP - 4));
  // Present, write, user.
  expect(vm.memory.readU32(Number(vcpu.registers.rsp))).toBe(7);
});

test("on a page of its own it lands, and the handler runs in ring 3", () => {
  const { vm, vcpu } = interruptInRing3(true);
  using _vm = vm;
  vcpu.run({ maxInstructions: 2 });
  expect(vcpu.registers.cs.selector & 3).toBe(3);
  expect(vm.memory.readU8(0x3f000)).toBe(Number(vcpu.registers.rax & 0xffn));
  expect(vm.memory.readU32(STACK_TOP - 12)).toBe(0x1002);
});
