/**
 * The C library: the functions vmexit calls, bound by bun:ffi at first use.
 *
 * Everything here is raw: a call that fails returns -1 and leaves its reason in errno, which {@link errno} reads. It must be
 * read before anything else is called on this thread. src/ turns the two into a SyscallError.
 *
 * Pointers are numbers, or a TypedArray whose memory is meant: its address is only good while the call lasts, unless the
 * array is kept alive.
 */
import { dlopen, type FFIFunction, FFIType, toArrayBuffer } from "bun:ffi";

/** What a C pointer parameter takes. */
export type PointerArgument = number | NodeJS.TypedArray | DataView | null;

/** The calls of every system that vmexit runs on. Sizes and offsets in bytes. */
export interface Libc {
  open(path: Uint8Array, flags: number, mode: number): number;
  close(fd: number): number;
  /** ioctl whose third argument is a number, or unused (0). */
  ioctl(fd: number, request: number, argument: number): number;
  /** ioctl whose third argument is memory. */
  ioctlPtr(fd: number, request: number, argument: PointerArgument): number;
  /** ioctl whose third argument is a u64 beyond 2^53. */
  ioctlU64(fd: number, request: number, argument: bigint): number;
  /** The address, or -1. */
  mmap(address: number, length: number, prot: number, flags: number, fd: number, offset: number): number;
  munmap(address: number, length: number): number;
  mprotect(address: number, length: number, prot: number): number;
  madvise(address: number, length: number, advice: number): number;
  memcpy(target: number, source: PointerArgument, count: number): void;
  read(fd: number, buffer: PointerArgument, count: number): number;
  write(fd: number, buffer: PointerArgument, count: number): number;
  pread(fd: number, buffer: PointerArgument, count: number, offset: number): number;
  poll(fds: PointerArgument, count: number, timeoutMs: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  getrlimit(resource: number, limit: PointerArgument): number;
  sysconf(name: number): number;
}

/** What only Linux has, or what vmexit needs only there. */
export interface LinuxLibc {
  eventfd(initial: number, flags: number): number;
  memfd_create(name: Uint8Array, flags: number): number;
  timer_create(clock: number, event: PointerArgument, timer: PointerArgument): number;
  timer_settime(timer: number, flags: number, value: PointerArgument, old: PointerArgument): number;
  timer_delete(timer: number): number;
  /** Returns the error number itself, not -1. */
  pthread_sigmask(how: number, set: PointerArgument, old: PointerArgument): number;
  /** The handler before, or -1. */
  signal(signal: number, handler: number): number;
  /** The signal taken, or -1 (EAGAIN: none came in time). */
  sigtimedwait(set: PointerArgument, info: PointerArgument, timeout: PointerArgument): number;
  /** Thread id of the caller. */
  gettid(): number;
}

type Signatures = Record<string, FFIFunction>;

/** A 64-bit integer that is a number where it is exact, a bigint beyond. */
const { i64_fast } = FFIType;

// bun:ffi passes on x86-64 and arm64 Linux what a variadic callee (open, ioctl, fcntl) expects: the first integer arguments are in
// the same registers either way. Darwin on arm64 puts variadic arguments on the stack; no backend of vmexit runs there.
const POSIX = {
  // int open(const char *path, int flags, mode_t mode)
  open: { args: ["ptr", "i32", "u32"], returns: "i32" },
  // int close(int fd)
  close: { args: ["i32"], returns: "i32" },
  // int ioctl(int fd, unsigned long request, ...)
  ioctl: { args: ["i32", "usize", "usize"], returns: "i32" },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { args: ["usize", "usize", "i32", "i32", "i32", i64_fast], returns: i64_fast },
  // int munmap(void *addr, size_t length)
  munmap: { args: ["usize", "usize"], returns: "i32" },
  // int mprotect(void *addr, size_t length, int prot)
  mprotect: { args: ["usize", "usize", "i32"], returns: "i32" },
  // int madvise(void *addr, size_t length, int advice)
  madvise: { args: ["usize", "usize", "i32"], returns: "i32" },
  // void *memcpy(void *dest, const void *src, size_t n)
  memcpy: { args: ["usize", "ptr", "usize"], returns: "void" },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { args: ["i32", "ptr", "usize"], returns: i64_fast },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { args: ["i32", "ptr", "usize"], returns: i64_fast },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { args: ["i32", "ptr", "usize", i64_fast], returns: i64_fast },
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: { args: ["ptr", "usize", "i32"], returns: "i32" },
  // int fcntl(int fd, int cmd, ...)
  fcntl: { args: ["i32", "i32", i64_fast], returns: "i32" },
  // int getrlimit(int resource, struct rlimit *rlim)
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  // long sysconf(int name)
  sysconf: { args: ["i32"], returns: i64_fast },
} as const satisfies Signatures;

// The same ioctl by other types of its third argument: bun:ffi binds one signature to a name.
const IOCTL_PTR = { ioctl: { args: ["i32", "usize", "ptr"], returns: "i32" } } as const satisfies Signatures;
const IOCTL_U64 = { ioctl: { args: ["i32", "usize", "u64"], returns: "i32" } } as const satisfies Signatures;

const LINUX = {
  // int eventfd(unsigned int initval, int flags)
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  // int memfd_create(const char *name, unsigned int flags)
  memfd_create: { args: ["ptr", "u32"], returns: "i32" },
  // int pthread_sigmask(int how, const sigset_t *set, sigset_t *oldset)
  pthread_sigmask: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  // sighandler_t signal(int signum, sighandler_t handler)
  signal: { args: ["i32", "usize"], returns: i64_fast },
  // int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
  sigtimedwait: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  // long syscall(long number, ...)
  syscall: { args: [i64_fast], returns: i64_fast },
} as const satisfies Signatures;

const TIMERS = {
  // int timer_create(clockid_t clockid, struct sigevent *sevp, timer_t *timerid)
  timer_create: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  // int timer_settime(timer_t timerid, int flags, const struct itimerspec *new_value, struct itimerspec *old_value)
  timer_settime: { args: ["usize", "i32", "ptr", "ptr"], returns: "i32" },
  // int timer_delete(timer_t timerid)
  timer_delete: { args: ["usize"], returns: "i32" },
} as const satisfies Signatures;

/** int *errno_location(void), by its name in each C library. */
const ERRNO_LOCATION: Partial<Record<string, string>> = {
  linux: "__errno_location",
  netbsd: "__errno",
  openbsd: "__errno",
  freebsd: "__error",
  dragonfly: "__error",
  darwin: "__error",
};

/** Names of the C library, tried in this order. */
const LIBRARIES: Partial<Record<string, readonly string[]>> = {
  linux: ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"],
  netbsd: ["libc.so.12", "libc.so"],
  freebsd: ["libc.so.7", "libc.so"],
  dragonfly: ["libc.so.8", "libc.so"],
  darwin: ["libSystem.B.dylib"],
};

/** gettid has a wrapper only in newer C libraries; its system call number is by architecture (asm/unistd.h). */
const SYS_GETTID = process.arch === "arm64" ? 178 : 186;

function bind<S extends Signatures>(signatures: S, libraries: readonly string[]): Record<keyof S, unknown> {
  let failure: unknown;
  for (const library of libraries) {
    try {
      return dlopen(library, signatures).symbols;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`Cannot load the C library as none of ${libraries.join(", ")} has all of what vmexit calls`, {
    cause: failure,
  });
}

function libraries(): readonly string[] {
  return LIBRARIES[process.platform] ?? ["libc.so"];
}

let posix: Libc | undefined;
let linux: LinuxLibc | undefined;
let errnoCell: Int32Array | undefined;

/** The C library, loaded at the first call (about 0.5 ms). */
export function libc(): Libc {
  posix ??= loadLibc();
  return posix;
}

function loadLibc(): Libc {
  const names = libraries();
  const { ioctl: ioctlPtr } = bind(IOCTL_PTR, names);
  let ioctlU64: Libc["ioctlU64"] | undefined;
  return {
    ...(bind(POSIX, names) as unknown as Omit<Libc, "ioctlPtr" | "ioctlU64">),
    ioctlPtr: ioctlPtr as unknown as Libc["ioctlPtr"],
    ioctlU64: (fd, request, argument) => {
      ioctlU64 ??= bind(IOCTL_U64, names).ioctl as unknown as Libc["ioctlU64"];
      return ioctlU64(fd, request, argument);
    },
  };
}

/** What only Linux has, loaded at the first call. */
export function linuxLibc(): LinuxLibc {
  linux ??= loadLinuxLibc();
  return linux;
}

function loadLinuxLibc(): LinuxLibc {
  const { syscall, ...calls } = bind(LINUX, libraries());
  // glibc kept the timers in librt until 2.34.
  const timers = bind(TIMERS, [...libraries(), "librt.so.1"]);
  return { ...calls, ...timers, gettid: () => (syscall as (n: number) => number)(SYS_GETTID) } as unknown as LinuxLibc;
}

/**
 * errno of this thread. Read it straight after the call that failed: the runtime makes system calls of its own.
 * A JavaScript thread never changes its OS thread, so its cell is looked up once.
 */
export function errno(): number {
  errnoCell ??= findErrno();
  return errnoCell[0] ?? 0;
}

function findErrno(): Int32Array {
  const symbol = ERRNO_LOCATION[process.platform] ?? "__errno_location";
  const bound = bind({ [symbol]: { args: [], returns: "ptr" } }, libraries());
  const location = (bound[symbol] as (() => number | null) | undefined)?.();
  if (typeof location !== "number") throw new Error(`Cannot find errno as ${symbol}() returned no address`);
  // Thread-local storage lives as long as this thread, hence as long as anything that can call errno().
  return new Int32Array(toArrayBuffer(location as Parameters<typeof toArrayBuffer>[0], 0, 4));
}

let errnoNames: Map<number, string> | undefined;

/** The name of an error number on this system, `"EACCES"`; a number without one gives `"errno 4711"`. */
export function errnoName(number: number): string {
  // Not an import: only failures need it, and every start would pay for it.
  const { constants } = process.getBuiltinModule("node:os");
  // Reversed so that of two names for one number the first stays (EAGAIN, not EWOULDBLOCK).
  errnoNames ??= new Map(
    Object.entries(constants.errno)
      .reverse()
      .map(([name, value]) => [value, name]),
  );
  return errnoNames.get(number) ?? `errno ${number}`;
}

/** A C string: UTF-8 with a final NUL. @throws {TypeError} when the text holds a NUL itself. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError("Cannot pass text to C as it contains a NUL character");
  return new TextEncoder().encode(`${text}\0`);
}

/** What differs by system: <fcntl.h>, <unistd.h>. */
interface SystemNumbers {
  readonly O_NONBLOCK: number;
  readonly O_CLOEXEC: number;
  /** sysconf(3) name of the page size. */
  readonly _SC_PAGESIZE: number;
}
const NUMBERS: Record<string, SystemNumbers> = {
  linux: { O_NONBLOCK: 0o4000, O_CLOEXEC: 0o2000000, _SC_PAGESIZE: 30 },
  netbsd: { O_NONBLOCK: 4, O_CLOEXEC: 0x400000, _SC_PAGESIZE: 28 },
  freebsd: { O_NONBLOCK: 4, O_CLOEXEC: 0x100000, _SC_PAGESIZE: 47 },
  dragonfly: { O_NONBLOCK: 4, O_CLOEXEC: 0x20000, _SC_PAGESIZE: 47 },
  darwin: { O_NONBLOCK: 4, O_CLOEXEC: 0x1000000, _SC_PAGESIZE: 29 },
};
const numbers = (NUMBERS[process.platform] ?? NUMBERS.freebsd) as SystemNumbers;

/** open(2) flags. */
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const { O_NONBLOCK, O_CLOEXEC } = numbers;

let pageBytes = 0;

/** Bytes per page of the host. */
export function pageSize(): number {
  pageBytes ||= libc().sysconf(numbers._SC_PAGESIZE);
  return pageBytes;
}
