import { errno, errnoName } from "../../../ffi/libc.ts";
import { Mapping } from "../../../ffi/mapping.ts";
import { NVMM_MAX_HMAPPINGS, NVMM_PROT_EXEC, NVMM_PROT_READ, NVMM_PROT_WRITE } from "../../../ffi/nvmm/config.ts";
import { bytesAt, detach, reserve, unreserve } from "../../../ffi/nvmm/memory.ts";
import { NvmmMachine } from "../../../ffi/nvmm/objects.ts";
import type {
  BackendVcpuOptions,
  BackendVm,
  BackendVmOptions,
  CpuidEntry,
  HostMemory,
  SlotMapping,
} from "../../backend.ts";
import { CapabilityError, DisposedError, MemoryError, SyscallError } from "../../errors.ts";
import { failed, type Remedies } from "./call.ts";
import { type CpuidPlan, defaultPlan, planFor } from "./cpuid.ts";
import { checkMsrExits, type NvmmPolicy } from "./policy.ts";
import type { NvmmSystem } from "./system.ts";
import { NvmmVcpu } from "./vcpu.ts";

const PAGE = 4096;
const MAX_ALLOCATION = 2 ** 32;
/** Below this no host is asked for its memory size. */
const WORTH_CHECKING_BYTES = 2 ** 30;

const CREATE_REMEDIES: Remedies = {
  ENOBUFS: "the host has no machine left: dispose VMs that are done (nvmmctl list shows who has them)",
};
const HVA_REMEDIES: Remedies = {
  ENOBUFS: `a machine takes ${NVMM_MAX_HMAPPINGS} blocks of memory: allocate fewer and larger ones`,
};

/** Memory of this process that NVMM shares with a guest. */
export class NvmmMemory implements HostMemory {
  readonly address: number;
  readonly length: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #release: (memory: NvmmMemory) => void;
  #held = true;

  constructor(address: number, length: number, release: (memory: NvmmMemory) => void) {
    this.address = address;
    this.length = length;
    this.bytes = bytesAt(address, length);
    this.#release = release;
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
  }
  [Symbol.dispose](): void {
    if (!this.#held) return;
    this.#held = false;
    detach(this.bytes);
    this.#release(this);
  }
}

/** One NVMM machine: its memory, its guest ranges, its vCPUs. */
export class NvmmVm implements BackendVm {
  /** What NVMM leaves to user space and the common interface has no word for; read when a vCPU is created. */
  readonly policy: NvmmPolicy;
  readonly #system: NvmmSystem;
  readonly #options: BackendVmOptions;
  readonly #supported: () => readonly CpuidEntry[];
  readonly #page: Mapping;
  readonly #slots = new Map<number, SlotMapping>();
  readonly #vcpus = new Set<NvmmVcpu>();
  #allocated = 0;
  #live = true;

  /** @throws {SyscallError} ENOBUFS when the host has no machine left. */
  constructor(
    system: NvmmSystem,
    options: BackendVmOptions,
    defaults: { policy: NvmmPolicy; supported: () => readonly CpuidEntry[] },
  ) {
    checkOptions(options);
    this.#system = system;
    this.#options = options;
    this.policy = { ...defaults.policy };
    this.#supported = defaults.supported;
    const page = Mapping.anonymous(PAGE);
    if (page === null) throw mmapFailed();
    this.#page = page;
    if (system.functions.nvmm_machine_create(page.address) !== 0) {
      const error = failed(system, "nvmm_machine_create()", CREATE_REMEDIES);
      page[Symbol.dispose]();
      throw error;
    }
  }

  /** NVMM's number of the machine, as nvmmctl(8) lists it. */
  get machineId(): number {
    this.#check();
    return NvmmMachine.view(this.#page.bytes).machid;
  }

  allocate(bytes: number): NvmmMemory {
    this.#check();
    if (!Number.isInteger(bytes) || bytes <= 0 || bytes % PAGE !== 0) {
      throw new RangeError(`Cannot allocate ${bytes} bytes of guest memory: use a positive multiple of ${PAGE}`);
    }
    if (bytes > MAX_ALLOCATION) {
      throw new RangeError(`Cannot allocate ${bytes} bytes in one piece: an ArrayBuffer ends at 4 GiB, map several`);
    }
    this.#checkHostMemory(bytes);
    const address = reserve(bytes);
    if (address === null) throw mmapFailed();
    // From here on NVMM owns the pages; it replaces them, so nothing may be written before.
    if (this.#system.functions.nvmm_hva_map(this.#page.address, address, bytes) !== 0) {
      const error = failed(this.#system, "nvmm_hva_map()", HVA_REMEDIES);
      unreserve(address, bytes);
      throw error;
    }
    this.#allocated += bytes;
    return new NvmmMemory(address, bytes, (memory) => this.#release(memory));
  }

  mapSlot(slot: number, mapping: SlotMapping): void {
    this.#check();
    const { gpa, memory, offset, bytes, readOnly, logDirty } = mapping;
    if (logDirty) throw noDirtyLog();
    this.#checkRange(mapping);
    const prot = NVMM_PROT_READ | NVMM_PROT_EXEC | (readOnly ? 0 : NVMM_PROT_WRITE);
    const hva = (memory as NvmmMemory).address + offset;
    if (this.#system.functions.nvmm_gpa_map(this.#page.address, hva, gpa, bytes, prot) !== 0) {
      throw failed(this.#system, "nvmm_gpa_map()", { EINVAL: "the range overlaps another one of this guest" });
    }
    this.#slots.set(slot, mapping);
  }

  unmapSlot(slot: number): void {
    this.#check();
    const mapping = this.#slots.get(slot);
    if (mapping === undefined) return;
    const { gpa, memory, offset, bytes } = mapping;
    const hva = (memory as NvmmMemory).address + offset;
    if (this.#system.functions.nvmm_gpa_unmap(this.#page.address, hva, gpa, bytes) !== 0) {
      throw failed(this.#system, "nvmm_gpa_unmap()");
    }
    this.#slots.delete(slot);
  }

  /** Changes what the guest may do with a slot. NVMM knows no such call: the range is unmapped and mapped anew. */
  setReadOnly(slot: number, readOnly: boolean): void {
    const mapping = this.#slots.get(slot);
    if (mapping === undefined) throw new RangeError(`Cannot change slot ${slot}: nothing is mapped there`);
    if (mapping.readOnly === readOnly) return;
    this.unmapSlot(slot);
    this.mapSlot(slot, { ...mapping, readOnly });
  }

  /** @throws {CapabilityError} always: NVMM tracks no written pages. */
  dirtyLog(_slot: number): Uint32Array {
    throw noDirtyLog();
  }

  createVcpu(id: number, options: BackendVcpuOptions = {}): NvmmVcpu {
    this.#check();
    const vcpu = new NvmmVcpu(id, {
      system: this.#system,
      machine: this.#page.address,
      policy: this.policy,
      msrExits: this.#options.msrExits,
      cpuid: this.#plan(options.cpuid),
      disposed: (gone) => this.#vcpus.delete(gone),
    });
    this.#vcpus.add(vcpu);
    return vcpu;
  }

  /** @throws {CapabilityError} always: NVMM has no interrupt controllers. */
  setIrqLine(_gsi: number, _level: boolean): void {
    throw noIrqchip("interrupt lines");
  }

  /** @throws {CapabilityError} always. */
  signalMsi(_message: { address: number; data: number }): boolean {
    throw noIrqchip("message-signalled interrupts");
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    for (const vcpu of [...this.#vcpus]) vcpu[Symbol.dispose]();
    this.#live = false;
    this.#system.functions.nvmm_machine_destroy(this.#page.address);
    this.#page[Symbol.dispose]();
  }

  #plan(cpuid: readonly CpuidEntry[] | undefined): CpuidPlan {
    const exits = this.policy.cpuidExits;
    if (cpuid === undefined) return defaultPlan(this.#supported, exits);
    if (!this.#system.hasCpuidMasks) {
      throw new CapabilityError("nvmm", "CPUID changes", { remedy: "leave the CPUID options out on this host" });
    }
    return planFor(cpuid, this.#supported(), {
      maxLeaves: this.#system.capability.arch.conf_cpuid_maxops,
      exits,
    });
  }

  /** nvmm_hva_unmap() takes the range from the process; without a machine it has to be done here. */
  #release(memory: NvmmMemory): void {
    this.#allocated -= memory.length;
    if (!this.#live) {
      unreserve(memory.address, memory.length);
      return;
    }
    for (const [slot, mapping] of this.#slots) if (mapping.memory === memory) this.unmapSlot(slot);
    if (this.#system.functions.nvmm_hva_unmap(this.#page.address, memory.address, memory.length) !== 0) {
      throw failed(this.#system, "nvmm_hva_unmap()");
    }
  }

  /** libnvmm aborts the process where the kernel refuses a range, so nothing it would refuse may reach it. */
  #checkRange({ gpa, memory, offset, bytes }: SlotMapping): void {
    if (!(memory instanceof NvmmMemory)) throw new TypeError("Cannot map memory that another backend allocated");
    const wrong = [gpa, offset, bytes].find((value) => !Number.isSafeInteger(value) || value < 0 || value % PAGE !== 0);
    if (wrong !== undefined || bytes === 0) {
      throw new RangeError(`Cannot map ${bytes} bytes at GPA 0x${gpa.toString(16)}: use multiples of ${PAGE}`);
    }
    if (memory.bytes.length === 0) throw new DisposedError("guest memory");
    if (offset + bytes > memory.length) {
      throw new RangeError(`Cannot map ${bytes} bytes from offset ${offset} of ${memory.length} bytes: stay inside`);
    }
    const { layout, capability } = this.#system;
    const end = layout.unmapsUpToMaxRam ? capability.max_ram : capability.max_ram - PAGE;
    if (gpa + bytes > end) {
      throw new MemoryError(
        `Cannot map memory up to GPA 0x${(gpa + bytes).toString(16)}`,
        { gpa, bytes },
        { remedy: `NVMM's guest memory ends at 0x${end.toString(16)}` },
      );
    }
    for (const other of this.#slots.values()) {
      if (gpa >= other.gpa + other.bytes || other.gpa >= gpa + bytes) continue;
      throw new MemoryError(
        `Cannot map ${bytes} bytes at GPA 0x${gpa.toString(16)}`,
        { gpa, bytes },
        { remedy: `memory is mapped at 0x${other.gpa.toString(16)} already: remove it first` },
      );
    }
  }

  /** The kernel overcommits; a guest that can never be backed is refused here. */
  #checkHostMemory(bytes: number): void {
    const wanted = this.#allocated + bytes;
    if (wanted < WORTH_CHECKING_BYTES) return;
    const { totalmem } = require("node:os") as typeof import("node:os");
    const total = totalmem();
    if (wanted <= total) return;
    throw new MemoryError(
      `Cannot allocate ${wanted} bytes for one guest as the host has ${total}`,
      { gpa: 0, bytes: wanted },
      { remedy: "give the guest less memory" },
    );
  }

  #check(): void {
    if (!this.#live) throw new DisposedError("VM");
  }
}

function checkOptions({ irqchip = "none", pit = false, msrExits }: BackendVmOptions): void {
  if (irqchip !== "none" || pit) throw noIrqchip("interrupt controllers in the engine");
  checkMsrExits(msrExits);
}

function noIrqchip(what: string): CapabilityError {
  return new CapabilityError("nvmm", what, { remedy: "inject interrupts yourself with vcpu.interrupt()" });
}

function noDirtyLog(): CapabilityError {
  return new CapabilityError("nvmm", "dirty log", { remedy: "compare memory yourself, or use the kvm backend" });
}

function mmapFailed(): SyscallError {
  const number = errno();
  return new SyscallError(
    "mmap()",
    { errno: number, code: errnoName(number) },
    { remedy: "free memory on the host, or give the guest less" },
  );
}
