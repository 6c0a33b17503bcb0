import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { Device } from "../index.ts";
import { type ExitCount, ExitStats } from "../inspect/stats.ts";
import { Tracer } from "../inspect/trace.ts";
import type { BootPlan } from "./boot-plan.ts";
import { Output } from "./output.ts";
import type { Machine } from "./session.ts";

/** Console bytes that --json keeps for its result. */
const MAX_CONSOLE_BYTES = 2 ** 20;

/** Who looks on for --trace, --stats and --json. */
export class Watch {
  readonly #stats: ExitStats | undefined;
  readonly #tracer: Tracer | undefined;
  readonly #stderr = new Output(2);
  readonly #console: number[] = [];
  #consoleBytes = 0;
  /** Takes the guest's console output in place of stdout. */
  readonly onConsole: ((byte: number) => void) | undefined;
  /** What goes on the bus in a device's place. */
  readonly wrap: ((device: Device) => Device) | undefined;

  constructor(plan: BootPlan, { vm, sourceLine }: Machine) {
    if (plan.trace !== "off") {
      const memory: PhysicalMemory = vm.memory;
      const tracer = new Tracer({
        write: (line) => this.#stderr.text(`${line}\n`),
        sourceLine,
        ...(plan.trace === "asm" ? { disassemble: memory } : {}),
      });
      vm.observe(tracer.record);
      this.#tracer = tracer;
      this.wrap = (device) => tracer.device(device);
    }
    if (plan.stats) {
      this.#stats = new ExitStats();
      vm.observe(this.#stats.record);
    }
    if (plan.json) {
      this.onConsole = (byte) => {
        if (this.#consoleBytes++ < MAX_CONSOLE_BYTES) this.#console.push(byte);
      };
    }
  }

  /** Ends the trace. */
  end(): void {
    this.#tracer?.end();
    this.#stderr.flush();
  }

  get counts(): ExitCount[] | undefined {
    return this.#stats?.counts();
  }

  /** What the guest printed, as UTF-8. */
  get console(): { readonly text: string; readonly truncated: boolean } {
    return {
      text: new TextDecoder().decode(Uint8Array.from(this.#console)),
      truncated: this.#consoleBytes > this.#console.length,
    };
  }
}
