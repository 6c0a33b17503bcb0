import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { KvmEnableCap } from "../../../../ffi/kvm/cap.ts";
import * as caps from "../../../../ffi/kvm/caps.ts";
import { KVM_ENABLE_CAP, KVM_RESET_DIRTY_RINGS, KVM_XEN_HVM_CONFIG } from "../../../../ffi/kvm/ioctls.ts";
import { KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET, KvmDirtyGfn } from "../../../../ffi/kvm/memory.ts";
import { KVM_DIRTY_LOG_PAGE_OFFSET } from "../../../../ffi/kvm/run.ts";
import { KVM_EXIT_XEN_HCALL, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, KvmXenHvmConfig } from "../../../../ffi/kvm/xen.ts";
import { libc } from "../../../../ffi/libc.ts";
import { Mapping } from "../../../../ffi/mapping.ts";
import { bytesOf } from "../../../../ffi/struct.ts";
import { asm } from "../../../../src/asm/index.ts";
import type { HostMemory } from "../../../../src/backend.ts";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import type { KvmMemory } from "../../../../src/backends/kvm/vm.ts";
import type { ExitOf } from "../../../../src/exit.ts";
import { kvmGuest, noKvm } from "./guest.ts";

/** Exits that hosts seldom make, from real guests: each needs a capability, and says so where it is not there. */
const raw: Readonly<Record<string, number>> = noKvm === "" ? rawCapabilities() : {};

function rawCapabilities(): Readonly<Record<string, number>> {
  using kvm = openKvm();
  return kvm.capabilities.raw;
}

const without = (capability: keyof typeof caps): string =>
  noKvm || (raw[capability] ? "" : ` (skipped: this KVM lacks ${capability})`);

const onHardware = existsSync("/sys/module/kvm_amd") || existsSync("/sys/module/kvm_intel");
const noHardware = noKvm || (onHardware ? "" : " (skipped: this software KVM handles CR8 by itself)");

/** A ring of 256 entries, of which KVM keeps 64 for itself. */
const RING_BYTES = 4096;
const noRing =
  without("KVM_CAP_DIRTY_LOG_RING") ||
  (existsSync("/sys/module/kvm_intel") ? " (skipped: Intel's page-modification log wants a larger ring)" : "");

describe("KVM", () => {
  test.skipIf(noRing !== "")(
    `a dirty ring that runs full exits as dirtyRingFull, and goes on when it is emptied${noRing}`,
    () => {
      using guest = kvmGuest(
        // Ring 3, which runs on the processor everywhere: KVM looks at the ring when it enters the guest.
        asm.long64`
        mov ebx, 0x20000
        mov ecx, 0xc0
      next:
        mov byte [rbx], 1
        add ebx, 0x1000
        loop next
        mov [0x100000], al`,
        {
          mode: "long64-ring3",
          prepare: (vm) => vm.enableCapability(caps.KVM_CAP_DIRTY_LOG_RING, [BigInt(RING_BYTES)]),
        },
      );
      guest.vm.memory.add({ gpa: 0x20000, bytes: 0xd0000, logDirty: true });
      using ring = Mapping.ofFd(guest.kvmVcpu.fd, RING_BYTES, { offset: KVM_DIRTY_LOG_PAGE_OFFSET * 4096 }) as Mapping;
      expect(guest.next()).toEqual({ kind: "dirtyRingFull" });
      const entries = Array.from({ length: RING_BYTES / KvmDirtyGfn.size }, (_, i) =>
        KvmDirtyGfn.view(ring.bytes, i * KvmDirtyGfn.size),
      );
      const dirty = entries.filter(({ flags }) => flags === KVM_DIRTY_GFN_F_DIRTY);
      expect(dirty.length).toBeGreaterThanOrEqual(0xc0 - 64);
      expect(dirty.slice(0, 3).map(({ offset }) => offset)).toEqual([0, 1, 2]);
      for (const entry of dirty) entry.flags = KVM_DIRTY_GFN_F_RESET;
      expect(libc().ioctl(guest.kvmVm.fd, KVM_RESET_DIRTY_RINGS, 0)).toBe(dirty.length);
      expect(guest.next()).toMatchObject({ kind: "mmioWrite", gpa: 0x100000 });
      expect(guest.vm.memory.readU8(0x20000 + 0xbf * 0x1000)).toBe(1);
    },
  );

  const noHypercall =
    without("KVM_CAP_EXIT_HYPERCALL") ||
    (onHardware ? "" : " (skipped: this software KVM emulates VMCALL of CPL 0 without an exit)");
  test.skipIf(noHypercall !== "")(
    `KVM_HC_MAP_GPA_RANGE exits as hypercall with its arguments, and RAX takes the result${noHypercall}`,
    () => {
      const MAP_GPA_RANGE = 12;
      const vendor = existsSync("/sys/module/kvm_amd") ? "vmmcall" : "vmcall";
      using guest = kvmGuest(
        asm.long64`
          mov eax, ${MAP_GPA_RANGE}
          mov ebx, 0x5000
          mov ecx, 3
          mov edx, 0x10
          ${vendor}
          hlt`,
        { mode: "long64", prepare: (vm) => vm.enableCapability(caps.KVM_CAP_EXIT_HYPERCALL, [1n << 12n]) },
      );
      const exit = guest.vcpu.run({ timeoutMs: 5000 }) as ExitOf<"hypercall">;
      expect(exit).toMatchObject({ kind: "hypercall", number: 12n, longMode: true, result: 0n });
      expect(exit.args.slice(0, 3)).toEqual([0x5000n, 3n, 0x10n]);
      exit.result = 0x1234n;
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.rax).toBe(0x1234n);
    },
  );

  // Ring 3, which runs on the processor everywhere: an emulated store to such memory is MMIO to KVM.
  const faultGuest = asm.long64`
    mov byte [0x40000], 1
    mov [0x100000], al`;

  test.skipIf(noKvm !== "")(
    `an access to a slot whose host memory is gone is memoryFault where the kernel tells, an error elsewhere, and can be mended${noKvm}`,
    () => {
      using guest = kvmGuest(faultGuest, { mode: "long64-ring3" });
      const allocated: HostMemory[] = [];
      const { allocate } = guest.kvmVm;
      guest.kvmVm.allocate = (...args) => {
        const memory = allocate.apply(guest.kvmVm, args);
        allocated.push(memory);
        return memory;
      };
      guest.vm.memory.add({ gpa: 0x40000, bytes: 4096 });
      const { mapping } = allocated[0] as KvmMemory;
      const [NONE, READ_WRITE] = [0, 3];
      libc().mprotect(mapping.address, 4096, NONE);
      try {
        expect(guest.next()).toMatchObject({ kind: "memoryFault", gpa: 0x40000, bytes: 4096 });
      } catch (error) {
        // KVM_CAP_MEMORY_FAULT_INFO promises nothing for every access.
        expect(error).toMatchObject({ code: "EFAULT", call: "ioctl(KVM_RUN)" });
      }
      libc().mprotect(mapping.address, 4096, READ_WRITE);
      expect(guest.next()).toMatchObject({ kind: "mmioWrite", gpa: 0x100000 });
      expect(guest.vm.memory.readU8(0x40000)).toBe(1);
    },
  );

  test.skipIf(noHardware !== "")(
    `lowering CR8 without an irqchip exits as setTpr with the new value${noHardware}`,
    () => {
      using guest = kvmGuest(
        asm.long64`
        mov eax, 9
        mov cr8, rax
        mov eax, 3
        mov cr8, rax
        hlt`,
        { mode: "long64" },
      );
      expect(guest.next()).toEqual({ kind: "setTpr", cr8: 3n });
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.cr8).toBe(3n);
    },
  );

  const noHyperv = without("KVM_CAP_HYPERV");
  /** A guest that sees Hyper-V's interface, and writes one of its MSRs. */
  const hypervGuest = (msr: number, high: number, low: number, options: Parameters<typeof kvmGuest>[1] = {}) =>
    kvmGuest(
      asm.real16`
        mov ecx, ${msr}
        mov edx, ${high}
        mov eax, ${low}
        wrmsr
        hlt`,
      {
        ...options,
        vcpu: {
          cpuid: {
            "0x40000000": { eax: 0x40000006 },
            "0x40000001": { eax: 0x31237648 },
            "0x40000003": { eax: 0xffff, edx: 0x400 },
          },
        },
      },
    );
  const HV_RESET = 0x40000003;
  const HV_CRASH_CTL = 0x40000105;
  const HV_SCONTROL = 0x40000080;

  test.skipIf(noHyperv !== "")(`a Hyper-V guest's reset exits as systemEvent "reset"${noHyperv}`, () => {
    using guest = hypervGuest(HV_RESET, 0, 1);
    expect(guest.next()).toMatchObject({ kind: "systemEvent", type: 2, name: "reset" });
  });

  test.skipIf(noHyperv !== "")(
    `a Hyper-V guest's crash exits as systemEvent "crash", which ends vm.run()${noHyperv}`,
    async () => {
      using guest = hypervGuest(HV_CRASH_CTL, 0x80000000, 0);
      const { exit } = await guest.vm.run({ timeoutMs: 5000 });
      expect(exit).toMatchObject({ kind: "systemEvent", type: 3, name: "crash" });
    },
  );

  const noSynic = without("KVM_CAP_HYPERV_SYNIC2");
  test.skipIf(noSynic !== "")(
    `a Hyper-V guest's write of SCONTROL exits as hyperv with MSR and value${noSynic}`,
    () => {
      using guest = hypervGuest(HV_SCONTROL, 0, 1, { irqchip: "full" });
      const enable = KvmEnableCap.alloc();
      enable.cap = caps.KVM_CAP_HYPERV_SYNIC2;
      expect(libc().ioctlPtr(guest.kvmVcpu.fd, KVM_ENABLE_CAP, bytesOf(enable))).toBe(0);
      const exit = guest.next() as ExitOf<"hyperv">;
      expect(exit).toMatchObject({ kind: "hyperv", type: 1 });
      expect([exit.data[0], exit.data[1]]).toEqual([BigInt(HV_SCONTROL), 1n]);
    },
  );

  const noXen = without("KVM_CAP_XEN_HVM");
  test.skipIf(noXen !== "")(
    `a Xen guest's hypercall exits as xen, and gets the result set in its words${noXen}`,
    () => {
      using guest = kvmGuest(
        asm.long64`
        mov eax, 17
        mov edi, 0x1234
        mov esi, 0x5678
        vmcall
        mov [0x5000], rax
        hlt`,
        {
          mode: "long64",
          prepare: (vm) => {
            const config = KvmXenHvmConfig.alloc();
            config.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL;
            expect(libc().ioctlPtr(vm.fd, KVM_XEN_HVM_CONFIG, bytesOf(config))).toBe(0);
          },
        },
      );
      const exit = guest.next() as ExitOf<"xen">;
      expect(exit).toMatchObject({ kind: "xen", type: KVM_EXIT_XEN_HCALL });
      // Long mode and CPL; number; result; the first two arguments.
      expect(exit.data.slice(0, 5)).toEqual([1n, 17n, exit.data[2] as bigint, 0x1234n, 0x5678n]);
      exit.data[2] = 0x1122334455667788n;
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vm.memory.readU64(0x5000)).toBe(0x1122334455667788n);
    },
  );

  const noBusLock = without("KVM_CAP_X86_BUS_LOCK_EXIT");
  test.skipIf(noBusLock !== "")(`a locked access across cache lines exits as busLock${noBusLock}`, () => {
    using guest = kvmGuest(
      asm.real16`
        lock inc dword [0x303e]
        hlt`,
      { prepare: (vm) => vm.enableCapability(caps.KVM_CAP_X86_BUS_LOCK_EXIT, [2n]) },
    );
    expect(guest.next()).toEqual({ kind: "busLock" });
    expect(guest.next().kind).toBe("hlt");
  });

  const noNotify = without("KVM_CAP_X86_NOTIFY_VMEXIT");
  test.skipIf(noNotify !== "")(`a notify window is taken with its window of clock ticks${noNotify}`, () => {
    using guest = kvmGuest([0xf4], {
      prepare: (vm) => vm.enableCapability(caps.KVM_CAP_X86_NOTIFY_VMEXIT, [(128000n << 32n) | 3n]),
    });
    expect(guest.next().kind).toBe("hlt");
  });
});
