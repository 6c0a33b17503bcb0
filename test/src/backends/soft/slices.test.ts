import { describe, expect, spyOn, test } from "bun:test";
import { Slices } from "../../../../src/backends/soft/slices.ts";

const FAR = 1e15;

describe("Slices", () => {
  test("timeIsUp() asks the clock at once after a deadline was set, however recent the last look", () => {
    const slices = new Slices();
    expect(slices.timeIsUp(0)).toBe(false);
    slices.deadlineMs = FAR;
    expect(slices.timeIsUp(0)).toBe(false);
    slices.deadlineMs = 0;
    expect(slices.timeIsUp(0)).toBe(true);
  });

  test("timeIsUp() asks again after a few turns without instructions, and after many instructions at once", () => {
    const clock = spyOn(performance, "now");
    try {
      for (const retired of [0, 10_000]) {
        const slices = new Slices();
        slices.deadlineMs = 1000;
        clock.mockReturnValue(999);
        expect(slices.timeIsUp(0)).toBe(false);
        clock.mockReturnValue(1000);
        let turns = 1;
        while (!slices.timeIsUp(retired)) turns++;
        expect(turns).toBe(retired === 0 ? 9 : 1);
      }
    } finally {
      clock.mockRestore();
    }
  });

  test("mayAnswer() lets the clock come first after as many exits, without a deadline never", () => {
    const slices = new Slices();
    for (let i = 0; i < 100; i++) expect(slices.mayAnswer()).toBe(true);
    slices.deadlineMs = FAR;
    slices.timeIsUp(0);
    let answers = 0;
    while (slices.mayAnswer()) answers++;
    expect(answers).toBe(8);
  });

  test("begin() gives what is left, but ends where a sample is due; usedUp() tells when, rarer and rarer", () => {
    const slices = new Slices();
    expect(slices.begin(100, 0)).toBe(100);
    expect(slices.usedUp(100)).toBe(false);
    const due: number[] = [];
    let retired = 0;
    while (due.length < 8) {
      retired += slices.begin(FAR, retired);
      if (slices.usedUp(retired)) due.push(retired);
    }
    expect(due).toEqual([50e3, 100e3, 200e3, 400e3, 800e3, 1600e3, 2600e3, 3600e3]);
    // A state that is restored counts from before.
    expect(slices.begin(FAR, 0)).toBe(1e6);
  });
});
