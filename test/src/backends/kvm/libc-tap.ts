import { dlopen, toArrayBuffer } from "bun:ffi";
import * as ioctls from "../../../../ffi/kvm/ioctls.ts";
import { errno, type Libc, libc } from "../../../../ffi/libc.ts";

/** Names of requests by number; some numbers have two names, then the first counts. */
const REQUESTS = new Map<number, string>();
for (const [name, value] of Object.entries(ioctls)) {
  if (name.startsWith("KVM_") && typeof value === "number" && !REQUESTS.has(value)) REQUESTS.set(value, name);
}

const TAPPED = ["open", "close", "ioctl", "ioctlPtr", "mmap", "munmap"] as const satisfies readonly (keyof Libc)[];

/** An errno to fail with instead of making the call, or undefined to let it through. `nth` counts calls of all names from 1. */
export type Injection = (name: string, nth: number) => number | undefined;

/**
 * Watches the calls that reach the C library, and makes some fail. `libc()` returns one object for the thread, so a tap
 * sees everybody's; a vCPU keeps the `ioctl` it finds when it is made, so the tap comes before the vCPU.
 */
export class LibcTap implements Disposable {
  /** What was called, in order: `mmap`, `close`, and the request's name for an ioctl. */
  readonly calls: string[] = [];
  /** Mappings made and not given back: bytes by address. */
  readonly mapped = new Map<number, number>();
  inject: Injection | undefined;
  /** A result to give instead of making the call. */
  answer: ((name: string) => number | undefined) | undefined;
  readonly #original: Partial<Libc> = {};

  constructor(inject?: Injection) {
    this.inject = inject;
    const target = libc() as unknown as Record<string, (...args: never[]) => number>;
    for (const name of TAPPED) {
      const original = target[name] as (...args: unknown[]) => number;
      Object.assign(this.#original, { [name]: original });
      target[name] = (...args: unknown[]) => this.#call(name, original, args);
    }
  }

  /** How often `name` was called. */
  count(name: string): number {
    return this.calls.filter((call) => call === name).length;
  }

  /** Forgets what was called so far. */
  clear(): void {
    this.calls.length = 0;
  }

  [Symbol.dispose](): void {
    Object.assign(libc(), this.#original);
  }

  #call(name: string, original: (...args: unknown[]) => number, args: readonly unknown[]): number {
    const label = name.startsWith("ioctl") ? (REQUESTS.get(args[1] as number) ?? `ioctl ${args[1]}`) : name;
    const nth = this.calls.push(label);
    const number = this.inject?.(label, nth);
    if (number !== undefined) {
      setErrno(number);
      return -1;
    }
    const result = this.answer?.(label) ?? original(...args);
    if (name === "mmap" && result !== -1) this.mapped.set(result, args[1] as number);
    if (name === "munmap" && result === 0) this.mapped.delete(args[0] as number);
    return result;
  }
}

let cell: Int32Array | undefined;

/** Sets this thread's errno, as a failing call would. */
export function setErrno(number: number): void {
  errno();
  cell ??= new Int32Array(toArrayBuffer(errnoLocation(), 0, 4));
  cell[0] = number;
}

function errnoLocation(): Parameters<typeof toArrayBuffer>[0] {
  const { symbols } = dlopen("libc.so.6", { __errno_location: { args: [], returns: "ptr" } });
  return symbols.__errno_location() as Parameters<typeof toArrayBuffer>[0];
}
