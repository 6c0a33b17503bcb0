import type { DebugRequest } from "../../backend.ts";
import { DisposedError } from "../../errors.ts";
import type { Exit, InterruptedBy } from "../../exit.ts";
import { Breakpoints } from "./breakpoints.ts";
import type { Entry, Step, Translations } from "./code/translations.ts";
import { EFLAGS } from "./control-bits.ts";
import { type Cpu, LEAVE, type Pending } from "./cpu.ts";
import type { InFlight } from "./in-flight.ts";
import type { VcpuInterrupts } from "./irqchip/interrupts.ts";
import { Slices } from "./slices.ts";
import { Jump, State, Vector } from "./state.ts";
import { deliver, type Event, hasErrorCode } from "./system/interrupts.ts";
import type { Mode } from "./translate/mode.ts";
import { BLOCK_INSTRUCTIONS } from "./translate/region.ts";
import { SITE_JUMP, SITE_SYSTEM } from "./translate/site.ts";

const UNBOUNDED = 0x3fff_ffff;
const DR6_BS = 0x4000n;
const DR6_BT = 0x8000n;

/** Runs one vCPU: enters translated code, carries out what leaves it, and decides when the caller gets an exit. */
export class Processor {
  readonly #cpu: Cpu;
  readonly #code: Translations;
  readonly #slices = new Slices();
  #limit: number | undefined;
  #kicked = false;
  #windowWanted = false;
  /** The instruction at RIP has an MMIO answer waiting. */
  #restart = false;
  queuedInterrupt: number | undefined;
  queuedNmi = false;
  queuedException: { vector: number; errorCode: number | undefined } | undefined;
  /** Answers PIO and MMIO exits while the run goes on, when it can. */
  answer: (exit: Exit) => boolean = () => false;
  /** What `answer` has seen already and left to the caller. */
  #offered: Exit | undefined;
  /** This vCPU's part of the irqchip, where the VM has one. */
  interrupts: VcpuInterrupts | undefined;
  readonly #breakpoints: Breakpoints;

  constructor(cpu: Cpu, code: Translations) {
    this.#cpu = cpu;
    this.#code = code;
    this.#breakpoints = new Breakpoints(cpu, code);
    cpu.debugChanged = () => this.#breakpoints.update();
    cpu.offer = (exit) => this.#offer(exit);
  }

  setDeadline(deadlineMs: number | undefined): void {
    this.#slices.deadlineMs = deadlineMs;
  }
  setInstructionLimit(count: number | undefined): void {
    this.#limit = count === undefined ? undefined : this.#cpu.instructions + count;
  }
  kick(): void {
    this.#kicked = true;
  }
  requestWindow(wanted: boolean): void {
    this.#windowWanted = wanted;
  }

  get interruptReady(): boolean {
    const cpu = this.#cpu;
    const open = (cpu.get(State.eflags) & EFLAGS.IF) !== 0 && !cpu.inShadow;
    return open && this.queuedInterrupt === undefined && this.queuedException === undefined;
  }

  /** RIP or memory was changed from outside: an unanswered exit is void. */
  abandon(): void {
    this.#cpu.resume = undefined;
    this.#awaited = undefined;
    this.#restart = false;
    this.#breakpoints.forget();
    this.#cpu.access.startInstruction();
  }

  /**
   * Takes the answer to the last exit without entering the guest, as far as one instruction goes. Exits that come of it
   * wait for the next run.
   */
  settle(): void {
    const cpu = this.#cpu;
    let exit: Exit | undefined;
    if (cpu.resume !== undefined) exit = this.#resume();
    else if (this.#restart && cpu.exits.length === 0) exit = this.#step();
    if (exit !== undefined) cpu.exits.unshift(exit);
  }

  /** What a settled vCPU has under way. A load from MMIO that waits for its exit is left out: it comes again. */
  get inFlight(): InFlight {
    const { exits, access } = this.#cpu;
    const waiting = new Set<unknown>(exits.filter(({ kind }) => kind === "mmioRead"));
    return {
      restart: this.#restart,
      transfers: access.transfers.filter(({ exit }) => !waiting.has(exit)),
      exits: exits.filter((exit) => !waiting.has(exit)),
    };
  }
  set inFlight({ restart, transfers, exits }: InFlight) {
    this.abandon();
    this.#restart = restart;
    this.#cpu.access.transfers = transfers;
    this.#cpu.exits.splice(0, Number.POSITIVE_INFINITY, ...exits);
  }

  debug(request: DebugRequest): void {
    this.#breakpoints.request = request;
  }

  // --- The run loop ----------------------------------------------------------------------------------------------

  run(): Exit {
    this.#code.beginRun();
    let exit = this.#resume();
    for (;;) {
      exit ??= this.#event() ?? this.#advance();
      if (exit === undefined) continue;
      if (this.interrupts?.absorb(exit) !== true) {
        if (exit === this.#offered || !isAccess(exit) || !this.answer(exit)) return exit;
        this.#code.beginRun();
      }
      exit = this.#resume();
    }
  }

  /**
   * Has an IN or OUT answered inside its instruction: leaving a region and entering it again takes longer than all the rest.
   * The state is settled first, as behind `run()`; the region goes on only when nothing that it relies on has changed.
   */
  #offer(exit: Exit): number {
    const cpu = this.#cpu;
    const { i32, mode } = cpu;
    const reads = cpu.resume !== undefined;
    const elsewhere =
      cpu.stepping || this.#code.stops.size > 0 || cpu.exits.length > 0 || this.interrupts?.owns(exit) === true;
    if (elsewhere || !this.#slices.mayAnswer()) return this.#queue(exit);
    const limit = this.#limit;
    const tag = i32[State.jumpTag >> 2];
    const low = i32[State.rip >> 2] as number;
    const high = i32[(State.rip >> 2) + 1] as number;
    const left = (i32[State.budget >> 2] as number) - 1;
    // An IN is executed when it has its answer, an OUT before it is seen.
    cpu.retired += cpu.sliceBudget - (reads ? left + 1 : left);
    cpu.sliceBudget = 0;
    i32[State.budget >> 2] = 0;
    if (reads) this.#moveTo(cpu.instructionLow, cpu.instructionHigh);
    const answered = this.answer(exit);
    if (i32.length === 0) throw new DisposedError("vCPU");
    if (!answered) {
      this.#offered = exit;
      // Whoever called the helper takes one off for what is done.
      if (cpu.resume === undefined) i32[State.budget >> 2] = 1;
      return this.#queue(exit);
    }
    i32[State.budget >> 2] = 1;
    this.#code.beginRun();
    if (reads) {
      const { resume } = cpu;
      cpu.resume = undefined;
      // Without it the device has moved RIP, which makes the answer void.
      if (resume === undefined) return LEAVE;
      this.#moveTo(low, high);
      resume();
    }
    const same =
      i32[State.rip >> 2] === low &&
      i32[(State.rip >> 2) + 1] === high &&
      cpu.mode === mode &&
      i32[State.jumpTag >> 2] === tag &&
      this.#limit === limit &&
      this.queuedException === undefined &&
      this.queuedInterrupt === undefined &&
      !this.#interesting;
    if (!same) return LEAVE;
    cpu.sliceBudget = left;
    i32[State.budget >> 2] = left + 1;
    return 0;
  }

  /** Leaves with the exit of an IN or OUT. */
  #queue(exit: Exit): number {
    const cpu = this.#cpu;
    cpu.exits.push(exit);
    if (cpu.resume === undefined) return LEAVE;
    cpu.pending = { kind: "exit" };
    return 1;
  }

  #moveTo(ripLow: number, ripHigh: number): void {
    const { i32 } = this.#cpu;
    i32[State.rip >> 2] = ripLow;
    i32[(State.rip >> 2) + 1] = ripHigh;
  }

  /** Takes the caller's answer to the last exit. */
  #resume(): Exit | undefined {
    const cpu = this.#cpu;
    const { resume } = cpu;
    if (resume === undefined) return undefined;
    cpu.resume = undefined;
    const awaited = this.#awaited;
    this.#awaited = undefined;
    if (!resume()) return this.#pending();
    if (awaited === undefined) return undefined;
    if (awaited.resumed) cpu.set(State.eflags, cpu.get(State.eflags) & ~EFLAGS.RF);
    return this.#trap(awaited.trap, true);
  }

  /** What comes before the next instruction. */
  #event(): Exit | undefined {
    const cpu = this.#cpu;
    const waiting = cpu.takeExit();
    if (waiting !== undefined) return waiting;
    if (this.#restart) return undefined;
    if (this.#kicked) {
      this.#kicked = false;
      return interrupted("kick");
    }
    this.interrupts?.poll();
    if (cpu.taskTrap) {
      cpu.taskTrap = false;
      cpu.set64(State.dr + 32, cpu.get64(State.dr + 32) | DR6_BT);
      return this.#deliverFirst({ vector: Vector.DB, errorCode: undefined, software: false, external: false });
    }
    if (this.queuedException !== undefined) {
      const { vector, errorCode } = this.queuedException;
      this.queuedException = undefined;
      return this.#deliverFirst({ vector, errorCode, software: false, external: false });
    }
    if (this.queuedNmi && !cpu.nmiBlocked && !cpu.inShadow) {
      this.queuedNmi = false;
      cpu.nmiBlocked = true;
      return this.#deliverFirst({ vector: Vector.NMI, errorCode: undefined, software: false, external: true });
    }
    if (this.queuedInterrupt !== undefined) {
      const vector = this.queuedInterrupt;
      this.queuedInterrupt = undefined;
      return this.#deliverFirst({ vector, errorCode: undefined, software: false, external: true });
    }
    if (this.interrupts?.pending && this.interruptReady) {
      const vector = this.interrupts.acknowledge();
      return this.#deliverFirst({ vector, errorCode: undefined, software: false, external: true });
    }
    if (this.#windowWanted && this.interruptReady) return { kind: "irqWindow" };
    return undefined;
  }

  #deliver(event: Event): Exit | undefined {
    this.interrupts?.wake();
    if (deliver(this.#cpu, event)) return undefined;
    return this.#behind({ kind: "shutdown" });
  }

  /** Delivers what comes before the next instruction. What it writes to MMIO is reported there, too. */
  #deliverFirst(event: Event): Exit | undefined {
    return this.#deliver(event) ?? this.#cpu.exits.shift();
  }

  /** Exits that wait already go first. */
  #behind(exit: Exit): Exit {
    const { exits } = this.#cpu;
    exits.push(exit);
    return exits.shift() as Exit;
  }

  #fault(vector: number, errorCode: number | undefined): Exit | undefined {
    const cpu = this.#cpu;
    const code = hasErrorCode(vector) && cpu.protectedMode ? (errorCode ?? 0) : undefined;
    return this.#deliver({ vector, errorCode: code, software: false, external: false });
  }

  #advance(): Exit | undefined {
    const cpu = this.#cpu;
    if (!this.#restart && this.#slices.timeIsUp(cpu.retired)) return interrupted("timeout");
    let left = this.#limit === undefined ? UNBOUNDED : this.#limit - cpu.instructions;
    if (left <= 0 && !this.#restart) return interrupted("maxInstructions");
    const open = (cpu.get(State.eflags) & EFLAGS.IF) !== 0;
    if (this.interrupts?.asleep) {
      this.interrupts.idle({ maskable: open, deadlineMs: this.#slices.deadlineMs });
      return undefined;
    }
    if (this.interrupts !== undefined) left = Math.min(left, this.interrupts.budget);
    const breakpoint = this.#breakpoint();
    if (breakpoint !== undefined) return breakpoint === "delivered" ? undefined : breakpoint;
    const single =
      this.#restart ||
      this.#breakpoints.stepping ||
      (cpu.get(State.eflags) & (EFLAGS.TF | EFLAGS.RF)) !== 0 ||
      // Only the shadow of STI or MOV SS holds these off: for one instruction.
      (open && this.interrupts?.pending === true) ||
      (cpu.inShadow && (this.#windowWanted || this.queuedNmi)) ||
      // A data breakpoint met by MOV SS.
      (cpu.access.watchpoints?.hits ?? 0) !== 0;
    if (single) return this.#step();
    return this.#runSlice(this.#slices.begin(left, cpu.retired));
  }

  /** An execution breakpoint at RIP. */
  #breakpoint(): Exit | "delivered" | undefined {
    const cpu = this.#cpu;
    if (this.#code.stops.size === 0 || this.#restart) return undefined;
    const here = this.#breakpoints.here;
    if (typeof here !== "bigint") return here;
    cpu.set64(State.dr + 32, cpu.get64(State.dr + 32) | here);
    return this.#fault(Vector.DB, undefined) ?? "delivered";
  }

  /** Runs translated code until it needs the run loop. */
  #runSlice(budget: number): Exit | undefined {
    const cpu = this.#cpu;
    cpu.sliceBudget = budget;
    cpu.set(State.budget, budget);
    let again = true;
    while (again) {
      const entry = this.#entry();
      if (entry === "step") {
        this.#settle();
        return this.#step();
      }
      if (entry === "fault") {
        this.#settle();
        return this.#pending();
      }
      entry.region.run(entry.block);
      again = this.#left();
    }
    // A slice that ended at an exit within has no budget of its own any more.
    const used = cpu.sliceBudget > 0 && cpu.get(State.budget) < BLOCK_INSTRUCTIONS;
    const usedUp = used && cpu.pending === undefined;
    this.#settle();
    if (usedUp && this.#slices.usedUp(cpu.retired)) this.#consolidate();
    return this.#pending();
  }

  /** Where the guest is now is where it spends its time. */
  #consolidate(): void {
    const cpu = this.#cpu;
    const { mode } = cpu;
    const linear = mode.csBase === 0n ? cpu.rip : (cpu.rip + mode.csBase) & 0xffff_ffffn;
    const found = cpu.access.probe(linear, { write: false, user: mode.user, execute: true, system: false });
    if (found.ok) this.#code.consolidate(linear, found.page + Number(linear & 0xfffn), mode);
  }

  /** Counts the slice's instructions and closes it. */
  #settle(): void {
    const cpu = this.#cpu;
    cpu.retired += cpu.sliceBudget - cpu.get(State.budget);
    cpu.sliceBudget = 0;
    cpu.set(State.budget, 0);
  }

  /** Translated code for RIP. */
  #entry(): Entry | "step" | "fault" {
    const cpu = this.#cpu;
    const { mode } = cpu;
    const known = this.#cached(mode);
    if (known !== undefined) return known;
    const linear = mode.csBase === 0n ? cpu.rip : (cpu.rip + mode.csBase) & 0xffff_ffffn;
    if (mode.csLimit >= 0 && cpu.rip > BigInt(mode.csLimit)) {
      cpu.raise(Vector.GP, 0);
      return "fault";
    }
    const gpa = cpu.access.fetch(linear);
    if (gpa === undefined) return "fault";
    return this.#code.lookup(linear, gpa, mode) ?? "step";
  }

  /** The jump cache as generated code asks it; in halves, since a BigInt costs more than the rest of an exit. */
  #cached(mode: Mode): Entry | undefined {
    const { i32 } = this.#cpu;
    let low = i32[State.rip >> 2] as number;
    let high = i32[(State.rip >> 2) + 1] as number;
    if (mode.csBase !== 0n) {
      low = (low + Number(mode.csBase)) | 0;
      high = 0;
    }
    const index = (low ^ (low >>> 12)) & (Jump.entries - 1);
    const at = (State.jumps + index * Jump.size) >> 2;
    if (i32[at] !== low || i32[at + 1] !== high || i32[at + (Jump.mode >> 2)] !== i32[State.jumpTag >> 2]) {
      return undefined;
    }
    return this.#code.entryOf(i32[at + (Jump.func >> 2)] as number, i32[at + (Jump.entry >> 2)] as number);
  }

  /** Makes the state exact after generated code came back. True to go on in this slice. */
  #left(): boolean {
    const cpu = this.#cpu;
    const site = cpu.get(State.site);
    if (site === SITE_JUMP) return cpu.get(State.budget) > 0 && this.#code.stops.size === 0;
    if (site === SITE_SYSTEM) return this.#goesOn();
    const where = this.#code.site(cpu.get(State.region), site);
    if (where === undefined) throw new TypeError(`Unexpected leave at site ${site} of region ${cpu.get(State.region)}`);
    cpu.rip = where.rip;
    if (where.flagKind >= 0) cpu.set(State.flagKind, where.flagKind);
    cpu.set(State.budget, cpu.get(State.budget) + where.unexecuted);
    // Not enough left for a whole block. Where the guest's own limit is near, the rest goes one instruction at a time.
    if (where.reason === "unknown") this.#code.complete();
    else if (where.reason === "budget") this.#stepNext = true;
    else if (where.reason !== "helper") cpu.raise(where.reason.vector, where.reason.errorCode);
    return false;
  }
  #stepNext = false;

  /** Whether a slice goes on behind a system instruction. */
  #goesOn(): boolean {
    const cpu = this.#cpu;
    if (cpu.pending !== undefined || cpu.exits.length > 0 || this.#code.stops.size > 0) return false;
    return cpu.get(State.budget) > 0 && !this.#interesting;
  }

  /** Whether something outside the instruction stream may have to happen now. */
  get #interesting(): boolean {
    return (
      this.queuedNmi ||
      this.#windowWanted ||
      this.#kicked ||
      this.#cpu.taskTrap ||
      this.interrupts?.pending === true ||
      (this.#cpu.get(State.eflags) & (EFLAGS.TF | EFLAGS.RF)) !== 0
    );
  }

  /** Carries out what generated code or a helper left pending. */
  #pending(): Exit | undefined {
    const cpu = this.#cpu;
    const { pending } = cpu;
    cpu.pending = undefined;
    if (pending === undefined) {
      if (!this.#stepNext) return undefined;
      this.#stepNext = false;
      const left = this.#limit === undefined ? UNBOUNDED : this.#limit - cpu.instructions;
      return left > 0 && left <= BLOCK_INSTRUCTIONS ? this.#step() : undefined;
    }
    switch (pending.kind) {
      case "retry":
        return this.#step();
      case "raise":
        return this.#fault(pending.fault.vector, pending.fault.errorCode);
      case "interrupt":
        return this.#softwareInterrupt(pending);
      case "exit":
        this.#restart = cpu.resume === undefined;
        return cpu.takeExit();
    }
  }

  #softwareInterrupt(pending: Extract<Pending, { kind: "interrupt" }>): Exit | undefined {
    const cpu = this.#cpu;
    const at = cpu.rip;
    const { vector, next, privileged } = pending;
    cpu.rip = next;
    const exit = this.#deliver({ vector, errorCode: undefined, software: !privileged, external: false, at });
    // A fault of the delivery leaves the INT unexecuted.
    if (cpu.faultChain.length === (privileged ? 1 : 0)) cpu.retired++;
    return exit;
  }

  /** One instruction on its own: MMIO, writes to code, page ends, single steps. */
  #step(): Exit | undefined {
    const cpu = this.#cpu;
    this.#stepNext = false;
    const trap = (cpu.get(State.eflags) & EFLAGS.TF) !== 0;
    // RF holds for one instruction; IRET sets it for the next one.
    const resumed = (cpu.get(State.eflags) & EFLAGS.RF) !== 0;
    if (this.#restart) cpu.access.restartInstruction();
    else cpu.access.startInstruction();
    this.#restart = false;
    const watchpoints = cpu.access.watchpoints;
    if (watchpoints !== undefined && !cpu.debugHeld) watchpoints.hits = 0;
    const before = cpu.instructions;
    cpu.stepping = true;
    const failure = this.#executeOne();
    cpu.stepping = false;
    if (failure !== undefined) return failure;
    const retired = cpu.instructions !== before;
    const outcome = this.#pendingAfterStep();
    if (outcome !== undefined) {
      if (cpu.resume !== undefined) this.#awaited = { trap, resumed };
      return outcome;
    }
    const done = retired || cpu.instructions !== before;
    if (done && resumed) cpu.set(State.eflags, cpu.get(State.eflags) & ~EFLAGS.RF);
    return this.#trap(trap && retired, done);
  }
  /** What is due behind a stepped instruction that waits for the caller's answer. */
  #awaited: { readonly trap: boolean; readonly resumed: boolean } | undefined;
  #pendingAfterStep(): Exit | undefined {
    const cpu = this.#cpu;
    if (cpu.pending === undefined) return undefined;
    return this.#pending();
  }

  /**
   * Debug traps behind an instruction: TF, watchpoints, the debugger's single step. While the debugger steps, a guest that
   * steps itself gets no #DB, as on KVM (KVM_GUESTDBG_SINGLESTEP): one trap flag serves only one of them.
   */
  #trap(tf: boolean, done: boolean): Exit | undefined {
    const cpu = this.#cpu;
    const { watchpoints } = cpu.access;
    const hits = BigInt(done ? (watchpoints?.hits ?? 0) : 0);
    const { watching, stepping } = this.#breakpoints;
    const held = cpu.debugHeld && !watching;
    if (watchpoints !== undefined && !(done && held)) watchpoints.hits = 0;
    if (watching && hits !== 0n) return this.#behind(this.#breakpoints.exit(hits));
    if (stepping && done) return this.#behind(this.#breakpoints.exit(DR6_BS));
    if (held || (!tf && hits === 0n)) return undefined;
    cpu.set64(State.dr + 32, cpu.get64(State.dr + 32) | hits | (tf ? DR6_BS : 0n));
    return this.#fault(Vector.DB, undefined);
  }

  /** Fetches, translates and runs the instruction at RIP. Returns an exit only when there is no instruction to run. */
  #executeOne(): Exit | undefined {
    const cpu = this.#cpu;
    const { mode } = cpu;
    const linear = mode.csBase === 0n ? cpu.rip : (cpu.rip + mode.csBase) & 0xffff_ffffn;
    const step = this.#fetch(linear);
    if (step === undefined) return this.#pending();
    cpu.sliceBudget = 1;
    cpu.set(State.budget, 1);
    step.run(0);
    this.#left();
    this.#stepNext = false;
    this.#settle();
    return undefined;
  }

  /** The instruction in up to 15 bytes, across two pages where needed. Undefined with the fault or exit pending. */
  #fetch(linear: bigint): Step | undefined {
    const cpu = this.#cpu;
    const { mode } = cpu;
    const gpa = cpu.access.fetch(linear);
    if (gpa === undefined) return undefined;
    const within = mode.csLimit < 0 ? 15 : Math.min(15, mode.csLimit - Number(cpu.rip) + 1);
    const first = this.#codeAt(gpa);
    if (first === undefined) return undefined;
    const { bytes } = cpu.ram;
    const inside = Math.min(within, 4096 - (gpa & 0xfff));
    const step = this.#code.step(cpu.rip, bytes, first, inside, mode);
    if (step !== undefined) return step;
    if (inside === within) return this.#tooLong();
    const next = mode.bits === 64 ? linear + BigInt(inside) : (linear + BigInt(inside)) & 0xffff_ffffn;
    const rest = cpu.access.fetch(next);
    const second = rest === undefined ? undefined : this.#codeAt(rest);
    if (second === undefined) return undefined;
    const whole = Buffer.concat([
      bytes.subarray(first, first + inside),
      bytes.subarray(second, second + within - inside),
    ]);
    return this.#code.step(cpu.rip, whole, 0, within, mode) ?? this.#tooLong();
  }

  /** Longer than 15 bytes, or beyond the segment's limit. */
  #tooLong(): undefined {
    this.#cpu.raise(Vector.GP, 0);
  }

  /** Where code is in the WebAssembly memory. Undefined with an exit pending where no memory is. */
  #codeAt(gpa: number): number | undefined {
    const cpu = this.#cpu;
    const slot = cpu.ram.find(gpa);
    if (slot === undefined) {
      cpu.exits.push({
        kind: "internalError",
        suberror: 1,
        name: "instruction fetch from unmapped memory",
        data: [BigInt(gpa)],
        instruction: new Uint8Array(0),
      });
      cpu.pending = { kind: "exit" };
      cpu.resume = () => true;
      return undefined;
    }
    return slot.host + (gpa - slot.gpa);
  }
}

function isAccess({ kind }: Exit): boolean {
  return kind === "pioOut" || kind === "pioIn" || kind === "mmioWrite" || kind === "mmioRead";
}

function interrupted(by: InterruptedBy): Exit {
  return { kind: "interrupted", by };
}
