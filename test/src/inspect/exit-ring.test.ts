import { expect, test } from "bun:test";
import { ExitRing } from "../../../src/inspect/exit-ring.ts";

const out = (byte: number) => ({ kind: "pioOut", port: 0x3f8, size: 1, count: 1, data: Uint8Array.of(byte) }) as const;

test("ExitRing.last() gives the newest exits, oldest first, with their numbers", () => {
  const ring = new ExitRing(4);
  for (let i = 1; i <= 10; i++) ring.record(out(i));
  expect(ring.count).toBe(10);
  expect(ring.last().map(({ number, exit }) => [number, exit.kind === "pioOut" && exit.data[0]])).toEqual([
    [7, 7],
    [8, 8],
    [9, 9],
    [10, 10],
  ]);
  expect(ring.last(2).map(({ number }) => number)).toEqual([9, 10]);
});

test("ExitRing.last() gives fewer exits than it has room for when there were fewer", () => {
  const ring = new ExitRing(4);
  ring.record({ kind: "hlt" });
  expect(ring.last()).toEqual([{ number: 1, exit: { kind: "hlt" }, bytes: 0 }]);
});

test("ExitRing.record() keeps what an exit holds now, whatever its engine writes there later", () => {
  const ring = new ExitRing(4);
  const exit = out(0x41);
  const value = { kind: "wrmsr", msr: 1, reason: "unknown", value: 5n, error: false } as const;
  ring.record(exit);
  ring.record(value);
  exit.data[0] = 0;
  expect(ring.last()).toEqual([
    { number: 1, exit: out(0x41), bytes: 1 },
    { number: 2, exit: { ...value }, bytes: 0 },
  ]);
});

test("ExitRing.record() cuts a long payload and tells how long it was", () => {
  const ring = new ExitRing();
  ring.record({ kind: "pioOut", port: 0x10, size: 2, count: 100, data: new Uint8Array(200).fill(7) });
  expect(ring.last()[0]).toEqual({
    number: 1,
    exit: { kind: "pioOut", port: 0x10, size: 2, count: 100, data: new Uint8Array(8).fill(7) },
    bytes: 200,
  });
});

test("ExitRing.record() keeps an MMIO address above 4 GiB", () => {
  const ring = new ExitRing();
  ring.record({ kind: "mmioRead", gpa: 0xf_ffff_f000, data: new Uint8Array(4) });
  expect(ring.last()[0]?.exit).toEqual({ kind: "mmioRead", gpa: 0xf_ffff_f000, data: new Uint8Array(4) });
});

test("ExitRing.record() counts no time slice for an exit", () => {
  const ring = new ExitRing();
  ring.record({ kind: "interrupted", by: "timeout" });
  expect(ring.count).toBe(0);
});
