import { expect, test } from "bun:test";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import { CapabilityError } from "../../../../src/errors.ts";

test("allocate() refuses by name what does not fit the address space of WebAssembly", () => {
  using backend = openSoft();
  using vm = backend.createVm();
  expect(() => vm.allocate(2 ** 32)).toThrow(CapabilityError);
  expect(() => vm.allocate(2 ** 32 + 4096)).toThrow(RangeError);
});

test("bytes become empty when their range is disposed, and every view when the VM is", () => {
  using backend = openSoft();
  const vm = backend.createVm();
  const first = vm.allocate(8192);
  const second = vm.allocate(4096);
  const view = second.bytes.subarray(16, 32);
  first[Symbol.dispose]();
  expect(first.bytes.length).toBe(0);
  expect(view.length).toBe(16);
  vm[Symbol.dispose]();
  expect([second.bytes.length, view.length]).toEqual([0, 0]);
});

test("a range allocated again is zeroed", () => {
  using backend = openSoft();
  using vm = backend.createVm();
  const first = vm.allocate(4096);
  first.bytes.fill(0xaa);
  first[Symbol.dispose]();
  expect(vm.allocate(4096).bytes.some((byte) => byte !== 0)).toBe(false);
});

test("two hundred VMs made and disposed one after the other do not pile up", () => {
  using backend = openSoft();
  const once = () => {
    using vm = backend.createVm();
    using vcpu = vm.createVcpu(0);
    const memory = vm.allocate(1 << 20);
    vm.mapSlot(0, { gpa: 0, memory, offset: 0, bytes: 1 << 20, readOnly: false, logDirty: false });
    memory.bytes.fill(0x90, 0, 0x2000);
    memory.bytes[0x1000] = 0xf4;
    vcpu.registers.writeSegment("cs", { ...vcpu.registers.readSegment("cs"), selector: 0, base: 0n });
    vcpu.registers.writeGpr(16, 0xff0n);
    expect(vcpu.run().kind).toBe("hlt");
  };
  for (let i = 0; i < 40; i++) once();
  Bun.gc(true);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 160; i++) once();
  Bun.gc(true);
  expect(process.memoryUsage().rss - before).toBeLessThan(120 << 20);
}, 30_000);
