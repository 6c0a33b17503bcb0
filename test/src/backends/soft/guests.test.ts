import { describe, expect, test } from "bun:test";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import { EXPECTATIONS, type Need } from "../../../guests/expectations.ts";
import { runGuest } from "../../../guests/machine.ts";

/** What the software CPU has not, so that a guest that needs it is skipped by name. */
const MISSING: Partial<Record<Need, string>> = { irqchip: "no irqchip", pit: "no PIT" };

describe("guests on the software CPU", () => {
  for (const expectation of EXPECTATIONS) {
    const missing = expectation.needs?.find((need) => MISSING[need] !== undefined);
    const skip = missing === undefined ? "" : ` (skipped: the soft backend has ${MISSING[missing]})`;
    test.skipIf(missing !== undefined)(`${expectation.guest} runs as its header says${skip}`, () => {
      using backend = openSoft();
      const run = runGuest(backend, expectation);
      expect(run.transcript).toEqual([...expectation.transcript]);
      if (expectation.exits !== undefined) expect(run.exits).toBe(expectation.exits);
      if (expectation.rip !== undefined) expect(run.rip).toBe(expectation.rip);
    });
  }
});
