/** Mapping: memory of the process from mmap(2), seen as bytes, given back once. */
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { libc, pageSize } from "./libc.ts";

/** An ArrayBuffer of the runtime ends at 4 GiB; more memory takes several mappings. */
export const MAX_MAPPING_BYTES = 2 ** 32;

const HUGE_PAGE_BYTES = 2 ** 21;

const ON_LINUX = process.platform === "linux";
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = ON_LINUX ? 0x20 : 0x1000;
/** Linux, NetBSD; the other systems never reserve. */
const MAP_NORESERVE = ON_LINUX ? 0x4000 : process.platform === "netbsd" ? 0x40 : 0;
const MAP_POPULATE = ON_LINUX ? 0x8000 : 0;
const MADV_HUGEPAGE = 14;
const MAP_FAILED = -1;

export interface AnonymousOptions {
  /** Shared with children after fork; default is private. */
  shared?: boolean;
  /** Do not reserve swap: a large sparse guest. */
  noReserve?: boolean;
  /** Fault all pages in now (Linux). */
  populate?: boolean;
  /** Start on a 2 MiB boundary and ask for transparent huge pages (Linux); a request, never an error. */
  hugePages?: boolean;
}

export interface FdOptions {
  /** Bytes from the start of the file, page-aligned. */
  offset?: number;
  readOnly?: boolean;
  /** Copy on write instead of shared. */
  copyOnWrite?: boolean;
}

/**
 * One mapping. `bytes` is the memory itself; after [Symbol.dispose]() it, and every other view made from it, has length 0, so that a
 * use after dispose reads `undefined` instead of memory that is no longer there. There is no finalizer: a view may
 * outlive the Mapping object, so only disposing unmaps.
 *
 * `bytes` is made when it is asked for: the runtime counts all of it as garbage to come, so that a collection follows
 * every 8 MiB of mappings seen, which is half of what a VM of 1 MiB costs in JavaScript. `write()` does without.
 *
 * The factories return null where mmap(2) fails, and leave the reason in errno().
 */
export class Mapping implements Disposable {
  /** Host-virtual address of the first byte. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #mapped = true;

  private constructor(address: number, length: number) {
    this.address = address;
    this.length = length;
  }

  /** The memory, in place. */
  get bytes(): Uint8Array<ArrayBuffer> {
    this.#bytes ??= this.#mapped
      ? new Uint8Array(toArrayBuffer(this.address as Pointer, 0, this.length))
      : new Uint8Array(0);
    return this.#bytes;
  }

  /**
   * Copies `data` to `offset`.
   * @throws {RangeError} unless it fits, as it never does after dispose.
   */
  write(offset: number, data: Uint8Array): void {
    if (this.#bytes !== undefined || !this.#mapped) {
      this.bytes.set(data, offset);
      return;
    }
    if (offset < 0 || offset + data.length > this.length) {
      throw new RangeError(`Cannot write ${data.length} bytes at ${offset} of a mapping of ${this.length} bytes`);
    }
    if (data.length > 0) libc().memcpy(this.address + offset, data, data.length);
  }

  /**
   * Zeroed memory.
   *
   * @param length Bytes, a multiple of the page size, at most 4 GiB.
   * @throws {RangeError} for any other length.
   */
  static anonymous(length: number, options: AnonymousOptions = {}): Mapping | null {
    checkLength(length);
    const { shared = false, noReserve = false, populate = false, hugePages = false } = options;
    let flags = MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE);
    if (noReserve) flags |= MAP_NORESERVE;
    // With huge pages to ask for first, the populating comes by a write after the advice.
    if (populate && !hugePages) flags |= MAP_POPULATE;
    const address = hugePages ? mapAligned(length, flags) : mapAt(length, flags);
    if (address === MAP_FAILED) return null;
    if (hugePages && ON_LINUX) libc().madvise(address, length, MADV_HUGEPAGE);
    const mapping = new Mapping(address, length);
    if (populate && hugePages) touchPages(mapping.bytes);
    return mapping;
  }

  /**
   * A file's or device's memory, such as the kvm_run of a vCPU; shared and writable unless the options say otherwise.
   *
   * @param length Bytes, a multiple of the page size, at most 4 GiB.
   * @throws {RangeError} for any other length.
   */
  static ofFd(fd: number, length: number, options: FdOptions = {}): Mapping | null {
    checkLength(length);
    const { offset = 0, readOnly = false, copyOnWrite = false } = options;
    const prot = readOnly ? PROT_READ : PROT_READ | PROT_WRITE;
    const address = libc().mmap(0, length, prot, copyOnWrite ? MAP_PRIVATE : MAP_SHARED, fd, offset);
    return address === MAP_FAILED ? null : new Mapping(address, length);
  }

  get disposed(): boolean {
    return !this.#mapped;
  }

  /** Detaches all views, then unmaps. Harmless when repeated. */
  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    // Leaves length 0 behind in every view. The buffer that comes of it is empty: nothing is copied.
    this.#bytes?.buffer.transfer(0);
    libc().munmap(this.address, this.length);
  }
}

function checkLength(length: number): void {
  const page = pageSize();
  if (!Number.isSafeInteger(length) || length <= 0 || length % page !== 0) {
    throw new RangeError(`Cannot map ${length} bytes as a mapping is a positive multiple of ${page} bytes`);
  }
  if (length > MAX_MAPPING_BYTES) {
    throw new RangeError(`Cannot map ${length} bytes as one mapping ends at 4 GiB: split it into several`);
  }
}

function mapAt(length: number, flags: number): number {
  return libc().mmap(0, length, PROT_READ | PROT_WRITE, flags, -1, 0);
}

/** Maps one huge page more than asked and gives back the ends around the aligned part. */
function mapAligned(length: number, flags: number): number {
  const wide = length + HUGE_PAGE_BYTES;
  const start = mapAt(wide, flags);
  if (start === MAP_FAILED) return MAP_FAILED;
  const aligned = Math.ceil(start / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  const before = aligned - start;
  const after = wide - before - length;
  if (before > 0) libc().munmap(start, before);
  if (after > 0) libc().munmap(aligned + length, after);
  return aligned;
}

function touchPages(bytes: Uint8Array): void {
  const page = pageSize();
  for (let at = 0; at < bytes.length; at += page) bytes[at] = 0;
}
