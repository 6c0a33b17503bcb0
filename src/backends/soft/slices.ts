import { BLOCK_INSTRUCTIONS } from "./translate/region.ts";

/** Instructions between two looks at the clock: from the first slice up, as they turn out to take less than a millisecond. */
const FIRST_SLICE = 10_000;
const LAST_SLICE = 4_000_000;
/** Turns of the run loop without a look at the clock, while fewer than `FIRST_SLICE` instructions were executed. */
const LOOK_AFTER = 8;
/** Instructions between two looks at where the guest is, from the first period up. */
const FIRST_SAMPLE = 50_000;
const LAST_SAMPLE = 1_000_000;

/** How long translated code runs without coming back, in instructions: for the clock's sake, and to see where the guest is. */
export class Slices {
  #deadlineMs: number | undefined;
  #slice = FIRST_SLICE;
  /** When the present slice began, where that is known and the slice tells something about speed. */
  #startedMs: number | undefined;
  /** Turns until the clock is asked again; when, and after how many instructions, it was asked last. */
  #looksLeft = 0;
  #lookedMs = 0;
  #lookedAt = 0;
  #nextSample = FIRST_SAMPLE;
  #samplePeriod = FIRST_SAMPLE;

  /** Milliseconds of `performance.now()`. */
  get deadlineMs(): number | undefined {
    return this.#deadlineMs;
  }
  set deadlineMs(deadlineMs: number | undefined) {
    this.#deadlineMs = deadlineMs;
    this.#looksLeft = 0;
  }

  /**
   * Whether the deadline has passed. The clock is asked where time may have passed, since asking costs as much as an exit
   * does: behind a slice that was used up, and else after some turns or instructions.
   */
  timeIsUp(retired: number): boolean {
    if (this.#deadlineMs === undefined) return false;
    if (this.#looksLeft > 0 && retired - this.#lookedAt < FIRST_SLICE) {
      this.#looksLeft--;
      return false;
    }
    this.#looksLeft = LOOK_AFTER;
    this.#lookedAt = retired;
    this.#lookedMs = performance.now();
    return this.#lookedMs >= this.#deadlineMs;
  }

  /** Counts an exit that is answered inside a slice. False when the clock comes first. */
  mayAnswer(): boolean {
    return this.#deadlineMs === undefined || --this.#looksLeft >= 0;
  }

  /** Instructions of the next slice, at most `left`. One ends where a sample is due, however many exits the guest makes. */
  begin(left: number, retired: number): number {
    const budget = Math.min(left, Math.max(this.#nextSample - retired, 1), LAST_SAMPLE);
    if (this.#deadlineMs === undefined) return budget;
    this.#startedMs = budget >= this.#slice && this.#looksLeft === LOOK_AFTER ? this.#lookedMs : undefined;
    return Math.min(budget, this.#slice);
  }

  /** A slice was used up. True when it is time to see where the guest is: rarer and rarer, so that hot loops are found soon. */
  usedUp(retired: number): boolean {
    if (this.#deadlineMs !== undefined) this.#adapt();
    if (retired + BLOCK_INSTRUCTIONS < this.#nextSample) return false;
    this.#nextSample = retired + this.#samplePeriod;
    this.#samplePeriod = Math.min(this.#samplePeriod * 2, LAST_SAMPLE);
    return true;
  }

  #adapt(): void {
    this.#looksLeft = 0;
    if (this.#startedMs === undefined) return;
    const elapsedMs = performance.now() - this.#startedMs;
    if (elapsedMs < 0.5) this.#slice = Math.min(this.#slice * 2, LAST_SLICE);
    else if (elapsedMs > 2) this.#slice = Math.max(this.#slice / 2, FIRST_SLICE);
  }
}
