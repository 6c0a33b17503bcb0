import type { Exit } from "./exit.ts";
import type { RegisterAccess } from "./registers.ts";

export type BackendName = "kvm" | "nvmm" | "soft";

/** What a backend can do on this host, asked once when it opens. A request for what is false throws `CapabilityError`. */
export interface Capabilities {
  readonly maxVcpus: number;
  readonly maxSlots: number;
  /** The in-kernel (or in-engine) interrupt controllers: PIC, I/O APIC, local APIC. */
  readonly irqchip: boolean;
  /** A programmable interval timer beside the irqchip. */
  readonly pit: boolean;
  readonly readOnlyMemory: boolean;
  readonly dirtyLog: boolean;
  /** RDMSR/WRMSR that the engine refuses, or that a filter denies, come as exits. */
  readonly msrExits: boolean;
  readonly msrFilter: boolean;
  readonly singleStep: boolean;
  readonly hardwareBreakpoints: boolean;
  readonly translate: boolean;
  /** Whether `maxInstructions` bounds a run. */
  readonly instructionCount: boolean;
  /** Whether time and random numbers follow from the guest alone, and can be chosen: `clock` and `seed`. Absent: no. */
  readonly deterministic?: boolean;
  /** What the engine itself reports, by its own names, e.g. `KVM_CAP_NR_VCPUS: 2`. For people; code asks the fields above. */
  readonly raw: Readonly<Record<string, number>>;
}

/** One engine on this host. */
export interface Backend extends Disposable {
  readonly name: BackendName;
  /** One line for people: engine, version, host. */
  readonly description: string;
  readonly capabilities: Capabilities;
  /** The CPUID table a guest gets unless told otherwise: what the engine supports on this host. */
  supportedCpuid(): readonly CpuidEntry[];
  createVm(options?: BackendVmOptions): BackendVm;
}

export interface BackendVmOptions {
  /** Put PIC, I/O APIC and local APICs into the engine. Default: none, so HLT and interrupts come to user space. */
  irqchip?: "none" | "full" | "split";
  /** Put a PIT beside a full irqchip. */
  pit?: boolean;
  /** RDMSR and WRMSR to deliver as exits. Default `none`: the engine answers or raises #GP. */
  msrExits?: MsrExitPolicy;
  /** What the guest's time-stamp counter and timers follow. Default: instructions where the engine counts them. */
  clock?: GuestClock;
  /** Where RDRAND and RDSEED begin, 0 to 2⁶⁴ − 1, where the engine is deterministic. */
  seed?: bigint;
}

/** `instructions`: one nanosecond each, so that a guest always sees the same time. `host`: the time that passes here. */
export type GuestClock = "instructions" | "host";

/** Which MSR accesses become exits: those the engine does not know or refuses, and the listed ranges in any case. */
export interface MsrExitPolicy {
  /** Accesses the engine would answer with #GP. */
  invalid?: boolean;
  /** Ranges taken from the engine altogether. */
  filter?: readonly {
    readonly first: number;
    readonly count: number;
    readonly access: "read" | "write" | "readWrite";
  }[];
}

/** Memory that an engine can map into a guest. `bytes` becomes empty when it is disposed. */
export interface HostMemory extends Disposable {
  /** The memory itself. */
  readonly bytes: Uint8Array;
  /** Copies `data` to `offset`; cheaper than `bytes.set()` as long as nobody asked for `bytes`. */
  write(offset: number, data: Uint8Array): void;
}

/** How memory is obtained from the host. */
export interface MemoryOptions {
  /** Align to 2 MiB and ask for huge pages. */
  hugePages?: boolean;
  /** Do not count the memory against the host's commit limit (MAP_NORESERVE). */
  noReserve?: boolean;
}

/** A range of host memory at a guest-physical address. */
export interface SlotMapping {
  /** Guest-physical start in bytes, a multiple of 4096. */
  readonly gpa: number;
  readonly memory: HostMemory;
  /** Bytes from the start of `memory`, a multiple of 4096. */
  readonly offset: number;
  /** Length in bytes, a multiple of 4096. */
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly logDirty: boolean;
}

/** One guest of a backend: memory slots, vCPUs, interrupt lines. The public `Vm` wraps it with buses and a run loop. */
export interface BackendVm extends Disposable {
  /** @throws {RangeError} above 4 GiB: one ArrayBuffer ends there; map several. */
  allocate(bytes: number, options?: MemoryOptions): HostMemory;
  /** Maps a slot that is free. Arguments are checked by the caller (`GuestMemory`). */
  mapSlot(slot: number, mapping: SlotMapping): void;
  unmapSlot(slot: number): void;
  /** Bitmap of pages written since the last call, bit 0 of word 0 the slot's first page. Clears the log. */
  dirtyLog(slot: number): Uint32Array;
  createVcpu(id: number, options?: BackendVcpuOptions): BackendVcpu;
  /** Drives an interrupt line (GSI) of the irqchip. @throws {CapabilityError} without one. */
  setIrqLine(gsi: number, level: boolean): void;
  /** Sends a message-signalled interrupt. Returns false when the guest blocked it. @throws {CapabilityError} without an irqchip. */
  signalMsi(message: { address: number; data: number }): boolean;
}

/** One CPUID leaf. */
export interface CpuidEntry {
  leaf: number;
  /** Present only where the leaf has sub-leaves. */
  subleaf?: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

export interface BackendVcpuOptions {
  /** The whole table the guest sees. Default: what the engine supports on this host. */
  cpuid?: readonly CpuidEntry[];
}

/** What `vcpu.debug()` asks for. */
export interface DebugRequest {
  /** A `debug` exit behind every instruction. The guest's own TF raises no #DB meanwhile: the debugger owns it. */
  singleStep?: boolean;
  /** At most four, checked by the debug registers. */
  breakpoints?: readonly {
    readonly address: bigint;
    readonly on: "execute" | "write" | "readWrite";
    readonly bytes?: 1 | 2 | 4 | 8;
  }[];
}

/** Whole state of one vCPU as opaque named blobs: for save and restore on the same backend. */
export interface VcpuState {
  readonly backend: BackendName;
  readonly parts: Readonly<Record<string, Uint8Array>>;
}

/** A fault on the way to a shutdown. */
export interface FaultRecord {
  readonly vector: number;
  /** Undefined for the vectors that push none. */
  readonly errorCode: number | undefined;
}

/** One virtual processor. */
export interface BackendVcpu extends Disposable {
  readonly id: number;
  readonly registers: RegisterAccess;
  /**
   * Completes the last exit with the caller's answer, enters the guest and returns its next exit. Comes back with
   * `interrupted` when `deadline` passes or `kick()` was called; an answer given before is never lost.
   */
  run(): Exit;
  /**
   * Bounds the runs that follow. One deadline holds over many runs, so that arming it costs nothing per exit.
   * @param deadlineMs Milliseconds of `performance.now()`, or undefined for none.
   */
  setDeadline(deadlineMs: number | undefined): void;
  /**
   * Where an engine can: shows `answer` each PIO and MMIO exit before `run()` returns it, with the state as it is behind
   * `run()`. True: it is answered and the guest goes on at once. What it throws leaves `run()`.
   */
  answerWith?(answer: (exit: Exit) => boolean): void;
  /** Bounds the runs that follow in guest instructions, where the backend counts them. */
  setInstructionLimit?(count: number | undefined): void;
  /** Instructions retired so far, where the backend counts them. */
  instructionCount?(): number;
  /** The faults that led to the last shutdown, oldest first, where the backend keeps them. */
  readonly faultChain?: readonly FaultRecord[];
  /** Makes the present or the next `run()` return `interrupted` by `kick`. Safe from a device callback. */
  kick(): void;
  /** True when an external interrupt can be injected right now. */
  readonly interruptReady: boolean;
  /** Queues an external interrupt; only when `interruptReady`. */
  injectInterrupt(vector: number): void;
  injectNmi(): void;
  /** Queues a fault; `errorCode` where the vector has one. */
  injectException(vector: number, errorCode?: number): void;
  /** Asks for an `irqWindow` exit as soon as an interrupt can be injected; false withdraws the wish. */
  requestInterruptWindow(wanted: boolean): void;
  /** Replaces what the debugger asks for; an empty object ends debugging. */
  debug(request: DebugRequest): void;
  /** GVA to GPA by the engine itself, undefined when not mapped. @throws {CapabilityError} where it cannot. */
  translate(gva: bigint): number | undefined;
  cpuid(): readonly CpuidEntry[];
  saveState(): VcpuState;
  restoreState(state: VcpuState): void;
}
