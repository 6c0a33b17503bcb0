import { expect } from "bun:test";
import { statusOf } from "../exit-status.ts";
import type { Outcome } from "../outcome.ts";
import { TestGuest } from "./guest.ts";

interface Verdict {
  pass: boolean;
  message: () => string;
}

/** Matchers for a `TestGuest`. All run the guest, so all are awaited. */
export interface GuestMatchers {
  /** Runs until the guest printed a text, or something a pattern matches; it can go on from there. */
  toPrint(wanted: string | RegExp): Promise<void>;
  /** Runs to the end: every vCPU executed HLT and nothing can wake it. */
  toHalt(): Promise<void>;
  /** Runs to the end: the status `vmexit boot` would exit with, 0 for halted or powered off, `(v << 1) | 1` for debug-exit. */
  toExitWith(status: number): Promise<void>;
  /** Runs to the end: a triple fault. */
  toTripleFault(): Promise<void>;
  /** Runs to the end: ACPI power-off. */
  toPowerOff(): Promise<void>;
}

declare module "bun:test" {
  interface Matchers<T> extends GuestMatchers {}
  interface AsymmetricMatchers extends GuestMatchers {}
}

const OUTCOMES: Readonly<Record<Outcome["kind"], string>> = {
  halted: "halted",
  poweredOff: "powered off",
  reset: "asked for a reset",
  debugExit: "left through debug-exit",
  tripleFault: "triple-faulted",
  failed: "could not be run on by the engine",
  timeout: "ran out of time",
  maxExits: "made more exits than allowed",
  maxInstructions: "executed more instructions than allowed",
  aborted: "was stopped",
};

expect.extend({
  async toPrint(received: unknown, wanted: string | RegExp): Promise<Verdict> {
    if (!(received instanceof TestGuest)) return noGuest();
    const pass = await received.runUntil((text) =>
      typeof wanted === "string" ? text.includes(wanted) : found(wanted, text),
    );
    return verdict(received, pass, `print ${typeof wanted === "string" ? JSON.stringify(wanted) : wanted}`);
  },
  toHalt: (received: unknown): Promise<Verdict> => ends(received, "halt", ({ kind }) => kind === "halted"),
  toTripleFault: (received: unknown): Promise<Verdict> =>
    ends(received, "triple-fault", ({ kind }) => kind === "tripleFault"),
  toPowerOff: (received: unknown): Promise<Verdict> => ends(received, "power off", ({ kind }) => kind === "poweredOff"),
  toExitWith: (received: unknown, status: number): Promise<Verdict> =>
    ends(received, `exit with status ${status}`, (outcome) => statusOf(outcome) === status),
});

/** A pattern with the g or y flag remembers where it stopped: each look starts anew. */
function found(pattern: RegExp, text: string): boolean {
  pattern.lastIndex = 0;
  return pattern.test(text);
}

async function ends(received: unknown, wish: string, accepts: (outcome: Outcome) => boolean): Promise<Verdict> {
  if (!(received instanceof TestGuest)) return noGuest();
  return verdict(received, accepts(await received.runToEnd()), wish);
}

function verdict(guest: TestGuest, pass: boolean, wish: string): Verdict {
  return {
    pass,
    message: () => {
      const { end } = guest;
      const ending = end === undefined ? "it is still running" : `it ${OUTCOMES[end.kind]}, status ${statusOf(end)}`;
      return `Expected the guest ${pass ? "not " : ""}to ${wish}, but ${ending}\n\n${guest.report()}`;
    },
  };
}

/** A verdict, not an exception: the test runner hides what a matcher throws. */
function noGuest(): Verdict {
  return { pass: false, message: () => "Cannot match anything but a guest: pass what testGuest() returned" };
}
