import type { Device } from "../device.ts";

/**
 * QEMU's `isa-debug-exit`: a write ends the machine with a status the guest chooses. QEMU's default port is 0x501, most
 * test kernels use 0xF4; it takes four ports and accesses of 1, 2 or 4 bytes at any of them, and reads zero.
 *
 * @see QEMU hw/misc/debugexit.c
 */
export class DebugExit implements Device {
  readonly name = "debug exit";
  readonly #onExit: (value: number) => void;

  /** @param options.onExit Called with what the guest wrote, 0 to 2^32 - 1. */
  constructor(options: { onExit: (value: number) => void }) {
    this.#onExit = options.onExit;
  }

  read(_offset: number, data: Uint8Array): void {
    data.fill(0);
  }

  write(_offset: number, data: Uint8Array): void {
    let value = 0;
    for (let i = Math.min(data.length, 4) - 1; i >= 0; i--) value = value * 256 + data[i]!;
    this.#onExit(value);
  }
}

/** The exit status QEMU's process ends with: `(value << 1) | 1`, of which a parent sees 8 bits. Never 0. */
export function debugExitStatus(value: number): number {
  return ((value << 1) | 1) & 0xff;
}
