import { expect, test } from "bun:test";
import { Snapshot } from "../../../../../src/backends/soft/code/snapshot.ts";

test.each([
  [4, 5],
  [6, 71],
  [8, 8 + 48],
  [100, 100 + 49],
  [12, 4000],
])(
  "Snapshot of bytes %i to %i is no longer current when any of them changes, and is again when it changes back",
  (start, end) => {
    const memory = new Int32Array(1024).map((_, i) => i * 0x01010101);
    const bytes = new Uint8Array(memory.buffer);
    const snapshot = new Snapshot(memory, start, end);
    expect(snapshot.isCurrent).toBe(true);
    for (const at of [start, (start + end) >> 1, end - 1]) {
      bytes[at]! ^= 0x80;
      expect(snapshot.isCurrent).toBe(false);
      bytes[at]! ^= 0x80;
      expect(snapshot.isCurrent).toBe(true);
    }
    // Words beyond its own do not matter.
    bytes[(start & ~3) - 1]! ^= 1;
    bytes[(end + 3) & ~3]! ^= 1;
    expect(snapshot.isCurrent).toBe(true);
  },
);
