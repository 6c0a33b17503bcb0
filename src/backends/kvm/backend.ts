import type { KvmCpuid2 } from "../../../ffi/kvm/cpuid.ts";
import type { Backend, BackendVmOptions, Capabilities, CpuidEntry } from "../../backend.ts";
import { BackendError } from "../../errors.ts";
import { entriesOf, setApicId, supportedTable } from "./cpuid.ts";
import { KVM_DEVICE, KvmSystem } from "./system.ts";
import { KvmVm } from "./vm.ts";

/** Linux KVM through /dev/kvm. */
export class KvmBackend implements Backend {
  readonly name = "kvm";
  readonly #system: KvmSystem;
  #cpuid: KvmCpuid2 | undefined;

  constructor(system: KvmSystem) {
    this.#system = system;
  }

  get description(): string {
    return `Linux KVM, API version 12, ${KVM_DEVICE}`;
  }

  get capabilities(): Capabilities {
    return this.#system.capabilities;
  }

  /** The open /dev/kvm. */
  get system(): KvmSystem {
    return this.#system;
  }

  supportedCpuid(): readonly CpuidEntry[] {
    const table = this.#supported();
    // The table is shared with createVcpu(), which leaves the last vCPU's id in it.
    setApicId(table, 0);
    return entriesOf(table);
  }

  createVm(options: BackendVmOptions = {}): KvmVm {
    return new KvmVm(this.#system, options, () => this.#supported());
  }

  [Symbol.dispose](): void {
    this.#system[Symbol.dispose]();
  }

  #supported(): KvmCpuid2 {
    this.#cpuid ??= supportedTable(this.#system.fd);
    return this.#cpuid;
  }
}

/**
 * Opens KVM.
 *
 * @throws {BackendError} on another system than Linux on x86-64.
 * @throws {SyscallError} when /dev/kvm cannot be opened; its remedy says what to do.
 */
export function openKvm(): KvmBackend {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new BackendError("kvm", `Cannot use KVM on ${process.platform} ${process.arch}`, {
      remedy: "vmexit's KVM backend is for Linux on x86-64; on other hosts use --backend soft",
    });
  }
  return new KvmBackend(new KvmSystem());
}
