import { describe, expect, test } from "bun:test";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import { entriesOf, setApicId, tableOf } from "../../../../src/backends/kvm/cpuid.ts";
import { noKvm } from "./guest.ts";

const entry = (leaf: number, subleaf?: number) => ({
  leaf,
  ...(subleaf === undefined ? {} : { subleaf }),
  eax: 1,
  ebx: 0xff020304,
  ecx: 0xffffffff,
  edx: 5,
});

test("tableOf() and entriesOf() are each other's reverse, sub-leaf 0 kept apart from none", () => {
  const entries = [entry(0), entry(1), entry(7, 0), entry(7, 1), entry(0x80000000)];
  expect(entriesOf(tableOf(entries))).toEqual(entries);
});

test("tableOf() refuses more entries than KVM takes", () => {
  expect(() => tableOf(new Array(257).fill(entry(0)))).toThrow("256");
});

test("setApicId() changes the id in leaves 1, 0xb, 0x1f and 0x8000001e, and nothing else", () => {
  const table = tableOf([entry(0), entry(1), entry(0xb, 0), entry(0xb, 1), entry(0x1f, 0), entry(0x8000001e)]);
  setApicId(table, 0x81);
  expect(entriesOf(table)).toEqual([
    entry(0),
    { ...entry(1), ebx: 0x81020304 },
    { ...entry(0xb, 0), edx: 0x81 },
    { ...entry(0xb, 1), edx: 0x81 },
    { ...entry(0x1f, 0), edx: 0x81 },
    { ...entry(0x8000001e), eax: 0x81 },
  ]);
});

describe.skipIf(noKvm !== "")(`CPUID of KVM${noKvm}`, () => {
  test("supportedCpuid() answers the same before and after vCPUs of any id were made", () => {
    using kvm = openKvm();
    const before = kvm.supportedCpuid();
    using vm = kvm.createVm();
    using _first = vm.createVcpu(5);
    expect(kvm.supportedCpuid()).toEqual(before);
  });

  test("a vCPU's own table names its id as APIC id", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    using first = vm.createVcpu(0);
    using second = vm.createVcpu(2);
    const idOf = (vcpu: typeof first): number => (vcpu.cpuid().find(({ leaf }) => leaf === 1)?.ebx ?? 0) >>> 24;
    expect([idOf(first), idOf(second)]).toEqual([0, 2]);
  });
});
