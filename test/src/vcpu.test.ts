import { describe, expect, test } from "bun:test";
import { CapabilityError, DisposedError } from "../../src/errors.ts";
import type { Exit } from "../../src/exit.ts";
import type { Vcpu } from "../../src/vcpu.ts";
import { Vm } from "../../src/vm.ts";
import { FakeBackend, type FakeVcpu } from "./fake-backend.ts";

const OUT: Exit = { kind: "pioOut", port: 0x80, size: 1, count: 1, data: Uint8Array.of(1) };

function oneVcpu(changes: ConstructorParameters<typeof FakeBackend>[0] = {}): { vm: Vm; vcpu: Vcpu; engine: FakeVcpu } {
  const backend = new FakeBackend(changes);
  const vm = new Vm(backend, { memoryBytes: 0 });
  const vcpu = vm.createVcpu();
  return { vm, vcpu, engine: backend.vms[0]?.vcpus[0] as FakeVcpu };
}

describe("Vcpu.run()", () => {
  test("returns what no device claims, and counts every exit", () => {
    const { vm, vcpu, engine } = oneVcpu();
    engine.script.push(OUT, OUT, { kind: "hlt" });
    vm.pio.map(0x80, 1, { name: "sink", read: () => {}, write: () => {} });
    expect(vcpu.run()).toEqual({ kind: "hlt" });
    expect(vcpu.exits).toBe(3);
  });

  test("asks the signal again after each exit that a device answered", () => {
    const { vm, vcpu, engine } = oneVcpu();
    const controller = new AbortController();
    engine.script.push(OUT, OUT);
    vm.pio.map(0x80, 1, { name: "sink", read: () => {}, write: () => controller.abort() });
    expect(vcpu.run({ signal: controller.signal })).toEqual({ kind: "interrupted", by: "abort" });
    expect(engine.script.length).toBe(1);
  });

  test("sets limits before the first entry and lifts them afterwards, also when a device throws", () => {
    const { vm, vcpu, engine } = oneVcpu();
    engine.script.push(() => {
      expect([engine.deadline !== undefined, engine.instructionLimit]).toEqual([true, 10]);
      return OUT;
    });
    vm.pio.map(0x80, 1, {
      name: "broken",
      read: () => {},
      write: () => {
        throw new Error("stuck");
      },
    });
    expect(() => vcpu.run({ timeoutMs: 1000, maxInstructions: 10 })).toThrow("stuck");
    expect([engine.deadline, engine.instructionLimit]).toEqual([undefined, undefined]);
  });

  test("refuses maxInstructions by name where the backend does not count", () => {
    const { vcpu, engine } = oneVcpu({ instructionCount: false });
    expect(() => vcpu.run({ maxInstructions: 5 })).toThrow(CapabilityError);
    expect(engine.log).toEqual([]);
  });

  test("leaves an unlimited run without any call to set limits", () => {
    const { vcpu, engine } = oneVcpu();
    vcpu.run();
    expect(engine.log).toEqual([]);
  });

  test("is refused as DisposedError when a device disposes the VM", () => {
    const { vm, vcpu, engine } = oneVcpu();
    engine.script.push(OUT, OUT);
    vm.pio.map(0x80, 1, { name: "suicide", read: () => {}, write: () => vm[Symbol.dispose]() });
    expect(() => vcpu.run({ timeoutMs: 1000 })).toThrow(DisposedError);
  });
});

describe("Vcpu.interrupt()", () => {
  test("injects at once when the guest can take it, and asks for a window for the next", () => {
    const { vcpu, engine } = oneVcpu();
    vcpu.interrupt(0x20);
    vcpu.interrupt(0x21);
    engine.script.push(
      () => {
        expect([engine.injected, engine.windowRequested]).toEqual([[0x20], true]);
        engine.interruptReady = true;
        return { kind: "irqWindow" };
      },
      () => {
        expect([engine.injected, engine.windowRequested]).toEqual([[0x20, 0x21], false]);
        return { kind: "hlt" };
      },
    );
    expect(vcpu.run()).toEqual({ kind: "hlt" });
    expect([vcpu.pendingInterrupts, vcpu.exits]).toEqual([[], 1]);
  });

  test("keeps the window's exit from a script that did not ask, and gives it to one that did", () => {
    const { vcpu, engine } = oneVcpu();
    engine.interruptReady = false;
    vcpu.interrupt(0x20);
    vcpu.requestInterruptWindow(true);
    engine.script.push({ kind: "irqWindow" });
    expect(vcpu.run()).toEqual({ kind: "irqWindow" });
    vcpu.requestInterruptWindow(false);
    engine.script.push({ kind: "irqWindow" }, { kind: "hlt" });
    expect(vcpu.run()).toEqual({ kind: "hlt" });
    expect(vcpu.pendingInterrupts).toEqual([0x20]);
  });

  for (const vector of [-1, 256, 1.5, Number.NaN]) {
    test(`refuses vector ${vector}`, () => {
      expect(() => oneVcpu().vcpu.interrupt(vector)).toThrow(RangeError);
    });
  }

  test("holds 256 interrupts and refuses one more, so that no device fills memory", () => {
    const { vcpu } = oneVcpu();
    for (let i = 0; i < 256; i++) vcpu.interrupt(i);
    expect(() => vcpu.interrupt(0)).toThrow("256");
    expect(vcpu.pendingInterrupts.length).toBe(256);
  });
});

describe("Vcpu requests", () => {
  test("exception() hands vector and error code on, and refuses vectors that are none", () => {
    const { vcpu, engine } = oneVcpu();
    vcpu.exception(14, 2);
    vcpu.exception(6);
    expect(engine.log).toEqual(["exception 14 2", "exception 6 undefined"]);
    for (const vector of [-1, 32, 0.5]) expect(() => vcpu.exception(vector)).toThrow(RangeError);
  });

  test("debug() refuses what the backend lacks, by name, and more than four breakpoints", () => {
    const lacking = oneVcpu({ singleStep: false, hardwareBreakpoints: false }).vcpu;
    expect(() => lacking.debug({ singleStep: true })).toThrow("single step");
    expect(() => lacking.debug({ breakpoints: [{ address: 0n, on: "execute" }] })).toThrow("hardware breakpoints");
    lacking.debug({});
    const breakpoints = Array.from({ length: 5 }, () => ({ address: 0n, on: "execute" }) as const);
    expect(() => oneVcpu().vcpu.debug({ breakpoints })).toThrow(RangeError);
  });

  test("translate() is refused by name where the backend cannot", () => {
    expect(() => oneVcpu({ translate: false }).vcpu.translate(0n)).toThrow("address translation");
    expect(oneVcpu().vcpu.translate(0x1234n)).toBe(0x1234);
  });

  test("restoreState() refuses another backend's state, naming both", () => {
    const { vcpu, engine } = oneVcpu();
    expect(() => vcpu.restoreState({ backend: "kvm", parts: {} })).toThrow(/kvm backend on soft/);
    vcpu.restoreState(vcpu.saveState());
    expect(engine.log).toEqual(["restore"]);
  });

  test("observers see every exit before devices do, in order, until they are disposed", () => {
    const { vm, vcpu, engine } = oneVcpu();
    const seen: string[] = [];
    vm.pio.map(0x80, 1, { name: "sink", read: () => {}, write: () => void seen.push("device") });
    const first = vm.observe((exit) => void seen.push(`first ${exit.kind}`));
    using _second = vm.observe((exit, by) => void seen.push(`second ${exit.kind} ${by.id}`));
    engine.script.push(OUT);
    vcpu.run();
    expect(seen).toEqual(["first pioOut", "second pioOut 0", "device", "first hlt", "second hlt 0"]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    seen.length = 0;
    vcpu.run();
    expect(seen).toEqual(["second hlt 0"]);
  });

  test("dispose reaches the engine once, and consoles say what it is", () => {
    const { vcpu, engine } = oneVcpu();
    expect(Bun.inspect(vcpu)).toBe("Vcpu 0 (soft)");
    vcpu[Symbol.dispose]();
    vcpu[Symbol.dispose]();
    expect([engine.disposals, vcpu.disposed, Bun.inspect(vcpu)]).toEqual([1, true, "Vcpu 0 (soft, disposed)"]);
  });
});
