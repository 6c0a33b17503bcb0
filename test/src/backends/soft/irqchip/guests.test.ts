import { describe, expect, test } from "bun:test";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { EXPECTATIONS } from "../../../../guests/expectations.ts";
import { runGuest } from "../../../../guests/machine.ts";

describe("guests that need an irqchip, on the software CPU", () => {
  for (const expectation of EXPECTATIONS) {
    if (!expectation.needs?.some((need) => need === "irqchip" || need === "pit")) continue;
    test(`${expectation.guest} runs as its header says, three times alike`, () => {
      using backend = openSoft();
      for (let i = 0; i < 3; i++) {
        const run = runGuest(backend, expectation);
        expect(run.transcript).toEqual([...expectation.transcript]);
        if (expectation.exits !== undefined) expect(run.exits).toBe(expectation.exits);
      }
    });
  }
});
