import type {
  Backend,
  BackendVcpu,
  BackendVm,
  Capabilities,
  CpuidEntry,
  DebugRequest,
  HostMemory,
  MemoryOptions,
  SlotMapping,
  VcpuState,
} from "../../src/backend.ts";
import { DisposedError } from "../../src/errors.ts";
import type { Exit } from "../../src/exit.ts";
import type { MpState, RegisterAccess } from "../../src/registers.ts";

/** What happens at one `run()`: an exit, or what makes it. */
export type Scripted = Exit | (() => Exit);

const EVERYTHING: Capabilities = {
  maxVcpus: 4,
  maxSlots: 8,
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
  raw: {},
};

/** An engine that runs a script of exits instead of a guest, and notes what is asked of it. */
export class FakeBackend implements Backend {
  readonly name = "soft";
  readonly description = "a script of exits";
  readonly capabilities: Capabilities;
  readonly vms: FakeVm[] = [];
  disposals = 0;

  constructor(changes: Partial<Capabilities> = {}) {
    this.capabilities = { ...EVERYTHING, ...changes };
  }
  supportedCpuid(): CpuidEntry[] {
    return [{ leaf: 0, eax: 1, ebx: 2, ecx: 3, edx: 4 }];
  }
  createVm(): FakeVm {
    const vm = new FakeVm();
    this.vms.push(vm);
    return vm;
  }
  [Symbol.dispose](): void {
    this.disposals++;
  }
}

class FakeMemory implements HostMemory {
  bytes: Uint8Array;
  disposals = 0;
  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
  }
  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
  }
  [Symbol.dispose](): void {
    this.bytes = new Uint8Array(0);
    this.disposals++;
  }
}

export class FakeVm implements BackendVm {
  readonly slots = new Map<number, SlotMapping>();
  readonly memories: FakeMemory[] = [];
  readonly vcpus: FakeVcpu[] = [];
  readonly lines: [gsi: number, level: boolean][] = [];
  readonly allocations: MemoryOptions[] = [];
  /** What `dirtyLog()` answers, by slot. */
  readonly dirty = new Map<number, Uint32Array>();
  /** Thrown by the next `mapSlot()`. */
  mapError: Error | undefined;
  cpuid: readonly CpuidEntry[] | undefined;
  disposals = 0;

  allocate(bytes: number, options: MemoryOptions = {}): HostMemory {
    if (this.disposals > 0) throw new DisposedError("VM");
    this.allocations.push(options);
    const memory = new FakeMemory(bytes);
    this.memories.push(memory);
    return memory;
  }
  mapSlot(slot: number, mapping: SlotMapping): void {
    if (this.mapError !== undefined) throw this.mapError;
    this.slots.set(slot, mapping);
  }
  unmapSlot(slot: number): void {
    this.slots.delete(slot);
  }
  dirtyLog(slot: number): Uint32Array {
    return this.dirty.get(slot) ?? new Uint32Array(0);
  }
  createVcpu(id: number, options: { cpuid?: readonly CpuidEntry[] } = {}): FakeVcpu {
    this.cpuid = options.cpuid;
    const vcpu = new FakeVcpu(id);
    this.vcpus.push(vcpu);
    return vcpu;
  }
  setIrqLine(gsi: number, level: boolean): void {
    this.lines.push([gsi, level]);
  }
  signalMsi(): boolean {
    return true;
  }
  [Symbol.dispose](): void {
    this.disposals++;
  }
}

export class FakeVcpu implements BackendVcpu {
  readonly id: number;
  readonly registers: RegisterAccess;
  /** Taken from the front by each `run()`; then `hlt` for ever. */
  readonly script: Scripted[] = [];
  /** Every call but reads, in order. */
  readonly log: string[] = [];
  readonly injected: number[] = [];
  mpState: MpState = "runnable";
  rflags = 2n;
  deadline: number | undefined;
  interruptReady = true;
  windowRequested = false;
  instructionLimit: number | undefined;
  disposals = 0;

  constructor(id: number) {
    this.id = id;
    this.registers = {
      readGpr: (index: number) => (index === 17 ? this.rflags : 0n),
      readMpState: () => this.mpState,
    } as Partial<RegisterAccess> as RegisterAccess;
  }
  run(): Exit {
    const next = this.script.shift() ?? { kind: "hlt" };
    return typeof next === "function" ? next() : next;
  }
  setDeadline(deadlineMs: number | undefined): void {
    this.deadline = deadlineMs;
    this.log.push(deadlineMs === undefined ? "no deadline" : "deadline");
  }
  setInstructionLimit(count: number | undefined): void {
    this.instructionLimit = count;
  }
  instructionCount(): number {
    return 42;
  }
  kick(): void {
    this.log.push("kick");
  }
  injectInterrupt(vector: number): void {
    this.injected.push(vector);
    this.interruptReady = false;
  }
  injectNmi(): void {
    this.log.push("nmi");
  }
  injectException(vector: number, errorCode?: number): void {
    this.log.push(`exception ${vector} ${errorCode}`);
  }
  requestInterruptWindow(wanted: boolean): void {
    this.windowRequested = wanted;
  }
  debug(request: DebugRequest): void {
    this.log.push(
      `debug ${JSON.stringify(request, (_, value) => (typeof value === "bigint" ? Number(value) : value))}`,
    );
  }
  translate(gva: bigint): number {
    return Number(gva);
  }
  cpuid(): CpuidEntry[] {
    return [];
  }
  saveState(): VcpuState {
    return { backend: "soft", parts: {} };
  }
  restoreState(): void {
    this.log.push("restore");
  }
  [Symbol.dispose](): void {
    this.disposals++;
  }
}
