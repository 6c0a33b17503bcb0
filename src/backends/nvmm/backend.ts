import { NVMM_CTL_MACH_INFO, NvmmCtlMachInfo } from "../../../ffi/nvmm/config.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { Backend, BackendVmOptions, Capabilities, CpuidEntry } from "../../backend.ts";
import { DisposedError } from "../../errors.ts";
import { failed } from "./call.ts";
import { DEFAULT_POLICY, type NvmmPolicy } from "./policy.ts";
import { probeCpuid } from "./probe.ts";
import { libraryPaths, NvmmSystem } from "./system.ts";
import { NvmmVm } from "./vm.ts";

export interface NvmmOptions {
  /** Path of libnvmm. Default: `VMEXIT_LIBNVMM` of the environment, else the system's. */
  library?: string;
  /** What the common interface has no word for; each VM starts with it. */
  policy?: Partial<NvmmPolicy>;
}

/** What nvmm_ctl() tells of a machine. */
export interface NvmmMachineInfo {
  readonly id: number;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly pid: number;
  readonly createdAt: Date;
}

/** NVMM of NetBSD and DragonFly through libnvmm. */
export class NvmmBackend implements Backend {
  readonly name = "nvmm";
  readonly #system: NvmmSystem;
  readonly #policy: NvmmPolicy;
  #cpuid: readonly CpuidEntry[] | undefined;
  #live = true;

  constructor(system: NvmmSystem, policy: Partial<NvmmPolicy> = {}) {
    this.#system = system;
    this.#policy = { ...DEFAULT_POLICY, ...policy };
  }

  get description(): string {
    const { layout, capability, library } = this.#system;
    return `${layout.name} NVMM, kernel version ${capability.version}, ${library.path}`;
  }

  get capabilities(): Capabilities {
    return this.#system.capabilities;
  }

  get system(): NvmmSystem {
    return this.#system;
  }

  supportedCpuid(): readonly CpuidEntry[] {
    this.#cpuid ??= probeCpuid(this.#system);
    return this.#cpuid;
  }

  createVm(options: BackendVmOptions = {}): NvmmVm {
    if (!this.#live) throw new DisposedError("NVMM backend");
    return new NvmmVm(this.#system, options, { policy: this.#policy, supported: () => this.supportedCpuid() });
  }

  /** The machine with this id, when it is ours or this process may see all; undefined when there is none. */
  machineInfo(id: number): NvmmMachineInfo | undefined {
    return machineInfo(this.#system, id);
  }

  /** libnvmm cannot be closed: its device stays open until the process ends. */
  [Symbol.dispose](): void {
    this.#live = false;
  }
}

/** @throws {SyscallError} EPERM for a machine of somebody else. */
export function machineInfo(system: NvmmSystem, id: number): NvmmMachineInfo | undefined {
  const info = NvmmCtlMachInfo.alloc();
  info.machid = id;
  if (system.functions.nvmm_ctl(NVMM_CTL_MACH_INFO, bytesOf(info), NvmmCtlMachInfo.size) !== 0) {
    const error = failed(system, "nvmm_ctl(NVMM_CTL_MACH_INFO)");
    if (error.code === "ENOENT" || error.code === "EINVAL") return undefined;
    throw error;
  }
  const { nvcpus, nram, pid, time } = info;
  return { id, vcpus: nvcpus, memoryBytes: nram, pid, createdAt: new Date(Number(time) * 1000) };
}

/** libnvmm is initialised once per process: one system per library. */
const systems = new Map<string, NvmmSystem>();

/**
 * Opens NVMM.
 *
 * @throws {BackendError} on another system, without libnvmm, or for a version of NVMM that vmexit does not know.
 * @throws {SyscallError} when libnvmm cannot open its device; the remedy says what to do.
 */
export function openNvmm(options: NvmmOptions = {}): NvmmBackend {
  const paths = libraryPaths(options.library);
  const key = paths.join("\n");
  let system = systems.get(key);
  if (system === undefined) {
    system = new NvmmSystem(paths);
    systems.set(key, system);
  }
  return new NvmmBackend(system, options.policy);
}
