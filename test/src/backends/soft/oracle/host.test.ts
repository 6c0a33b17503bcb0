import { describe, expect, test } from "bun:test";
import { Comparison, type Mismatch } from "./compare.ts";
import { unavailable } from "./native.ts";

const reason = unavailable();

describe("the software CPU against the host processor", () => {
  test.skipIf(reason !== undefined)(
    `every integer form of 64-bit mode does what the host does, over a seeded sample${reason === undefined ? "" : ` (skipped: ${reason})`}`,
    () => {
      using comparison = new Comparison(20261120);
      const mismatches: Mismatch[] = [];
      for (const form of comparison.forms) mismatches.push(...comparison.check(form, 1, 24));
      expect(mismatches).toEqual([]);
      expect(comparison.forms.length).toBeGreaterThan(900);
      expect(comparison.faults).toBeGreaterThan(0);
    },
    60_000,
  );
});
