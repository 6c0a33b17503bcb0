import { expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { CapabilityError } from "../../../../../src/errors.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";
import { tickSource } from "./tick-source.ts";

/** PIT at 100 Hz; reads the TSC before and behind a HLT, then spins for a tick, and tells both differences. */
const TICKS = `bits 16
        org 0x1000
        mov word [0x80], tick
        mov word [0x82], 0
        ${tickSource(11932)}
        sti
        hlt
        rdtsc
        mov ebx, eax
        hlt
        rdtsc
        sub eax, ebx
        out 0x80, eax
        rdtsc
        mov ebx, eax
        mov byte [0x500], 0
spin:   cmp byte [0x500], 0
        je spin
        rdtsc
        sub eax, ebx
        out 0x81, eax
        jmp $
tick:   inc byte [0x500]
        push ax
        mov al, 0x20
        out 0x20, al
        pop ax
        iret`;

function boot(vm: Vm, source: string): Vcpu {
  const vcpu = vm.createVcpu(0);
  vm.memory.write(0x1000, assemble(source).bytes);
  vcpu.enterMode("real16", { entry: 0x1000 });
  return vcpu;
}

function out32(vcpu: Vcpu): number {
  const exit = vcpu.run({ timeoutMs: 4000 });
  if (exit.kind !== "pioOut") throw new Error(exit.kind);
  return new DataView(exit.data.buffer, exit.data.byteOffset).getUint32(0, true);
}

test("virtual time passes alike in HLT and in instructions: a tick of 10 ms is 10⁷ TSC ticks either way", () => {
  using backend = openSoft();
  using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
  const vcpu = boot(vm, TICKS);
  const period = Math.floor((11932 * 1e9) / 1193182);
  expect(Math.abs(out32(vcpu) - period)).toBeLessThan(100);
  expect(Math.abs(out32(vcpu) - period)).toBeLessThan(100);
});

test("two runs of a guest with timers end at the same instruction, with the same TSC", () => {
  using backend = openSoft();
  const run = () => {
    using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
    const vcpu = boot(vm, TICKS);
    return [out32(vcpu), vcpu.instructions, out32(vcpu), vcpu.instructions];
  };
  expect(run()).toEqual(run());
});

test("maxInstructions ends a run between two ticks at exactly that instruction", () => {
  using backend = openSoft();
  using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
  const vcpu = boot(vm, TICKS);
  out32(vcpu);
  const before = vcpu.instructions as number;
  expect(vcpu.run({ maxInstructions: 12_345 })).toEqual({ kind: "interrupted", by: "maxInstructions" });
  expect((vcpu.instructions as number) - before).toBe(12_345);
});

test("an irqchip brings CPUID's APIC bit and an enabled APIC base, and a VM without one has neither", () => {
  using backend = openSoft();
  const look = (irqchip: "none" | "full") => {
    using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip });
    const vcpu = vm.createVcpu(0);
    const edx = vcpu.cpuid().find((entry) => entry.leaf === 1)?.edx ?? 0;
    return [(edx >>> 9) & 1, (vcpu.registers.apicBase >> 11n) & 1n];
  };
  expect(look("full")).toEqual([1, 1n]);
  expect(look("none")).toEqual([0, 0n]);
});

test("a split irqchip is refused by name", () => {
  using backend = openSoft();
  expect(() => new Vm(backend, { irqchip: "split" })).toThrow(CapabilityError);
  expect(() => backend.createVm({ pit: true })).toThrow("a PIT without irqchip");
});
