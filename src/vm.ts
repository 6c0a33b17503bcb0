import type { Backend, BackendVm, CpuidEntry, GuestClock, MemoryOptions, MsrExitPolicy } from "./backend.ts";
import { Bus } from "./bus.ts";
import { type CpuidOverrides, overrideCpuid } from "./cpuid.ts";
import type { IrqLine } from "./device.ts";
import { CapabilityError, DisposedError } from "./errors.ts";
import type { Exit } from "./exit.ts";
import type { RunLimits } from "./limits.ts";
import { GuestMemory } from "./memory.ts";
import type { Outcome } from "./outcome.ts";
import { exitsOf, type RunOptions, type RunResult, runVm, type SliceOptions } from "./run.ts";
import { type ExitObserver, Vcpu, type VcpuOwner } from "./vcpu.ts";

export interface VmOptions extends MemoryOptions {
  /** RAM in bytes, a multiple of 4096; default 1 MiB, 0 for none. It starts at GPA 0; what exceeds 3 GiB goes on at 4 GiB. */
  memoryBytes?: number;
  /** Interrupt controllers in the engine: default `none`, so that HLT and interrupts come to the script. */
  irqchip?: "none" | "full" | "split";
  /** A PIT in the engine, beside a full irqchip. */
  pit?: boolean;
  /** RDMSR and WRMSR to deliver as exits. */
  msrExits?: MsrExitPolicy;
  /** What the guest's time-stamp counter and timers follow. Default: `instructions` on a deterministic backend, else `host`. */
  clock?: GuestClock;
  /** Where RDRAND and RDSEED begin on a deterministic backend: the same seed, the same numbers. 0 to 2⁶⁴ − 1. */
  seed?: bigint | number;
}

export interface VcpuOptions {
  /** Changes to what CPUID answers. Default: all that the engine supports on this host. */
  cpuid?: CpuidOverrides;
}

/** RAM ends here and goes on at 4 GiB: firmware, APICs and PCI live between. */
const LOW_RAM_END = 3 * 2 ** 30;
const HIGH_RAM_START = 2 ** 32;
/** RAM is mapped in slots of at most this size, so that offsets into one stay 31-bit integers, the fast kind. */
const RAM_SLOT_BYTES = 2 ** 30;
const DEFAULT_MEMORY_BYTES = 2 ** 20;

/**
 * A virtual machine: memory, buses, interrupt lines and vCPUs. Disposing it disposes its vCPUs first.
 *
 * @example
 * ```ts
 * using vm = createVm({ memoryBytes: 1 << 20 });
 * using vcpu = vm.createVcpu();
 * ```
 */
export class Vm implements Disposable {
  readonly backend: Backend;
  readonly memory: GuestMemory;
  /** Port I/O. */
  readonly pio = new Bus("pio");
  /** Devices in guest-physical memory, where no slot is. */
  readonly mmio = new Bus("mmio");
  readonly #engine: BackendVm;
  readonly #vcpus: Vcpu[] = [];
  readonly #observers: ExitObserver[] = [];
  readonly #irqchip: "none" | "full" | "split";
  readonly #owned: Disposable | undefined;
  #outcome: Outcome | undefined;
  #disposed = false;

  /**
   * @param owned Disposed after the VM: the backend, when `createVm()` opened it for this VM alone.
   * @throws {RangeError} for memory that is negative or no page multiple, or a seed out of range.
   * @throws {CapabilityError} for what the backend lacks.
   * @throws {SyscallError} when the host refuses.
   */
  constructor(backend: Backend, options: VmOptions = {}, owned?: Disposable) {
    const { irqchip = "none", pit = false, msrExits, clock } = options;
    checkCapabilities(backend, options);
    const seed = checkedSeed(options.seed);
    this.backend = backend;
    this.#irqchip = irqchip;
    this.#owned = owned;
    this.#engine = backend.createVm({
      irqchip,
      pit,
      ...(msrExits === undefined ? {} : { msrExits }),
      ...(clock === undefined ? {} : { clock }),
      ...(seed === undefined ? {} : { seed }),
    });
    this.memory = new GuestMemory(this.#engine, backend);
    try {
      addRam(this.memory, options.memoryBytes ?? DEFAULT_MEMORY_BYTES, options);
    } catch (error) {
      this.#engine[Symbol.dispose]();
      this.memory[Symbol.dispose]();
      throw error;
    }
  }

  /** In the order of creation. */
  get vcpus(): readonly Vcpu[] {
    return this.#vcpus;
  }

  /** The engine's own VM, for what only this backend has. */
  get engine(): BackendVm {
    return this.#engine;
  }

  /** Whether interrupt controllers are in the engine. */
  get irqchip(): "none" | "full" | "split" {
    return this.#irqchip;
  }

  /**
   * @param id Default: the next free one; also the local APIC id.
   * @throws {RangeError} for an id in use or beyond `capabilities.maxVcpus`.
   */
  createVcpu(id: number = this.#nextId(), options: VcpuOptions = {}): Vcpu {
    this.#live();
    const { maxVcpus } = this.backend.capabilities;
    if (!Number.isInteger(id) || id < 0 || id >= maxVcpus) {
      throw new RangeError(`Cannot create vCPU ${id}: the ${this.backend.name} backend takes ids 0 to ${maxVcpus - 1}`);
    }
    if (this.#vcpus.some((vcpu) => vcpu.id === id && !vcpu.disposed)) {
      throw new RangeError(`Cannot create vCPU ${id}: it exists already`);
    }
    const engine = this.#engine.createVcpu(id, this.#vcpuOptions(options));
    const vcpu = new Vcpu(engine, this.#owner);
    this.#vcpus.push(vcpu);
    return vcpu;
  }

  /** A line of the interrupt controllers by its GSI: 0 to 15 the PC's IRQs, to 23 the I/O APIC's. */
  irqLine(gsi: number): IrqLine {
    if (this.#irqchip !== "full") {
      const split = this.#irqchip === "split";
      const what = split ? "interrupt lines of a split irqchip" : "interrupt lines of a VM without irqchip";
      const instead = split ? "send it with vm.signalMsi()" : "queue the interrupt with vcpu.interrupt(vector)";
      throw new CapabilityError(this.backend.name, what, {
        remedy: `create the VM with { irqchip: "full" }, or ${instead}`,
      });
    }
    if (!Number.isInteger(gsi) || gsi < 0 || gsi > 4095)
      throw new RangeError(`No interrupt line ${gsi}: use 0 to 4095`);
    let driven = false;
    return {
      set: (level) => {
        if (level === driven) return;
        driven = level;
        this.#live().setIrqLine(gsi, level);
      },
    };
  }

  /** Sends a message-signalled interrupt; false when the guest blocks it. */
  signalMsi(message: { address: number; data: number }): boolean {
    return this.#live().signalMsi(message);
  }

  /** Calls `observer` with every exit, before devices and scripts see it, until the result is disposed. */
  observe(observer: ExitObserver): Disposable {
    this.#observers.push(observer);
    return {
      [Symbol.dispose]: () => {
        const index = this.#observers.indexOf(observer);
        if (index >= 0) this.#observers.splice(index, 1);
      },
    };
  }

  /** Ends `run()` and `exits()` with `outcome`. For device callbacks; safe at any time, the first reason stays. */
  stop(outcome: Outcome = { kind: "aborted" }): void {
    this.#outcome ??= outcome;
  }

  /** Why the VM stopped, until the next `run()`. */
  get outcome(): Outcome | undefined {
    return this.#outcome;
  }

  /**
   * Runs all vCPUs in turns until the VM stops by itself, a limit is reached or `onExit` says so; the event loop gets
   * its turn after every slice.
   */
  run(options: RunOptions = {}): Promise<RunResult> {
    this.#live();
    this.#outcome = undefined;
    return runVm(this, options);
  }

  /** The exits that no device answers, one at a time: answer each in the loop's body. Ends when the VM stops. */
  exits(limits: RunLimits & SliceOptions = {}): AsyncGenerator<Exit, RunResult> {
    this.#live();
    this.#outcome = undefined;
    return exitsOf(this, limits);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    using stack = new DisposableStack();
    if (this.#owned !== undefined) stack.use(this.#owned);
    stack.use(this.memory);
    stack.use(this.#engine);
    for (const vcpu of this.#vcpus) stack.use(vcpu);
  }

  readonly #owner: VcpuOwner = ((vm: Vm) => ({
    pio: vm.pio,
    mmio: vm.mmio,
    observers: vm.#observers,
    get memory() {
      return vm.memory;
    },
    get backend() {
      return vm.backend;
    },
    get stopped() {
      return vm.#outcome !== undefined;
    },
  }))(this);

  #vcpuOptions(options: VcpuOptions): { cpuid?: readonly CpuidEntry[] } {
    if (options.cpuid === undefined) return {};
    return { cpuid: overrideCpuid(this.backend.supportedCpuid(), options.cpuid) };
  }

  #nextId(): number {
    let id = 0;
    while (this.#vcpus.some((vcpu) => vcpu.id === id)) id++;
    return id;
  }

  #live(): BackendVm {
    if (this.#disposed) throw new DisposedError("VM");
    return this.#engine;
  }
}

function checkCapabilities(backend: Backend, options: VmOptions): void {
  const { capabilities, name } = backend;
  const need = (wanted: boolean, has: boolean, what: string, remedy: string): void => {
    if (wanted && !has) throw new CapabilityError(name, what, { remedy });
  };
  const { irqchip = "none", pit = false, msrExits, clock, seed } = options;
  need(
    irqchip !== "none",
    capabilities.irqchip,
    "in-kernel irqchip",
    "leave irqchip out and inject interrupts yourself",
  );
  need(pit, capabilities.pit, "in-kernel PIT", "leave pit out");
  need(msrExits !== undefined, capabilities.msrExits, "MSR exits", "leave msrExits out");
  const deterministic = capabilities.deterministic ?? false;
  need(clock === "instructions", deterministic, "a clock of instructions", "leave clock out, or use the soft backend");
  need(seed !== undefined, deterministic, "a seed of random numbers", "leave seed out, or use the soft backend");
  need(msrExits?.filter !== undefined, capabilities.msrFilter, "MSR filter", "use { invalid: true } alone");
  if (pit && irqchip !== "full")
    throw new TypeError('Cannot create a PIT without its interrupt controller: add irqchip: "full"');
}

function checkedSeed(seed: bigint | number | undefined): bigint | undefined {
  if (seed === undefined) return undefined;
  const whole = typeof seed === "bigint" || Number.isSafeInteger(seed);
  if (!whole || BigInt.asUintN(64, BigInt(seed)) !== BigInt(seed)) {
    throw new RangeError(`Cannot take ${seed} as a seed: use a whole number from 0 to 2 ** 64 - 1`);
  }
  return BigInt(seed);
}

function addRam(memory: GuestMemory, memoryBytes: number, options: MemoryOptions): void {
  if (!Number.isInteger(memoryBytes) || memoryBytes < 0 || memoryBytes % 4096 !== 0) {
    throw new RangeError(`Cannot create a VM with ${memoryBytes} bytes of memory: use a multiple of 4096`);
  }
  const low = Math.min(memoryBytes, LOW_RAM_END);
  for (const [start, bytes] of [
    [0, low],
    [HIGH_RAM_START, memoryBytes - low],
  ] as const) {
    for (let done = 0; done < bytes; done += RAM_SLOT_BYTES) {
      memory.add({ ...pickMemoryOptions(options), gpa: start + done, bytes: Math.min(RAM_SLOT_BYTES, bytes - done) });
    }
  }
}

function pickMemoryOptions({ hugePages, noReserve }: MemoryOptions): MemoryOptions {
  return { ...(hugePages === undefined ? {} : { hugePages }), ...(noReserve === undefined ? {} : { noReserve }) };
}
