import { expect, test } from "bun:test";
import { fuzz } from "./fuzz.ts";

test("random bytes in every mode come out as exits: nothing throws, nothing outlives its limit", () => {
  const modes = new Set<string>();
  for (let seed = 1; seed <= 30; seed++) {
    const run = fuzz(seed, 400, 40);
    modes.add(run.mode);
    expect(Object.keys(run.exits).length).toBeGreaterThan(0);
  }
  expect(modes.size).toBe(5);
}, 60_000);
