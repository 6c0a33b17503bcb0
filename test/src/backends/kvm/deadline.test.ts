import { describe, expect, test } from "bun:test";
import { DEADLINE_SIGNAL, ThreadDeadline, threadDeadline } from "../../../../src/backends/kvm/deadline.ts";

const onLinux = process.platform === "linux";
const notLinux = onLinux ? "" : ` (skipped: no Linux but ${process.platform})`;

/** No KVM is needed: a timer, a signal, a mask. */
describe.skipIf(!onLinux)(`ThreadDeadline${notLinux}`, () => {
  const bit = (mask: Uint8Array): boolean =>
    ((mask[(DEADLINE_SIGNAL - 1) >> 3] as number) & (1 << ((DEADLINE_SIGNAL - 1) & 7))) !== 0;

  test("there is one for each thread", () => {
    expect(threadDeadline()).toBe(threadDeadline());
  });

  test("its mask for KVM_RUN lets the signal in, also when the thread blocks it already", () => {
    expect(bit(threadDeadline().runMask)).toBe(false);
    expect(bit(new ThreadDeadline().runMask)).toBe(false);
    expect(threadDeadline().runMask.length).toBe(8);
  });

  test("take() is true once for a deadline that passed, and false before and after", () => {
    const deadline = threadDeadline();
    deadline.arm(performance.now() + 60_000);
    expect(deadline.take()).toBe(false);
    deadline.arm(performance.now() - 5);
    Bun.sleepSync(2);
    expect([deadline.take(), deadline.take()]).toEqual([true, false]);
    deadline.arm(undefined);
  });

  test("arm() of another deadline eats the signal of the one before", () => {
    const deadline = threadDeadline();
    deadline.arm(performance.now());
    Bun.sleepSync(2);
    deadline.arm(performance.now() + 60_000);
    expect(deadline.take()).toBe(false);
    deadline.arm(undefined);
    expect([deadline.take(), deadline.armed]).toEqual([false, undefined]);
  });

  test("spent() lets the same deadline be armed again", () => {
    const deadline = threadDeadline();
    const past = performance.now() - 5;
    for (let i = 0; i < 2; i++) {
      deadline.arm(past);
      Bun.sleepSync(2);
      expect(deadline.take()).toBe(true);
      deadline.spent();
    }
  });

  test("arm() takes limits of any length", () => {
    const deadline = threadDeadline();
    for (const ms of [1e9, 1e15, 1e18, 9.3e21, 1e300]) {
      deadline.arm(performance.now() + ms);
      Bun.sleepSync(1);
      expect([ms, deadline.take()]).toEqual([ms, false]);
    }
    deadline.arm(undefined);
  });
});
