import type { Exit } from "../../../exit.ts";
import type { MpState } from "../../../registers.ts";
import type { Cpu } from "../cpu.ts";
import { State } from "../state.ts";
import { MSR } from "../system/msr.ts";
import { initialise, startup } from "./init.ts";
import type { Irqchip } from "./irqchip.ts";
import { type LapicHost, type LapicState, LocalApic } from "./lapic.ts";

/** What reaches the processor beside external interrupts. */
export interface InterruptSink {
  nmi(): void;
  /** INIT: whatever waits to be delivered or answered is void. */
  abandon(): void;
}

export interface VcpuInterruptState {
  mpState: MpState;
  lapic: LapicState;
}

const APIC_ENABLE = 0x800n;
const APIC_BSP = 0x100n;
const PAGE = 4096;
/** Timers that may fire in a row without waking a vCPU, before it waits in real time. */
const FRUITLESS_LIMIT = 1000;
/** Instructions between two looks at a clock that passes by itself, at least. */
const HOST_CLOCK_GRAIN = 2000;
/** Longest single wait in milliseconds. */
const LONGEST_WAIT = 1000;
const NANOSECONDS_PER_MS = 1e6;

const cell = new Int32Array(new SharedArrayBuffer(4));

/** One vCPU's part of the irqchip: its local APIC, its MP state, and HLT without an exit. */
export class VcpuInterrupts {
  readonly lapic: LocalApic;
  readonly #chip: Irqchip;
  readonly #cpu: Cpu;
  readonly #sink: InterruptSink;
  #mpState: MpState;
  #initPending = false;
  #startupPending: number | undefined;
  #fruitless = 0;

  constructor(chip: Irqchip, cpu: Cpu, sink: InterruptSink) {
    this.#chip = chip;
    this.#cpu = cpu;
    this.#sink = sink;
    const bootstrap = cpu.id === 0;
    this.#mpState = bootstrap ? "runnable" : "uninitialized";
    cpu.msrs.values.set(MSR.APIC_BASE, 0xfee0_0000n | APIC_ENABLE | (bootstrap ? APIC_BSP : 0n));
    const host: LapicHost = {
      id: cpu.id,
      bootstrap,
      now: () => chip.clock.now,
      get taskPriorityClass() {
        return cpu.get(State.cr8) & 0xf;
      },
      set taskPriorityClass(value) {
        cpu.set64(State.cr8, BigInt(value));
      },
      get enabled() {
        return (apicBase(cpu) & APIC_ENABLE) !== 0n;
      },
      send: (command) => chip.command(this, command),
      endOfInterrupt: (vector) => chip.ioapic.endOfInterrupt(vector),
    };
    this.lapic = new LocalApic(host);
  }

  get id(): number {
    return this.#cpu.id;
  }

  get mpState(): MpState {
    this.#acceptEvents();
    return this.#mpState;
  }
  set mpState(state: MpState) {
    this.#initPending = false;
    this.#startupPending = undefined;
    this.#mpState = state;
  }

  /** Time begins to pass with this vCPU's instructions. */
  enter(): void {
    this.#fruitless = 0;
    this.#chip.clock.enter(this.#cpu);
  }
  leave(): void {
    this.#chip.clock.leave();
  }

  /** Looks at timers and at INIT and startup from others. Before anything else of the run loop. */
  poll(): void {
    this.#chip.tick();
    this.#acceptEvents();
  }

  /** Whether an external interrupt waits for this vCPU to take it. */
  get pending(): boolean {
    if (this.#waitsForStartup) return false;
    return (this.#chip.pic.output && this.lapic.acceptsPic) || this.lapic.pending >= 0;
  }

  /** Takes the interrupt that is pending; the PIC goes first. @returns Its vector. */
  acknowledge(): number {
    const { pic } = this.#chip;
    return pic.output && this.lapic.acceptsPic ? pic.acknowledge() : this.lapic.acknowledge();
  }

  /** In HLT, or not started. */
  get asleep(): boolean {
    return this.#mpState !== "runnable";
  }

  /** Something is delivered: HLT ends. */
  wake(): void {
    this.#fruitless = 0;
    if (this.#mpState === "halted") this.#mpState = "runnable";
  }

  /** Instructions that may run before a timer has to be looked at. */
  get budget(): number {
    const { clock } = this.#chip;
    const due = this.#chip.nextTimer(this, true);
    if (due === undefined) return Number.POSITIVE_INFINITY;
    const left = Math.max(1, due - clock.now);
    // How long instructions take is anyone's guess: the clock is looked at several times on the way.
    return clock.passesByItself ? Math.max(HOST_CLOCK_GRAIN, Math.floor(left / 4)) : left;
  }

  /**
   * Lets time pass while the vCPU sleeps. Virtual time skips to the next timer that can wake it; where there is none, or
   * where it would run away from other vCPUs, the thread waits, at most until the deadline.
   *
   * @param options.maskable RFLAGS.IF. @param options.deadlineMs Milliseconds of `performance.now()`.
   */
  idle(options: { maskable: boolean; deadlineMs: number | undefined }): void {
    const { clock } = this.#chip;
    const due = this.#waitsForStartup ? undefined : this.#chip.nextTimer(this, options.maskable);
    const othersRun = this.#chip.othersRun(this);
    if (due !== undefined && !clock.passesByItself && !othersRun && this.#fruitless < FRUITLESS_LIMIT) {
      this.#fruitless++;
      clock.skip(Math.max(0, due - clock.now));
      return;
    }
    this.#fruitless = 0;
    const awaited = othersRun || clock.passesByItself;
    const ahead = due === undefined || !awaited ? Number.POSITIVE_INFINITY : Math.max(0, due - clock.now);
    const left = options.deadlineMs === undefined ? LONGEST_WAIT : options.deadlineMs - performance.now();
    const wait = Math.max(0, Math.min(left, LONGEST_WAIT, ahead / NANOSECONDS_PER_MS));
    Atomics.wait(cell, 0, 0, wait);
    if (Number.isFinite(ahead)) clock.skip(Math.min(ahead, Math.ceil(wait * NANOSECONDS_PER_MS)));
  }

  /** Answers an exit that belongs to the irqchip. False when it is the caller's. */
  absorb(exit: Exit): boolean {
    switch (exit.kind) {
      case "hlt":
        this.#mpState = "halted";
        return true;
      case "pioIn":
      case "pioOut":
        return this.#port(exit);
      case "mmioRead":
      case "mmioWrite":
        return this.#mmio(exit);
      default:
        return false;
    }
  }

  /** Whether the controllers answer a port access themselves. */
  owns(exit: Exit): boolean {
    return (exit.kind === "pioIn" || exit.kind === "pioOut") && this.#chip.ownsPort(exit.port);
  }

  // --- From other local APICs ------------------------------------------------------------------------------------

  nmi(): void {
    if (!this.#waitsForStartup) this.#sink.nmi();
  }
  init(): void {
    this.#initPending = true;
    this.#startupPending = undefined;
  }
  startup(vector: number): void {
    if (this.#initPending || this.#mpState === "initReceived") this.#startupPending = vector;
  }

  // --- State -----------------------------------------------------------------------------------------------------

  state(): VcpuInterruptState {
    return { mpState: this.mpState, lapic: this.lapic.state() };
  }
  restore(state: VcpuInterruptState): void {
    this.mpState = state.mpState;
    this.lapic.restore(state.lapic);
  }

  get #waitsForStartup(): boolean {
    return this.#mpState !== "runnable" && this.#mpState !== "halted";
  }

  #acceptEvents(): void {
    if (this.#initPending) {
      this.#initPending = false;
      this.#sink.abandon();
      initialise(this.#cpu);
      this.lapic.reset();
      this.#mpState = this.#cpu.id === 0 ? "runnable" : "initReceived";
    }
    if (this.#startupPending !== undefined) {
      const vector = this.#startupPending;
      this.#startupPending = undefined;
      if (this.#mpState !== "initReceived") return;
      startup(this.#cpu, vector);
      this.#mpState = "runnable";
    }
  }

  #port(exit: Extract<Exit, { kind: "pioIn" | "pioOut" }>): boolean {
    const chip = this.#chip;
    if (!chip.ownsPort(exit.port)) return false;
    chip.tick();
    for (let at = 0; at < exit.data.length; at += exit.size) {
      const element = exit.data.subarray(at, at + exit.size);
      if (exit.kind === "pioIn") chip.readPort(exit.port, element);
      else chip.writePort(exit.port, element);
    }
    return true;
  }

  #mmio(exit: Extract<Exit, { kind: "mmioRead" | "mmioWrite" }>): boolean {
    const chip = this.#chip;
    const { gpa, data } = exit;
    if (chip.ownsIoApic(gpa)) {
      chip.tick();
      if (exit.kind === "mmioRead") chip.readIoApic(gpa, data);
      else chip.writeIoApic(gpa, data);
      return true;
    }
    const base = apicBase(this.#cpu);
    const offset = gpa - Number(base & 0x000f_ffff_ffff_f000n);
    if (offset < 0 || offset >= PAGE) return false;
    chip.tick();
    // A disabled APIC leaves a hole that reads all ones, as KVM fills it.
    if ((base & APIC_ENABLE) === 0n) return true;
    if (exit.kind === "mmioRead") this.#readApic(offset, data);
    else if (data.length === 4 && (offset & 0xf) === 0) this.lapic.write(offset, word(data));
    return true;
  }

  /** Registers are 32 bits wide, one every 16 bytes; what reaches beyond one reads zero. */
  #readApic(offset: number, data: Uint8Array): void {
    const within = offset & 0xf;
    const value = this.lapic.read(offset & ~0xf);
    for (let i = 0; i < data.length; i++) data[i] = within + i < 4 ? value >>> ((within + i) * 8) : 0;
  }
}

function apicBase(cpu: Cpu): bigint {
  return cpu.msrs.values.get(MSR.APIC_BASE) as bigint;
}

function word(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true);
}
