import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import {
  cString,
  errno,
  errnoName,
  libc,
  linuxLibc,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDONLY,
  pageSize,
} from "../../ffi/libc.ts";

const onLinux = process.platform === "linux";
const linuxTest = test.skipIf(!onLinux);

describe("libc()", () => {
  test("open() of a missing file returns -1 and errno() ENOENT", () => {
    expect(libc().open(cString("/nonexistent-vmexit"), O_RDONLY | O_CLOEXEC, 0)).toBe(-1);
    expect(errno()).toBe(constants.errno.ENOENT);
  });

  test("open(), read() and close() work on a device", () => {
    const fd = libc().open(cString("/dev/zero"), O_RDONLY | O_CLOEXEC, 0);
    expect(fd).toBeGreaterThan(2);
    const buffer = new Uint8Array(8).fill(1);
    expect(libc().read(fd, buffer, 8)).toBe(8);
    expect([...buffer]).toEqual(new Array(8).fill(0));
    expect(libc().close(fd)).toBe(0);
    expect(libc().close(fd)).toBe(-1);
    expect(errno()).toBe(constants.errno.EBADF);
  });

  test("ioctl() on a bad fd returns -1 with EBADF in all three variants", () => {
    const { ioctl, ioctlPtr, ioctlU64 } = libc();
    for (const call of [
      () => ioctl(-1, 0xae00, 0),
      () => ioctlPtr(-1, 0xae00, new Uint8Array(8)),
      () => ioctlU64(-1, 0xae00, 2n ** 63n),
    ]) {
      expect(call()).toBe(-1);
      expect(errno()).toBe(constants.errno.EBADF);
    }
  });

  test("mmap() of length 0 returns -1 as a number", () => {
    expect(libc().mmap(0, 0, 3, 0x22, -1, 0)).toBe(-1);
    expect(errno()).toBe(constants.errno.EINVAL);
  });

  linuxTest("ioctlPtr() passes memory to a variadic callee: FIONREAD fills the count", () => {
    const fd = libc().open(cString("/proc/self/status"), O_RDONLY, 0);
    const count = new Int32Array(1).fill(-1);
    const FIONREAD = 0x541b;
    expect(libc().ioctlPtr(fd, FIONREAD, count)).toBe(0);
    expect(count[0]).toBeGreaterThanOrEqual(0);
    libc().close(fd);
  });

  linuxTest("memfd_create(), write() and pread() agree on the bytes at an offset", () => {
    const fd = linuxLibc().memfd_create(cString("vmexit"), 0);
    expect(libc().write(fd, new Uint8Array([1, 2, 3, 4]), 4)).toBe(4);
    const two = new Uint8Array(2);
    expect(libc().pread(fd, two, 2, 1)).toBe(2);
    expect([...two]).toEqual([2, 3]);
    libc().close(fd);
  });

  test("fcntl() passes its variadic number: O_NONBLOCK set is O_NONBLOCK read", () => {
    const fd = libc().open(cString("/dev/zero"), O_RDONLY, 0);
    const F_GETFL = 3;
    const F_SETFL = 4;
    expect(libc().fcntl(fd, F_SETFL, O_NONBLOCK)).toBe(0);
    expect(libc().fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(O_NONBLOCK);
    libc().close(fd);
  });

  linuxTest("getrlimit() fills the soft and the hard limit", () => {
    const limit = new BigUint64Array(2);
    const RLIMIT_NOFILE = 7;
    expect(libc().getrlimit(RLIMIT_NOFILE, limit)).toBe(0);
    expect(limit[0]).toBeGreaterThan(0n);
    expect(limit[1]).toBeGreaterThanOrEqual(limit[0] ?? 0n);
  });

  test("pageSize() is a power of two of at least 4096", () => {
    expect(pageSize()).toBeGreaterThanOrEqual(4096);
    expect(pageSize() & (pageSize() - 1)).toBe(0);
  });
});

describe("linuxLibc()", () => {
  linuxTest("eventfd() counts what is written and poll() sees it", () => {
    const fd = linuxLibc().eventfd(0, 0);
    libc().write(fd, new BigUint64Array([5n]), 8);
    const pollfd = new Uint8Array(8);
    new DataView(pollfd.buffer).setInt32(0, fd, true);
    pollfd[4] = 1;
    expect(libc().poll(pollfd, 1, 0)).toBe(1);
    expect(pollfd[6]).toBe(1);
    const value = new BigUint64Array(1);
    expect(libc().read(fd, value, 8)).toBe(8);
    expect(value[0]).toBe(5n);
    libc().close(fd);
  });

  linuxTest("a thread-directed timer's signal, blocked, is taken by sigtimedwait()", () => {
    const SIG = 40;
    const set = new BigUint64Array(16);
    set[0] = 1n << BigInt(SIG - 1);
    const old = new BigUint64Array(16);
    const linux = linuxLibc();
    expect(linux.pthread_sigmask(0, set, old)).toBe(0);
    const sigevent = new Uint8Array(64);
    const fields = new DataView(sigevent.buffer);
    fields.setInt32(8, SIG, true);
    fields.setInt32(12, 4, true);
    fields.setInt32(16, linux.gettid(), true);
    const timer = new BigUint64Array(1);
    expect(linux.timer_create(1, sigevent, timer)).toBe(0);
    expect(linux.timer_settime(Number(timer[0]), 0, new BigInt64Array([0n, 0n, 0n, 1_000_000n]), null)).toBe(0);
    expect(linux.sigtimedwait(set, null, new BigInt64Array([5n, 0n]))).toBe(SIG);
    expect(linux.sigtimedwait(set, null, new BigInt64Array([0n, 0n]))).toBe(-1);
    expect(errno()).toBe(constants.errno.EAGAIN);
    expect(linux.timer_delete(Number(timer[0]))).toBe(0);
    linux.pthread_sigmask(2, old, null);
  });

  linuxTest("gettid() of the main thread is the process id", () => {
    expect(linuxLibc().gettid()).toBe(process.pid);
  });
});

describe("errnoName()", () => {
  test("names what the system knows and numbers what it does not", () => {
    expect(errnoName(constants.errno.EACCES)).toBe("EACCES");
    expect(errnoName(constants.errno.EAGAIN)).toBe("EAGAIN");
    expect(errnoName(4711)).toBe("errno 4711");
  });
});

describe("cString()", () => {
  test("ends in NUL and refuses one inside", () => {
    expect([...cString("é")]).toEqual([0xc3, 0xa9, 0]);
    expect(() => cString("a\0b")).toThrow(TypeError);
  });
});
