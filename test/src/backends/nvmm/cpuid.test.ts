import { describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import type { CpuidEntry } from "../../../../src/backend.ts";
import { planFor } from "../../../../src/backends/nvmm/cpuid.ts";
import { CapabilityError } from "../../../../src/errors.ts";
import { missing, openRig, skipped } from "./peers.ts";

const LIMITS = { maxLeaves: 32, exits: [] };
const leaf = (number: number, values: Partial<CpuidEntry> = {}): CpuidEntry => ({
  leaf: number,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...values,
});

test("planFor() sets and clears exactly the bits that differ, and keeps leaf 1's features shown", () => {
  const supported = [leaf(1, { eax: 0xff, edx: 0x5080 }), leaf(2, { ebx: 0b1100 })];
  const wanted = [leaf(1, { eax: 0xff, edx: 0x5080 }), leaf(2, { ebx: 0b1010 }), leaf(0x40000010, { ecx: 7 })];
  const { masks } = planFor(wanted, supported, LIMITS);
  expect([...masks.keys()]).toEqual([1, 2, 0x40000010]);
  expect(masks.get(1)?.set.edx).toBe(0x5080);
  expect(masks.get(2)).toEqual({
    set: { eax: 0, ebx: 0b0010, ecx: 0, edx: 0 },
    del: { eax: 0, ebx: 0b0100, ecx: 0, edx: 0 },
  });
});

test("planFor() clears a leaf that is left out, and does not touch the APIC id and OSXSAVE of leaf 1", () => {
  const supported = [leaf(1, { ebx: 0x01000800, ecx: 1 << 27 }), leaf(5, { eax: 64 })];
  const { masks } = planFor([leaf(1, { ebx: 0x00000800 })], supported, LIMITS);
  expect(masks.get(5)?.del.eax).toBe(64);
  expect(masks.get(1)).toMatchObject({ set: { ebx: 0, ecx: 0 }, del: { ebx: 0, ecx: 0 } });
});

test("planFor() refuses what one mask for all sub-leaves cannot say", () => {
  const supported = [leaf(7, { subleaf: 0, ebx: 1 }), leaf(7, { subleaf: 1, ebx: 1 })];
  const one = [leaf(7, { subleaf: 0, ebx: 0 }), leaf(7, { subleaf: 1, ebx: 1 })];
  expect(() => planFor(one, supported, LIMITS)).toThrow(CapabilityError);
  const both = [leaf(7, { subleaf: 0 }), leaf(7, { subleaf: 1 })];
  expect(planFor(both, supported, LIMITS).masks.get(7)?.del.ebx).toBe(1);
});

describe(`CPUID on NVMM${skipped}`, () => {
  if (missing !== undefined) {
    test.skip("needs the peer", () => {});
    return;
  }
  const { host } = openRig("netbsd", "cpuid");

  test("supportedCpuid() asks the guest's processor: NVMM's vendor leaf, MCE shown", () => {
    const table = host.supportedCpuid();
    const find = (number: number) => table.find((entry) => entry.leaf === number) as CpuidEntry;
    const { ebx, ecx, edx } = find(0x40000000);
    expect(new TextDecoder().decode(Uint32Array.of(ebx, ecx, edx))).toBe("___ NVMM ___");
    expect(find(1).edx & 0x5080).toBe(0x5080);
    expect(table.filter((entry) => entry.leaf === 0xd).map((entry) => entry.subleaf)).toEqual([0, 1, 2]);
    expect(find(0x80000001)).toBeDefined();
  });

  test("overrides reach the guest, and each vCPU has its own APIC id", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    vm.memory.write(
      0x1000,
      asm.real16`cpuid
      hlt`.bytes,
    );
    const ask = (id: number, number: number) => {
      const vcpu = vm.createVcpu(id, { cpuid: { 1073741824: { ebx: 0x21212121 }, 5: null } });
      vcpu.enterMode("real16", { entry: 0x1000 });
      vcpu.registers.rax = BigInt(number);
      vcpu.run();
      const { rbx } = vcpu.registers;
      const told = vcpu.cpuid().find((entry) => entry.leaf === 1)?.ebx ?? 0;
      vcpu[Symbol.dispose]();
      return [Number(rbx), told >>> 24];
    };
    expect(ask(0, 0x40000000)).toEqual([0x21212121, 0]);
    expect(ask(3, 5)).toEqual([0, 3]);
    const [ebx, told] = ask(2, 1);
    expect([(ebx as number) >>> 24, told]).toEqual([2, 2]);
  });
});
