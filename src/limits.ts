/** What bounds a run. Without any, it ends with the guest. */
export interface RunLimits {
  /** Milliseconds of wall time. */
  timeoutMs?: number;
  /** Exits, those that devices answer included. */
  maxExits?: number;
  /** Guest instructions, on backends that count them. */
  maxInstructions?: number;
  signal?: AbortSignal;
}

/** Rejects limits that mean nothing. @throws {RangeError} naming the limit. */
export function checkLimits(limits: RunLimits): void {
  for (const name of ["timeoutMs", "maxExits", "maxInstructions"] as const) {
    const value = limits[name];
    if (value !== undefined && !(value >= 0)) throw new RangeError(`Cannot run with ${name} ${value}: use 0 or more`);
  }
}

/** `performance.now()` at which the time is up; undefined for never. */
export function deadlineOf(limits: RunLimits): number | undefined {
  const { timeoutMs } = limits;
  return timeoutMs === undefined || timeoutMs === Number.POSITIVE_INFINITY ? undefined : performance.now() + timeoutMs;
}
