import { describe, expect, test } from "bun:test";
import { SyscallError } from "../../src/errors.ts";
import { openBackend } from "../../src/host.ts";
import { createVm, type Vm, type VmOptions } from "../../src/index.ts";
import { noKvm } from "../src/backends/kvm/guest.ts";
import { LibcTap } from "../src/backends/kvm/libc-tap.ts";
import { openFds, residentMib, vcpuMappings } from "./resources.ts";

const ENOMEM = 12;
/** Calls that give back: they are not made to fail. */
const RELEASING = ["close", "munmap"];

/** A VM with everything that takes a step of its own, and two vCPUs. */
function buildAll(options: VmOptions): Vm {
  const vm = createVm({ backend: "kvm", memoryBytes: 0x10000, ...options });
  try {
    vm.memory.add({ gpa: 0x100000, bytes: 0x4000, readOnly: true });
    const ram = vm.memory.add({ gpa: 0x200000, bytes: 0x4000, logDirty: true, hugePages: true });
    vm.memory.alias({ gpa: 0x300000, of: ram });
    vm.createVcpu(0, { cpuid: { 1073741824: { ebx: 1 } } });
    vm.createVcpu(1).enterMode("real16", { entry: 0x1000 });
    return vm;
  } catch (error) {
    vm[Symbol.dispose]();
    throw error;
  }
}

/** The steps that `build` takes, by name: each can fail. */
function stepsOf(build: () => Disposable): string[] {
  using tap = new LibcTap();
  build()[Symbol.dispose]();
  return tap.calls;
}

describe.skipIf(noKvm !== "")(`a VM that is half built${noKvm}`, () => {
  const SHAPES: readonly [string, VmOptions][] = [
    ["plain", {}],
    ["with irqchip and PIT", { irqchip: "full", pit: true }],
    ["with split irqchip", { irqchip: "split" }],
    ["with an MSR filter", { msrExits: { invalid: true, filter: [{ first: 0x10, count: 1, access: "read" }] } }],
  ];
  for (const [shape, options] of SHAPES) {
    test(`leaks no fd, no mapping and no slot, whichever of its system calls fails (${shape})`, () => {
      // What is opened once for the whole process is open by then.
      buildAll(options)[Symbol.dispose]();
      const steps = stepsOf(() => buildAll(options));
      expect(steps.length).toBeGreaterThan(20);
      const before = [openFds(), vcpuMappings()];
      const survived: string[] = [];
      for (const [i, step] of steps.entries()) {
        if (RELEASING.includes(step)) continue;
        using tap = new LibcTap((_, nth) => (nth === i + 1 ? ENOMEM : undefined));
        try {
          buildAll(options)[Symbol.dispose]();
          survived.push(step);
        } catch (error) {
          expect([step, (error as Error).name]).toEqual([step, SyscallError.name]);
        }
        expect([step, ...before]).toEqual([step, openFds(), vcpuMappings()]);
        expect([step, [...tap.mapped.values()]]).toEqual([step, []]);
      }
      expect(survived).toEqual([]);
    }, 60_000);
  }
});

describe.skipIf(noKvm !== "")(`VMs by the hundred${noKvm}`, () => {
  /** A VM with memory that was touched and a vCPU that ran. */
  function oneVm(host: ReturnType<typeof openBackend>): void {
    using vm = host.createVm({ memoryBytes: 0x40000 });
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, Uint8Array.of(0xf4));
    vm.memory.fill(0x2000, 0x3e000, 1);
    vcpu.enterMode("real16", { entry: 0x1000 });
    vcpu.run();
  }

  /** 1,000 where a VM takes a millisecond or two; 50 where it takes 50 (KVM inside an emulator). */
  function count(): number {
    if (noKvm !== "") return 0;
    using host = openBackend("kvm");
    oneVm(host);
    const start = performance.now();
    oneVm(host);
    return performance.now() - start > 15 ? 50 : 1000;
  }
  const many = count();

  test(`${many} VMs made, run and disposed leave the same fds and mappings, and flat resident memory`, () => {
    using host = openBackend("kvm");
    for (let i = 0; i < many / 10; i++) oneVm(host);
    Bun.gc(true);
    const before = { fds: openFds(), mappings: vcpuMappings(), mib: residentMib() };
    for (let i = 0; i < many; i++) oneVm(host);
    Bun.gc(true);
    const grown = residentMib() - before.mib;
    console.log(
      `${many} VMs of 256 KiB: resident memory ${before.mib.toFixed(1)} MiB before, ${grown.toFixed(1)} MiB more after`,
    );
    expect([openFds(), vcpuMappings()]).toEqual([before.fds, before.mappings]);
    // Memory of the guests alone would be 256 MiB per 1,000 VMs.
    expect(grown).toBeLessThan(16);
  }, 60_000);

  test("VMs dropped without dispose in a block that throws are disposed by using", () => {
    using host = openBackend("kvm");
    const before = [openFds(), vcpuMappings()];
    for (let i = 0; i < 5; i++) {
      expect(() => {
        using vm = host.createVm();
        using _vcpu = vm.createVcpu();
        throw new Error("left");
      }).toThrow("left");
    }
    expect([openFds(), vcpuMappings()]).toEqual(before);
  });
});
