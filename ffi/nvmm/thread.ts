/** Threads and signals of the C library, for a kick by signal where libnvmm has no stop. */
import { dlopen } from "bun:ffi";

/** SIGURG: ignored by default, so one that comes late harms nobody. signal(7), signal(7) of the BSDs. */
const SIGURG = process.platform === "linux" ? 23 : 16;

const LIBRARIES: Partial<Record<string, readonly string[]>> = {
  linux: ["libc.so.6", "libpthread.so.0"],
  netbsd: ["libpthread.so.1", "libpthread.so"],
  dragonfly: ["libpthread.so.0", "libpthread.so"],
};

const SIGNATURES = {
  // pthread_t pthread_self(void): a pointer or an integer of pointer size
  pthread_self: { args: [], returns: "ptr" },
  // int pthread_kill(pthread_t thread, int sig)
  pthread_kill: { args: ["ptr", "i32"], returns: "i32" },
  // void (*signal(int sig, void (*func)(int)))(int)
  signal: { args: ["i32", "ptr"], returns: "ptr" },
  // int abs(int j)
  abs: { args: ["i32"], returns: "i32" },
} as const;

function bind() {
  for (const name of LIBRARIES[process.platform] ?? ["libpthread.so"]) {
    try {
      return dlopen(name, SIGNATURES).symbols;
    } catch {
      // the next name
    }
  }
  throw new Error("Cannot load the C library's threads");
}

let bound: ReturnType<typeof bind> | undefined;
let handled = false;

/** The calling thread, for `interruptThread()`; good until it ends. */
export function currentThread(): number {
  bound ??= bind();
  return bound.pthread_self() as number;
}

/**
 * Sends a signal whose handler does nothing, so that a system call of that thread ends. Call `handleInterrupts()` first.
 */
export function interruptThread(thread: number): void {
  bound ??= bind();
  bound.pthread_kill(thread as never, SIGURG);
}

/**
 * Installs the handler, once per process. A handler in JavaScript could not run while its thread is in C, so it is abs(3): a C
 * function that takes the signal's number and touches nothing.
 */
export function handleInterrupts(): void {
  if (handled) return;
  bound ??= bind();
  const { ptr } = bound.abs as unknown as { ptr: number };
  bound.signal(SIGURG, ptr as never);
  handled = true;
}
