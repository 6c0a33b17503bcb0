import { basename } from "node:path";
import { bootGuest } from "../boot/boot-guest.ts";
import type { GuestModule, GuestPlan, LoadOptions } from "../boot/guest-plan.ts";
import { loadGuest } from "../boot/load.ts";
import type { Mode } from "../boot/mode.ts";
import type { Uart16550 } from "../devices/uart16550.ts";
import { GuestError } from "../errors.ts";
import { type BackendChoice, createVm } from "../host.ts";
import { crashScreen } from "../inspect/crash.ts";
import { ExitRing } from "../inspect/exit-ring.ts";
import type { Outcome } from "../outcome.ts";
import { mapPc } from "../pc.ts";
import type { RunResult } from "../run.ts";
import type { Loadable, Vcpu } from "../vcpu.ts";
import type { Vm, VmOptions } from "../vm.ts";

export interface TestGuestOptions extends VmOptions {
  /** Default `auto`. */
  backend?: BackendChoice;
  /** Default: what the file or the program starts in. */
  mode?: Mode;
  /** Multiboot's command line. */
  commandLine?: string;
  /** Multiboot's modules. */
  modules?: readonly GuestModule[];
  /** Waiting at the serial port from the start. */
  input?: string;
  /** For the whole life of the guest; default 10 s. */
  timeoutMs?: number;
  /** For the whole life of the guest; default 1,000,000. */
  maxExits?: number;
}

const DEFAULT_MEMORY_BYTES = 16 * 2 ** 20;
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_MAX_EXITS = 1_000_000;
/** What is kept of the output: a guest that prints for ever must not fill the host. */
const MAX_TRANSCRIPT_BYTES = 1 << 20;

/** Outcomes after which a guest does not go on. */
type End = Exclude<Outcome, { kind: "aborted" }>;

/**
 * A guest under test: a PC with serial port, debug console, debug exit, reset and power-off, whose output is a string.
 * The matchers run it as far as they need; it runs once, from its start to its end.
 */
export class TestGuest implements Disposable {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly #uart: Uart16550;
  readonly #ring = new ExitRing();
  readonly #limits: { timeoutMs: number; maxExits: number };
  readonly #decoder = new TextDecoder();
  #text = "";
  #dropped = false;
  #end: End | undefined;
  #last: RunResult | undefined;
  #elapsedMs = 0;
  #wanted: ((text: string) => boolean) | undefined;

  constructor(vm: Vm, vcpu: Vcpu, options: TestGuestOptions) {
    this.vm = vm;
    this.vcpu = vcpu;
    const { timeoutMs = DEFAULT_TIMEOUT_MS, maxExits = DEFAULT_MAX_EXITS, input } = options;
    this.#limits = { timeoutMs, maxExits };
    this.#uart = mapPc(vm, {
      onSerial: (byte) => this.#print(byte),
      onDebugConsole: (byte) => this.#print(byte),
      onSerialSpace: () => {},
      wrap: undefined,
    });
    vm.observe(this.#ring.record);
    if (input !== undefined) this.send(input);
  }

  /** What the guest printed so far, serial port and debug console in the order of their bytes. */
  get transcript(): string {
    return this.#dropped ? `… ${this.#text}` : this.#text;
  }

  /** How it ended; undefined while it can go on. */
  get end(): End | undefined {
    return this.#end;
  }

  /** Types at the serial port. @throws {RangeError} when the guest has not taken what was sent before. */
  send(text: string): void {
    const bytes = new TextEncoder().encode(text);
    const taken = this.#uart.receive(bytes);
    if (taken === bytes.length) return;
    throw new RangeError(
      `Cannot send ${bytes.length} bytes: the serial port took ${taken}, let the guest read them first`,
    );
  }

  /** Runs until `wanted` accepts the output, or the guest ends. @returns whether it was accepted. */
  async runUntil(wanted: (text: string) => boolean): Promise<boolean> {
    if (wanted(this.#text)) return true;
    this.#wanted = wanted;
    try {
      await this.#run();
    } finally {
      this.#wanted = undefined;
    }
    return wanted(this.#text);
  }

  /** Runs to the guest's end, or to a limit. */
  async runToEnd(): Promise<End> {
    await this.#run();
    return this.#end as End;
  }

  /** Transcript and crash screen: what a failed test shows. */
  report(): string {
    const text = this.transcript;
    const lines = [`Transcript (${text.length} characters):`, text === "" ? "  nothing was printed" : indent(text)];
    if (this.#last !== undefined) {
      const summary = `after ${this.#ring.count} exits in ${this.#elapsedMs.toFixed(1)} ms, on ${this.vm.backend.name}`;
      const limit = limitOf(this.#last.outcome, this.#limits);
      const scene = {
        registers: this.vcpu.access,
        memory: this.vm.memory,
        exits: this.#ring.last(),
        faults: this.vcpu.faultChain,
        summary,
      };
      lines.push("", ...crashScreen(this.#last.outcome, limit === undefined ? scene : { ...scene, limit }));
    }
    return lines.join("\n");
  }

  [Symbol.dispose](): void {
    this.vm[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    if (this.#end !== undefined) return;
    const result = await this.vm.run({
      timeoutMs: Math.max(this.#limits.timeoutMs - this.#elapsedMs, 0),
      maxExits: Math.max(this.#limits.maxExits - this.vcpu.exits, 0),
    });
    this.#elapsedMs += result.elapsedMs;
    this.#last = result;
    if (result.outcome.kind !== "aborted") this.#end = result.outcome;
  }

  #print(byte: number): void {
    this.#text += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    if (this.#text.length > MAX_TRANSCRIPT_BYTES) {
      this.#text = this.#text.slice(-MAX_TRANSCRIPT_BYTES / 2);
      this.#dropped = true;
    }
    if (this.#wanted?.(this.#text)) this.vm.stop();
  }
}

/**
 * Opens a guest under test.
 *
 * @param guest A path (flat binary, boot sector, ELF, Multiboot: chosen by content), or what `asm` made.
 * @throws {GuestError} when the file is missing or cannot be used.
 */
export async function testGuest(guest: string | Loadable, options: TestGuestOptions = {}): Promise<TestGuest> {
  const { memoryBytes = DEFAULT_MEMORY_BYTES } = options;
  const plan = typeof guest === "string" ? await planOf(guest, { ...options, memoryBytes }) : undefined;
  const vm = createVm({ ...options, memoryBytes });
  try {
    const vcpu = vm.createVcpu();
    if (plan !== undefined) bootGuest(vcpu.access, vm.memory, plan);
    else vcpu.load(guest as Loadable, options.mode === undefined ? {} : { mode: options.mode });
    return new TestGuest(vm, vcpu, options);
  } catch (error) {
    vm[Symbol.dispose]();
    throw error;
  }
}

async function planOf(path: string, options: TestGuestOptions & { memoryBytes: number }): Promise<GuestPlan> {
  const file = Bun.file(path);
  if (!(await file.exists())) {
    throw new GuestError(path, `Cannot read the guest "${path}"`, { remedy: "build it first, or correct the path" });
  }
  const { memoryBytes, mode, commandLine, modules } = options;
  const load: LoadOptions = {
    file: basename(path),
    memoryBytes,
    ...(mode === undefined ? {} : { mode }),
    ...(commandLine === undefined ? {} : { commandLine }),
    ...(modules === undefined ? {} : { modules }),
  };
  return loadGuest(await file.bytes(), load);
}

function limitOf(outcome: Outcome, limits: { timeoutMs: number; maxExits: number }): string | undefined {
  if (outcome.kind === "timeout") return `${limits.timeoutMs} ms`;
  return outcome.kind === "maxExits" ? String(limits.maxExits) : undefined;
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ").trimEnd();
}
