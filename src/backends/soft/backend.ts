import type { Backend, BackendVmOptions, Capabilities, CpuidEntry } from "../../backend.ts";
import { BackendError, DisposedError } from "../../errors.ts";
import { type SoftEngine, softEngine } from "./engine.ts";
import { MAX_VCPUS } from "./ram.ts";
import { SoftVm } from "./vm.ts";

const CAPABILITIES: Capabilities = {
  maxVcpus: MAX_VCPUS,
  maxSlots: 512,
  irqchip: true,
  pit: true,
  readOnlyMemory: true,
  dirtyLog: true,
  msrExits: true,
  msrFilter: true,
  singleStep: true,
  hardwareBreakpoints: true,
  translate: true,
  instructionCount: true,
  deterministic: true,
  raw: {},
};

/** The software CPU: x86 translated to WebAssembly. Needs nothing of the host. */
export class SoftBackend implements Backend {
  readonly name = "soft";
  readonly capabilities = CAPABILITIES;
  readonly #engine: SoftEngine;
  #disposed = false;

  constructor(engine: SoftEngine) {
    this.#engine = engine;
  }

  get description(): string {
    return "vmexit's software CPU: x86 translated to WebAssembly";
  }

  supportedCpuid(): readonly CpuidEntry[] {
    return this.#engine.cpuid;
  }

  createVm(options: BackendVmOptions = {}): SoftVm {
    if (this.#disposed) throw new DisposedError("soft backend");
    return new SoftVm(this.#engine, options);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
  }
}

/** Opens the software CPU. @throws {BackendError} where WebAssembly lacks what it needs. */
export function openSoft(): SoftBackend {
  if (typeof WebAssembly === "undefined") {
    throw new BackendError("soft", "Cannot run the software CPU without WebAssembly", {
      remedy: "use Bun 1.4.5 or later",
    });
  }
  return new SoftBackend(softEngine());
}
