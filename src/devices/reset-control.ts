import type { Device } from "../device.ts";

/** What a reset takes along: the processor only, the whole system, or the system through a power cycle. */
export type ResetKind = "cpu" | "system" | "powerCycle";

const SYS_RST = 1 << 1;
const RST_CPU = 1 << 2;
const FULL_RST = 1 << 3;

/**
 * The reset control register at port 0xCF9: writing RST_CPU resets, SYS_RST and FULL_RST say how much.
 *
 * @see Intel I/O Controller Hub datasheets, "RST_CNT - Reset Control Register"
 */
export class ResetControl implements Device {
  readonly name = "reset control";
  readonly #onReset: (kind: ResetKind) => void;
  #RST_CNT = 0;

  constructor(options: { onReset: (kind: ResetKind) => void }) {
    this.#onReset = options.onReset;
  }

  read(_offset: number, data: Uint8Array): void {
    data[0] = this.#RST_CNT;
  }

  write(_offset: number, data: Uint8Array): void {
    const value = data[0]!;
    // RST_CPU is not kept: on hardware the reset clears it.
    this.#RST_CNT = value & (SYS_RST | FULL_RST);
    if ((value & RST_CPU) === 0) return;
    if ((value & SYS_RST) === 0) this.#onReset("cpu");
    else this.#onReset(value & FULL_RST ? "powerCycle" : "system");
  }
}
