import type { Backend, BackendName, Capabilities, CpuidEntry } from "./backend.ts";
import type { NvmmReport } from "./backends/nvmm/doctor.ts";
import { BackendError } from "./errors.ts";
import { Vm, type VmOptions } from "./vm.ts";

/** What `openBackend()` takes: a backend by name, or `auto` for the first that works on this host. */
export type BackendChoice = "auto" | BackendName;

/** Why a backend was passed over. */
export interface Refusal {
  readonly backend: BackendName;
  readonly error: Error;
}

/** Each backend loads only when it is opened. */
const OPENERS: Readonly<Record<BackendName, () => Backend>> = {
  kvm: () => (require("./backends/kvm/backend.ts") as typeof import("./backends/kvm/backend.ts")).openKvm(),
  nvmm: () => (require("./backends/nvmm/backend.ts") as typeof import("./backends/nvmm/backend.ts")).openNvmm(),
  soft: () => (require("./backends/soft/backend.ts") as typeof import("./backends/soft/backend.ts")).openSoft(),
};

/** What this host has of NVMM: device, module, library, version, limits, machines. Plain data; throws nothing. */
export function inspectNvmm(): NvmmReport {
  return (require("./backends/nvmm/doctor.ts") as typeof import("./backends/nvmm/doctor.ts")).inspectNvmm();
}

/** What `auto` tries, in this order. */
export const BACKEND_NAMES = Object.keys(OPENERS) as BackendName[];

/** An opened backend: makes VMs. Disposing it closes the engine; VMs made from it must be gone by then. */
export class Host implements Disposable {
  /** The engine itself. */
  readonly engine: Backend;
  /** What `auto` tried before. */
  readonly refusals: readonly Refusal[];

  constructor(engine: Backend, refusals: readonly Refusal[] = []) {
    this.engine = engine;
    this.refusals = refusals;
  }

  get name(): BackendName {
    return this.engine.name;
  }
  get description(): string {
    return this.engine.description;
  }
  get capabilities(): Capabilities {
    return this.engine.capabilities;
  }
  /** The CPUID table a guest gets unless told otherwise. */
  supportedCpuid(): readonly CpuidEntry[] {
    return this.engine.supportedCpuid();
  }
  /** See `Vm`. */
  createVm(options?: VmOptions): Vm {
    return new Vm(this.engine, options);
  }
  [Symbol.dispose](): void {
    this.engine[Symbol.dispose]();
  }
}

/**
 * Opens a backend. One named is never replaced in silence; `auto` takes the first that opens, and `host.name` says which.
 *
 * @throws {BackendError} when none works, naming each one's reason; a named backend's own error otherwise.
 */
export function openBackend(choice: BackendChoice = "auto"): Host {
  if (choice !== "auto") {
    const open: (() => Backend) | undefined = Object.hasOwn(OPENERS, choice) ? OPENERS[choice] : undefined;
    if (open === undefined) {
      throw new RangeError(`Unknown backend "${choice}": use auto, ${BACKEND_NAMES.join(", ")}`);
    }
    return new Host(open());
  }
  const refusals: Refusal[] = [];
  for (const backend of BACKEND_NAMES) {
    try {
      return new Host(OPENERS[backend](), refusals);
    } catch (error) {
      refusals.push({ backend, error: error as Error });
    }
  }
  throw new BackendError(
    "auto",
    `Cannot open any backend: ${refusals.map((r) => `${r.backend}: ${r.error.message}`).join("; ")}`,
    {
      remedy: "run 'vmexit doctor' to see what this host lacks",
      cause: refusals[0]?.error,
    },
  );
}

export interface CreateVmOptions extends VmOptions {
  /** Default `auto`. */
  backend?: BackendChoice;
}

/** Opens a backend for one VM and closes it with the VM. Errors as `openBackend()` and `Vm`. */
export function createVm(options: CreateVmOptions = {}): Vm {
  const host = openBackend(options.backend);
  try {
    return new Vm(host.engine, options, host);
  } catch (error) {
    host[Symbol.dispose]();
    throw error;
  }
}
