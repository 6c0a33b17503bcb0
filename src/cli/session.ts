import type { GuestPlan } from "../boot/guest-plan.ts";
import type { Uart16550 } from "../devices/uart16550.ts";
import { STATUS, statusOf } from "../exit-status.ts";
import type { RunResult, Vcpu, Vm } from "../index.ts";
import { ExitRing } from "../inspect/exit-ring.ts";
import { mapPc } from "../pc.ts";
import type { BootPlan } from "./boot-plan.ts";
import { Output } from "./output.ts";
import { SerialConsole } from "./serial-console.ts";
import type { Watch } from "./watch.ts";

/** Where nobody can press a key, a guest that hangs must not hang a script. */
const DEFAULT_TIMEOUT_MS = 10_000;

/** A guest in its VM, ready to run. */
export interface Machine {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly guest: GuestPlan;
  /** The source of an address, e.g. `hello.asm:14`, when the guest was assembled here. */
  readonly sourceLine: ((address: bigint) => string | undefined) | undefined;
}

/** How a run ended, for whoever reports it. */
export interface Ended {
  readonly result: RunResult;
  readonly status: number;
  /** To be explained on a crash screen. */
  readonly isAbnormal: boolean;
  /** The limit that ended the run, in words. */
  readonly limit: string | undefined;
  /** What else the user should know, whole sentences. */
  readonly notes: readonly string[];
  /** The last exits. */
  readonly ring: ExitRing;
  readonly stdout: Output;
  readonly watch: Watch | undefined;
}

/** A signal's default status in a shell: 128 + its number. */
const SIGNALS = { SIGINT: STATUS.interrupted, SIGTERM: 143, SIGHUP: 129 } as const;

/** One run of a guest: its console, its limits, and whoever watches. */
export class Session implements Disposable {
  readonly #plan: BootPlan;
  readonly #machine: Machine;
  readonly #stdout: Output;
  readonly #ring = new ExitRing();
  readonly #watch: Watch | undefined;
  readonly #input: SerialConsole;
  readonly #uart: Uart16550;
  readonly #cleanup = new DisposableStack();
  #wasTerminal = false;
  /** Set when something outside ended the run. */
  #left: number | undefined;

  constructor(plan: BootPlan, machine: Machine) {
    const { vm } = machine;
    this.#plan = plan;
    this.#machine = machine;
    this.#stdout = new Output(1, () => this.#leave(this.#stdout.failure === "EPIPE" ? STATUS.closedPipe : STATUS.io));
    if (plan.trace !== "off" || plan.stats || plan.json) {
      const { Watch } = require("./watch.ts") as typeof import("./watch.ts");
      this.#watch = new Watch(plan, machine);
    }
    this.#input = this.#cleanup.use(
      new SerialConsole({
        receive: (bytes) => this.#uart.receive(bytes),
        unread: () => this.#uart.pending,
        onPowerOff: () => vm.stop({ kind: "poweredOff" }),
        onInterrupt: () => this.#leave(STATUS.interrupted),
      }),
    );
    this.#uart = mapPc(vm, {
      onSerial: this.#watch?.onConsole ?? this.#stdout.byte,
      onSerialSpace: this.#input.onSpace,
      onDebugConsole: this.#debugConsole(),
      wrap: this.#watch?.wrap,
    });
    vm.observe(this.#ring.record);
    this.#handleSignals();
  }

  /** @returns the exit status. */
  async run(): Promise<number> {
    const { maxExits, maxInstructions } = this.#plan;
    // Most guests are done before their first time slice is, and never pay for a terminal.
    const opening = setImmediate(() => this.#openInput());
    const result = await this.#machine.vm.run({
      ...(this.#plan.timeout === undefined ? {} : { timeoutMs: this.#plan.timeout }),
      ...(maxExits === undefined ? {} : { maxExits }),
      ...(maxInstructions === undefined ? {} : { maxInstructions }),
    });
    clearImmediate(opening);
    this.#wasTerminal = this.#input.isTerminal;
    this.#input[Symbol.dispose]();
    await this.#stdout.end();
    return await this.#report(result);
  }

  /** Prints what is left to print, also when the run threw. */
  [Symbol.dispose](): void {
    this.#watch?.end();
    this.#stdout.flush();
    this.#cleanup[Symbol.dispose]();
  }

  #openInput(): void {
    if (this.#machine.vm.outcome !== undefined) return;
    this.#input.open();
    if (this.#plan.timeout !== undefined || this.#input.isTerminal) return;
    const timer = setTimeout(() => this.#machine.vm.stop({ kind: "timeout" }), DEFAULT_TIMEOUT_MS);
    this.#cleanup.defer(() => clearTimeout(timer));
  }

  #debugConsole(): ((byte: number) => void) | undefined {
    const { debugConsole = "stdout" } = this.#plan;
    if (debugConsole === "off") return undefined;
    if (debugConsole === "stdout") return this.#watch?.onConsole ?? this.#stdout.byte;
    const stderr = new Output(2);
    this.#cleanup.defer(() => stderr.flush());
    return stderr.byte;
  }

  #leave(status: number): void {
    this.#left ??= status;
    this.#machine.vm.stop({ kind: "aborted" });
  }

  /** The first signal ends the run in order, a second one the process. */
  #handleSignals(): void {
    for (const [name, status] of Object.entries(SIGNALS)) {
      const onSignal = () => {
        if (this.#left !== undefined) process.exit(status);
        this.#leave(status);
      };
      process.on(name, onSignal);
      this.#cleanup.defer(() => process.off(name, onSignal));
    }
  }

  async #report(result: RunResult): Promise<number> {
    const { outcome } = result;
    const status = this.#left ?? statusOf(outcome);
    const isOutputLost = status === STATUS.closedPipe || status === STATUS.io;
    const isAbnormal = status !== STATUS.ok && !isOutputLost && outcome.kind !== "debugExit";
    if (!isAbnormal && this.#watch === undefined && status !== STATUS.io) {
      // The shell's prompt starts its own line.
      if (this.#wasTerminal && !this.#stdout.isAtLineStart) process.stderr.write("\n");
      return status;
    }
    const { reportEnd } = require("./report.ts") as typeof import("./report.ts");
    const ended = { result, status, isAbnormal, ring: this.#ring, stdout: this.#stdout, watch: this.#watch };
    await reportEnd({ ...ended, ...this.#limitOf(outcome) }, this.#plan, this.#machine);
    return status;
  }

  #limitOf({ kind }: RunResult["outcome"]): Pick<Ended, "limit" | "notes"> {
    if (kind === "maxExits") return { limit: String(this.#plan.maxExits), notes: [] };
    if (kind === "maxInstructions") return { limit: String(this.#plan.maxInstructions), notes: [] };
    if (kind !== "timeout") return { limit: undefined, notes: [] };
    if (this.#plan.timeout !== undefined) return { limit: formatTime(this.#plan.timeout), notes: [] };
    const notes = ["That limit is the default when stdin is no terminal; --timeout sets another."];
    return { limit: formatTime(DEFAULT_TIMEOUT_MS), notes };
  }
}

function formatTime(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
}
