import type { BackendVcpu, Capabilities, CpuidEntry, DebugRequest, FaultRecord, VcpuState } from "./backend.ts";
import type { Mode, ModeOptions, ModeSetup } from "./boot/mode.ts";
import { type Buses, dispatch } from "./dispatch.ts";
import { CapabilityError, DisposedError, GuestStateError, SyscallError } from "./errors.ts";
import type { Exit } from "./exit.ts";
import type { StateAuthority, StateViolation } from "./inspect/state-violation.ts";
import { checkLimits, deadlineOf, type RunLimits } from "./limits.ts";
import type { GuestMemory } from "./memory.ts";
import { type RegisterAccess, Registers } from "./registers.ts";

/** Sees every exit before a device or the script does: for traces and statistics. Must not run the vCPU. */
export type ExitObserver = (exit: Exit, vcpu: Vcpu) => void;

/** What a vCPU needs of its VM. */
export interface VcpuOwner extends Buses {
  readonly backend: { readonly name: string; readonly capabilities: Capabilities };
  readonly memory: GuestMemory;
  readonly observers: readonly ExitObserver[];
  /** Set when a device asked the VM to stop. */
  readonly stopped: boolean;
}

/** A run loop at work. */
interface Drive {
  /** Exits it wants at most. */
  readonly most: number;
  readonly signal: AbortSignal | undefined;
  exits: number;
}

/** What one turn of a run loop came to. */
export interface Driven {
  /** The last exit. */
  readonly exit: Exit;
  /** Exits of this turn, those that devices answered included, `interrupted` left out. */
  readonly exits: number;
  /** Whether a device answered the last one. */
  readonly answered: boolean;
}

/** Code to run: what `asm` makes, or any bytes with the address they were made for. */
export interface Loadable {
  readonly bytes: Uint8Array;
  /** Guest-physical address of the first byte. */
  readonly origin: number;
  readonly bits: 16 | 32 | 64;
}

const MODE_OF_BITS = { 16: "real16", 32: "prot32", 64: "long64" } as const satisfies Record<number, Mode>;

/** "Genu" of "GenuineIntel". */
const GENUINE_INTEL_EBX = 0x756e6547;

/** External interrupts a vCPU holds until the guest can take them. */
const MAX_PENDING_INTERRUPTS = 256;

/**
 * One virtual processor.
 *
 * @example
 * ```ts
 * for (let exit = vcpu.run(); exit.kind !== "hlt"; exit = vcpu.run()) {
 *   if (exit.kind === "pioIn") exit.data[0] = 0x2a;
 * }
 * ```
 */
export class Vcpu implements Disposable {
  readonly id: number;
  readonly registers: Registers;
  readonly #owner: VcpuOwner;
  readonly #pending: number[] = [];
  #windowWanted = false;
  #engine: BackendVcpu | undefined;
  #exits = 0;
  /** What became of the exit that the engine is about to return. */
  #shown: "no" | "observed" | "answered" = "no";
  /** Whether the engine lets devices answer before it returns. */
  readonly #hasAnswers: boolean;
  /** The run loop that the engine may go on for while devices answer. */
  #drive: Drive | undefined;
  /** The script wrote system registers before the first run: nothing but a check tells what is wrong with them. */
  #unchecked = false;

  constructor(engine: BackendVcpu, owner: VcpuOwner) {
    this.id = engine.id;
    this.#engine = engine;
    this.#owner = owner;
    this.registers = new Registers(engine.registers, () => {
      this.#unchecked = this.#exits === 0;
    });
    this.#hasAnswers = engine.answerWith !== undefined;
    engine.answerWith?.((exit) => this.#answer(exit));
  }

  /** Exits since this vCPU was made. */
  get exits(): number {
    return this.#exits;
  }

  /** Instructions retired, or undefined where the backend does not count them. */
  get instructions(): number | undefined {
    return this.#live().instructionCount?.();
  }

  /**
   * Enters the guest once and returns its next exit, whatever it is: no device is asked. The answer to the exit before
   * (its `data`, `value` or `error` as they are now) is taken first.
   *
   * @throws {GuestStateError} for a state that no processor enters, naming bit and rule: before the first run when the
   *   script wrote segments, tables or control registers, later when the engine refuses it.
   * @throws {SyscallError} when the engine refuses to run for another reason.
   */
  enter(): Exit {
    const engine = this.#live();
    if (this.#unchecked) this.#checkState();
    for (;;) {
      if (this.#pending.length > 0) this.#deliver(engine);
      const exit = this.#runEngine(engine);
      if (exit.kind === "irqWindow" && this.#pending.length > 0 && !this.#windowWanted) continue;
      if (this.#shown === "no") this.#observe(exit);
      return exit;
    }
  }

  /**
   * Enters for a run loop and lets devices answer: on an engine that can, up to `most` exits before it comes back, so that
   * an exit costs a call and not a round.
   */
  drive(most: number, signal?: AbortSignal): Driven {
    if (!this.#hasAnswers) {
      const exit = this.enter();
      return { exit, exits: exit.kind === "interrupted" ? 0 : 1, answered: dispatch(exit, this.#owner) };
    }
    const outer = this.#drive;
    const drive: Drive = { most, signal, exits: 0 };
    this.#drive = drive;
    try {
      const exit = this.enter();
      const shown = this.#shown;
      if (shown === "no" && exit.kind !== "interrupted") drive.exits++;
      const answered = shown === "answered" || (shown === "no" && dispatch(exit, this.#owner));
      return { exit, exits: drive.exits, answered };
    } finally {
      // A device may run its vCPU itself.
      this.#drive = outer;
      this.#shown = "no";
    }
  }

  /**
   * Runs until an exit that no device answers, and returns it; or `interrupted` when a limit is reached. Nothing is
   * lost either way: the next run goes on from there.
   *
   * @throws {DeviceError} when a device throws; its exit stays pending.
   * @throws {RangeError} for a limit that is negative or not a number.
   */
  run(limits?: RunLimits): Exit {
    if (limits === undefined) return this.#runOn(Number.POSITIVE_INFINITY, undefined);
    checkLimits(limits);
    const { maxExits = Number.POSITIVE_INFINITY, maxInstructions, signal } = limits;
    const engine = this.#live();
    if (maxInstructions !== undefined) this.limitInstructions(maxInstructions);
    engine.setDeadline(deadlineOf(limits));
    try {
      return this.#runOn(maxExits, signal);
    } finally {
      if (this.#engine !== undefined) {
        engine.setDeadline(undefined);
        if (maxInstructions !== undefined) engine.setInstructionLimit?.(undefined);
      }
    }
  }

  #runOn(maxExits: number, signal: AbortSignal | undefined): Exit {
    for (let left = maxExits; ; ) {
      if (left <= 0) return { kind: "interrupted", by: "maxExits" };
      if (signal?.aborted) return { kind: "interrupted", by: "abort" };
      const { exit, exits, answered } = this.drive(left, signal);
      if (!answered) return exit;
      left -= exits;
      if (this.#owner.stopped) return { kind: "interrupted", by: "kick" };
    }
  }

  #observe(exit: Exit): void {
    this.#exits++;
    const { observers } = this.#owner;
    // Nearly always none, and an iterator is one more thing to have in the cache.
    if (observers.length === 0) return;
    for (const observer of observers) observer(exit, this);
  }

  /** Lets a device answer while the engine holds on; true when the guest may go on without the run loop. */
  #answer(exit: Exit): boolean {
    const drive = this.#drive;
    if (drive === undefined) return false;
    drive.exits++;
    this.#observe(exit);
    // What the device does with this vCPU is no part of this loop.
    this.#drive = undefined;
    const answered = dispatch(exit, this.#owner);
    this.#drive = drive;
    this.#shown = answered ? "answered" : "observed";
    if (!answered || drive.exits >= drive.most || this.#owner.stopped || drive.signal?.aborted) return false;
    if (this.#pending.length > 0 || this.#engine === undefined) return false;
    this.#shown = "no";
    return true;
  }

  /**
   * Puts the vCPU into a mode, ready to run: segments, control registers and, in guest memory, GDT, IDT, TSS and page
   * tables.
   *
   * @returns What was set, with a reason for each register.
   * @throws {RangeError} for options that contradict the mode.
   * @throws {GuestError} when memory does not reach the tables.
   */
  enterMode(mode: Mode, options: ModeOptions = {}): ModeSetup {
    // Loaded on use: a script that sets registers itself does without.
    const { enterMode } = require("./boot/enter-mode.ts") as typeof import("./boot/enter-mode.ts");
    return enterMode(this.access, this.#owner.memory, mode, options);
  }

  /**
   * Puts a program into guest memory and the vCPU at its first byte, in `real16`, `prot32` or `long64` as its bits say,
   * or in `options.mode`. Errors as `enterMode()`; `MemoryError` where no memory is.
   */
  load(program: Loadable, options: ModeOptions & { mode?: Mode } = {}): ModeSetup {
    const { mode = MODE_OF_BITS[program.bits], ...modeOptions } = options;
    this.#owner.memory.write(program.origin, program.bytes);
    return this.enterMode(mode, { entry: program.origin, ...modeOptions });
  }

  /** The registers as backends provide them: one call for each kind, no names. */
  get access(): RegisterAccess {
    return this.#live().registers;
  }

  /** Queues an external interrupt: delivered as soon as RFLAGS.IF and the interrupt shadow allow, in order. */
  interrupt(vector: number): void {
    if (!Number.isInteger(vector) || vector < 0 || vector > 255) {
      throw new RangeError(`Cannot inject interrupt vector ${vector}: use 0 to 255`);
    }
    if (this.#pending.length >= MAX_PENDING_INTERRUPTS) {
      throw new RangeError(`Cannot queue more than ${MAX_PENDING_INTERRUPTS} interrupts: the guest does not take them`);
    }
    this.#live();
    this.#pending.push(vector);
  }

  /** Interrupts queued and not yet injected. */
  get pendingInterrupts(): readonly number[] {
    return this.#pending;
  }

  nmi(): void {
    this.#live().injectNmi();
  }

  /** Raises a fault at the next run. `errorCode` for the vectors that push one. */
  exception(vector: number, errorCode?: number): void {
    if (!Number.isInteger(vector) || vector < 0 || vector > 31) {
      throw new RangeError(`Cannot raise exception vector ${vector}: use 0 to 31`);
    }
    this.#live().injectException(vector, errorCode);
  }

  /** Asks for an `irqWindow` exit as soon as the guest can take an interrupt. `interrupt()` does this by itself. */
  requestInterruptWindow(wanted: boolean): void {
    this.#windowWanted = wanted;
    this.#live().requestInterruptWindow(wanted);
  }

  /** Whether an external interrupt could be injected right now. */
  get interruptReady(): boolean {
    return this.#live().interruptReady;
  }

  /** Makes the present or the next run return `interrupted` by `kick`. */
  kick(): void {
    this.#live().kick();
  }

  /** Steps, breakpoints and watchpoints as `debug` exits. Replaces what was asked before; `{}` ends it. */
  debug(request: DebugRequest): void {
    const { singleStep, hardwareBreakpoints } = this.#owner.backend.capabilities;
    if (request.singleStep) this.#need(singleStep, "single step");
    const count = request.breakpoints?.length ?? 0;
    if (count > 0) this.#need(hardwareBreakpoints, "hardware breakpoints");
    if (count > 4) throw new RangeError(`Cannot set ${count} breakpoints: the processor has 4 debug registers`);
    this.#live().debug(request);
  }

  /** GVA to GPA by the engine's own walk; undefined when not mapped. `walk()` explains why. */
  translate(gva: bigint): number | undefined {
    this.#need(this.#owner.backend.capabilities.translate, "address translation");
    return this.#live().translate(gva);
  }

  /** The faults that led to the last shutdown, oldest first; empty where the backend does not tell. */
  get faultChain(): readonly FaultRecord[] {
    return this.#live().faultChain ?? [];
  }

  /** What CPUID answers in this guest. */
  cpuid(): readonly CpuidEntry[] {
    return this.#live().cpuid();
  }

  /** Everything needed to go on from here, on the same backend. Memory and devices are not part of it. */
  saveState(): VcpuState {
    return this.#live().saveState();
  }

  restoreState(state: VcpuState): void {
    if (state.backend !== this.#owner.backend.name) {
      throw new TypeError(`Cannot restore state of the ${state.backend} backend on ${this.#owner.backend.name}`);
    }
    this.#live().restoreState(state);
  }

  /**
   * What is wrong with the state the vCPU is in: each broken rule of the manuals with the bit that breaks it, by the
   * processor's vendor. Empty when it can be entered.
   */
  validate(): StateViolation[] {
    const { guestStateOf } = require("./inspect/guest-state.ts") as typeof import("./inspect/guest-state.ts");
    const { validateState } = require("./inspect/validate.ts") as typeof import("./inspect/validate.ts");
    const enforcedBy: StateAuthority[] = [this.#vendor()];
    if (this.#owner.backend.name === "kvm") enforcedBy.push("kvm");
    return validateState(guestStateOf(this.access), { enforcedBy, memory: this.#owner.memory });
  }

  /** For the VM's own run loop. */
  setDeadline(deadlineMs: number | undefined): void {
    this.#live().setDeadline(deadlineMs);
  }

  /** For the VM's own run loop. */
  limitInstructions(count: number | undefined): void {
    const engine = this.#live();
    this.#need(this.#owner.backend.capabilities.instructionCount, "maxInstructions");
    engine.setInstructionLimit?.(count);
  }

  get disposed(): boolean {
    return this.#engine === undefined;
  }

  /** What consoles print: the accessors of all registers would fill a screen. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Vcpu ${this.id} (${this.#owner.backend.name}${this.disposed ? ", disposed" : ""})`;
  }

  [Symbol.dispose](): void {
    this.#engine?.[Symbol.dispose]();
    this.#engine = undefined;
  }

  #runEngine(engine: BackendVcpu): Exit {
    try {
      return engine.run();
    } catch (error) {
      if (error instanceof SyscallError && error.code === "EINVAL") this.#checkState(error);
      throw error;
    }
  }

  /** @throws {GuestStateError} when the state breaks a rule. */
  #checkState(cause?: SyscallError): void {
    const violations = this.validate();
    this.#unchecked = false;
    if (violations.length === 0) return;
    // Refused before anything ran: the next run is the first one still.
    this.#unchecked = cause === undefined;
    throw new GuestStateError(violations, {
      remedy: "mend the registers it names, or let enterMode() set them",
      ...(cause === undefined ? {} : { cause }),
    });
  }

  #vendor(): "intel" | "amd" {
    const { ebx } = this.cpuid().find(({ leaf }) => leaf === 0) ?? { ebx: GENUINE_INTEL_EBX };
    return ebx === GENUINE_INTEL_EBX ? "intel" : "amd";
  }

  #deliver(engine: BackendVcpu): void {
    if (engine.interruptReady) engine.injectInterrupt(this.#pending.shift() as number);
    engine.requestInterruptWindow(this.#windowWanted || this.#pending.length > 0);
  }

  #need(has: boolean, what: string): void {
    if (has) return;
    throw new CapabilityError(this.#owner.backend.name, what, {
      remedy: "choose a backend that has it, or ask backend.capabilities first",
    });
  }

  #live(): BackendVcpu {
    if (this.#engine === undefined) throw new DisposedError("vCPU");
    return this.#engine;
  }
}
