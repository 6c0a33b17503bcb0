import type { Device } from "../device.ts";

/** Offsets as the ports lie in the PC: data at 0x60, command and status at 0x64. */
const DATA = 0;
const COMMAND = 4;

const STATUS_OBF = 1 << 0; //      output buffer full: port 0x60 has a byte for the CPU
const STATUS_SYS = 1 << 2; //      self-test passed
const STATUS_CMD = 1 << 3; //      the last write went to the command port
const STATUS_UNLOCKED = 1 << 4; // keyboard not locked

const OUTPUT_RESET = 1 << 0; // low: resets the CPU
const OUTPUT_A20 = 1 << 1;

/**
 * The i8042's own side, with no keyboard or mouse behind it: enough for an OS to find it, test it, read its command byte
 * and A20 state, and to reset the machine (command 0xFE, as Linux's `reboot=k` does).
 *
 * It answers at two ports: `pio.map(0x60, 1, kbc)` and `pio.map(0x64, 1, kbc, { offset: 4 })`.
 *
 * @see IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"
 */
export class KeyboardController implements Device {
  readonly name = "keyboard controller";
  readonly #onReset: () => void;
  #status = STATUS_UNLOCKED;
  #commandByte = 0;
  #outputPort = OUTPUT_RESET | OUTPUT_A20;
  #output = 0;
  /** The command whose data byte comes next. */
  #awaiting: number | undefined;

  constructor(options: { onReset: () => void }) {
    this.#onReset = options.onReset;
  }

  read(offset: number, data: Uint8Array): void {
    if (offset === COMMAND) data[0] = this.#status;
    if (offset === DATA) {
      data[0] = this.#output;
      this.#status &= ~STATUS_OBF;
    }
  }

  write(offset: number, data: Uint8Array): void {
    if (offset === COMMAND) this.#command(data[0]!);
    if (offset === DATA) this.#data(data[0]!);
  }

  #command(command: number): void {
    this.#status |= STATUS_CMD;
    this.#awaiting = undefined;
    // 0xF0 to 0xFF pulse low those lines of the output port whose bit is 0; bit 0 is the reset line.
    if (command >= 0xf0) {
      if ((command & OUTPUT_RESET) === 0) this.#onReset();
      return;
    }
    switch (command) {
      case 0x20:
        this.#reply(this.#commandByte);
        return;
      case 0x60:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        this.#awaiting = command;
        return;
      case 0xaa:
        this.#status |= STATUS_SYS;
        this.#reply(0x55);
        return;
      case 0xa9: // mouse port test
      case 0xab: // keyboard port test
        this.#reply(0x00);
        return;
      case 0xa7:
      case 0xa8: // mouse port off, on
        this.#commandByte = (this.#commandByte & ~0x20) | (command === 0xa7 ? 0x20 : 0);
        return;
      case 0xad:
      case 0xae: // keyboard off, on
        this.#commandByte = (this.#commandByte & ~0x10) | (command === 0xad ? 0x10 : 0);
        return;
      case 0xd0:
        this.#reply(this.#outputPort);
        return;
    }
  }

  #data(value: number): void {
    this.#status &= ~STATUS_CMD;
    const command = this.#awaiting;
    this.#awaiting = undefined;
    if (command === 0x60) this.#commandByte = value;
    if (command === 0xd2 || command === 0xd3) this.#reply(value);
    if (command === 0xd1) {
      this.#outputPort = value;
      if ((value & OUTPUT_RESET) === 0) this.#onReset();
    }
  }

  #reply(value: number): void {
    this.#output = value;
    this.#status |= STATUS_OBF;
  }
}
