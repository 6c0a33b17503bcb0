import { expect, test } from "bun:test";
import type { Exit } from "../../../src/exit.ts";
import { ExitStats, formatStats } from "../../../src/inspect/stats.ts";

/** Statistics of exits that come one millisecond apart. */
function counted(exits: readonly Exit[]) {
  let clock = 0;
  const stats = new ExitStats(() => clock);
  for (const exit of exits) {
    clock++;
    stats.record(exit);
  }
  return stats.counts();
}

const out = (port: number, count = 1): Exit => ({ kind: "pioOut", port, size: 1, count, data: new Uint8Array(count) });

test("ExitStats parts exits by kind and port, MMIO page and MSR, the most frequent first", () => {
  const counts = counted([
    out(0x3f8),
    out(0xe9),
    out(0x3f8, 3),
    { kind: "mmioRead", gpa: 0xd0000ffc, data: new Uint8Array(4) },
    { kind: "mmioRead", gpa: 0xd0000000, data: new Uint8Array(4) },
    { kind: "mmioRead", gpa: 0xd0001000, data: new Uint8Array(4) },
    { kind: "rdmsr", msr: 0xc0000080, reason: "filter", value: 0n, error: false },
    { kind: "hlt" },
  ]);
  expect(counts.map(({ kind, place, count, bytes, ms }) => `${kind} ${place}: ${count} ${bytes} ${ms}`)).toEqual([
    "pioOut port 0x3f8: 2 4 2",
    "mmioRead page 0xd0000000: 2 8 2",
    "pioOut port 0xe9: 1 1 1",
    "mmioRead page 0xd0001000: 1 4 1",
    "rdmsr EFER (0xc0000080): 1 0 1",
    "hlt : 1 0 1",
  ]);
});

test("ExitStats gives the time of a time slice's end to the exit that follows", () => {
  const counts = counted([{ kind: "interrupted", by: "timeout" }, { kind: "hlt" }]);
  expect(counts).toEqual([{ kind: "hlt", place: "", count: 1, bytes: 0, ms: 2 }]);
});

test("ExitStats stays bounded for a guest that touches everything", () => {
  const counts = counted(Array.from({ length: 10_000 }, (_, port) => out(port)));
  expect(counts.length).toBeLessThan(5000);
  expect(counts[0]).toMatchObject({ place: "other", count: 10_000 - 4096 });
});

test("formatStats() ends with the totals", () => {
  const lines = formatStats(counted([out(0x3f8), { kind: "hlt" }]));
  expect(lines.map((line) => line.trim().split(/ +/).join(" "))).toEqual([
    "exits ms bytes reason",
    "1 1.000 1 pioOut port 0x3f8",
    "1 1.000 0 hlt",
    "2 2.000 1 total",
  ]);
});
