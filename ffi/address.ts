import { ptr } from "bun:ffi";

/**
 * Host address of a typed array's first byte, for a pointer inside a struct. The runtime never moves the memory of an
 * array, but frees it with the array: keep a reference until the callee is done.
 */
export function addressOf(bytes: NodeJS.TypedArray): number {
  return ptr(bytes);
}
