import { afterAll, describe, expect, test } from "bun:test";
import { guestNames } from "../../guests/assemble.ts";
import { BACKEND_NAMES, type Host, openBackend } from "../../src/host.ts";
import { EXPECTATIONS, type Need } from "./expectations.ts";
import { pagesOutsideLongMode, runGuest } from "./machine.ts";

const REASONS: Readonly<Record<Need, string>> = {
  irqchip: "the backend has no irqchip",
  pit: "the backend has no PIT",
  msrExits: "the backend delivers no MSR exits",
  legacyPaging: "this host pages only in long mode",
};

test("guests/*.asm each have their expectation, and only they", () => {
  expect(EXPECTATIONS.map(({ guest }) => guest).sort()).toEqual(guestNames());
});

for (const name of BACKEND_NAMES) {
  const { host, refusal } = open(name);
  describe(`guests on ${name}${refusal}`, () => {
    afterAll(() => host?.[Symbol.dispose]());
    if (host === undefined) {
      test.skip("every guest runs as its header says", () => {});
      return;
    }
    const met = meets(host);
    for (const expectation of EXPECTATIONS) {
      const missing = expectation.needs?.find((need) => !met[need]);
      const skip = missing === undefined ? "" : ` (skipped: ${REASONS[missing]})`;
      test.skipIf(missing !== undefined)(`${expectation.guest} runs as its header says${skip}`, () => {
        const run = runGuest(host.engine, expectation);
        expect(run.transcript).toEqual([...expectation.transcript]);
        if (expectation.exits !== undefined) expect(run.exits).toBe(expectation.exits);
        if (expectation.rip !== undefined) expect(run.rip).toBe(expectation.rip);
      });
    }
  });
}

function open(name: (typeof BACKEND_NAMES)[number]): { host: Host | undefined; refusal: string } {
  try {
    return { host: openBackend(name), refusal: "" };
  } catch (error) {
    return { host: undefined, refusal: ` (skipped: ${(error as Error).message})` };
  }
}

function meets(host: Host): Readonly<Record<Need, boolean>> {
  const { irqchip, pit, msrExits } = host.capabilities;
  return { irqchip, pit, msrExits, legacyPaging: pagesOutsideLongMode(host.engine) };
}
