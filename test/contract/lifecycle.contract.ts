import { expect } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { DisposedError, MemoryError } from "../../src/index.ts";
import { boot, chapter, type Engine, rule } from "./engine.ts";

const COUNT = asm.real16`
  again:
    inc ax
    out 0x80, ax
    jmp again`;

/** Making and disposing VMs, and bad requests. */
export function lifecycleContract(engine: Engine): void {
  chapter(engine, "lifecycle", () => {
    rule(engine, "every use after dispose is refused as DisposedError, and disposing twice is harmless", [], (host) => {
      const guest = boot(host, COUNT);
      const { vm, vcpu } = guest;
      const exit = guest.next();
      vm[Symbol.dispose]();
      vm[Symbol.dispose]();
      vcpu[Symbol.dispose]();
      for (const use of [
        () => vcpu.run(),
        () => vcpu.registers.rip,
        () => vcpu.registers.cr3,
        () => {
          vcpu.registers.rax = 1n;
        },
        () => vcpu.registers.msr("EFER"),
        () => vcpu.interrupt(32),
        () => vcpu.kick(),
        () => vcpu.saveState(),
        () => vm.createVcpu(1),
        () => vm.run(),
      ]) {
        expect(use).toThrow(DisposedError);
      }
      expect(() => vm.memory.readU8(0x1000)).toThrow(MemoryError);
      if (exit.kind === "pioOut") expect(exit.data.length).toBeLessThanOrEqual(2);
    });

    rule(engine, "two VMs of one backend run in turns and keep their own state", [], (host) => {
      using first = boot(host, COUNT);
      using second = boot(host, COUNT);
      for (let i = 0; i < 3; i++) first.next();
      second.next();
      expect([first.vcpu.registers.rax & 0xffffn, second.vcpu.registers.rax & 0xffffn]).toEqual([3n, 1n]);
    });

    rule(engine, "disposing one VM leaves another running", [], (host) => {
      using first = boot(host, COUNT);
      first.next();
      {
        using second = boot(host, COUNT);
        second.next();
      }
      first.next();
      expect(first.vcpu.registers.rax & 0xffffn).toBe(2n);
    });

    rule(engine, "memory that is empty, negative or no page multiple is refused as RangeError", [], (host) => {
      for (const memoryBytes of [-4096, 1, 4095, 4097, 1.5, Number.NaN]) {
        expect(() => host.createVm({ memoryBytes })).toThrow(RangeError);
      }
      using vm = host.createVm({ memoryBytes: 0 });
      expect(vm.memory.bytes).toBe(0);
      expect(() => vm.memory.add({ gpa: 0, bytes: 0 })).toThrow(RangeError);
      expect(() => vm.memory.add({ gpa: 1, bytes: 4096 })).toThrow(RangeError);
      expect(() => vm.memory.add({ gpa: 2 ** 52 - 4096, bytes: 8192 })).toThrow(RangeError);
    });

    rule(engine, "overlapping slots are refused, naming both ranges, and change nothing", [], (host) => {
      using vm = host.createVm({ memoryBytes: 0x10000 });
      expect(() => vm.memory.add({ gpa: 0xf000, bytes: 0x2000 })).toThrow(/0xf000-0x10fff.*0x0-0xffff/);
      expect(vm.memory.slots.length).toBe(1);
    });

    rule(engine, "vCPU ids that exist or are beyond the backend's limit are refused as RangeError", [], (host) => {
      using vm = host.createVm();
      vm.createVcpu(0);
      expect(() => vm.createVcpu(0)).toThrow(RangeError);
      expect(() => vm.createVcpu(host.capabilities.maxVcpus)).toThrow(RangeError);
      expect(() => vm.createVcpu(-1)).toThrow(RangeError);
    });

    const { reopen } = engine;
    if (reopen !== undefined) {
      rule(engine, "a backend that was disposed refuses new VMs", [], () => {
        const other = reopen();
        other[Symbol.dispose]();
        other[Symbol.dispose]();
        expect(() => other.createVm()).toThrow(DisposedError);
      });
    }
  });
}
