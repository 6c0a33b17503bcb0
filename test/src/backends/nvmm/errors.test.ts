import { afterEach, describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import { openNvmm } from "../../../../src/backends/nvmm/backend.ts";
import { libraryPaths, NvmmSystem } from "../../../../src/backends/nvmm/system.ts";
import type { NvmmVcpu } from "../../../../src/backends/nvmm/vcpu.ts";
import type { NvmmVm } from "../../../../src/backends/nvmm/vm.ts";
import { BackendError, CapabilityError, DisposedError, SyscallError } from "../../../../src/errors.ts";
import { openPeer, type PeerOption, peerLibrary } from "../../../peers/libnvmm/build.ts";
import { missing, openRig, PEER_SYSTEMS, skipped } from "./peers.ts";

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("Nothing was thrown");
}

test("openNvmm() without a library to load names what it tried", () => {
  const error = thrown(() => openNvmm({ library: "/nonexistent/libnvmm.so" })) as BackendError;
  expect(error).toBeInstanceOf(BackendError);
  expect([error.backend, error.message]).toEqual(["nvmm", expect.stringContaining('"/nonexistent/libnvmm.so"')]);
  expect(error.cause).toBeInstanceOf(AggregateError);
});

test("openNvmm() of a library that is none of libnvmm's names it", () => {
  expect(thrown(() => openNvmm({ library: "libm.so.6" }))).toBeInstanceOf(BackendError);
});

test.skipIf(process.platform !== "linux")(
  "libraryPaths() refuses a system without NVMM by name, unless told a library",
  () => {
    const { VMEXIT_LIBNVMM: before } = process.env;
    try {
      delete process.env.VMEXIT_LIBNVMM;
      expect(() => libraryPaths(undefined)).toThrow(/Cannot use NVMM on linux.*VMEXIT_LIBNVMM/);
      process.env.VMEXIT_LIBNVMM = "/some/libnvmm.so";
      expect(libraryPaths(undefined)).toEqual(["/some/libnvmm.so"]);
      expect(libraryPaths("/other.so")).toEqual(["/other.so"]);
    } finally {
      if (before === undefined) delete process.env.VMEXIT_LIBNVMM;
      else process.env.VMEXIT_LIBNVMM = before;
    }
  },
);

describe.each(PEER_SYSTEMS)(`NVMM errors on %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const fresh = peerLibrary(system, "errors-init");
  const init = openPeer(fresh);
  const rig = openRig(system, "errors");
  const { peer, host } = rig;
  const set: PeerOption[] = [];
  const option = (name: PeerOption, value: number) => {
    set.push(name);
    peer.option(name, value);
  };
  afterEach(() => {
    for (const name of set.splice(0)) peer.option(name, 0);
    for (const name of ["initErrno", "version", "stateSize"] as const) init.option(name, 0);
    init.reset();
    expect(peer.violation()).toBe("");
  });

  test.each([
    [2, "ENOENT", /load the module/],
    [6, "ENXIO", /load the module/],
    [13, "EACCES", /"nvmm" group/],
    [system === "netbsd" ? 75 : 78, system === "netbsd" ? "EPROGMISMATCH" : "ENOSYS", /different releases/],
  ])("nvmm_init() failing with %d is a SyscallError %s with its remedy", (errno, code, remedy) => {
    init.option("initErrno", errno);
    const error = thrown(() => new NvmmSystem([fresh])) as SyscallError;
    expect(error).toBeInstanceOf(SyscallError);
    expect([error.call, error.errno, error.code]).toEqual(["nvmm_init()", errno, code]);
    expect(error.remedy).toMatch(remedy);
  });

  test.each([
    ["version", 1],
    ["version", 5],
    ["version", system === "netbsd" ? 3 : 2],
    ["stateSize", 1024],
  ] as const)("a kernel that reports another %s, %d, is refused by name", (name, value) => {
    init.option(name, value);
    const error = thrown(() => new NvmmSystem([fresh])) as BackendError;
    expect(error).toBeInstanceOf(BackendError);
    expect(error.message).toContain(name === "version" ? `version ${value}` : `state of ${value} bytes`);
    expect(error.remedy).toMatch(/version 2 \(NetBSD.*version 3 \(DragonFly/);
  });

  test("the machine beyond the host's last is refused with ENOBUFS, and none leaks", () => {
    option("maxMachines", 2);
    using first = host.createVm();
    {
      using second = host.createVm();
      const error = thrown(() => host.createVm()) as SyscallError;
      expect([error.call, error.code]).toEqual(["nvmm_machine_create()", "ENOBUFS"]);
      expect([first.disposed, second.disposed]).toEqual([false, false]);
    }
    using third = host.createVm();
    expect((third.engine as NvmmVm).machineId).toBe(1);
  });

  test("a vCPU id twice is EBUSY, one beyond the limit EINVAL", () => {
    using vm = host.createVm();
    const engine = vm.engine as NvmmVm;
    using vcpu = engine.createVcpu(3);
    expect((thrown(() => engine.createVcpu(3)) as SyscallError).code).toBe("EBUSY");
    expect((thrown(() => engine.createVcpu(100_000)) as SyscallError).code).toBe("EINVAL");
    expect(vcpu.id).toBe(3);
  });

  test("a run refused with EINVAL is a SyscallError that names bad events, and the vCPU runs on", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, asm.real16`hlt`.bytes);
    vcpu.enterMode("real16", { entry: 0x1000 });
    option("runErrno", 22);
    const error = thrown(() => vcpu.run()) as SyscallError;
    expect([error.call, error.code]).toEqual(["nvmm_vcpu_run()", "EINVAL"]);
    expect(error.remedy).toContain("event");
    expect(vcpu.run().kind).toBe("hlt");
  });

  test("an exception vector above 31 comes back as EINVAL from the run", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    using vcpu = (vm.engine as NvmmVm).createVcpu(0);
    vcpu.injectException(77);
    expect((thrown(() => vcpu.run()) as SyscallError).code).toBe("EINVAL");
  });

  test.each([4, 35])("a run interrupted around a suspend (errno %d) just goes on", (errno) => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, asm.real16`hlt`.bytes);
    vcpu.enterMode("real16", { entry: 0x1000 });
    option("runErrno", errno);
    expect(vcpu.run().kind).toBe("hlt");
  });

  test("a handler that throws inside libnvmm is thrown to the caller of run(), with nothing of the instruction done", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    using vcpu: NvmmVcpu = (vm.engine as NvmmVm).createVcpu(0);
    vm.memory.write(
      0x1000,
      asm.real16`mov bl, [0]
      hlt`.bytes,
    );
    const { registers } = vcpu;
    registers.writeSegment("cs", { ...registers.readSegment("cs"), base: 0n, selector: 0 });
    registers.writeSegment("ds", { ...registers.readSegment("ds"), base: 0xf0000n, selector: 0xf000 });
    registers.writeGpr(16, 0x1000n);
    registers.writeGpr(3, 0x11n);
    const mistake = new Error("the device broke");
    vcpu.answerDirectly(() => {
      throw mistake;
    });
    expect(thrown(() => vcpu.run())).toBe(mistake);
    expect([registers.readGpr(16), registers.readGpr(3)]).toEqual([0x1000n, 0x11n]);
    vcpu.answerDirectly(({ data }) => {
      data[0] = 0x22;
      return true;
    });
    expect(vcpu.run().kind).toBe("hlt");
    expect(registers.readGpr(3)).toBe(0x22n);
  });

  test("everything refuses its use after dispose by name", () => {
    const vm = host.createVm({ memoryBytes: 0x20000 });
    const engine = vm.engine as NvmmVm;
    const vcpu = engine.createVcpu(0);
    const memory = engine.allocate(4096);
    vcpu[Symbol.dispose]();
    vcpu[Symbol.dispose]();
    expect(() => vcpu.run()).toThrow(DisposedError);
    expect(() => vcpu.registers.readGpr(0)).toThrow(DisposedError);
    expect(() => vcpu.registers.writeGpr(0, 1n)).toThrow(DisposedError);
    expect(() => vcpu.kick()).toThrow(DisposedError);
    memory[Symbol.dispose]();
    expect(memory.bytes.length).toBe(0);
    expect(() =>
      engine.mapSlot(9, { gpa: 0x100000, memory, offset: 0, bytes: 4096, readOnly: false, logDirty: false }),
    ).toThrow(DisposedError);
    vm[Symbol.dispose]();
    vm[Symbol.dispose]();
    expect(() => engine.createVcpu(1)).toThrow(DisposedError);
    expect(() => engine.allocate(4096)).toThrow(DisposedError);
  });

  test("what NVMM cannot do is refused by capability", () => {
    expect(host.capabilities).toMatchObject({ irqchip: false, pit: false, dirtyLog: false, msrFilter: false });
    const engine = rig.backend.createVm();
    using _ = engine;
    expect(() => engine.dirtyLog(0)).toThrow(CapabilityError);
    expect(() => engine.setIrqLine(1, true)).toThrow(CapabilityError);
    expect(() => engine.signalMsi({ address: 0xfee00000, data: 0 })).toThrow(CapabilityError);
    expect(() => rig.backend.createVm({ irqchip: "full" })).toThrow(CapabilityError);
    expect(() => rig.backend.createVm({ msrExits: { filter: [] } })).toThrow(CapabilityError);
    using vcpu = engine.createVcpu(0);
    expect(() => vcpu.debug({ singleStep: true })).toThrow(CapabilityError);
    expect(() => vcpu.registers.writeMpState("halted")).toThrow(CapabilityError);
  });

  test("CPUID changes beyond what NVMM's masks can say are refused by leaf", () => {
    using vm = host.createVm();
    const table = host.supportedCpuid();
    const many = Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [`0x4000${(0x100 + i).toString(16)}`, { eax: 1 }]),
    );
    expect(() => vm.createVcpu(0, { cpuid: many })).toThrow(/changes to 4\d CPUID leaves/);
    const leaf = table.find(({ subleaf }) => subleaf === 1)?.leaf as number;
    expect(() => vm.createVcpu(0, { cpuid: { [`${leaf}.1`]: { eax: 0x12345678 } } })).toThrow(/single sub-leaves/);
    expect(vm.vcpus.length).toBe(0);
  });
});
