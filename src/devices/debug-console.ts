import type { Device } from "../device.ts";

/** What a read of the port gives: the sign by which a guest knows that the console is there. */
const PRESENT = 0xe9;

/**
 * The debug console of Bochs and QEMU, usually at port 0xE9: each byte written is printed, without any set-up.
 *
 * @see Bochs User Manual, "port_e9_hack"; QEMU `-device isa-debugcon`
 */
export class DebugConsole implements Device {
  readonly name = "debug console";
  readonly #onByte: (byte: number) => void;

  constructor(options: { onByte: (byte: number) => void }) {
    this.#onByte = options.onByte;
  }

  read(_offset: number, data: Uint8Array): void {
    data[0] = PRESENT;
  }

  /** The port is 8 bits wide: of a wider write only the first byte is for it. */
  write(_offset: number, data: Uint8Array): void {
    this.#onByte(data[0]!);
  }
}
