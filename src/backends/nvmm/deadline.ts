import type { NvmmLibrary } from "../../../ffi/nvmm/library.ts";
import { currentThread, handleInterrupts } from "../../../ffi/nvmm/thread.ts";

/** The words that a thread shares with its watcher. */
export const SEQUENCE = 0;
export const STATE = 1;
/** How to interrupt: 1 nvmm_vcpu_stop, 2 a signal. */
export const METHOD = 2;
/** In 64-bit floating-point numbers, after the words: the deadline in milliseconds since 1970, the address to stop. */
export const DEADLINE = 2;
export const TARGET = 3;
export const SHARED_BYTES = 32;

export const IDLE = 0;
export const ARMED = 1;
export const FIRING = 2;
export const BY_STOP = 1;
export const BY_SIGNAL = 2;

/** What the watcher is told when it starts. */
export interface WatcherStart {
  readonly shared: SharedArrayBuffer;
  /** Path of libnvmm. */
  readonly library: string;
}

/**
 * The deadline of this thread's runs. While the thread is in nvmm_vcpu_run(), another one, the watcher, waits for the time and then
 * calls nvmm_vcpu_stop(), which is made for that; or, where libnvmm has none (DragonFly), sends the thread a signal, again and
 * again until it is told to cease, since a signal handled just before the system call would be lost.
 *
 * A stop that comes between the runner's own look at the clock and the entry is kept by NVMM in the comm page and ends that run;
 * one that NVMM clears at the end of a run that ended for another reason is covered by the look at the clock before the next.
 * The watcher of a thread starts with its first deadline, which it may serve some milliseconds late.
 */
export class NvmmDeadline {
  readonly #words: Int32Array;
  readonly #numbers: Float64Array;
  readonly #method: number;
  readonly #thread: number;
  /** Held here: a Worker that nobody refers to may be collected. */
  readonly #watcher: Worker;
  #armedFor: number | undefined;
  #armedAt: number | undefined;

  constructor(library: NvmmLibrary) {
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    this.#words = new Int32Array(shared);
    this.#numbers = new Float64Array(shared);
    this.#method = library.stop === undefined ? BY_SIGNAL : BY_STOP;
    this.#thread = this.#method === BY_SIGNAL ? currentThread() : 0;
    if (this.#method === BY_SIGNAL) handleInterrupts();
    this.#watcher = new Worker(new URL("./deadline-watcher.ts", import.meta.url).href);
    this.#watcher.unref();
    this.#watcher.postMessage({ shared, library: library.path } satisfies WatcherStart);
  }

  /** Ends the run of `vcpu` (address of its struct nvmm_vcpu) at `deadlineMs` of performance.now(). Free when nothing changes. */
  arm(vcpu: number, deadlineMs: number): void {
    if (this.#armedFor === vcpu && this.#armedAt === deadlineMs) return;
    this.disarm();
    this.#numbers[DEADLINE] = performance.timeOrigin + deadlineMs;
    this.#numbers[TARGET] = this.#method === BY_STOP ? vcpu : this.#thread;
    this.#words[METHOD] = this.#method;
    this.#armedFor = vcpu;
    this.#armedAt = deadlineMs;
    Atomics.store(this.#words, STATE, ARMED);
    this.#wake();
  }

  /** After this no stop comes any more, so that the vCPU may go. */
  disarm(): void {
    if (this.#armedFor === undefined) return;
    this.#armedFor = undefined;
    this.#armedAt = undefined;
    // FIRING: the watcher is inside nvmm_vcpu_stop() or pthread_kill(), for some nanoseconds.
    while (Atomics.compareExchange(this.#words, STATE, ARMED, IDLE) === FIRING);
  }

  /** As `disarm()`, when this vCPU is the one. */
  release(vcpu: number): void {
    if (this.#armedFor === vcpu) this.disarm();
  }

  #wake(): void {
    Atomics.add(this.#words, SEQUENCE, 1);
    Atomics.notify(this.#words, SEQUENCE);
  }
}

const ofThisThread = new Map<string, NvmmDeadline>();

/** Made at the first bounded run of this thread; lives as long as the thread. */
export function threadDeadline(library: NvmmLibrary): NvmmDeadline {
  let deadline = ofThisThread.get(library.path);
  if (deadline === undefined) {
    deadline = new NvmmDeadline(library);
    ofThisThread.set(library.path, deadline);
  }
  return deadline;
}
