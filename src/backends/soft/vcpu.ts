import type { BackendVcpu, BackendVcpuOptions, CpuidEntry, DebugRequest, VcpuState } from "../../backend.ts";
import { DisposedError, GuestStateError } from "../../errors.ts";
import type { Exit } from "../../exit.ts";
import type { RegisterAccess } from "../../registers.ts";
import { lowOf } from "./access.ts";
import { Translations } from "./code/translations.ts";
import { Cpu } from "./cpu.ts";
import { collectGarbage, noteGarbage } from "./garbage.ts";
import { plainHelpers, type SystemHelper, systemHelpers } from "./helpers.ts";
import { decodeInFlight, encodeInFlight } from "./in-flight.ts";
import type { VcpuInterruptState, VcpuInterrupts } from "./irqchip/interrupts.ts";
import { Processor } from "./processor.ts";
import { SoftRegisters } from "./register-access.ts";
import { reset } from "./reset.ts";
import { State } from "./state.ts";
import type { SoftVm } from "./vm.ts";

/** What `saveState` calls the parts. */
const PART = { state: "state", msrs: "msrs", interrupts: "interrupts", inFlight: "inFlight" } as const;
/** The architectural part of the state: everything in front of scratch, TLB and jump cache. */
const SAVED_BYTES = State.scratch;

/** Odd, and far from the generator's own step. */
const RANDOM_STREAM = 0xd134_2543_de82_ef95n;
/** What an exit leaves to the collector, measured, and how many exits are noted at once. */
const EXIT_BYTES = 96;
const EXITS_PER_NOTE = 1 << 16;

/** One virtual processor of the software CPU. */
export class SoftVcpu implements BackendVcpu {
  readonly id: number;
  readonly registers: RegisterAccess;
  /** The state itself: for tests and oracles. */
  readonly cpu: Cpu;
  readonly #processor: Processor;
  readonly #code: Translations;
  readonly #vm: SoftVm;
  readonly #interrupts: VcpuInterrupts | undefined;
  readonly #changed = (): void => {
    this.cpu.flushTlb();
    this.#code.dropAll();
  };
  readonly #flush = (): void => this.cpu.flushTlb();
  #disposed = false;
  #exitsSinceNote = 0;

  constructor(vm: SoftVm, id: number, options: BackendVcpuOptions) {
    this.id = id;
    this.#vm = vm;
    const cpu = new Cpu(id, vm.ram, vm.tracker, vm.modes);
    this.cpu = cpu;
    cpu.cpuidTable = options.cpuid ?? vm.engine.cpuid;
    cpu.msrPolicy = vm.msrPolicy;
    cpu.msrs.hostClock = vm.hostClock;
    if (vm.seed !== undefined) cpu.random = vm.seed;
    // Each processor has numbers of its own.
    cpu.random = BigInt.asUintN(64, cpu.random ^ (BigInt(id) * RANDOM_STREAM));
    reset(cpu);
    this.#code = new Translations(cpu, vm.engine, imports(cpu, vm));
    this.#processor = new Processor(cpu, this.#code);
    const alive = () => this.#alive();
    this.#interrupts = vm.irqchip?.attach(cpu, {
      nmi: () => {
        this.#processor.queuedNmi = true;
      },
      abandon: () => this.#processor.abandon(),
    });
    if (this.#interrupts === undefined) this.registers = new SoftRegisters(cpu, this.#processor, alive);
    else {
      const { withApic } = require("./irqchip/cpuid.ts") as typeof import("./irqchip/cpuid.ts");
      const { IrqchipRegisters } = require("./irqchip/registers.ts") as typeof import("./irqchip/registers.ts");
      cpu.cpuidTable = withApic(cpu.cpuidTable);
      this.#processor.interrupts = this.#interrupts;
      this.registers = new IrqchipRegisters(cpu, this.#processor, alive, this.#interrupts);
    }
    vm.ram.changed.add(this.#changed);
    vm.ram.tables.flushes.add(this.#flush);
  }

  #alive(): void {
    if (this.#disposed || this.#vm.disposed) throw new DisposedError("vCPU");
  }

  run(): Exit {
    this.#alive();
    this.#noteExit();
    if (this.#interrupts === undefined) return this.#processor.run();
    this.#interrupts.enter();
    try {
      return this.#processor.run();
    } finally {
      this.#interrupts.leave();
    }
  }
  answerWith(answer: (exit: Exit) => boolean): void {
    const interrupts = this.#interrupts;
    this.#processor.answer = (exit) => {
      this.#noteExit();
      // Time stands still while devices work, as it does between two runs.
      interrupts?.leave();
      const answered = answer(exit);
      interrupts?.enter();
      return answered;
    };
  }

  #noteExit(): void {
    if (++this.#exitsSinceNote < EXITS_PER_NOTE) return;
    this.#exitsSinceNote = 0;
    noteGarbage(EXITS_PER_NOTE * EXIT_BYTES);
    collectGarbage();
  }

  setDeadline(deadlineMs: number | undefined): void {
    this.#processor.setDeadline(deadlineMs);
  }
  setInstructionLimit(count: number | undefined): void {
    this.#processor.setInstructionLimit(count);
  }
  instructionCount(): number {
    return this.cpu.instructions;
  }
  kick(): void {
    this.#processor.kick();
  }

  get interruptReady(): boolean {
    this.#alive();
    return this.#processor.interruptReady;
  }
  injectInterrupt(vector: number): void {
    this.#alive();
    this.#processor.queuedInterrupt = vector;
  }
  injectNmi(): void {
    this.#alive();
    this.#processor.queuedNmi = true;
  }
  injectException(vector: number, errorCode?: number): void {
    this.#alive();
    this.#processor.queuedException = { vector, errorCode };
  }
  requestInterruptWindow(wanted: boolean): void {
    this.#processor.requestWindow(wanted);
  }
  debug(request: DebugRequest): void {
    this.#alive();
    this.#processor.debug(request);
  }

  translate(gva: bigint): number | undefined {
    this.#alive();
    const found = this.cpu.access.probe(gva, { write: false, user: false, execute: false, system: true });
    if (found.ok) return found.page + (lowOf(gva) & 0xfff);
    return undefined;
  }

  cpuid(): readonly CpuidEntry[] {
    return this.cpu.cpuidTable;
  }

  /** The faults that led to the last shutdown, oldest first. */
  get faultChain(): readonly { vector: number; errorCode: number | undefined }[] {
    return this.cpu.faultChain;
  }

  /** Takes the answer to the last exit first, as the next run would. */
  saveState(): VcpuState {
    this.#alive();
    this.#processor.settle();
    const cpu = this.cpu;
    const state = new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, SAVED_BYTES).slice();
    const msrs = {
      values: [...cpu.msrs.values].map(([index, value]) => [index, value.toString()]),
      tsc: cpu.msrs.tsc.toString(),
      retired: cpu.instructions,
      random: cpu.random.toString(),
      events: this.registers.readEvents(),
      taskTrap: cpu.taskTrap,
    };
    const parts: Record<string, Uint8Array> = {
      [PART.state]: state,
      [PART.msrs]: jsonBytes(msrs),
      [PART.inFlight]: new TextEncoder().encode(encodeInFlight(this.#processor.inFlight)),
    };
    if (this.#interrupts !== undefined) parts[PART.interrupts] = jsonBytes(this.#interrupts.state());
    return { backend: "soft", parts };
  }

  restoreState(saved: VcpuState): void {
    this.#alive();
    const state = saved.parts[PART.state];
    const msrs = saved.parts[PART.msrs];
    const inFlight = saved.parts[PART.inFlight];
    if (saved.backend !== "soft" || state?.length !== SAVED_BYTES || msrs === undefined || inFlight === undefined) {
      throw new GuestStateError([{ what: "vCPU state", rule: "must come from the soft backend's saveState()" }], {
        remedy: "restore it on the backend and version that saved it",
      });
    }
    const cpu = this.cpu;
    const read = JSON.parse(new TextDecoder().decode(msrs)) as {
      values: [number, string][];
      tsc: string;
      retired: number;
      random: string;
      events: Parameters<RegisterAccess["writeEvents"]>[0];
      taskTrap: boolean;
    };
    new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, SAVED_BYTES).set(state);
    cpu.msrs.values.clear();
    for (const [index, value] of read.values) cpu.msrs.values.set(index, BigInt(value));
    cpu.random = BigInt(read.random);
    cpu.retired = read.retired;
    cpu.set(State.budget, 0);
    cpu.msrs.tsc = BigInt(read.tsc);
    cpu.flushTlb();
    cpu.changeMode();
    cpu.debugChanged();
    this.registers.writeEvents(read.events);
    cpu.taskTrap = read.taskTrap;
    this.#processor.inFlight = decodeInFlight(new TextDecoder().decode(inFlight));
    const interrupts = saved.parts[PART.interrupts];
    if (interrupts !== undefined) {
      this.#interrupts?.restore(JSON.parse(new TextDecoder().decode(interrupts)) as VcpuInterruptState);
    }
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#vm.ram.changed.delete(this.#changed);
    this.#vm.ram.tables.flushes.delete(this.#flush);
    this.#code.dispose();
    this.#vm.irqchip?.detach(this.cpu);
    this.#vm.release(this.id);
  }
}

function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Everything generated code imports, bound to one vCPU. */
function imports(cpu: Cpu, vm: SoftVm): Record<string, WebAssembly.Memory | WebAssembly.Table | CallableFunction> {
  const { access } = cpu;
  const all: Record<string, WebAssembly.Memory | WebAssembly.Table | CallableFunction> = {
    memory: vm.ram.memory,
    table: cpu.table,
    get flags() {
      return cpu.flags;
    },
    slowLoad: (low: number, high: number, info: number) => access.slowLoad(low, high, info),
    slowStore: (low: number, high: number, info: number) => access.slowStore(low, high, info),
    slowModify: (low: number, high: number, info: number) => access.slowModify(low, high, info),
    commitModify: (low: number, high: number, info: number) => access.slowStore(low, high, info),
    checkRange: (low: number, high: number, info: number) => access.checkRange(low, high, info),
    checkSegment: (offset: number, info: number) => access.checkSegment(offset, info),
  };
  for (const [name, helper] of Object.entries(systemHelpers)) {
    // At most four arguments, and no array of them: this is the way of every port access.
    all[`helper:${name}`] = (a: number, b: number, c: number, d: number) => callSystem(cpu, helper, a, b, c, d);
  }
  for (const [name, helper] of Object.entries(plainHelpers)) {
    all[`helper:${name}`] = (...args: number[]) => helper(cpu, ...args);
  }
  return all;
}

/** RIP goes behind the instruction before its helper runs, and back when it is not done. */
function callSystem(cpu: Cpu, helper: SystemHelper, a: number, b: number, c: number, d: number): number {
  const { i32 } = cpu;
  const at = State.rip >> 2;
  const low = i32[at] as number;
  const high = i32[at + 1] as number;
  cpu.instructionLow = low;
  cpu.instructionHigh = high;
  const next = (low >>> 0) + (i32[State.length >> 2] as number);
  const { bits } = cpu.mode;
  i32[at] = bits === 16 ? next & 0xffff : next | 0;
  if (bits === 64 && next > 0xffff_ffff) i32[at + 1] = (high + 1) | 0;
  const status = helper(cpu, a, b, c, d);
  if (status === 1) {
    i32[at] = low;
    i32[at + 1] = high;
    return 1;
  }
  i32[State.budget >> 2] = (i32[State.budget >> 2] as number) - 1;
  return status;
}
