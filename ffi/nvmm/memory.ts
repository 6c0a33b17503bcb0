/** Memory around libnvmm: what it lends to us, and host memory that it shares with a guest. */
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { libc } from "../libc.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE = 2;
const ON_LINUX = process.platform === "linux";
const MAP_ANONYMOUS = ON_LINUX ? 0x20 : 0x1000;
/** Linux, NetBSD; DragonFly does not reserve. */
const MAP_NORESERVE = ON_LINUX ? 0x4000 : process.platform === "netbsd" ? 0x40 : 0;
const MAP_FAILED = -1;

/** Bytes at an address that somebody else owns. Give them back with `detach()` before the owner frees them. */
export function bytesAt(address: number, length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(toArrayBuffer(address as Pointer, 0, length));
}

/** Makes every view of the memory empty, so that a late use reads `undefined` instead of memory that is gone. */
export function detach(bytes: Uint8Array<ArrayBuffer>): void {
  // transfer() moves the memory to a buffer that nobody holds; it does not copy.
  if (!bytes.buffer.detached) bytes.buffer.transfer();
}

/** Page-aligned zeroed memory, not yet known to a machine. @returns its address, or null with the reason in errno. */
export function reserve(length: number): number | null {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const address = libc().mmap(0, length, PROT_READ | PROT_WRITE, flags, -1, 0);
  return address === MAP_FAILED ? null : address;
}

/** Gives back what `reserve()` gave, unless nvmm_hva_unmap() did so already. */
export function unreserve(address: number, length: number): void {
  libc().munmap(address, length);
}
