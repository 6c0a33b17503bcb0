import { describe, expect, test } from "bun:test";
import { arrayMemory } from "../../../src/boot/physical-memory.ts";
import { crashScreen, SCREEN } from "../../../src/inspect/crash.ts";
import { explainOutcome } from "../../../src/inspect/crash-reason.ts";
import type { RecordedExit } from "../../../src/inspect/exit-ring.ts";
import type { Outcome } from "../../../src/outcome.ts";
import { type FakeState, fakeRegisters } from "./fake-registers.ts";

const LONG = {
  controls: { cr0: 0x80010033n, cr3: 0n, cr4: 0x20n, efer: 0xd00n },
  segments: { cs: { selector: 8, l: 1 as const, g: 1 as const } },
};

function screen(
  outcome: Outcome,
  state: FakeState = {},
  more: { exits?: RecordedExit[]; code?: number[]; notes?: string[] } = {},
) {
  const memory = arrayMemory(new Uint8Array(0x4000));
  memory.write(0x1000, Uint8Array.from(more.code ?? [0xeb, 0xfe]));
  return crashScreen(outcome, {
    registers: fakeRegisters({ gprs: { rip: 0x1000n }, ...state }),
    memory,
    exits: more.exits ?? [],
    summary: "after 3 exits in 1.0 ms",
    ...(more.notes === undefined ? {} : { notes: more.notes }),
  });
}

const exitsOf = (count: number): RecordedExit[] =>
  Array.from({ length: count }, (_, i) => ({
    number: i + 1,
    exit: { kind: "pioOut", port: i, size: 1, count: 1, data: Uint8Array.of(i) },
    bytes: 1,
  }));

describe("crashScreen()", () => {
  test("says why, shows registers, the code at RIP and the last exits, in this order", () => {
    const lines = screen({ kind: "timeout" }, {}, { exits: exitsOf(2) });
    const order = [
      "vmexit: time limit reached after 3 exits",
      "EAX=",
      "CS ",
      "GDT ",
      "CR0=",
      "Code at RIP",
      "Last exits",
    ];
    const at = order.map((start) => lines.findIndex((line) => line.startsWith(start)));
    expect(at).toEqual(at.toSorted((a, b) => a - b));
    expect(at).not.toContain(-1);
    expect(lines).toContain("  00001000  ebfe                  jmp short 0x1000");
    expect(lines.at(-1)).toBe("         2  pioOut port=0x1 size=1 data=01");
  });

  test("fits one screen in every width of code, however much there is to say", () => {
    const notes = ["A note that is rather long, so that it needs two lines where there is hardly room for one."];
    for (const state of [{}, { controls: { cr0: 1n }, segments: { cs: { db: 1 as const } } }, LONG]) {
      for (const kind of ["tripleFault", "timeout"] as const) {
        const lines = screen({ kind }, state, { exits: exitsOf(16), notes });
        expect(lines.length).toBeLessThanOrEqual(SCREEN.lines);
        expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(SCREEN.columns);
        expect(lines.filter((line) => line.includes("pioOut")).length).toBeGreaterThanOrEqual(2);
      }
    }
  });

  test("shows sixteen registers of 64 bits in long mode, and says where code is not mapped", () => {
    const lines = screen({ kind: "timeout" }, LONG);
    expect(lines.join("\n")).toContain("R15=0000000000000000  RIP=0000000000001000");
    expect(lines).toContain("  nothing is mapped at 0x1000");
  });

  test("makes one line of a polling loop", () => {
    const poll: RecordedExit["exit"] = { kind: "pioIn", port: 0x3fd, size: 1, count: 1, data: new Uint8Array(1) };
    const exits = [4, 5, 6].map((number) => ({ number, exit: poll, bytes: 1 }));
    expect(screen({ kind: "timeout" }, {}, { exits }).at(-1)).toBe("         6  pioIn port=0x3fd size=1  (3 times)");
  });

  test("names the flags that are set", () => {
    const lines = screen({ kind: "timeout" }, { gprs: { rip: 0x1000n, rflags: 0x246n } });
    expect(lines.find((line) => line.includes("EFL="))).toEndWith("[PF ZF IF]");
  });
});

describe("explainOutcome()", () => {
  const scene = (state: FakeState = {}) => ({
    registers: fakeRegisters(state),
    memory: arrayMemory(new Uint8Array(0x1000)),
  });

  test("of a triple fault blames an IDT without handlers, and tells the last page fault's address", () => {
    const { details } = explainOutcome(
      { kind: "tripleFault" },
      scene({ controls: { cr0: 1n, cr2: 0xdead0000n }, idt: { base: 0n, limit: 0 } }),
    );
    expect(details).toContain("The IDT at 0x0 has limit 0x0: no handlers in it.");
    expect(details).toContain("CR2 = 0xdead0000: the last page fault was for this address.");
  });

  test("of a triple fault on kvm_amd says that the registers are those of a reset", () => {
    const { details } = explainOutcome(
      { kind: "tripleFault" },
      scene({ gprs: { rip: 0xfff0n }, segments: { cs: { selector: 0xf000, base: 0xffff0000n } } }),
    );
    expect(details[1]).toBe("KVM on AMD has reset the vCPU since: these registers are not the guest's.");
    expect(details).toHaveLength(3);
  });

  test("of an entry failure gives the engine's reason and the rule that the state breaks", () => {
    const exit = {
      kind: "failEntry",
      hardwareReason: 0x80000021n,
      cpu: 0,
      explanation: "invalid guest state",
    } as const;
    const { title, details } = explainOutcome({ kind: "failed", exit }, scene({ controls: { cr0: 0x80000000n } }));
    expect(title).toBe("the processor refused to enter the guest");
    expect(details[0]).toBe("Hardware reason 0x80000021: invalid guest state.");
    expect(details[1]).toStartWith("CR0.PG is 1 and CR0.PE is 0 (Intel SDM");
  });

  test("of an internal error shows the instruction the engine could not emulate", () => {
    const instruction = Uint8Array.of(0x0f, 0x58, 0xc1);
    const { title, details } = explainOutcome(
      { kind: "failed", exit: { kind: "internalError", suberror: 1, name: "emulation", data: [4n], instruction } },
      scene(),
    );
    expect(title).toBe("the engine gave up: emulation");
    expect(details[0]).toBe("It cannot emulate the instruction at RIP: 0f58c1. The soft backend may.");
  });

  test("of an unknown exit gives its number", () => {
    const { title } = explainOutcome({ kind: "failed", exit: { kind: "unknown", reason: 77 } }, scene());
    expect(title).toBe("an exit vmexit does not know: reason 77");
  });
});
