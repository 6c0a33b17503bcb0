import type { Device } from "../device.ts";

const SCI_EN = 1 << 0;
const SLP_TYP_SHIFT = 10;
const SLP_TYP_MASK = 7;
const SLP_EN = 1 << 13;

/**
 * The ACPI PM1a control register, two bytes, on QEMU's machines at port 0x604: SLP_EN with the right SLP_TYP turns the
 * machine off. QEMU uses SLP_TYP 0 for S5, so test kernels write 0x2000.
 *
 * @see ACPI Specification 6.5, "PM1 Control Registers"; QEMU hw/acpi/core.c
 */
export class AcpiPower implements Device {
  readonly name = "ACPI PM1a control";
  readonly #onPowerOff: () => void;
  readonly #onSleep: ((sleepType: number) => void) | undefined;
  readonly #s5: number;
  #PM1_CNT = SCI_EN;

  /**
   * @param options.onSleep A sleep state other than S5 was asked for; without it such a request does nothing.
   * @param options.s5 SLP_TYP that means S5. Default 0.
   */
  constructor(options: { onPowerOff: () => void; onSleep?: (sleepType: number) => void; s5?: number }) {
    this.#onPowerOff = options.onPowerOff;
    this.#onSleep = options.onSleep;
    this.#s5 = options.s5 ?? 0;
  }

  read(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length && offset + i < 2; i++) data[i] = this.#PM1_CNT >> (8 * (offset + i));
  }

  write(offset: number, data: Uint8Array): void {
    let value = this.#PM1_CNT;
    for (let i = 0; i < data.length && offset + i < 2; i++) {
      const shift = 8 * (offset + i);
      value = (value & ~(0xff << shift)) | (data[i]! << shift);
    }
    // SLP_EN is write-only and SLP_TYP is only looked at together with it.
    this.#PM1_CNT = (value & ~(SLP_EN | (SLP_TYP_MASK << SLP_TYP_SHIFT))) | SCI_EN;
    if ((value & SLP_EN) === 0) return;
    const sleepType = (value >> SLP_TYP_SHIFT) & SLP_TYP_MASK;
    if (sleepType === this.#s5) this.#onPowerOff();
    else this.#onSleep?.(sleepType);
  }
}
