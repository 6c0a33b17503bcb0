import { addressOf } from "../../../ffi/address.ts";
import { KvmEnableCap } from "../../../ffi/kvm/cap.ts";
import {
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CAP_SYNC_REGS,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_CAP_XSAVE2,
} from "../../../ffi/kvm/caps.ts";
import type { KvmCpuid2 } from "../../../ffi/kvm/cpuid.ts";
import * as ioctls from "../../../ffi/kvm/ioctls.ts";
import {
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KvmDirtyLog,
  KvmUserspaceMemoryRegion,
} from "../../../ffi/kvm/memory.ts";
import {
  KVM_MSR_EXIT_REASON_FILTER,
  KVM_MSR_EXIT_REASON_INVAL,
  KVM_MSR_EXIT_REASON_UNKNOWN,
} from "../../../ffi/kvm/run.ts";
import { libc } from "../../../ffi/libc.ts";
import { Mapping } from "../../../ffi/mapping.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type {
  BackendVcpuOptions,
  BackendVm,
  BackendVmOptions,
  HostMemory,
  MemoryOptions,
  MsrExitPolicy,
  SlotMapping,
} from "../../backend.ts";
import { CapabilityError, DisposedError, MemoryError } from "../../errors.ts";
import { failed, ioctl, ioctlPtr } from "./call.ts";
import { setApicId, setCpuid, tableOf } from "./cpuid.ts";
import type { KvmSystem } from "./system.ts";
import { KvmVcpu, type VcpuHost } from "./vcpu.ts";

/** Three pages below the BIOS that Intel processors without unrestricted guest need for real mode; as QEMU places them. */
const IDENTITY_MAP_ADDRESS = 0xfffbc000;
const TSS_ADDRESS = 0xfffbd000;
const SPLIT_IRQCHIP_PINS = 24;

const MSR_EXIT_REASONS = {
  invalid: KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN,
  filter: KVM_MSR_EXIT_REASON_FILTER,
} as const;

/** Loaded by VMs that have an irqchip. */
function irqs(): typeof import("./irqs.ts") {
  return require("./irqs.ts") as typeof import("./irqs.ts");
}

/** Memory of this process that KVM maps into a guest. */
export class KvmMemory implements HostMemory {
  readonly mapping: Mapping;
  readonly #freed: (bytes: number) => void;

  constructor(mapping: Mapping, freed: (bytes: number) => void) {
    this.mapping = mapping;
    this.#freed = freed;
  }
  get bytes(): Uint8Array {
    return this.mapping.bytes;
  }
  write(offset: number, data: Uint8Array): void {
    this.mapping.write(offset, data);
  }
  [Symbol.dispose](): void {
    if (this.mapping.disposed) return;
    this.#freed(this.mapping.length);
    this.mapping[Symbol.dispose]();
  }
}

/** One KVM VM: its fd, its slots, its vCPUs. */
export class KvmVm implements BackendVm {
  readonly #system: KvmSystem;
  readonly #vcpus = new Set<KvmVcpu>();
  readonly #slots = new Map<number, SlotMapping>();
  readonly #irqchip: "none" | "full" | "split";
  readonly #cpuid: () => KvmCpuid2;
  #host: VcpuHost | undefined;
  #allocated = 0;
  #fd: number;

  /** @param cpuid The table that all vCPUs of the backend get unless told otherwise. */
  constructor(system: KvmSystem, options: BackendVmOptions, cpuid: () => KvmCpuid2) {
    const { irqchip = "none", pit = false, msrExits } = options;
    this.#system = system;
    this.#cpuid = cpuid;
    this.#irqchip = irqchip;
    this.#fd = system.createVm();
    try {
      this.#setUp(irqchip, pit, msrExits);
    } catch (error) {
      libc().close(this.#fd);
      throw error;
    }
  }

  /** The VM's fd, for calls of KVM that vmexit does not wrap. */
  get fd(): number {
    if (this.#fd < 0) throw new DisposedError("VM");
    return this.#fd;
  }

  /** KVM_CHECK_EXTENSION on this VM, which may know more than the host does. */
  check(capability: number): number {
    return ioctl(this.fd, ioctls.KVM_CHECK_EXTENSION, capability, "KVM_CHECK_EXTENSION");
  }

  /** Turns on a capability, e.g. `KVM_CAP_X86_BUS_LOCK_EXIT`, so that its exits come. @throws {SyscallError} EINVAL where it is not there. */
  enableCapability(capability: number, args: readonly bigint[] = []): void {
    const enable = KvmEnableCap.alloc();
    enable.cap = capability;
    enable.args.set(args);
    ioctlPtr(this.fd, ioctls.KVM_ENABLE_CAP, bytesOf(enable), `KVM_ENABLE_CAP ${capability}`, {
      EINVAL: "this kernel or processor lacks the capability, or an argument is wrong: ask check() first",
    });
  }

  allocate(bytes: number, options: MemoryOptions = {}): HostMemory {
    void this.fd;
    const { hugePages = false, noReserve = false } = options;
    if (!noReserve) this.#checkHostMemory(bytes);
    const mapping = Mapping.anonymous(bytes, { hugePages, noReserve });
    if (mapping === null) {
      throw failed(`mmap(${bytes} bytes)`, {
        ENOMEM: "give the guest less memory, or allocate it with { noReserve: true }",
      });
    }
    this.#allocated += bytes;
    return new KvmMemory(mapping, (freed) => {
      this.#allocated -= freed;
    });
  }

  mapSlot(slot: number, mapping: SlotMapping): void {
    this.#setRegion(slot, mapping, mapping.bytes);
    this.#slots.set(slot, mapping);
  }

  unmapSlot(slot: number): void {
    const mapping = this.#slots.get(slot);
    if (mapping === undefined) return;
    if (this.#fd >= 0) this.#setRegion(slot, mapping, 0);
    this.#slots.delete(slot);
  }

  dirtyLog(slot: number): Uint32Array {
    const mapping = this.#slots.get(slot);
    if (mapping === undefined) throw new RangeError(`Cannot read the dirty log of slot ${slot}: it is not mapped`);
    const bitmap = new Uint32Array(Math.ceil(mapping.bytes / 4096 / 64) * 2);
    const log = KvmDirtyLog.alloc();
    log.slot = slot;
    log.dirty_bitmap = addressOf(bitmap);
    ioctlPtr(this.fd, ioctls.KVM_GET_DIRTY_LOG, bytesOf(log), "KVM_GET_DIRTY_LOG", {
      ENOENT: "the slot was mapped without { logDirty: true }",
    });
    return bitmap;
  }

  createVcpu(id: number, options: BackendVcpuOptions = {}): KvmVcpu {
    const host = this.#vcpuHost();
    const fd = ioctl(this.fd, ioctls.KVM_CREATE_VCPU, id, "KVM_CREATE_VCPU", {
      EEXIST: "a vCPU with this id exists, or did in this VM: KVM frees ids only with the VM",
      EINVAL: "the id is beyond KVM_CAP_MAX_VCPU_ID",
    });
    const vcpu = new KvmVcpu(fd, id, host);
    try {
      const table = options.cpuid === undefined ? this.#cpuid() : tableOf(options.cpuid);
      setApicId(table, id);
      setCpuid(fd, table);
    } catch (error) {
      vcpu[Symbol.dispose]();
      throw error;
    }
    this.#vcpus.add(vcpu);
    return vcpu;
  }

  setIrqLine(gsi: number, level: boolean): void {
    this.#needIrqchip("interrupt lines");
    // KVM takes the call and drops the level.
    if (this.#irqchip === "split") {
      throw new CapabilityError("kvm", "interrupt lines of a split irqchip", {
        remedy: 'use vm.signalMsi(), or create the VM with { irqchip: "full" }',
      });
    }
    irqs().setIrqLine(this.fd, gsi, level);
  }

  signalMsi(message: { address: number; data: number }): boolean {
    this.#needIrqchip("message-signalled interrupts");
    return irqs().signalMsi(this.fd, message);
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    for (const vcpu of this.#vcpus) vcpu[Symbol.dispose]();
    libc().close(this.#fd);
    this.#fd = -1;
  }

  #setUp(irqchip: "none" | "full" | "split", pit: boolean, msrExits: MsrExitPolicy | undefined): void {
    const identity = BigUint64Array.of(BigInt(IDENTITY_MAP_ADDRESS));
    ioctlPtr(this.#fd, ioctls.KVM_SET_IDENTITY_MAP_ADDR, identity, "KVM_SET_IDENTITY_MAP_ADDR");
    ioctl(this.#fd, ioctls.KVM_SET_TSS_ADDR, TSS_ADDRESS, "KVM_SET_TSS_ADDR");
    if (irqchip === "full") ioctl(this.#fd, ioctls.KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
    if (irqchip === "split") this.enableCapability(KVM_CAP_SPLIT_IRQCHIP, [BigInt(SPLIT_IRQCHIP_PINS)]);
    if (pit) irqs().createPit(this.#fd);
    if (msrExits !== undefined) this.#setMsrExits(msrExits);
  }

  #setMsrExits({ invalid = false, filter }: MsrExitPolicy): void {
    const reasons = (invalid ? MSR_EXIT_REASONS.invalid : 0) | (filter === undefined ? 0 : MSR_EXIT_REASONS.filter);
    this.enableCapability(KVM_CAP_X86_USER_SPACE_MSR, [BigInt(reasons)]);
    if (filter === undefined) return;
    const { setMsrFilter } = require("./msr-filter.ts") as typeof import("./msr-filter.ts");
    setMsrFilter(this.#fd, filter);
  }

  #vcpuHost(): VcpuHost {
    this.#host ??= {
      runBytes: this.#system.runBytes,
      syncRegs: this.#system.check(KVM_CAP_SYNC_REGS),
      xsaveBytes: Math.max(this.check(KVM_CAP_XSAVE2), 4096),
      irqchip: this.#irqchip !== "none",
    };
    return this.#host;
  }

  #setRegion(slot: number, mapping: SlotMapping, bytes: number): void {
    const { gpa, memory, offset, readOnly, logDirty } = mapping;
    const region = KvmUserspaceMemoryRegion.alloc();
    region.slot = slot;
    region.flags = (readOnly ? KVM_MEM_READONLY : 0) | (logDirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    region.guest_phys_addr = gpa;
    region.memory_size = bytes;
    region.userspace_addr = (memory as KvmMemory).mapping.address + offset;
    ioctlPtr(this.fd, ioctls.KVM_SET_USER_MEMORY_REGION, bytesOf(region), "KVM_SET_USER_MEMORY_REGION", {
      EEXIST:
        "the range overlaps a slot, or the pages KVM keeps at 0xfffbc000 and, with an irqchip, the APIC at 0xfee00000",
      EINVAL: "the range must lie below the guest's physical address limit, and the slot below KVM_CAP_NR_MEMSLOTS",
    });
  }

  /** The kernel's own check looks at each mmap alone; a guest of many slots is refused here. */
  #checkHostMemory(bytes: number): void {
    const wanted = this.#allocated + bytes;
    if (wanted < WORTH_CHECKING_BYTES) return;
    const { totalmem } = require("node:os") as typeof import("node:os");
    const total = totalmem();
    if (wanted <= total) return;
    throw new MemoryError(
      `Cannot allocate ${wanted} bytes for one guest as the host has ${total}`,
      { gpa: 0, bytes: wanted },
      {
        remedy: "give the guest less memory, or allocate it with { noReserve: true } when it stays sparse",
      },
    );
  }

  #needIrqchip(what: string): void {
    if (this.#irqchip !== "none") return;
    throw new CapabilityError("kvm", `${what} without irqchip`, { remedy: 'create the VM with { irqchip: "full" }' });
  }
}

/** Below this no host is asked for its memory size. */
const WORTH_CHECKING_BYTES = 2 ** 30;
