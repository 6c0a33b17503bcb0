import { errno, errnoName, linuxLibc } from "../../../ffi/libc.ts";
import {
  CLOCK_MONOTONIC,
  changeSigset,
  Itimerspec,
  KERNEL_SIGSET_BYTES,
  SIG_BLOCK,
  SIG_IGN,
  SIGEV_THREAD_ID,
  SIGSET_BYTES,
  Sigevent,
  sigset,
} from "../../../ffi/signal.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import { SyscallError } from "../../errors.ts";

/**
 * A real-time signal that nothing else in the process uses: glibc keeps 32 and 33, the runtime stays near the low end.
 */
export const DEADLINE_SIGNAL = 50;

/** Some 30,000 years: beyond that, seconds would leave timespec's 64 bits. */
const LONGEST_MS = 1e15;

/**
 * The deadline of this thread: one POSIX timer aimed at the thread that created it. Its signal stays blocked, so that
 * outside KVM_RUN it is merely pending; KVM_SET_SIGNAL_MASK unblocks it inside, where it ends the run with EINTR, and
 * `take()` eats it. A deadline that passes between two runs still ends the next one.
 *
 * Bun's event loop opens all signals while it sleeps (epoll_pwait with an empty mask), and the default action of this
 * one is to end the process. So nothing may be armed when JavaScript gives control back to the event loop: whoever set
 * a deadline takes it away first. Ignoring the signal, which holds for the whole process, makes a lapse harmless; a
 * blocked signal stays pending all the same, as the kernel must not know yet what becomes of it.
 *
 * @see timer_create(2); KVM_SET_SIGNAL_MASK, Documentation/virt/kvm/api.rst, Linux v6.1
 */
export class ThreadDeadline implements Disposable {
  readonly #libc = linuxLibc();
  readonly #timer: number;
  readonly #signals = sigset([DEADLINE_SIGNAL]);
  readonly #spec = Itimerspec.alloc();
  readonly #specBytes = bytesOf(this.#spec);
  readonly #noWait = new Uint8Array(16);
  /** What is armed: milliseconds of `performance.now()`. */
  armed: number | undefined;
  /** The kernel's mask for KVM_SET_SIGNAL_MASK: what this thread blocks, without the deadline's signal. */
  readonly runMask: Uint8Array;

  constructor() {
    this.#libc.signal(DEADLINE_SIGNAL, SIG_IGN);
    const before = new Uint8Array(SIGSET_BYTES);
    const failure = this.#libc.pthread_sigmask(SIG_BLOCK, this.#signals, before);
    if (failure !== 0) throw failed("pthread_sigmask", failure);
    this.runMask = before.slice(0, KERNEL_SIGSET_BYTES);
    changeSigset(this.runMask, DEADLINE_SIGNAL, "remove");

    const event = Sigevent.alloc();
    event.sigev_signo = DEADLINE_SIGNAL;
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_notify_thread_id = this.#libc.gettid();
    const timer = new BigUint64Array(1);
    if (this.#libc.timer_create(CLOCK_MONOTONIC, bytesOf(event), timer) !== 0) throw failed("timer_create", errno());
    this.#timer = Number(timer[0]);
  }

  /** Moves the deadline; undefined takes it away. One to three system calls, none when nothing changes. */
  arm(deadlineMs: number | undefined): void {
    if (deadlineMs === this.armed) return;
    if (this.armed !== undefined) {
      // The old deadline may have passed since the caller last looked: its signal must not end a run of the new one.
      this.#settime(0);
      this.take();
    }
    this.armed = deadlineMs;
    if (deadlineMs === undefined) return;
    this.#settime(Math.min(Math.max(deadlineMs - performance.now(), 0.001), LONGEST_MS));
  }

  /** The timer has fired: arm it anew even for the same deadline. */
  spent(): void {
    this.armed = undefined;
  }

  /** Eats a pending deadline signal. True when there was one. */
  take(): boolean {
    return this.#libc.sigtimedwait(this.#signals, null, this.#noWait) === DEADLINE_SIGNAL;
  }

  /** Deletes the timer and eats what it may have left. The signal stays blocked: unblocked, a late one would end the process. */
  [Symbol.dispose](): void {
    this.#libc.timer_delete(this.#timer);
    this.take();
  }

  #settime(ms: number): void {
    const seconds = Math.floor(ms / 1000);
    this.#spec.it_value.tv_sec = BigInt(seconds);
    this.#spec.it_value.tv_nsec = BigInt(Math.ceil((ms - seconds * 1000) * 1e6));
    if (this.#libc.timer_settime(this.#timer, 0, this.#specBytes, null) !== 0) throw failed("timer_settime", errno());
  }
}

function failed(call: string, number: number): SyscallError {
  return new SyscallError(
    call,
    { errno: number, code: errnoName(number) },
    { remedy: "raise the limit of pending signals (ulimit -i)" },
  );
}

let ofThisThread: ThreadDeadline | undefined;
let users = 0;

/** The deadline of this thread, made for the first vCPU that bounds a run. Each gives it back by `releaseThreadDeadline()`. */
export function threadDeadline(): ThreadDeadline {
  ofThisThread ??= new ThreadDeadline();
  users++;
  return ofThisThread;
}

/** The last one to give it back deletes the timer: a Worker's would outlive its thread. */
export function releaseThreadDeadline(): void {
  if (--users > 0) return;
  ofThisThread?.[Symbol.dispose]();
  ofThisThread = undefined;
}
