/** Characters a 16550A keeps for the CPU. */
export const FIFO_BYTES = 16;

/** A `Uart16550` as a plain value. Registers are numbers of 8 bits. */
export interface Uart16550State {
  IER: number;
  FCR: number;
  LCR: number;
  MCR: number;
  SCR: number;
  /** DLM and DLL together, 16 bits. */
  divisor: number;
  /** The lines as the other end drives them, whether or not loopback hides them, and the deltas. */
  MSR: number;
  overrun: boolean;
  /** The transmitter's interrupt is due, or would be if IER allowed it. */
  thrEmptyPending: boolean;
  /** Characters in the receiver, the oldest first: at most 16, at most 1 while FIFOs are off. */
  fifo: number[];
  /** PE, FE and BI (LSR's bits 2 to 4) of each of them. */
  fifoErrors: number[];
  /** How many of them the guest was told of. */
  shown: number;
  /** Bytes that wait for room in the receiver. */
  input: number[];
}

/** Bits that can be set, by register. */
const BITS = { IER: 0x0f, FCR: 0xc9, LCR: 0xff, MCR: 0x1f, SCR: 0xff, MSR: 0xff, divisor: 0xffff } as const;

/**
 * Checks a value from outside and copies it.
 *
 * @param inputBytes Room for waiting input, and for a FIFO that goes back to it.
 * @throws {RangeError} naming the field that no UART could hold.
 */
export function checkUart16550State(value: unknown, inputBytes: number): Uart16550State {
  if (typeof value !== "object" || value === null) {
    throw new RangeError("Cannot restore a UART: the state is not an object");
  }
  const state = value as Record<string, unknown>;
  const register = (name: keyof typeof BITS) => {
    const bits = state[name];
    if (!isWithin(bits, BITS[name])) refuse(name, `a number with no bits outside 0x${BITS[name].toString(16)}`);
    return bits;
  };
  const flag = (name: string) => {
    const held = state[name];
    if (typeof held !== "boolean") refuse(name, "true or false");
    return held;
  };
  const bytes = (name: string, limits: { most: number; bits: number }) => {
    const held = state[name];
    if (!Array.isArray(held) || held.length > limits.most || !held.every((byte) => isWithin(byte, limits.bits))) {
      refuse(name, `at most ${limits.most} numbers with no bits outside 0x${limits.bits.toString(16)}`);
    }
    return [...(held as number[])];
  };

  const FCR = register("FCR");
  if (FCR !== 0 && (FCR & 1) === 0) refuse("FCR", "0 while FIFOs are off");
  const fifo = bytes("fifo", { most: FCR & 1 ? FIFO_BYTES : 1, bits: 0xff });
  const fifoErrors = bytes("fifoErrors", { most: FIFO_BYTES, bits: 0x1c });
  if (fifoErrors.length !== fifo.length) refuse("fifoErrors", "as long as fifo");
  const { shown } = state;
  if (!isWithin(shown, 0x1f) || shown > fifo.length) refuse("shown", "at most the length of fifo");
  return {
    IER: register("IER"),
    FCR,
    LCR: register("LCR"),
    MCR: register("MCR"),
    SCR: register("SCR"),
    divisor: register("divisor"),
    MSR: register("MSR"),
    overrun: flag("overrun"),
    thrEmptyPending: flag("thrEmptyPending"),
    fifo,
    fifoErrors,
    shown,
    // A FIFO reset puts characters that were not shown back before the input.
    input: bytes("input", { most: inputBytes - (shown === 0 ? fifo.length : 0), bits: 0xff }),
  };
}

function isWithin(value: unknown, bits: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && (value & ~bits) === 0 && value <= bits;
}

function refuse(field: string, must: string): never {
  throw new RangeError(`Cannot restore a UART: ${field} must be ${must}`);
}
