import { expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import { buildPageTables } from "../../../../../src/boot/page-tables.ts";
import { createVm, type Vcpu, type Vm } from "../../../../../src/index.ts";

/** Canonical with 57 bits, not with 48. */
const FAR = 0x00ab_cdef_0000_0000n;
const TABLES = 0x20000;

function start(vm: Vm, source: string, { offer }: { offer: boolean }): Vcpu {
  const features = vm.backend.supportedCpuid().find((entry) => entry.leaf === 7)?.ecx ?? 0;
  const ecx = offer ? (features | (1 << 16)) >>> 0 : features;
  const vcpu = vm.createVcpu(0, { cpuid: { "7.0": { ecx } } });
  const program = assemble(`bits 64\norg 0x1000\n${source}`);
  vm.memory.write(0x1000, program.bytes);
  const handlers = Object.fromEntries([13, 14].map((vector) => [vector, 0x3000 + vector]));
  for (const address of Object.values(handlers)) vm.memory.writeU8(address, 0xf4);
  vcpu.enterMode("long64", { entry: 0x1000, handlers });
  return vcpu;
}

/** Puts the vCPU on five levels, as only a change outside long mode could. */
function useFiveLevels(vm: Vm, vcpu: Vcpu): void {
  const tables = buildPageTables(
    [
      { gva: 0, gpa: 0, bytes: 0x40000 },
      { gva: FAR, gpa: 0x6000, bytes: 0x1000 },
    ],
    { format: "5-level", gpa: TABLES, pageBytes: 0x1000 },
  );
  vm.memory.write(TABLES, tables.bytes);
  vcpu.registers.cr4 |= 1n << 12n;
  vcpu.registers.cr3 = BigInt(tables.root);
}

test("with CR4.LA57 addresses have 57 bits and a walk has five levels, the quick one for what was accessed before too", () => {
  using vm = createVm({ backend: "soft", memoryBytes: 0x80000 });
  const source = `mov rsi, ${FAR}
    mov rax, [rsi]
    mov [rsi + 8], rax
    mov rdi, cr3
    mov cr3, rdi
    mov rbx, [rsi + 8]
    mov rsi, 0x100000000000000
    mov rcx, [rsi]`;
  const vcpu = start(vm, source, { offer: true });
  useFiveLevels(vm, vcpu);
  vm.memory.writeU64(0x6000, 0x1122334455667788n);
  expect(vcpu.run({ maxInstructions: 100 })).toEqual({ kind: "hlt" });
  expect(vcpu.registers.rip).toBe(0x3000n + 13n + 1n);
  expect([vcpu.registers.rax, vcpu.registers.rbx]).toEqual([0x1122334455667788n, 0x1122334455667788n]);
  expect(vm.memory.readU64(0x6008)).toBe(0x1122334455667788n);
});

test("CR4.LA57 is reserved unless CPUID offers it, and cannot change in long mode", () => {
  const change = "mov rax, cr4\n bts rax, 12\n mov cr4, rax\n hlt";
  for (const offer of [false, true]) {
    using vm = createVm({ backend: "soft", memoryBytes: 0x80000 });
    const vcpu = start(vm, change, { offer });
    expect(vcpu.run({ maxInstructions: 100 })).toEqual({ kind: "hlt" });
    expect(vcpu.registers.rip).toBe(0x3000n + 13n + 1n);
  }
});

test("protected mode sets CR4.LA57 where CPUID offers it, and CPUID then tells 57 bits", () => {
  for (const offer of [false, true]) {
    using vm = createVm({ backend: "soft", memoryBytes: 0x80000 });
    const vcpu = start(vm, "hlt", { offer });
    vm.memory.write(
      0x1000,
      assemble(
        "bits 32\norg 0x1000\n mov eax, 0x80000008\n cpuid\n mov ebx, eax\n mov eax, cr4\n bts eax, 12\n mov cr4, eax\n mov ecx, cr4\n hlt",
      ).bytes,
    );
    vcpu.enterMode("prot32", { entry: 0x1000, handlers: { 13: 0x3000 } });
    vm.memory.writeU8(0x3000, 0xf4);
    vcpu.run({ maxInstructions: 100 });
    const { rip, rbx, rcx } = vcpu.registers;
    expect([rip < 0x3000n, (rbx >> 8n) & 0xffn, (rcx >> 12n) & 1n]).toEqual(offer ? [true, 57n, 1n] : [false, 48n, 0n]);
  }
});
