import { expect, test } from "bun:test";
import { PIT_HZ, Pit8254 } from "../../../../../src/backends/soft/irqchip/pit.ts";

/** A PIT whose time the test moves, in clocks of its input. */
function pitAt() {
  let now = 0;
  let pulses = 0;
  const pit = new Pit8254({ now: () => now, pulse: () => void pulses++ });
  return {
    pit,
    /** Nanoseconds that surely contain this many clocks. */
    pass(clocks: number): void {
      now += Math.ceil((clocks * 1e9) / PIT_HZ);
      pit.tick();
    },
    get pulses(): number {
      return pulses;
    },
    program(channel: number, mode: number, count: number): void {
      pit.write(0x43, (channel << 6) | 0x30 | (mode << 1));
      pit.write(0x40 + channel, count & 0xff);
      pit.write(0x40 + channel, count >> 8);
    },
    count(channel: number): number {
      pit.write(0x43, channel << 6);
      return pit.read(0x40 + channel) | (pit.read(0x40 + channel) << 8);
    },
    status(channel: number): number {
      pit.write(0x43, 0xe0 | (2 << channel));
      return pit.read(0x40 + channel);
    },
  };
}

test("Pit8254 mode 2 counts down to 1, reloads and pulses once a period", () => {
  const t = pitAt();
  t.program(0, 2, 1000);
  t.pass(999);
  expect([t.count(0), t.pulses]).toEqual([1, 0]);
  t.pass(1);
  expect([t.count(0), t.pulses]).toEqual([1000, 1]);
  t.pass(500);
  expect([t.count(0), t.pulses]).toEqual([500, 1]);
});

test("Pit8254 counts several missed periods as one pulse, and stays in step", () => {
  const t = pitAt();
  t.program(0, 2, 1000);
  t.pass(5500);
  expect([t.pulses, t.count(0)]).toEqual([1, 500]);
  t.pass(500);
  expect(t.pulses).toBe(2);
});

test("Pit8254 mode 0 raises its output once, and its count wraps on", () => {
  const t = pitAt();
  t.program(0, 0, 100);
  expect(t.status(0)).toBe(0x30);
  t.pass(100);
  expect([t.status(0), t.pulses, t.count(0)]).toEqual([0xb0, 1, 0]);
  t.pass(1000);
  expect([t.pulses, t.count(0)]).toEqual([1, 0x10000 - 1000]);
});

test("Pit8254 mode 3 counts by two and is high for the first half", () => {
  const t = pitAt();
  t.program(0, 3, 1000);
  t.pass(100);
  expect([t.count(0), t.status(0) & 0x80]).toEqual([800, 0x80]);
  t.pass(500);
  expect([t.count(0), t.status(0) & 0x80]).toEqual([800, 0]);
});

test("Pit8254 says NULL COUNT between the control word and the count, and forgets the old timer", () => {
  const t = pitAt();
  t.program(0, 2, 1000);
  t.pit.write(0x43, 0x34);
  expect(t.status(0) & 0x40).toBe(0x40);
  t.pass(3000);
  expect(t.pulses).toBe(0);
  t.pit.write(0x40, 10);
  t.pit.write(0x40, 0);
  expect(t.status(0) & 0x40).toBe(0);
});

test("Pit8254 holds a latched count until it is read, whatever time passes", () => {
  const t = pitAt();
  t.program(0, 2, 5000);
  t.pit.write(0x43, 0);
  t.pass(100);
  t.pit.write(0x43, 0);
  expect(t.pit.read(0x40) | (t.pit.read(0x40) << 8)).toBe(5000);
  expect(t.count(0)).toBe(4900);
});

test("Pit8254 counts in BCD where the control word says so", () => {
  const t = pitAt();
  t.pit.write(0x43, 0x35);
  t.pit.write(0x40, 0x00);
  t.pit.write(0x40, 0x10);
  t.pass(1);
  expect(t.count(0)).toBe(0x0999);
});

test("port 0x61 gates counter 2, shows its output and keeps the speaker bit", () => {
  const t = pitAt();
  t.program(2, 0, 100);
  t.pass(200);
  expect(t.pit.read(0x61) & 0x23).toBe(0);
  t.pit.write(0x61, 3);
  t.pass(99);
  expect([t.count(2), t.pit.read(0x61) & 0x23]).toEqual([1, 3]);
  t.pass(1);
  expect(t.pit.read(0x61) & 0x23).toBe(0x23);
});
