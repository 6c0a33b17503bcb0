/** Input clock of the 8254 in a PC, in Hz. */
export const PIT_HZ = 1_193_182;
const SECOND = 1_000_000_000;

/** How a counter is read and written: control word bits 5 and 4. */
type Access = 1 | 2 | 3;
const LOW = 1;
const HIGH = 2;

/** One counter of the 8254. */
export interface PitChannelState {
  mode: 0 | 1 | 2 | 3 | 4 | 5;
  bcd: boolean;
  access: Access;
  /** Initial count in clocks, 1 to 65536. */
  count: number;
  gate: boolean;
  /** Whether a count was written since the control word: NULL COUNT is its opposite. */
  loaded: boolean;
  /** Nanoseconds already counted when the gate last opened, and when that was. */
  counted: number;
  since: number;
  /** Whether the counter was triggered: at once, in modes 1 and 5 by the gate. */
  started: boolean;
  /** Low byte written and waiting for the high one. */
  writeLow: number | undefined;
  /** The next byte read is the high one. */
  readHigh: boolean;
  latchedCount: number | undefined;
  latchedHigh: boolean;
  latchedStatus: number | undefined;
}

function channel(gate: boolean): PitChannelState {
  return {
    mode: 3,
    bcd: false,
    access: 3,
    count: 0x10000,
    gate,
    loaded: false,
    counted: 0,
    since: 0,
    started: false,
    writeLow: undefined,
    readHigh: false,
    latchedCount: undefined,
    latchedHigh: false,
    latchedStatus: undefined,
  };
}

/** Clocks of the PIT in a span of nanoseconds, exact beyond what a double holds of their product. */
function clocks(nanoseconds: number): number {
  const seconds = Math.floor(nanoseconds / SECOND);
  return seconds * PIT_HZ + Math.floor(((nanoseconds - seconds * SECOND) * PIT_HZ) / SECOND);
}

function toBcd(value: number): number {
  let bcd = 0;
  for (let i = 0, rest = value % 10000; i < 16; i += 4, rest = Math.floor(rest / 10)) bcd |= (rest % 10) << i;
  return bcd;
}
function fromBcd(bcd: number): number {
  let value = 0;
  for (let i = 12; i >= 0; i -= 4) value = value * 10 + ((bcd >> i) & 0xf);
  return value;
}

/**
 * The 8254 of a PC: counters at ports 0x40 to 0x42, control at 0x43, gate and output of counter 2 at 0x61
 * (Intel 8254 datasheet, 231164). Counter 0 makes a pulse on IRQ 0 each time its output rises.
 */
export class Pit8254 {
  readonly #now: () => number;
  readonly #pulse: () => void;
  readonly #channels = [channel(true), channel(true), channel(false)] as const;
  #speaker = false;
  /** When counter 0 next raises its output. */
  #due: number | undefined;
  #period = 0;

  /** @param options.now Nanoseconds. @param options.pulse Called when the output of counter 0 rises. */
  constructor(options: { now: () => number; pulse: () => void }) {
    this.#now = options.now;
    this.#pulse = options.pulse;
  }

  state(): PitChannelState[] {
    return this.#channels.map((c) => ({ ...c }));
  }

  /** When counter 0 next raises its line, in nanoseconds of the clock. */
  get due(): number | undefined {
    return this.#due;
  }

  /** Makes what is due happen: several periods at once are one edge, as nobody looked in between. */
  tick(): void {
    if (this.#due === undefined) return;
    const now = this.#now();
    if (this.#due > now) return;
    if (this.#period === 0) this.#due = undefined;
    else this.#due += this.#period * (Math.floor((now - this.#due) / this.#period) + 1);
    this.#pulse();
  }

  /** @param port 0x40 to 0x43, or 0x61. */
  read(port: number): number {
    if (port === 0x61) return this.#readControlB();
    const c = this.#channels[port & 3];
    // The control register cannot be read.
    return c === undefined ? 0 : this.#readCount(c);
  }

  write(port: number, value: number): void {
    if (port === 0x61) {
      this.#speaker = (value & 2) !== 0;
      this.#setGate(this.#channels[2], (value & 1) !== 0);
    } else if ((port & 3) === 3) this.#control(value);
    else this.#writeCount(port & 3, value);
  }

  #readControlB(): number {
    const c = this.#channels[2];
    // DRAM refresh toggles about every 15 µs.
    const refresh = Math.floor(this.#now() / 16384) & 1;
    return (c.gate ? 1 : 0) | (this.#speaker ? 2 : 0) | (refresh << 4) | (this.#output(c) ? 0x20 : 0);
  }

  #control(value: number): void {
    const select = value >> 6;
    if (select === 3) {
      for (const [i, c] of this.#channels.entries()) {
        if ((value & (2 << i)) === 0) continue;
        if ((value & 0x20) === 0) this.#latch(c);
        if ((value & 0x10) === 0) c.latchedStatus ??= this.#status(c);
      }
      return;
    }
    const c = this.#channels[select] as PitChannelState;
    const access = (value >> 4) & 3;
    if (access === 0) {
      this.#latch(c);
      return;
    }
    const mode = (value >> 1) & 7;
    c.access = access as Access;
    c.mode = (mode > 5 ? mode - 4 : mode) as PitChannelState["mode"];
    c.bcd = (value & 1) !== 0;
    c.loaded = false;
    c.started = false;
    c.counted = 0;
    c.writeLow = undefined;
    c.readHigh = false;
    c.latchedCount = undefined;
    c.latchedStatus = undefined;
    if (select === 0) this.#due = undefined;
  }

  #writeCount(index: number, value: number): void {
    const c = this.#channels[index] as PitChannelState;
    if (c.access === LOW) this.#load(index, c, value);
    else if (c.access === HIGH) this.#load(index, c, value << 8);
    else if (c.writeLow === undefined) c.writeLow = value;
    else {
      this.#load(index, c, c.writeLow | (value << 8));
      c.writeLow = undefined;
    }
  }

  #load(index: number, c: PitChannelState, written: number): void {
    const count = c.bcd ? fromBcd(written) : written;
    c.count = count === 0 ? (c.bcd ? 10000 : 0x10000) : count;
    c.loaded = true;
    if (c.mode === 1 || c.mode === 5) return;
    c.started = true;
    c.counted = 0;
    c.since = this.#now();
    if (index === 0) this.#arm(c);
  }

  #arm(c: PitChannelState): void {
    const interval = Math.floor((c.count * SECOND) / PIT_HZ);
    this.#period = c.mode === 2 || c.mode === 3 ? interval : 0;
    this.#due = this.#now() + interval;
  }

  #setGate(c: PitChannelState, gate: boolean): void {
    if (gate === c.gate) return;
    const restarts = c.mode !== 0 && c.mode !== 4;
    if (gate) {
      if (restarts) c.counted = 0;
      if (c.loaded) c.started = true;
      c.since = this.#now();
    } else if (!restarts || c.mode === 2 || c.mode === 3) c.counted = this.#elapsed(c);
    c.gate = gate;
  }

  /** Nanoseconds that the counter has counted. */
  #elapsed(c: PitChannelState): number {
    if (!c.started) return 0;
    // Modes 1 and 5 go on with the gate closed: it only triggers them.
    const counting = c.gate || c.mode === 1 || c.mode === 5;
    return counting ? c.counted + this.#now() - c.since : c.counted;
  }

  #value(c: PitChannelState): number {
    const passed = clocks(this.#elapsed(c));
    if (c.mode === 2) return c.count - (passed % c.count);
    // Counts down by two, twice a period.
    if (c.mode === 3) return c.count - ((2 * passed) % c.count);
    const top = c.bcd ? 10000 : 0x10000;
    return (((c.count - passed) % top) + top) % top;
  }

  #output(c: PitChannelState): boolean {
    // The control word sets OUT low in mode 0, high in the others.
    if (!c.started) return c.mode !== 0;
    const passed = clocks(this.#elapsed(c));
    switch (c.mode) {
      case 0:
        return passed >= c.count;
      case 1:
        return passed >= c.count;
      case 2:
        return !c.gate || passed % c.count !== c.count - 1;
      case 3:
        return !c.gate || passed % c.count < (c.count + 1) >> 1;
      default:
        return passed !== c.count;
    }
  }

  #status(c: PitChannelState): number {
    const flags = (this.#output(c) ? 0x80 : 0) | (c.loaded ? 0 : 0x40);
    return flags | (c.access << 4) | (c.mode << 1) | (c.bcd ? 1 : 0);
  }

  #latch(c: PitChannelState): void {
    if (c.latchedCount !== undefined) return;
    c.latchedCount = this.#shown(c);
    c.latchedHigh = c.access === HIGH;
  }

  #shown(c: PitChannelState): number {
    return c.bcd ? toBcd(this.#value(c)) : this.#value(c) & 0xffff;
  }

  #readCount(c: PitChannelState): number {
    if (c.latchedStatus !== undefined) {
      const status = c.latchedStatus;
      c.latchedStatus = undefined;
      return status;
    }
    if (c.latchedCount !== undefined) {
      const value = c.latchedHigh ? c.latchedCount >> 8 : c.latchedCount & 0xff;
      if (c.access === 3 && !c.latchedHigh) c.latchedHigh = true;
      else c.latchedCount = undefined;
      return value;
    }
    const high = c.access === HIGH || (c.access === 3 && c.readHigh);
    if (c.access === 3) c.readHigh = !c.readHigh;
    const shown = this.#shown(c);
    return high ? shown >> 8 : shown & 0xff;
  }
}

/** Whether a port belongs to the PIT. */
export function isPitPort(port: number): boolean {
  return (port >= 0x40 && port <= 0x43) || port === 0x61;
}
