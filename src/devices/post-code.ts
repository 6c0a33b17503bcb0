import type { Device } from "../device.ts";

/**
 * Port 0x80, where firmware reports how far it has come (power-on self-test codes) and older systems write for a short
 * delay. Reads give the last code back, as the DMA page register behind a real port 0x80 does.
 */
export class PostCode implements Device {
  readonly name = "POST code";
  readonly #onCode: ((code: number) => void) | undefined;
  #last = 0;

  constructor(options: { onCode?: (code: number) => void } = {}) {
    this.#onCode = options.onCode;
  }

  /** The code written last, 0 before the first. */
  get last(): number {
    return this.#last;
  }

  read(_offset: number, data: Uint8Array): void {
    data[0] = this.#last;
  }

  write(_offset: number, data: Uint8Array): void {
    this.#last = data[0]!;
    this.#onCode?.(this.#last);
  }
}
