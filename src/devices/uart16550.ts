import type { Device, IrqLine } from "../device.ts";
import { checkUart16550State, FIFO_BYTES, type Uart16550State } from "./uart16550-state.ts";

// Register offsets. Two of them depend on LCR's divisor latch access bit (DLAB).
const RBR_THR_DLL = 0; // receiver buffer (read), transmitter holding (write); DLAB: divisor latch, low byte
const IER_DLM = 1; //     interrupt enable; DLAB: divisor latch, high byte
const IIR_FCR = 2; //     interrupt identification (read), FIFO control (write)
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_ERBFI = 1 << 0; // received data available, and character timeout
const IER_ETBEI = 1 << 1; // transmitter holding register empty
const IER_ELSI = 1 << 2; //  receiver line status
const IER_EDSSI = 1 << 3; // modem status

const IIR_MODEM_STATUS = 0x00;
const IIR_NONE = 0x01;
const IIR_THR_EMPTY = 0x02;
const IIR_RECEIVED_DATA = 0x04;
const IIR_LINE_STATUS = 0x06;
const IIR_CHARACTER_TIMEOUT = 0x0c;
const IIR_FIFOS_ENABLED = 0xc0;

const FCR_ENABLE = 1 << 0;
const FCR_RESET_RECEIVER = 1 << 1;
const FCR_RESET_TRANSMITTER = 1 << 2;
const FCR_DMA_MODE = 1 << 3;
const FCR_TRIGGER = 0xc0;
/** Characters in the receiver FIFO that raise the interrupt, by FCR's upper two bits. */
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;

const LCR_DLAB = 1 << 7;

const MCR_DTR = 1 << 0;
const MCR_RTS = 1 << 1;
const MCR_OUT1 = 1 << 2;
const MCR_OUT2 = 1 << 3;
const MCR_LOOP = 1 << 4;

const LSR_DR = 1 << 0; // data ready
const LSR_OE = 1 << 1; // overrun error
const LSR_BI = 1 << 4; // break interrupt
const LSR_THRE = 1 << 5;
const LSR_TEMT = 1 << 6;
const LSR_FIFO_ERROR = 1 << 7;
/** Errors that belong to one character: parity, framing, break. */
const LSR_CHARACTER = 0x1c;

const MSR_TERI = 1 << 2;
const MSR_CTS = 1 << 4;
const MSR_DSR = 1 << 5;
const MSR_RI = 1 << 6;
const MSR_DCD = 1 << 7;
const MSR_DELTAS = 0x0f;

/** What the other end drives. */
export interface ModemLines {
  cts: boolean;
  dsr: boolean;
  ri: boolean;
  dcd: boolean;
}

export interface Uart16550Options {
  /** A byte left the transmitter. */
  onByte?: (byte: number) => void;
  /** The interrupt output, behind the gate that OUT2 is on a PC. */
  irq?: IrqLine;
  /** Bytes that `receive` keeps for the guest beyond the receiver FIFO. Default 4096. */
  inputBytes?: number;
  /** `receive` refused bytes earlier, and now there is room for at least one. */
  onSpace?: () => void;
}

/**
 * A 16550A UART, at ports 0x3F8 to 0x3FF as COM1.
 *
 * The wire is infinitely fast: what the guest sends has left at once, so the transmitter is always empty, and four
 * character times have always passed, so the character timeout is raised as soon as fewer characters than the trigger
 * level are there and no more are waiting. Input waits for room instead of overrunning; loopback does overrun. A FIFO
 * reset drops no input that the guest was not told of yet: it comes again, as if it had been sent a moment later. Word
 * length, parity and divisor are kept but change nothing: every byte has 8 bits.
 *
 * @see TI PC16550D "Universal Asynchronous Receiver/Transmitter With FIFOs", "Registers" and "FIFO Interrupt Mode Operation"
 */
export class Uart16550 implements Device {
  readonly name = "16550 UART";
  readonly #onByte: (byte: number) => void;
  readonly #onSpace: () => void;
  readonly #irq: IrqLine | undefined;

  #IER = 0;
  #FCR = 0;
  #LCR = 0;
  #MCR = 0;
  #SCR = 0;
  #divisor = 12; // 9600 baud, where a BIOS leaves it
  /** MSR's upper half as the other end drives it: by default a terminal that is there and ready. */
  #lines = MSR_CTS | MSR_DSR | MSR_DCD;
  #deltas = 0;
  #overrun = false;
  #thrEmptyPending = false;
  #irqLevel = false;

  /** The receiver FIFO; without FIFOs, only its first place is used, as RBR. */
  readonly #fifo = new Uint8Array(FIFO_BYTES);
  /** PE, FE and BI of each character in the FIFO. */
  readonly #fifoErrors = new Uint8Array(FIFO_BYTES);
  #fifoCount = 0;
  /** How many of them LSR or IIR have shown to the guest. */
  #shown = 0;
  /** Bytes on their way to the FIFO, as a ring, with room for a FIFO that goes back. */
  readonly #input: Uint8Array;
  readonly #inputBytes: number;
  #inputHead = 0;
  #inputCount = 0;
  #inputRefused = false;

  constructor(options: Uart16550Options = {}) {
    const inputBytes = options.inputBytes ?? 4096;
    if (!Number.isSafeInteger(inputBytes) || inputBytes < 1) {
      throw new RangeError(`Cannot create a UART with inputBytes ${inputBytes}: it must be a whole number above 0`);
    }
    this.#onByte = options.onByte ?? (() => {});
    this.#onSpace = options.onSpace ?? (() => {});
    this.#irq = options.irq;
    this.#inputBytes = inputBytes;
    this.#input = new Uint8Array(inputBytes + FIFO_BYTES);
  }

  /**
   * A UART in a state that `state()` gave.
   *
   * @throws {RangeError} naming the field, when `state` is not one a UART can be in.
   */
  static fromState(state: unknown, options: Uart16550Options = {}): Uart16550 {
    const uart = new Uart16550(options);
    uart.#restore(checkUart16550State(state, uart.#input.length));
    return uart;
  }

  /** Everything the guest can tell, and the input that still waits. */
  state(): Uart16550State {
    return {
      IER: this.#IER,
      FCR: this.#FCR,
      LCR: this.#LCR,
      MCR: this.#MCR,
      SCR: this.#SCR,
      divisor: this.#divisor,
      MSR: this.#lines | this.#deltas,
      overrun: this.#overrun,
      thrEmptyPending: this.#thrEmptyPending,
      fifo: [...this.#fifo.subarray(0, this.#fifoCount)],
      fifoErrors: [...this.#fifoErrors.subarray(0, this.#fifoCount)],
      shown: this.#shown,
      input: Array.from({ length: this.#inputCount }, (_, i) => this.#inputAt(i)),
    };
  }

  /** The divisor latch, e.g. 1 for 115200 baud. */
  get divisor(): number {
    return this.#divisor;
  }

  /** Bytes that `receive` would take now. */
  get space(): number {
    return Math.max(this.#inputBytes - this.#inputCount, 0);
  }

  /** Bytes received that the guest has not read. */
  get pending(): number {
    return this.#fifoCount + this.#inputCount;
  }

  /**
   * Hands bytes to the guest.
   *
   * @returns How many were taken. When not all, offer the rest again after `onSpace`.
   */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.space);
    for (let i = 0; i < taken; i++) {
      this.#input[(this.#inputHead + this.#inputCount++) % this.#input.length] = bytes[i]!;
    }
    if (taken < bytes.length) this.#inputRefused = true;
    this.#fill();
    return taken;
  }

  /** The other end holds the line in a break: a zero character with BI set, ahead of the input that still waits. */
  receiveBreak(): void {
    this.#shiftIn(0, LSR_BI);
    this.#shown = this.#fifoCount;
    this.#updateIrq();
  }

  /** Changes what the other end drives; lines left out stay as they are. */
  setModemLines(lines: Partial<ModemLines>): void {
    const before = this.#modemLines();
    const wanted = { cts: MSR_CTS, dsr: MSR_DSR, ri: MSR_RI, dcd: MSR_DCD };
    for (const [name, bit] of Object.entries(wanted)) {
      const level = lines[name as keyof ModemLines];
      if (level !== undefined) this.#lines = level ? this.#lines | bit : this.#lines & ~bit;
    }
    this.#noteDeltas(before);
    this.#updateIrq();
  }

  /** The chip is 8 bits wide: wider accesses reach consecutive registers. */
  read(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length && offset + i <= SCR; i++) data[i] = this.#readRegister(offset + i);
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length && offset + i <= SCR; i++) this.#writeRegister(offset + i, data[i]!);
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case RBR_THR_DLL:
        return this.#LCR & LCR_DLAB ? this.#divisor & 0xff : this.#readRBR();
      case IER_DLM:
        return this.#LCR & LCR_DLAB ? this.#divisor >> 8 : this.#IER;
      case IIR_FCR:
        return this.#readIIR();
      case LCR:
        return this.#LCR;
      case MCR:
        return this.#MCR;
      case LSR:
        return this.#readLSR();
      case MSR:
        return this.#readMSR();
      default:
        return this.#SCR;
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case RBR_THR_DLL:
        if (this.#LCR & LCR_DLAB) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#writeTHR(value);
        return;
      case IER_DLM:
        if (this.#LCR & LCR_DLAB) this.#divisor = (this.#divisor & 0x00ff) | (value << 8);
        else this.#writeIER(value);
        return;
      case IIR_FCR:
        this.#writeFCR(value);
        return;
      case LCR:
        this.#LCR = value;
        return;
      case MCR:
        this.#writeMCR(value);
        return;
      case SCR:
        this.#SCR = value;
        return;
    }
    // LSR and MSR are for reading; writes are for factory tests only.
  }

  #readRBR(): number {
    const value = this.#fifo[0]!;
    if (this.#fifoCount > 0) {
      // Of an empty receiver, RBR goes on to show the character read last.
      if (this.#fifoCount > 1) {
        this.#fifo.copyWithin(0, 1, this.#fifoCount);
        this.#fifoErrors.copyWithin(0, 1, this.#fifoCount);
      }
      this.#fifoCount--;
      this.#shown = Math.max(this.#shown - 1, 0);
      this.#fill();
    }
    return value;
  }

  #writeTHR(value: number): void {
    // The line falls while the register is full, so that an edge-triggered interrupt controller sees the next rise.
    this.#thrEmptyPending = false;
    this.#updateIrq();
    this.#thrEmptyPending = true;
    if (this.#MCR & MCR_LOOP) {
      this.#shiftIn(value, 0);
      this.#shown = this.#fifoCount;
    }
    this.#updateIrq();
    if ((this.#MCR & MCR_LOOP) === 0) this.#onByte(value);
  }

  #writeIER(value: number): void {
    const before = this.#IER;
    this.#IER = value & 0x0f;
    // Enabling the interrupt while THR is empty raises it, even if it was read away before: drivers start output that way.
    if ((before ^ this.#IER) & IER_ETBEI) this.#thrEmptyPending = (this.#IER & IER_ETBEI) !== 0;
    this.#updateIrq();
  }

  #readIIR(): number {
    const source = this.#interruptSource();
    if (source === IIR_RECEIVED_DATA || source === IIR_CHARACTER_TIMEOUT) this.#shown = this.#fifoCount;
    if (source === IIR_THR_EMPTY) {
      this.#thrEmptyPending = false;
      this.#updateIrq();
    }
    return this.#FCR & FCR_ENABLE ? source | IIR_FIFOS_ENABLED : source;
  }

  #writeFCR(value: number): void {
    const toggled = (value ^ this.#FCR) & FCR_ENABLE;
    if (toggled || value & FCR_RESET_RECEIVER) this.#resetReceiver();
    if (toggled || value & FCR_RESET_TRANSMITTER) this.#thrEmptyPending = true;
    // The other bits are not programmed unless FIFOs are enabled; the reset bits clear themselves.
    this.#FCR = value & FCR_ENABLE ? value & (FCR_TRIGGER | FCR_DMA_MODE | FCR_ENABLE) : 0;
    this.#fill();
  }

  #resetReceiver(): void {
    if (this.#shown === 0) {
      this.#inputHead = (this.#inputHead + this.#input.length - this.#fifoCount) % this.#input.length;
      for (let i = 0; i < this.#fifoCount; i++)
        this.#input[(this.#inputHead + i) % this.#input.length] = this.#fifo[i]!;
      this.#inputCount += this.#fifoCount;
    }
    this.#fifoCount = 0;
    this.#shown = 0;
    this.#fifo[0] = 0;
    this.#fifoErrors.fill(0);
  }

  #writeMCR(value: number): void {
    const before = this.#modemLines();
    this.#MCR = value & 0x1f;
    this.#noteDeltas(before);
    this.#fill();
  }

  #readLSR(): number {
    let value = LSR_THRE | LSR_TEMT;
    if (this.#fifoCount > 0) value |= LSR_DR | this.#fifoErrors[0]!;
    this.#shown = this.#fifoCount;
    if (this.#overrun) value |= LSR_OE;
    if (this.#FCR & FCR_ENABLE && this.#fifoHasErrors()) value |= LSR_FIFO_ERROR;
    if (value & (LSR_OE | LSR_CHARACTER)) {
      this.#overrun = false;
      this.#fifoErrors[0] = 0;
      this.#updateIrq();
    }
    return value;
  }

  #readMSR(): number {
    const value = this.#modemLines() | this.#deltas;
    if (this.#deltas) {
      this.#deltas = 0;
      this.#updateIrq();
    }
    return value;
  }

  /** MSR's upper half: what the other end drives, or in loopback what MCR's lower half does. */
  #modemLines(): number {
    const mcr = this.#MCR;
    if ((mcr & MCR_LOOP) === 0) return this.#lines;
    return (
      (mcr & MCR_RTS ? MSR_CTS : 0) |
      (mcr & MCR_DTR ? MSR_DSR : 0) |
      (mcr & MCR_OUT1 ? MSR_RI : 0) |
      (mcr & MCR_OUT2 ? MSR_DCD : 0)
    );
  }

  #noteDeltas(before: number): void {
    const after = this.#modemLines();
    this.#deltas |= ((before ^ after) >> 4) & ~MSR_TERI;
    // RI reports only its trailing edge.
    if (before & ~after & MSR_RI) this.#deltas |= MSR_TERI;
  }

  /** The pending and enabled interrupt of the highest priority, as IIR tells it. */
  #interruptSource(): number {
    const ier = this.#IER;
    if (ier & IER_ELSI && (this.#overrun || (this.#fifoCount > 0 && this.#fifoErrors[0]! !== 0))) {
      return IIR_LINE_STATUS;
    }
    if (ier & IER_ERBFI && this.#fifoCount > 0) {
      const level = this.#FCR & FCR_ENABLE ? TRIGGER_LEVELS[this.#FCR >> 6]! : 1;
      return this.#fifoCount >= level ? IIR_RECEIVED_DATA : IIR_CHARACTER_TIMEOUT;
    }
    if (ier & IER_ETBEI && this.#thrEmptyPending) return IIR_THR_EMPTY;
    if (ier & IER_EDSSI && this.#deltas & MSR_DELTAS) return IIR_MODEM_STATUS;
    return IIR_NONE;
  }

  #updateIrq(): void {
    if (this.#irq === undefined) return;
    // On a PC, OUT2 gates the line; loopback forces OUT2 inactive.
    const gate = (this.#MCR & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
    const level = gate && this.#interruptSource() !== IIR_NONE;
    if (level === this.#irqLevel) return;
    this.#irqLevel = level;
    this.#irq.set(level);
  }

  /** One character arrives at the receiver, ready or not. */
  #shiftIn(value: number, errors: number): void {
    const places = this.#FCR & FCR_ENABLE ? FIFO_BYTES : 1;
    if (this.#fifoCount === places) {
      this.#overrun = true;
      // A full FIFO keeps what it has; RBR alone is overwritten.
      if (places > 1) return;
      this.#fifoCount = 0;
    }
    this.#fifo[this.#fifoCount] = value;
    this.#fifoErrors[this.#fifoCount++] = errors;
  }

  /** Lets waiting input into the receiver as far as there is room. In loopback the receiver is cut off from the wire. */
  #fill(): void {
    const places = this.#FCR & FCR_ENABLE ? FIFO_BYTES : 1;
    if ((this.#MCR & MCR_LOOP) === 0) {
      while (this.#inputCount > 0 && this.#fifoCount < places) {
        this.#shiftIn(this.#inputAt(0), 0);
        this.#inputHead = (this.#inputHead + 1) % this.#input.length;
        this.#inputCount--;
      }
    }
    this.#updateIrq();
    if (this.#inputRefused && this.space > 0) {
      this.#inputRefused = false;
      this.#onSpace();
    }
  }

  #inputAt(index: number): number {
    return this.#input[(this.#inputHead + index) % this.#input.length]!;
  }

  #fifoHasErrors(): boolean {
    for (let i = 0; i < this.#fifoCount; i++) if (this.#fifoErrors[i] !== 0) return true;
    return false;
  }

  #restore(state: Uart16550State): void {
    this.#IER = state.IER;
    this.#FCR = state.FCR;
    this.#LCR = state.LCR;
    this.#MCR = state.MCR;
    this.#SCR = state.SCR;
    this.#divisor = state.divisor;
    this.#lines = state.MSR & ~MSR_DELTAS;
    this.#deltas = state.MSR & MSR_DELTAS;
    this.#overrun = state.overrun;
    this.#thrEmptyPending = state.thrEmptyPending;
    this.#fifo.set(state.fifo);
    this.#fifoErrors.set(state.fifoErrors);
    this.#fifoCount = state.fifo.length;
    this.#shown = state.shown;
    this.#input.set(state.input);
    this.#inputCount = state.input.length;
    this.#updateIrq();
  }
}
