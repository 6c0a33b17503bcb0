import type { Outcome } from "./outcome.ts";

/** What the process ends with, apart from the statuses a guest chooses through the debug-exit device. */
export const STATUS = {
  ok: 0,
  /** sysexits.h, EX_USAGE */
  usage: 64,
  /** sysexits.h, EX_NOINPUT */
  guest: 66,
  /** sysexits.h, EX_UNAVAILABLE */
  noBackend: 69,
  /** sysexits.h, EX_SOFTWARE */
  engine: 70,
  /** sysexits.h, EX_IOERR: standard output cannot be written, e.g. on a full disk. */
  io: 74,
  /** As timeout(1). */
  limit: 124,
  /** 128 + SIGINT, as a shell reports it. */
  interrupted: 130,
  /** 128 + SIGABRT, as of a program that crashed. */
  tripleFault: 134,
  /** 128 + SIGPIPE: nobody reads standard output any more. */
  closedPipe: 141,
} as const;

/** The documented status of a run. */
export function statusOf(outcome: Outcome): number {
  switch (outcome.kind) {
    case "halted":
    case "poweredOff":
    case "reset":
      return STATUS.ok;
    case "debugExit":
      return outcome.status;
    case "tripleFault":
      return STATUS.tripleFault;
    case "failed":
      return STATUS.engine;
    case "timeout":
    case "maxExits":
    case "maxInstructions":
      return STATUS.limit;
    case "aborted":
      return STATUS.interrupted;
  }
}
