/**
 * Something behind a range of ports or of guest-physical addresses. It sees offsets from the start of its range, never
 * its address. A guest may do anything: `read` and `write` must not throw on its input.
 */
export interface Device {
  /** For people: "16550 UART". */
  readonly name: string;
  /** Fills `data` (1, 2, 4 or 8 bytes), which comes preset to all ones, as an unclaimed access reads. */
  read(offset: number, data: Uint8Array): void;
  write(offset: number, data: Uint8Array): void;
}

/** One interrupt line as a device sees it: level-triggered, idempotent. */
export interface IrqLine {
  set(level: boolean): void;
}
