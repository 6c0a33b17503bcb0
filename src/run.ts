import { DisposedError } from "./errors.ts";
import type { Exit, ExitOf } from "./exit.ts";
import { checkLimits, deadlineOf, type RunLimits } from "./limits.ts";
import type { Outcome } from "./outcome.ts";
import { RFLAGS_IF } from "./registers.ts";
import type { Vcpu } from "./vcpu.ts";
import type { Vm } from "./vm.ts";

export interface SliceOptions {
  /** Milliseconds the guest may run before the event loop and the next vCPU get their turn; default 10. */
  sliceMs?: number;
}

export interface RunOptions extends RunLimits, SliceOptions {
  /**
   * Called with every exit that no device answers. Answer it in place. Return `"handled"` to go on where the run would
   * end otherwise (after HLT, say), `"stop"` to end it.
   */
  onExit?: (exit: Exit, vcpu: Vcpu) => "stop" | "handled" | undefined;
}

export interface RunResult {
  readonly outcome: Outcome;
  /** The last exit, and the vCPU that made it. */
  readonly exit: Exit;
  readonly vcpu: Vcpu;
  /** Exits of this run, those that devices answered included. */
  readonly exits: number;
  readonly elapsedMs: number;
}

interface Step {
  readonly exit: Exit;
  readonly vcpu: Vcpu;
}

const DEFAULT_SLICE_MS = 10;

/** See `Vm.run()`. */
export async function runVm(vm: Vm, options: RunOptions): Promise<RunResult> {
  const halted = new Set<Vcpu>();
  const steps = stepsOf(vm, options, { halted, awaited: false });
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done) return step.value;
      const { exit, vcpu } = step.value;
      const verdict = options.onExit?.(exit, vcpu);
      if (verdict === "stop") vm.stop();
      else if (verdict !== "handled") conclude(vm, step.value, halted);
    }
  } finally {
    // onExit may throw: limits and deadlines go away all the same.
    await steps.return(undefined as never);
  }
}

/** See `Vm.exits()`. */
export async function* exitsOf(vm: Vm, options: RunLimits & SliceOptions): AsyncGenerator<Exit, RunResult> {
  const steps = stepsOf(vm, options, { halted: new Set(), awaited: true });
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done) return step.value;
      yield step.value.exit;
    }
  } finally {
    await steps.return(undefined as never);
  }
}

interface Consumer {
  /** vCPUs that wait in HLT for an interrupt; they are passed over until one is queued. */
  readonly halted: Set<Vcpu>;
  /** Whether the event loop may get its turn between a step and the next: nothing may be armed then. */
  readonly awaited: boolean;
}

/** The run loop of a whole VM: vCPUs take turns in slices, devices answer, and what they leave is yielded. */
async function* stepsOf(
  vm: Vm,
  options: RunLimits & SliceOptions,
  { halted, awaited }: Consumer,
): AsyncGenerator<Step, RunResult> {
  checkLimits(options);
  const { sliceMs = DEFAULT_SLICE_MS, maxExits = Number.POSITIVE_INFINITY, signal } = options;
  const started = performance.now();
  const deadline = deadlineOf(options) ?? Number.POSITIVE_INFINITY;
  let [vcpu] = liveVcpus(vm);
  if (vcpu === undefined) throw new RangeError("Cannot run a VM without a vCPU: call vm.createVcpu() first");
  const seen = new Set<Vcpu>();
  let exit: Exit = { kind: "interrupted", by: "kick" };
  let exits = 0;
  const result = (outcome: Outcome): RunResult => ({
    outcome,
    exit,
    vcpu: vcpu as Vcpu,
    exits,
    elapsedMs: performance.now() - started,
  });
  try {
    for (let turn = 0; ; turn++) {
      // Those made since the last turn take theirs, too.
      const vcpus = liveVcpus(vm);
      for (const each of vcpus) {
        if (!seen.has(each) && options.maxInstructions !== undefined) each.limitInstructions(options.maxInstructions);
        seen.add(each);
      }
      if (vcpus.length === 0) throw new DisposedError("vCPU");
      const next = nextRunnable(vcpus, turn, halted);
      if (next === undefined && vcpu.disposed) return result({ kind: "halted" });
      vcpu = next ?? vcpu;
      const sliceEnd = Math.min(deadline, performance.now() + sliceMs);
      vcpu.setDeadline(sliceEnd);
      for (;;) {
        if (vm.outcome !== undefined) return result(vm.outcome);
        if (signal?.aborted) return result({ kind: "aborted" });
        if (exits >= maxExits) return result({ kind: "maxExits" });
        const driven = vcpu.drive(maxExits - exits, signal);
        exit = driven.exit;
        exits += driven.exits;
        if (exit.kind === "interrupted") break;
        if (driven.answered) continue;
        if (awaited) vcpu.setDeadline(undefined);
        yield { exit, vcpu };
        if (vm.disposed) throw new DisposedError("VM");
        if (vcpu.disposed) break;
        if (awaited) vcpu.setDeadline(sliceEnd);
        if (halted.has(vcpu)) break;
      }
      if (!vcpu.disposed) vcpu.setDeadline(undefined);
      if (vm.outcome !== undefined) return result(vm.outcome);
      if (exit.kind === "interrupted" && exit.by === "maxInstructions") return result({ kind: "maxInstructions" });
      if (performance.now() >= deadline) return result({ kind: "timeout" });
      if (vm.irqchip !== "none" && vcpus.every(sleepsForever)) return result({ kind: "halted" });
      await eventLoopTurn();
    }
  } finally {
    for (const each of seen) {
      if (each.disposed) continue;
      each.setDeadline(undefined);
      if (options.maxInstructions !== undefined) each.limitInstructions(undefined);
    }
  }
}

/** What an exit that nobody handled means for the whole VM. */
function conclude(vm: Vm, { exit, vcpu }: Step, halted: Set<Vcpu>): void {
  if (exit.kind === "hlt" && vcpu.pendingInterrupts.length === 0) {
    halted.add(vcpu);
    const asleep = (other: Vcpu) => halted.has(other) && other.pendingInterrupts.length === 0;
    if (vm.vcpus.every((other) => other.disposed || asleep(other))) vm.stop({ kind: "halted" });
  }
  const outcome = outcomeOf(exit);
  if (outcome !== undefined) vm.stop(outcome);
}

/** Unclaimed I/O and events nobody asked for end nothing: the guest goes on, reading all ones. */
function outcomeOf(exit: Exit): Outcome | undefined {
  switch (exit.kind) {
    case "shutdown":
      return { kind: "tripleFault" };
    case "systemEvent":
      return outcomeOfEvent(exit);
    case "failEntry":
    case "internalError":
    case "memoryFault":
    case "unknown":
      return { kind: "failed", exit };
    default:
      return undefined;
  }
}

/** A guest that asks to be woken or suspended goes on; one that tells of its crash has failed. */
function outcomeOfEvent(exit: ExitOf<"systemEvent">): Outcome | undefined {
  switch (exit.name) {
    case "shutdown":
      return { kind: "poweredOff" };
    case "reset":
      return { kind: "reset" };
    case "wakeup":
    case "suspend":
      return undefined;
    default:
      return { kind: "failed", exit };
  }
}

function liveVcpus(vm: Vm): readonly Vcpu[] {
  return vm.vcpus.filter((vcpu) => !vcpu.disposed);
}

function nextRunnable(vcpus: readonly Vcpu[], turn: number, halted: Set<Vcpu>): Vcpu | undefined {
  for (let i = 0; i < vcpus.length; i++) {
    const vcpu = vcpus[(turn + i) % vcpus.length] as Vcpu;
    if (halted.has(vcpu) && vcpu.pendingInterrupts.length > 0) halted.delete(vcpu);
    if (!halted.has(vcpu)) return vcpu;
  }
  return undefined;
}

/** With the irqchip in the engine HLT does not exit; with interrupts off nothing but an NMI or a reset would wake it. */
function sleepsForever(vcpu: Vcpu): boolean {
  const { registers } = vcpu;
  return vcpu.disposed || (registers.mpState === "halted" && (registers.rflags & RFLAGS_IF) === 0n);
}

/** Gives the event loop one turn: timers, sockets, standard input. */
function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
