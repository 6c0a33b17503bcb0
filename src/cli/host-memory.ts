import { freemem, totalmem } from "node:os";
import { PAGE_BYTES } from "../index.ts";
import { formatSize } from "./quantity.ts";
import { UsageError } from "./usage-error.ts";

/** @throws {UsageError} for guest memory that is nothing, no page multiple, or more than the host has. */
export function checkMemory(memoryBytes: number): void {
  const refuse = (why: string, remedy: string) =>
    new UsageError(`Cannot give the guest ${formatSize(memoryBytes)} of memory as ${why}`, remedy, "--memory");
  if (memoryBytes === 0) throw refuse("it could not hold anything", "use --memory 64K or more");
  if (memoryBytes % PAGE_BYTES !== 0) {
    const next = Math.ceil(memoryBytes / PAGE_BYTES) * PAGE_BYTES;
    throw refuse(
      `that is ${memoryBytes % PAGE_BYTES} bytes more than whole pages`,
      `use a multiple of 4K, for example ${next}`,
    );
  }
  if (memoryBytes > totalmem()) {
    throw refuse(`this host has ${formatSize(totalmem())}`, `use less, ${formatSize(freemem())} are free`);
  }
}
