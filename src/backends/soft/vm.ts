import type {
  BackendVcpuOptions,
  BackendVm,
  BackendVmOptions,
  HostMemory,
  MsrExitPolicy,
  SlotMapping,
} from "../../backend.ts";
import { CapabilityError, DisposedError } from "../../errors.ts";
import { CodeTracker } from "./code/tracker.ts";
import type { SoftEngine } from "./engine.ts";
import { HostClock } from "./host-clock.ts";
import type { Irqchip } from "./irqchip/irqchip.ts";
import type { ModeTable } from "./modes.ts";
import { GuestRam, MAX_VCPUS } from "./ram.ts";
import { SoftVcpu } from "./vcpu.ts";

const NO_IRQCHIP = 'create the VM with { irqchip: "full" }, or inject with vcpu.injectInterrupt()';
const NO_SPLIT = 'use { irqchip: "full" }, which takes signalMsi() too, or the kvm backend';

/** The interrupt controllers, a dozen modules: loaded by the first VM that has them. */
function openIrqchip(options: { pit: boolean; hostClock: HostClock | undefined }): Irqchip {
  const { Irqchip } = require("./irqchip/irqchip.ts") as typeof import("./irqchip/irqchip.ts");
  return new Irqchip(options);
}

/** One guest of the software CPU. */
export class SoftVm implements BackendVm {
  readonly engine: SoftEngine;
  readonly ram = new GuestRam();
  readonly tracker = new CodeTracker();
  readonly modes: ModeTable = new Map();
  readonly msrPolicy: MsrExitPolicy | undefined;
  /** What time-stamp counters and timers follow instead of instructions, where asked for. */
  readonly hostClock: HostClock | undefined;
  readonly seed: bigint | undefined;
  /** PIC, I/O APIC, local APICs and PIT, where asked for. */
  readonly irqchip: Irqchip | undefined;
  readonly #vcpus = new Map<number, SoftVcpu>();
  disposed = false;

  constructor(engine: SoftEngine, options: BackendVmOptions) {
    const { irqchip = "none", pit = false } = options;
    if (irqchip === "split") throw new CapabilityError("soft", 'irqchip "split"', { remedy: NO_SPLIT });
    if (pit && irqchip === "none") throw new CapabilityError("soft", "a PIT without irqchip", { remedy: NO_IRQCHIP });
    this.hostClock = options.clock === "host" ? new HostClock() : undefined;
    this.seed = options.seed;
    this.irqchip = irqchip === "full" ? openIrqchip({ pit, hostClock: this.hostClock }) : undefined;
    this.engine = engine;
    this.msrPolicy = options.msrExits;
  }

  #alive(): void {
    if (this.disposed) throw new DisposedError("VM");
  }

  allocate(bytes: number): HostMemory {
    this.#alive();
    if (bytes > 2 ** 32) throw new RangeError(`Cannot allocate ${bytes} bytes: one ArrayBuffer ends at 4 GiB`);
    return this.ram.allocate(bytes);
  }
  mapSlot(slot: number, mapping: SlotMapping): void {
    this.#alive();
    this.ram.mapSlot(slot, mapping);
  }
  unmapSlot(slot: number): void {
    this.#alive();
    this.ram.unmapSlot(slot);
  }
  dirtyLog(slot: number): Uint32Array {
    this.#alive();
    return this.ram.dirtyLog(slot);
  }

  createVcpu(id: number, options: BackendVcpuOptions = {}): SoftVcpu {
    this.#alive();
    if (!Number.isInteger(id) || id < 0 || id >= MAX_VCPUS) {
      throw new RangeError(`A vCPU id is 0 to ${MAX_VCPUS - 1} on the soft backend, not ${id}`);
    }
    if (this.#vcpus.has(id)) throw new RangeError(`vCPU ${id} exists already`);
    const vcpu = new SoftVcpu(this, id, options);
    this.#vcpus.set(id, vcpu);
    return vcpu;
  }

  /** Called by a vCPU that is disposed. */
  release(id: number): void {
    this.#vcpus.delete(id);
  }

  setIrqLine(gsi: number, level: boolean): void {
    this.#needIrqchip("interrupt lines").setIrqLine(gsi, level);
  }
  signalMsi(message: { address: number; data: number }): boolean {
    return this.#needIrqchip("message-signalled interrupts").signalMsi(message);
  }

  #needIrqchip(what: string): Irqchip {
    this.#alive();
    if (this.irqchip !== undefined) return this.irqchip;
    throw new CapabilityError("soft", `${what} without irqchip`, { remedy: NO_IRQCHIP });
  }

  [Symbol.dispose](): void {
    if (this.disposed) return;
    for (const vcpu of [...this.#vcpus.values()]) vcpu[Symbol.dispose]();
    this.disposed = true;
    this.ram.dispose();
  }
}
