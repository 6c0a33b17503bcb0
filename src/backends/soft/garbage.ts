/**
 * JavaScriptCore does not count compiled WebAssembly and the touched pages of a WebAssembly.Memory as reasons to collect,
 * and counts all 4 GiB of a guest's address space as heap in use: a loop of exits, or one that makes and disposes VMs,
 * would grow for long. What is let go is counted here instead.
 */
let bytes = 0;
const COLLECT_AFTER = 96 << 20;

/** Notes memory that the collector may soon give back. */
export function noteGarbage(size: number): void {
  bytes += size;
}

/** Runs the collector when enough was let go. */
export function collectGarbage(): void {
  if (bytes < COLLECT_AFTER) return;
  bytes = 0;
  Bun.gc(true);
}
