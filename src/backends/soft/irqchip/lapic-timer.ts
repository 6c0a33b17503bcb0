/** What a timer keeps, times relative so that they hold wherever it is restored. */
export interface LapicTimerState {
  initialCount: number;
  divideConfiguration: number;
  periodic: boolean;
  /** Nanoseconds to the next expiry; undefined when it does not run. */
  remaining: number | undefined;
}

/**
 * The timer of a local APIC. Its bus clock is 1 GHz, one tick a nanosecond, as on KVM (Intel SDM Vol. 3A, "APIC Timer").
 */
export class LapicTimer {
  readonly #now: () => number;
  readonly #expired: () => void;
  #initialCount = 0;
  #divideConfiguration = 0;
  #due: number | undefined;
  /** Set by the mode bits of the LVT entry. */
  periodic = false;

  constructor(now: () => number, expired: () => void) {
    this.#now = now;
    this.#expired = expired;
  }

  /** When it next expires, in nanoseconds of the clock. */
  get due(): number | undefined {
    return this.#due;
  }

  get initialCount(): number {
    return this.#initialCount;
  }
  /** Starts the timer; 0 stops it. */
  set initialCount(count: number) {
    this.#initialCount = count;
    this.#due = count === 0 ? undefined : this.#now() + this.#period;
  }

  get divideConfiguration(): number {
    return this.#divideConfiguration;
  }
  /** Ticks that are left keep their number and change their length. */
  set divideConfiguration(value: number) {
    const before = this.#divisor;
    this.#divideConfiguration = value & 0xb;
    if (this.#due === undefined) return;
    const now = this.#now();
    this.#due = now + Math.round(((this.#due - now) * this.#divisor) / before);
  }

  get currentCount(): number {
    if (this.#due === undefined) return 0;
    return Math.floor((this.#due - this.#now()) / this.#divisor) >>> 0;
  }

  tick(): void {
    if (this.#due === undefined) return;
    const now = this.#now();
    if (this.#due > now) return;
    const period = this.#period;
    this.#due = this.periodic ? this.#due + period * (Math.floor((now - this.#due) / period) + 1) : undefined;
    this.#expired();
  }

  reset(): void {
    this.#initialCount = 0;
    this.#divideConfiguration = 0;
    this.#due = undefined;
    this.periodic = false;
  }

  state(): LapicTimerState {
    return {
      initialCount: this.#initialCount,
      divideConfiguration: this.#divideConfiguration,
      periodic: this.periodic,
      remaining: this.#due === undefined ? undefined : this.#due - this.#now(),
    };
  }

  restore(state: LapicTimerState): void {
    this.#initialCount = state.initialCount;
    this.#divideConfiguration = state.divideConfiguration;
    this.periodic = state.periodic;
    this.#due = state.remaining === undefined ? undefined : this.#now() + state.remaining;
  }

  /** Bits 3, 1 and 0: divide by 2, 4, … 128, then 1. */
  get #divisor(): number {
    const value = this.#divideConfiguration;
    return 1 << ((((value & 3) | ((value & 8) >> 1)) + 1) & 7);
  }

  get #period(): number {
    return this.#initialCount * this.#divisor;
  }
}
