import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  DEADLINE_SIGNAL,
  releaseThreadDeadline,
  ThreadDeadline,
  threadDeadline,
} from "../../../../src/backends/kvm/deadline.ts";
import { kvmGuest, noKvm } from "./guest.ts";

const onLinux = process.platform === "linux";
const notLinux = onLinux ? "" : ` (skipped: no Linux but ${process.platform})`;

/** No KVM is needed: a timer, a signal, a mask. */
describe.skipIf(!onLinux)(`ThreadDeadline${notLinux}`, () => {
  const bit = (mask: Uint8Array): boolean =>
    ((mask[(DEADLINE_SIGNAL - 1) >> 3] as number) & (1 << ((DEADLINE_SIGNAL - 1) & 7))) !== 0;

  test("there is one for each thread, until the last of its users gives it back", () => {
    const [first, second] = [threadDeadline(), threadDeadline()];
    expect(second).toBe(first);
    releaseThreadDeadline();
    expect(threadDeadline()).toBe(first);
    releaseThreadDeadline();
    releaseThreadDeadline();
    expect(threadDeadline()).not.toBe(first);
    releaseThreadDeadline();
  });

  test("its mask for KVM_RUN lets the signal in, also when the thread blocks it already", () => {
    using first = new ThreadDeadline();
    using second = new ThreadDeadline();
    expect([bit(first.runMask), bit(second.runMask), second.runMask.length]).toEqual([false, false, 8]);
  });

  test("take() is true once for a deadline that passed, and false before and after", () => {
    using deadline = new ThreadDeadline();
    deadline.arm(performance.now() + 60_000);
    expect(deadline.take()).toBe(false);
    deadline.arm(performance.now() - 5);
    Bun.sleepSync(2);
    expect([deadline.take(), deadline.take()]).toEqual([true, false]);
    deadline.arm(undefined);
  });

  test("arm() of another deadline eats the signal of the one before", () => {
    using deadline = new ThreadDeadline();
    deadline.arm(performance.now());
    Bun.sleepSync(2);
    deadline.arm(performance.now() + 60_000);
    expect(deadline.take()).toBe(false);
    deadline.arm(undefined);
    expect([deadline.take(), deadline.armed]).toEqual([false, undefined]);
  });

  test("spent() lets the same deadline be armed again", () => {
    using deadline = new ThreadDeadline();
    const past = performance.now() - 5;
    for (let i = 0; i < 2; i++) {
      deadline.arm(past);
      Bun.sleepSync(2);
      expect(deadline.take()).toBe(true);
      deadline.spent();
    }
  });

  test("arm() takes limits of any length", () => {
    using deadline = new ThreadDeadline();
    for (const ms of [1e9, 1e15, 1e18, 9.3e21, 1e300]) {
      deadline.arm(performance.now() + ms);
      Bun.sleepSync(1);
      expect([ms, deadline.take()]).toEqual([ms, false]);
    }
    deadline.arm(undefined);
  });

  test("disposing one whose time has passed leaves no signal behind", () => {
    const deadline = new ThreadDeadline();
    deadline.arm(performance.now());
    Bun.sleepSync(2);
    deadline[Symbol.dispose]();
    using next = new ThreadDeadline();
    expect(next.take()).toBe(false);
  });
});

/** Timers of this process; undefined where the kernel does not tell. */
function timers(): number | undefined {
  try {
    return readFileSync("/proc/self/timers", "utf8").match(/^ID:/gm)?.length ?? 0;
  } catch {
    return undefined;
  }
}
const noTimers = noKvm || (timers() === undefined ? " (skipped: this kernel has no /proc/self/timers)" : "");

test.skipIf(noTimers !== "")(`vCPUs of a thread share one timer, which goes with the last of them${noTimers}`, () => {
  const before = timers() as number;
  {
    using first = kvmGuest([0xf4]);
    first.next();
    {
      using second = kvmGuest([0xf4]);
      second.next();
      expect(timers()).toBe(before + 1);
    }
    expect(timers()).toBe(before + 1);
  }
  expect(timers()).toBe(before);
});
