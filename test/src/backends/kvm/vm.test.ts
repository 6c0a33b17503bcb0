import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { totalmem } from "node:os";
import { KVM_CAP_NR_VCPUS, KVM_CAP_SYNC_REGS } from "../../../../ffi/kvm/caps.ts";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import { CapabilityError, DisposedError, MemoryError } from "../../../../src/errors.ts";
import { noKvm } from "./guest.ts";
import { LibcTap } from "./libc-tap.ts";

const openFds = (): number => readdirSync("/proc/self/fd").length;
const GIB = 2 ** 30;

describe.skipIf(noKvm !== "")(`KvmVm${noKvm}`, () => {
  test("check() asks the VM itself, by capability number", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    expect(vm.check(KVM_CAP_NR_VCPUS)).toBeGreaterThan(0);
    expect(vm.check(KVM_CAP_SYNC_REGS)).toBe(kvm.system.check(KVM_CAP_SYNC_REGS));
    expect(vm.check(0x7fff)).toBe(0);
  });

  test("enableCapability() refuses what KVM has not, by number and with what to do", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    expect(() => vm.enableCapability(0x7fff)).toThrow(
      expect.objectContaining({
        call: "ioctl(KVM_ENABLE_CAP 32767)",
        code: "EINVAL",
        remedy: expect.stringContaining("check()"),
      }),
    );
  });

  test("createVcpu() refuses an id it has had, even a disposed one, as KVM does", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    const before = openFds();
    vm.createVcpu(3)[Symbol.dispose]();
    expect(() => vm.createVcpu(3)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    expect(openFds()).toBe(before);
  });

  test("createVcpu() closes the vCPU again when its CPUID table is refused", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    const before = openFds();
    const entry = { leaf: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    expect(() => vm.createVcpu(0, { cpuid: new Array(257).fill(entry) })).toThrow(RangeError);
    // A guest address width of 60 bits is none that paging knows: KVM_SET_CPUID2 says EINVAL.
    const width = { leaf: 0x80000008, eax: 0x3c3c, ebx: 0, ecx: 0, edx: 0 };
    expect(() => vm.createVcpu(1, { cpuid: [width] })).toThrow(
      expect.objectContaining({ call: "ioctl(KVM_SET_CPUID2)", remedy: expect.stringContaining("supportedCpuid()") }),
    );
    expect(openFds()).toBe(before);
  });

  test("createVcpu() makes no vCPU where the backend is gone", () => {
    const kvm = openKvm();
    using vm = kvm.createVm();
    kvm[Symbol.dispose]();
    const before = openFds();
    expect(() => vm.createVcpu(0)).toThrow(DisposedError);
    expect(openFds()).toBe(before);
  });

  test("unmapSlot() of a slot that is not mapped is harmless, dirtyLog() of one is refused", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    vm.unmapSlot(5);
    expect(() => vm.dirtyLog(5)).toThrow(RangeError);
  });

  test("dirtyLog() of a slot that does not log says how to make it log", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    using memory = vm.allocate(4096);
    vm.mapSlot(0, { gpa: 0, memory, offset: 0, bytes: 4096, readOnly: false, logDirty: false });
    expect(() => vm.dirtyLog(0)).toThrow(
      expect.objectContaining({ code: "ENOENT", remedy: expect.stringContaining("logDirty") }),
    );
  });

  test("mapSlot() over the pages that KVM keeps below the BIOS says so", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    using memory = vm.allocate(0x10000);
    const place = { memory, offset: 0, bytes: 0x10000, readOnly: false, logDirty: false };
    vm.mapSlot(0, { gpa: 0xfff00000, ...place });
    expect(() => vm.mapSlot(1, { gpa: 0xfff00000, ...place })).toThrow(
      expect.objectContaining({ code: "EEXIST", call: "ioctl(KVM_SET_USER_MEMORY_REGION)" }),
    );
  });

  test("allocate() refuses more than the host has, counting what the guest holds, unless noReserve", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    using tap = new LibcTap();
    const held: Disposable[] = [];
    // The tap makes 4 TiB of address space cost nothing: every mapping is of memory nobody touches.
    expect(() => {
      for (let i = 0; i < 1024; i++) held.push(vm.allocate(4 * GIB, i < 1 ? { noReserve: true } : {}));
    }).toThrow(MemoryError);
    for (const memory of held) memory[Symbol.dispose]();
    expect(tap.mapped.size).toBe(0);
    using sparse = vm.allocate(4 * GIB, { noReserve: true });
    expect(sparse.bytes.length).toBe(4 * GIB);
  });

  test("allocate() names the size that mmap refused, and what to do", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    using _tap = new LibcTap((name) => (name === "mmap" ? 12 : undefined));
    expect(() => vm.allocate(0x3000)).toThrow(
      expect.objectContaining({
        call: "mmap(12288 bytes)",
        code: "ENOMEM",
        remedy: expect.stringContaining("noReserve"),
      }),
    );
  });

  test("memory that was disposed is no longer counted as the guest's", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    const bytes = Math.min(4 * GIB, Math.floor((totalmem() * 0.6) / 4096) * 4096);
    for (let held = 0; held < 2 * totalmem(); held += bytes) vm.allocate(bytes)[Symbol.dispose]();
  });

  test("interrupt lines and MSIs without an irqchip are refused by name", () => {
    using kvm = openKvm();
    using vm = kvm.createVm();
    expect(() => vm.setIrqLine(4, true)).toThrow(CapabilityError);
    expect(() => vm.signalMsi({ address: 0xfee00000, data: 0x30 })).toThrow(CapabilityError);
  });

  test("a split irqchip takes MSIs and says that it has no lines", () => {
    using kvm = openKvm();
    using vm = kvm.createVm({ irqchip: "split" });
    using _vcpu = vm.createVcpu(0);
    expect(vm.signalMsi({ address: 0xfee00000, data: 0x30 })).toBeBoolean();
    // KVM_IRQ_LINE itself succeeds there, and the level is lost.
    expect(() => vm.setIrqLine(4, true)).toThrow(CapabilityError);
    expect(() => vm.setIrqLine(4, true)).toThrow("split irqchip");
  });

  test("every call after dispose is refused as DisposedError", () => {
    using kvm = openKvm();
    const vm = kvm.createVm({ irqchip: "full" });
    vm[Symbol.dispose]();
    vm[Symbol.dispose]();
    for (const use of [
      () => vm.fd,
      () => vm.check(0),
      () => vm.createVcpu(0),
      () => vm.allocate(4096),
      () => vm.setIrqLine(0, true),
      () => vm.signalMsi({ address: 0, data: 0 }),
    ]) {
      expect(use).toThrow(DisposedError);
    }
  });
});
