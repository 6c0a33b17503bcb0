import { describe, expect, test } from "bun:test";
import { CapabilityError, DisposedError } from "../../src/errors.ts";
import { Vm, type VmOptions } from "../../src/vm.ts";
import { FakeBackend } from "./fake-backend.ts";

const GIB = 2 ** 30;
/** Slots of a VM with so much memory, without the memory. */
function slotsOf(memoryBytes: number): [gpa: number, bytes: number][] {
  const backend = new FakeBackend({ maxSlots: 100 });
  const engine = backend.createVm();
  engine.allocate = (bytes) => ({
    bytes: { subarray: () => ({ length: bytes }) } as never,
    write: () => {},
    [Symbol.dispose]: () => {},
  });
  backend.createVm = () => engine;
  const vm = new Vm(backend, { memoryBytes });
  return vm.memory.slots.map(({ gpa, bytes }) => [gpa, bytes]);
}

describe("Vm memory", () => {
  test("is 1 MiB at 0 unless said otherwise", () => {
    using vm = new Vm(new FakeBackend());
    expect(vm.memory.slots.map(({ gpa, bytes }) => [gpa, bytes])).toEqual([[0, 2 ** 20]]);
  });

  test("ends at 3 GiB and goes on at 4 GiB, in slots of at most 1 GiB", () => {
    expect(slotsOf(4096)).toEqual([[0, 4096]]);
    expect(slotsOf(3 * GIB).length).toBe(3);
    expect(slotsOf(3 * GIB + 4096).at(-1)).toEqual([4 * GIB, 4096]);
    expect(slotsOf(5 * GIB + 8192)).toEqual([
      [0, GIB],
      [GIB, GIB],
      [2 * GIB, GIB],
      [4 * GIB, GIB],
      [5 * GIB, GIB],
      [6 * GIB, 8192],
    ]);
  });

  test("that the engine refuses leaves neither slot nor engine behind, and the backend to its owner", () => {
    const backend = new FakeBackend();
    const engine = backend.createVm();
    backend.createVm = () => engine;
    engine.mapError = new Error("no");
    expect(() => new Vm(backend)).toThrow("no");
    expect([engine.disposals, engine.memories[0]?.disposals, backend.disposals]).toEqual([1, 1, 0]);
  });
});

describe("Vm options", () => {
  const REFUSED: readonly [VmOptions, ConstructorParameters<typeof FakeBackend>[0], string][] = [
    [{ irqchip: "full" }, { irqchip: false }, "in-kernel irqchip"],
    [{ irqchip: "split" }, { irqchip: false }, "in-kernel irqchip"],
    [{ irqchip: "full", pit: true }, { pit: false }, "in-kernel PIT"],
    [{ msrExits: { invalid: true } }, { msrExits: false }, "MSR exits"],
    [{ msrExits: { filter: [] } }, { msrFilter: false }, "MSR filter"],
    [{ clock: "instructions" }, {}, "a clock of instructions"],
    [{ seed: 1 }, {}, "a seed of random numbers"],
  ];
  for (const [options, changes, capability] of REFUSED) {
    test(`${JSON.stringify(options)} is refused by name where the backend lacks it, before an engine is made`, () => {
      const backend = new FakeBackend(changes);
      expect(() => new Vm(backend, options)).toThrow(CapabilityError);
      expect(() => new Vm(backend, options)).toThrow(capability);
      expect(backend.vms).toEqual([]);
    });
  }

  test("a seed is a whole number from 0 to 2 ** 64 - 1, and the host's clock is there on every backend", () => {
    const backend = new FakeBackend({ deterministic: true });
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 60, -1n, 1n << 64n]) {
      expect(() => new Vm(backend, { seed })).toThrow(RangeError);
    }
    expect(backend.vms).toEqual([]);
    for (const options of [{ seed: 0 }, { seed: (1n << 64n) - 1n }, { clock: "instructions" }] as const) {
      new Vm(backend, options)[Symbol.dispose]();
    }
    new Vm(new FakeBackend(), { clock: "host" })[Symbol.dispose]();
  });

  test("a PIT without the full irqchip is refused", () => {
    for (const irqchip of ["none", "split"] as const) {
      expect(() => new Vm(new FakeBackend(), { pit: true, irqchip })).toThrow(TypeError);
    }
  });
});

describe("Vm.createVcpu()", () => {
  test("takes the lowest id that was never used, and refuses those in use or beyond the limit", () => {
    using vm = new Vm(new FakeBackend({ maxVcpus: 3 }), { memoryBytes: 0 });
    expect([vm.createVcpu(1).id, vm.createVcpu().id]).toEqual([1, 0]);
    vm.vcpus[0]?.[Symbol.dispose]();
    expect(vm.createVcpu().id).toBe(2);
    for (const id of [0, 3, -1, 1.5, Number.NaN]) expect(() => vm.createVcpu(id)).toThrow(RangeError);
    expect(() => vm.createVcpu()).toThrow("ids 0 to 2");
  });

  test("hands the whole CPUID table on only when there are overrides", () => {
    const backend = new FakeBackend();
    using vm = new Vm(backend, { memoryBytes: 0 });
    vm.createVcpu();
    expect(backend.vms[0]?.cpuid).toBeUndefined();
    vm.createVcpu(1, { cpuid: { 0: { eax: 7 } } });
    expect(backend.vms[0]?.cpuid).toEqual([{ leaf: 0, eax: 7, ebx: 2, ecx: 3, edx: 4 }]);
  });
});

describe("Vm.irqLine()", () => {
  test("drives the engine only when its level changes", () => {
    const backend = new FakeBackend();
    using vm = new Vm(backend, { memoryBytes: 0, irqchip: "full" });
    const line = vm.irqLine(4);
    for (const level of [false, true, true, false, false]) line.set(level);
    expect(backend.vms[0]?.lines).toEqual([
      [4, true],
      [4, false],
    ]);
  });

  test("is refused without an irqchip and with a split one, each with its way out", () => {
    using none = new Vm(new FakeBackend(), { memoryBytes: 0 });
    using split = new Vm(new FakeBackend(), { memoryBytes: 0, irqchip: "split" });
    expect(() => none.irqLine(4)).toThrow(/without irqchip.*vcpu\.interrupt\(vector\)/);
    expect(() => split.irqLine(4)).toThrow(/split irqchip.*vm\.signalMsi\(\)/);
  });

  test("refuses lines that are none, and is refused after dispose when it is driven", () => {
    const vm = new Vm(new FakeBackend(), { memoryBytes: 0, irqchip: "full" });
    for (const gsi of [-1, 4096, 0.5]) expect(() => vm.irqLine(gsi)).toThrow(RangeError);
    const line = vm.irqLine(1);
    vm[Symbol.dispose]();
    expect(() => line.set(true)).toThrow(DisposedError);
  });
});

describe("Vm dispose", () => {
  test("disposes vCPUs, engine, memory and an owned backend, each once", () => {
    const backend = new FakeBackend();
    const vm = new Vm(backend, {}, backend);
    vm.createVcpu();
    vm.createVcpu();
    vm[Symbol.dispose]();
    vm[Symbol.dispose]();
    const [engine] = backend.vms;
    expect(engine?.vcpus.map(({ disposals }) => disposals)).toEqual([1, 1]);
    expect([engine?.disposals, engine?.memories[0]?.disposals, backend.disposals, vm.disposed]).toEqual([
      1,
      1,
      1,
      true,
    ]);
  });

  test("goes on with the rest when one part throws, and says so", () => {
    const backend = new FakeBackend();
    const vm = new Vm(backend, {}, backend);
    vm.createVcpu();
    const [engine] = backend.vms;
    Object.assign(engine?.vcpus[0] as object, {
      [Symbol.dispose]: () => {
        throw new Error("stuck");
      },
    });
    expect(() => vm[Symbol.dispose]()).toThrow("stuck");
    expect([engine?.disposals, engine?.memories[0]?.disposals, backend.disposals]).toEqual([1, 1, 1]);
  });

  test("leaves a backend that belongs to somebody else open", () => {
    const backend = new FakeBackend();
    new Vm(backend)[Symbol.dispose]();
    expect(backend.disposals).toBe(0);
  });

  test("refuses later calls as DisposedError", () => {
    const vm = new Vm(new FakeBackend());
    vm[Symbol.dispose]();
    for (const use of [
      () => vm.createVcpu(),
      () => vm.run(),
      () => vm.exits(),
      () => vm.signalMsi({ address: 0, data: 0 }),
    ]) {
      expect(use).toThrow(DisposedError);
    }
  });
});
