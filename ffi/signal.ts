/**
 * Signals and POSIX timers of Linux as the C library lays them out.
 *
 * @see timer_create(2), sigevent(7), sigtimedwait(2)
 */
import { i32, i64, nested, struct, u32, u64, type View } from "./struct.ts";

/** pthread_sigmask(3): add to the blocked set. */
export const SIG_BLOCK = 0;
/** signal(2): have the signal discarded, unless it is blocked when it comes. */
export const SIG_IGN = 1;
/** Deliver a timer's signal to one thread. */
export const SIGEV_THREAD_ID = 4;
export const CLOCK_MONOTONIC = 1;
/** Bytes of sigset_t in the C library; the kernel's own is the first 8. */
export const SIGSET_BYTES = 128;
/** Bytes of the kernel's sigset_t on x86-64 and arm64. */
export const KERNEL_SIGSET_BYTES = 8;

/** struct sigevent, as filled for SIGEV_THREAD_ID. */
export const Sigevent = struct("sigevent", 64, {
  sigev_value: u64(0),
  sigev_signo: i32(8),
  sigev_notify: i32(12),
  sigev_notify_thread_id: i32(16), // _sigev_un._tid
});
export type Sigevent = View<typeof Sigevent>;

/** struct timespec on 64-bit systems. */
export const Timespec = struct("timespec", 16, { tv_sec: i64(0), tv_nsec: i64(8) });
export type Timespec = View<typeof Timespec>;

/** struct itimerspec on 64-bit systems: first expiry and period; zero disarms. */
export const Itimerspec = struct("itimerspec", 32, {
  it_interval: nested(0, Timespec),
  it_value: nested(16, Timespec),
});
export type Itimerspec = View<typeof Itimerspec>;

/** struct siginfo_t, the members every signal has. */
export const Siginfo = struct("siginfo_t", 128, {
  si_signo: i32(0),
  si_errno: i32(4),
  si_code: i32(8),
  si_pid: u32(16),
});
export type Siginfo = View<typeof Siginfo>;

/** A sigset_t holding `signals` (1 to 64): bit n - 1 stands for signal n. */
export function sigset(signals: readonly number[]): Uint8Array<ArrayBuffer> {
  const set = new Uint8Array(SIGSET_BYTES);
  for (const signal of signals) changeSigset(set, signal, "add");
  return set;
}

export function changeSigset(set: Uint8Array, signal: number, change: "add" | "remove"): void {
  const byte = (signal - 1) >> 3;
  const bit = 1 << ((signal - 1) & 7);
  set[byte] = change === "add" ? (set[byte] ?? 0) | bit : (set[byte] ?? 0) & ~bit;
}
