import { describe, expect, test } from "bun:test";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { FUZZ_MODES, type FuzzCase, KINDS, makeCase } from "./case.ts";
import { type FuzzRun, runCase, type Schedule } from "./machine.ts";

/**
 * Guests out of random bytes: nothing they do may throw, hang, or reach memory that is not theirs, and they do the same
 * every time, in one go or in slices. More of them:
 * `SOFT_FUZZ=100000 SOFT_FUZZ_SEED=1000 bun test test/src/backends/soft/fuzz`
 */
const CASES = Number(process.env.SOFT_FUZZ ?? 24);
const SEED = Number(process.env.SOFT_FUZZ_SEED ?? 1);
const MAX_INSTRUCTIONS = CASES > 100 ? 1500 : 600;
const SCHEDULES: readonly Schedule[] = ["whole", "steps", 1, 7, 64];

test("makeCase() makes every kind in every mode it can be in, the same from the same seed", () => {
  const cases = Array.from({ length: 400 }, (_, seed) => makeCase(seed));
  const made = new Set(cases.map(({ kind, mode }) => `${kind} ${mode}`));
  const unpaged = ["real16", "unreal16", "prot16", "prot32"].map((mode) => `selfMappedTables ${mode}`);
  const all = KINDS.flatMap((kind) => FUZZ_MODES.map((mode) => `${kind} ${mode}`));
  expect(all.filter((one) => !made.has(one))).toEqual(unpaged);
  expect(makeCase(7)).toEqual(cases[7] as FuzzCase);
});

describe("random guests on the software CPU", () => {
  for (const kind of KINDS) {
    test(`${kind}: runCase() throws nothing, leaves other memory alone and gives the same exits at the same instruction`, () => {
      using backend = openSoft();
      const totals = { cases: 0, instructions: 0, exits: 0 };
      const found: string[] = [];
      for (let seed = SEED; seed < SEED + CASES; seed++) {
        if (KINDS[seed % KINDS.length] !== kind) continue;
        const fuzz = makeCase(seed);
        const first = runCase(backend, fuzz, { schedule: "whole", maxInstructions: MAX_INSTRUCTIONS });
        const schedule = SCHEDULES[Math.floor(seed / KINDS.length) % SCHEDULES.length] as Schedule;
        const second = runCase(backend, fuzz, { schedule, maxInstructions: MAX_INSTRUCTIONS });
        const difference = compare(first, second);
        if (difference !== undefined) found.push(`${describeCase(fuzz)} in ${schedule}: ${difference}`);
        totals.cases++;
        totals.instructions += first?.instructions ?? 0;
        totals.exits += first?.trace.length ?? 0;
      }
      if (CASES > 100) console.log(kind, totals);
      expect(found).toEqual([]);
    }, 600_000);
  }
});

function describeCase({ seed, kind, mode }: FuzzCase): string {
  return `case ${seed} (${kind}, ${mode})`;
}

/** The first thing that differs. */
function compare(first: FuzzRun | undefined, second: FuzzRun | undefined): string | undefined {
  if (first === undefined || second === undefined) return undefined;
  const index = first.trace.findIndex((line, i) => line !== second.trace[i]);
  if (index >= 0) return `exit ${index} is ${second.trace[index]}, not ${first.trace[index]}`;
  if (first.trace.length !== second.trace.length) return `exit ${first.trace.length} is ${second.trace.at(-1)}`;
  if (first.end === second.end) return undefined;
  const [a, b] = [first.end.split(" "), second.end.split(" ")];
  return a.flatMap((part, i) => (part === b[i] ? [] : [`${b[i]}, not ${part}`])).join("; ");
}
