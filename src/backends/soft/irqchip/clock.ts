/** What the clock knows of a processor: it counts instructions, and its time-stamp counter can be moved. */
export interface ClockedCpu {
  readonly instructions: number;
  readonly msrs: { tscOffset: bigint };
}

/**
 * The virtual time of one VM, in nanoseconds. One instruction of whichever vCPU runs takes one nanosecond; a vCPU that
 * sleeps in HLT skips to the next timer. So the same guest sees the same time at the same instruction, and the
 * time-stamp counter, which counts instructions too, keeps step with the timers at 1 GHz.
 */
export class VirtualClock {
  /** Nobody needs to wait for it. */
  readonly passesByItself = false;
  readonly #cpus = new Set<ClockedCpu>();
  #running: ClockedCpu | undefined;
  /** Time, and instructions of the running vCPU, when it was entered. */
  #base = 0;
  #since = 0;

  get now(): number {
    return this.#running === undefined ? this.#base : this.#base + this.#running.instructions - this.#since;
  }

  add(cpu: ClockedCpu): void {
    // Time-stamp counters start together: a vCPU made later has not missed anything.
    cpu.msrs.tscOffset += BigInt(this.now);
    this.#cpus.add(cpu);
  }

  remove(cpu: ClockedCpu): void {
    if (this.#running === cpu) this.leave();
    this.#cpus.delete(cpu);
  }

  /** From here on time passes with the instructions of `cpu`. */
  enter(cpu: ClockedCpu): void {
    this.leave();
    this.#running = cpu;
    this.#since = cpu.instructions;
  }

  leave(): void {
    const running = this.#running;
    if (running === undefined) return;
    const passed = running.instructions - this.#since;
    this.#base += passed;
    this.#running = undefined;
    if (passed > 0) for (const cpu of this.#cpus) if (cpu !== running) cpu.msrs.tscOffset += BigInt(passed);
  }

  /** Lets time pass without instructions. */
  skip(nanoseconds: number): void {
    this.#base += nanoseconds;
    for (const cpu of this.#cpus) cpu.msrs.tscOffset += BigInt(nanoseconds);
  }
}
