import { describe, expect, test } from "bun:test";
import { DeviceError, DisposedError } from "../../src/errors.ts";
import type { Exit } from "../../src/exit.ts";
import type { Outcome } from "../../src/outcome.ts";
import { Vm, type VmOptions } from "../../src/vm.ts";
import { FakeBackend, type FakeVcpu, type Scripted } from "./fake-backend.ts";

const OUT: Exit = { kind: "pioOut", port: 0x80, size: 1, count: 1, data: Uint8Array.of(1) };
const HLT: Exit = { kind: "hlt" };
const SLICE_END: Exit = { kind: "interrupted", by: "timeout" };

/** A VM whose vCPUs make the given exits. */
function scripted(scripts: readonly (readonly Scripted[])[], options: VmOptions = {}): { vm: Vm; engines: FakeVcpu[] } {
  const backend = new FakeBackend();
  const vm = new Vm(backend, { memoryBytes: 0, ...options });
  for (const _ of scripts) vm.createVcpu();
  const engines = backend.vms[0]?.vcpus as FakeVcpu[];
  for (const [i, script] of scripts.entries()) engines[i]?.script.push(...script);
  return { vm, engines };
}

const collector = () => {
  const seen: string[] = [];
  return { seen, note: (exit: Exit, vcpu: { id: number }) => void seen.push(`${vcpu.id} ${exit.kind}`) };
};

describe("vm.run()", () => {
  const ENDS: readonly [Exit, Outcome][] = [
    [HLT, { kind: "halted" }],
    [{ kind: "shutdown" }, { kind: "tripleFault" }],
    [{ kind: "systemEvent", type: 1, name: "shutdown", data: [] }, { kind: "poweredOff" }],
    [{ kind: "systemEvent", type: 2, name: "reset", data: [] }, { kind: "reset" }],
    ...(
      [
        { kind: "systemEvent", type: 3, name: "crash", data: [] },
        { kind: "unknown", reason: 99 },
        { kind: "memoryFault", flags: 0n, gpa: 0, bytes: 4096 },
        { kind: "failEntry", hardwareReason: 7n, cpu: 0, explanation: "" },
        { kind: "internalError", suberror: 1, name: "emulation failure", data: [], instruction: new Uint8Array(0) },
      ] as const
    ).map((exit) => [exit, { kind: "failed", exit }] as [Exit, Outcome]),
  ];
  for (const [exit, outcome] of ENDS) {
    test(`ends as ${outcome.kind} at ${exit.kind}${"name" in exit ? ` "${exit.name}"` : ""}, and hands the exit on`, async () => {
      using vm = scripted([[OUT, exit]]).vm;
      const result = await vm.run();
      expect(result.outcome).toEqual(outcome);
      expect(result.exit).toEqual(exit);
      expect(result.exits).toBe(2);
      expect(result.vcpu).toBe(vm.vcpus[0] as never);
    });
  }

  test("goes on after exits that ask for nothing or that nobody claimed", async () => {
    const { seen, note } = collector();
    const quiet: Exit[] = [
      OUT,
      { kind: "pioIn", port: 1, size: 1, count: 1, data: Uint8Array.of(0xff) },
      { kind: "mmioRead", gpa: 0x1000, data: Uint8Array.of(0xff) },
      { kind: "mmioWrite", gpa: 0x1000, data: Uint8Array.of(0xff) },
      { kind: "irqWindow" },
      { kind: "ioapicEoi", vector: 1 },
      { kind: "busLock" },
      { kind: "notify", contextInvalid: false },
      { kind: "dirtyRingFull" },
    ];
    using vm = scripted([[...quiet, HLT]]).vm;
    const result = await vm.run({ onExit: (exit, vcpu) => note(exit, vcpu) as undefined });
    expect(result.outcome).toEqual({ kind: "halted" });
    expect(seen).toEqual([...quiet, HLT].map(({ kind }) => `0 ${kind}`));
  });

  test('goes on after HLT when onExit returns "handled", and ends as aborted when it returns "stop"', async () => {
    using vm = scripted([[HLT, HLT, OUT]]).vm;
    const result = await vm.run({ onExit: (exit) => (exit.kind === "hlt" ? "handled" : "stop") });
    expect(result.outcome).toEqual({ kind: "aborted" });
    expect(result.exits).toBe(3);
  });

  test("takes the deadline away again when onExit throws", async () => {
    const { vm, engines } = scripted([[OUT]]);
    using _vm = vm;
    const failure = new Error("no such port");
    const run = vm.run({
      onExit: () => {
        throw failure;
      },
    });
    await expect(run).rejects.toBe(failure);
    expect(engines[0]?.deadline).toBeUndefined();
  });

  test("takes the deadline away again when a device throws, names the device, and can be run again", async () => {
    const { vm, engines } = scripted([[OUT, HLT]]);
    using _vm = vm;
    using _mapping = vm.pio.map(0x80, 1, {
      name: "post code",
      read: () => {},
      write: () => {
        throw new Error("stuck");
      },
    });
    await expect(vm.run()).rejects.toThrow(DeviceError);
    expect(engines[0]?.deadline).toBeUndefined();
    expect((await vm.run()).outcome).toEqual({ kind: "halted" });
  });

  test("ends with what a device stopped it with, before the guest is entered again", async () => {
    const { vm, engines } = scripted([[OUT, OUT, OUT]]);
    using _vm = vm;
    vm.pio.map(0x80, 1, { name: "switch", read: () => {}, write: () => vm.stop({ kind: "debugExit", status: 3 }) });
    const result = await vm.run();
    expect(result.outcome).toEqual({ kind: "debugExit", status: 3 });
    expect(engines[0]?.script.length).toBe(2);
    expect(vm.outcome).toEqual({ kind: "debugExit", status: 3 });
  });

  test("keeps the first reason when two stop it", async () => {
    using vm = scripted([[OUT]]).vm;
    vm.pio.map(0x80, 1, {
      name: "switch",
      read: () => {},
      write: () => {
        vm.stop({ kind: "reset" });
        vm.stop({ kind: "poweredOff" });
      },
    });
    expect((await vm.run()).outcome).toEqual({ kind: "reset" });
  });

  test("counts exits that devices answered against maxExits", async () => {
    const { vm, engines } = scripted([[OUT, OUT, OUT, OUT]]);
    using _vm = vm;
    vm.pio.map(0x80, 1, { name: "sink", read: () => {}, write: () => {} });
    const result = await vm.run({ maxExits: 3 });
    expect([result.outcome, result.exits, engines[0]?.script.length]).toEqual([{ kind: "maxExits" }, 3, 1]);
    expect((await vm.run({ maxExits: 0 })).exits).toBe(0);
  });

  test("limits instructions on every vCPU and lifts the limit afterwards", async () => {
    const { vm, engines } = scripted([[{ kind: "interrupted", by: "maxInstructions" }], []]);
    using _vm = vm;
    const run = vm.run({ maxInstructions: 1000 });
    expect(engines.map((engine) => engine.instructionLimit)).toEqual([1000, 1000]);
    expect((await run).outcome).toEqual({ kind: "maxInstructions" });
    expect(engines.map((engine) => engine.instructionLimit)).toEqual([undefined, undefined]);
  });

  test("gives vCPUs their turns slice by slice, and passes over those in HLT", async () => {
    const { seen, note } = collector();
    using vm = scripted([
      [OUT, SLICE_END, HLT],
      [OUT, SLICE_END, OUT, SLICE_END, OUT, HLT],
    ]).vm;
    const result = await vm.run({ onExit: (exit, vcpu) => note(exit, vcpu) as undefined });
    expect(seen).toEqual(["0 pioOut", "1 pioOut", "0 hlt", "1 pioOut", "1 pioOut", "1 hlt"]);
    expect(result.outcome).toEqual({ kind: "halted" });
    expect(result.vcpu.id).toBe(1);
  });

  test("gives a vCPU its turns that was made while the VM ran, with the instruction limit of the others", async () => {
    const { vm, engines } = scripted([[OUT, SLICE_END, OUT, HLT]]);
    using _vm = vm;
    const { seen, note } = collector();
    const result = await vm.run({
      maxInstructions: 1000,
      onExit: (exit, vcpu) => {
        note(exit, vcpu);
        if (vm.vcpus.length > 1) return undefined;
        vm.createVcpu();
        engines[1]?.script.push(OUT, HLT);
        return undefined;
      },
    });
    expect(seen).toEqual(["0 pioOut", "1 pioOut", "1 hlt", "0 pioOut", "0 hlt"]);
    expect(result.outcome).toEqual({ kind: "halted" });
    expect(engines.map((engine) => engine.instructionLimit)).toEqual([undefined, undefined]);
  });

  test("goes on without a vCPU that onExit disposes, and ends as halted when the others sleep", async () => {
    using vm = scripted([[HLT], [SLICE_END, OUT, OUT]]).vm;
    const { seen, note } = collector();
    const result = await vm.run({
      onExit: (exit, vcpu) => {
        note(exit, vcpu);
        if (exit.kind === "pioOut") vcpu[Symbol.dispose]();
        return undefined;
      },
    });
    expect(seen).toEqual(["0 hlt", "1 pioOut"]);
    expect(result.outcome).toEqual({ kind: "halted" });
  });

  test("is refused as DisposedError when onExit disposes the last vCPU", async () => {
    using vm = scripted([[OUT, OUT]]).vm;
    const run = vm.run({ onExit: (_, vcpu) => void vcpu[Symbol.dispose]() });
    await expect(run).rejects.toThrow(DisposedError);
  });

  test("wakes a vCPU in HLT when another's exit queues an interrupt for it", async () => {
    const { vm, engines } = scripted([
      [HLT, OUT, HLT],
      [SLICE_END, OUT, SLICE_END, HLT],
    ]);
    using _vm = vm;
    const outs: number[] = [];
    await vm.run({
      onExit: (exit, vcpu) => {
        if (exit.kind === "pioOut") outs.push(vcpu.id);
        if (exit.kind === "pioOut" && vcpu.id === 1) vm.vcpus[0]?.interrupt(0x20);
        return undefined;
      },
    });
    expect(outs).toEqual([1, 0]);
    expect(engines[0]?.injected).toEqual([0x20]);
  });

  for (const irqchip of ["full", "split"] as const) {
    test(`ends as halted with a ${irqchip} irqchip when every vCPU sleeps with interrupts off, and not before`, async () => {
      const { vm, engines } = scripted([[SLICE_END, SLICE_END, SLICE_END]], { irqchip });
      using _vm = vm;
      const engine = engines[0] as FakeVcpu;
      engine.mpState = "halted";
      engine.rflags = 0x202n;
      engine.script[1] = () => {
        engine.rflags = 2n;
        return SLICE_END;
      };
      const result = await vm.run({ timeoutMs: 5000 });
      expect(result.outcome).toEqual({ kind: "halted" });
      expect(engine.script.length).toBe(1);
    });
  }

  test("refuses a VM without a vCPU, and a vCPU that was disposed is none", async () => {
    using vm = scripted([[]]).vm;
    vm.vcpus[0]?.[Symbol.dispose]();
    await expect(vm.run()).rejects.toThrow(RangeError);
  });

  test("is refused as DisposedError when onExit disposes the VM", async () => {
    const { vm } = scripted([[OUT, OUT]]);
    const run = vm.run({
      onExit: () => {
        vm[Symbol.dispose]();
        return undefined;
      },
    });
    await expect(run).rejects.toThrow(DisposedError);
  });

  test("is refused as DisposedError when the VM is disposed between two slices", async () => {
    const { vm } = scripted([[SLICE_END, SLICE_END]]);
    const run = vm.run();
    setImmediate(() => vm[Symbol.dispose]());
    await expect(run).rejects.toThrow(DisposedError);
  });

  test("ends as aborted without entering the guest when the signal is aborted already", async () => {
    const { vm, engines } = scripted([[OUT]]);
    using _vm = vm;
    const result = await vm.run({ signal: AbortSignal.abort() });
    expect([result.outcome, engines[0]?.script.length]).toEqual([{ kind: "aborted" }, 1]);
  });

  test("ends as timeout at once with a time limit of 0", async () => {
    using vm = scripted([[SLICE_END, SLICE_END]]).vm;
    expect((await vm.run({ timeoutMs: 0 })).outcome).toEqual({ kind: "timeout" });
  });

  test("forgets the outcome of the run before", async () => {
    using vm = scripted([[HLT, { kind: "shutdown" }]]).vm;
    await vm.run();
    expect(vm.outcome).toEqual({ kind: "halted" });
    expect((await vm.run()).outcome).toEqual({ kind: "tripleFault" });
  });
});

describe("vm.exits()", () => {
  test("yields what no device answers, HLT too, and goes on behind it", async () => {
    using vm = scripted([[OUT, HLT, OUT, { kind: "shutdown" }]]).vm;
    const kinds: string[] = [];
    for await (const exit of vm.exits()) {
      kinds.push(exit.kind);
      if (exit.kind === "shutdown") break;
    }
    expect(kinds).toEqual(["pioOut", "hlt", "pioOut", "shutdown"]);
  });

  test("takes the deadline away when the loop is left, by break or by a throw", async () => {
    for (const leave of ["break", "throw"]) {
      const { vm, engines } = scripted([[OUT, OUT]]);
      using _vm = vm;
      const loop = async () => {
        for await (const _ of vm.exits()) {
          if (leave === "break") break;
          throw new Error("left");
        }
      };
      await loop().catch(() => {});
      expect(engines[0]?.deadline).toBeUndefined();
    }
  });

  test("leaves no deadline armed while the loop's body may wait, and arms it again for the run", async () => {
    const { vm, engines } = scripted([[OUT, OUT]]);
    using _vm = vm;
    const engine = engines[0] as FakeVcpu;
    const armed: boolean[] = [];
    engine.script[1] = () => {
      armed.push(engine.deadline !== undefined);
      return OUT;
    };
    for await (const _ of vm.exits({ maxExits: 2 })) expect(engine.deadline).toBeUndefined();
    expect(armed).toEqual([true]);
  });

  test("returns the result when a limit ends it", async () => {
    using vm = scripted([[OUT, OUT, OUT]]).vm;
    const exits = vm.exits({ maxExits: 2 });
    const steps = [await exits.next(), await exits.next(), await exits.next()];
    expect(steps.map(({ done }) => done)).toEqual([false, false, true]);
    expect(steps[2]?.value).toMatchObject({ outcome: { kind: "maxExits" }, exits: 2 });
  });

  test("ends when the loop's body stops the VM", async () => {
    using vm = scripted([[OUT, OUT]]).vm;
    let count = 0;
    for await (const _ of vm.exits()) {
      count++;
      vm.stop();
    }
    expect(count).toBe(1);
  });

  test("refuses limits that mean nothing", async () => {
    using vm = scripted([[OUT]]).vm;
    await expect(vm.exits({ timeoutMs: -1 }).next()).rejects.toThrow("timeoutMs");
  });
});
