import { afterEach, describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import type { NvmmVm } from "../../../../src/backends/nvmm/vm.ts";
import { CapabilityError, MemoryError } from "../../../../src/errors.ts";
import { missing, openRig, PEER_SYSTEMS, skipped } from "./peers.ts";

describe.each(PEER_SYSTEMS)(`NvmmVm on %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const { host, peer, backend } = openRig(system, "vm");
  afterEach(() => expect(peer.violation()).toBe(""));

  test("memory written between allocate() and mapSlot() is there for the guest", () => {
    using vm = backend.createVm();
    using memory = vm.allocate(0x2000);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    memory.bytes.set(
      asm.real16`mov al, [0x1100]
      hlt`.bytes,
      0x1000,
    );
    memory.bytes[0x1100] = 0x42;
    vm.mapSlot(0, { gpa: 0, memory, offset: 0, bytes: 0x2000, readOnly: false, logDirty: false });
    using vcpu = vm.createVcpu(0);
    vcpu.registers.writeSegment("cs", { ...vcpu.registers.readSegment("cs"), base: 0n, selector: 0 });
    vcpu.registers.writeGpr(16, 0x1000n);
    expect(vcpu.run().kind).toBe("hlt");
    expect(vcpu.registers.readGpr(0)).toBe(0x42n);
  });

  test("ranges that NVMM's kernel would refuse never reach libnvmm, which would abort", () => {
    using vm = backend.createVm();
    using memory = vm.allocate(0x4000);
    const slot = { gpa: 0, memory, offset: 0, bytes: 0x1000, readOnly: false, logDirty: false };
    const maxRam = backend.capabilities.raw.max_ram as number;
    expect(() => vm.mapSlot(0, { ...slot, gpa: 0x123 })).toThrow(RangeError);
    expect(() => vm.mapSlot(0, { ...slot, offset: 0x10 })).toThrow(RangeError);
    expect(() => vm.mapSlot(0, { ...slot, bytes: 0 })).toThrow(RangeError);
    expect(() => vm.mapSlot(0, { ...slot, offset: 0x4000 })).toThrow(RangeError);
    expect(() => vm.mapSlot(0, { ...slot, bytes: 0x5000 })).toThrow(RangeError);
    expect(() => vm.mapSlot(0, { ...slot, gpa: maxRam })).toThrow(MemoryError);
    expect(() => vm.mapSlot(0, { ...slot, logDirty: true })).toThrow(CapabilityError);
    const foreign = { bytes: memory.bytes, write: () => {}, [Symbol.dispose]: () => {} };
    expect(() => vm.mapSlot(0, { ...slot, memory: foreign })).toThrow(TypeError);
    vm.mapSlot(0, slot);
    expect(() => vm.mapSlot(1, { ...slot, offset: 0x1000 })).toThrow(MemoryError);
    vm.unmapSlot(0);
    vm.unmapSlot(0);
  });

  test("NetBSD's last page below max_ram, which could not be unmapped again, is refused; DragonFly's is not", () => {
    using vm = host.createVm({ memoryBytes: 0 });
    const gpa = (backend.capabilities.raw.max_ram as number) - 4096;
    if (system === "netbsd") expect(() => vm.memory.add({ gpa, bytes: 4096 })).toThrow(MemoryError);
    // KVM underneath the peer ends earlier than DragonFly's 127 TiB: only mapping without a vCPU can be tried.
    else vm.memory.add({ gpa, bytes: 4096 })[Symbol.dispose]();
  });

  test("a guest beyond 4 GiB is several blocks, each of them host memory of its own", () => {
    using vm = host.createVm({ memoryBytes: 0x20000, noReserve: true });
    vm.memory.add({ gpa: 2 ** 32, bytes: 2 ** 30 });
    vm.memory.add({ gpa: 2 ** 32 + 2 ** 30, bytes: 0x10000 });
    const at = 2 ** 32 + 2 ** 30 + 0x5000;
    vm.memory.writeU32(at, 0x12345678);
    expect(vm.memory.readU32(at)).toBe(0x12345678);
    expect(() => (vm.engine as NvmmVm).allocate(2 ** 32 + 4096)).toThrow(RangeError);
    expect(backend.machineInfo((vm.engine as NvmmVm).machineId)).toMatchObject({
      memoryBytes: 0x20000 + 2 ** 30 + 0x10000,
      pid: process.pid,
    });
  });

  test("the 33rd block of memory of one machine is refused with ENOBUFS, and given back", () => {
    using vm = backend.createVm();
    const blocks = Array.from({ length: 32 }, () => vm.allocate(4096));
    expect(() => vm.allocate(4096)).toThrow(/ENOBUFS.*32 blocks/);
    blocks[0]?.[Symbol.dispose]();
    blocks.push(vm.allocate(4096));
    for (const block of blocks) block[Symbol.dispose]();
  });

  test("a read-only slot is readable and makes stores exits; its alias may be writable", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    const rom = vm.memory.add({ gpa: 0xf0000, bytes: 0x1000, readOnly: true });
    vm.memory.alias({ gpa: 0x40000, of: rom });
    vm.memory.write(0xf0000, Uint8Array.of(0x77));
    const program = asm.real16`mov ax, 0xf000
      mov ds, ax
      mov bl, [0]
      mov byte [0], 1
      inc byte [0]
      mov ax, 0x4000
      mov ds, ax
      mov byte [1], 2
      hlt`;
    vm.memory.write(0x1000, program.bytes);
    const vcpu = vm.createVcpu();
    vcpu.enterMode("real16", { entry: 0x1000 });
    expect(vcpu.run()).toEqual({ kind: "mmioWrite", gpa: 0xf0000, data: Uint8Array.of(1) });
    expect(vcpu.run()).toEqual({ kind: "mmioWrite", gpa: 0xf0000, data: Uint8Array.of(0x78) });
    expect(vcpu.run().kind).toBe("hlt");
    expect(vcpu.registers.rbx & 0xffn).toBe(0x77n);
    expect(vm.memory.read(0xf0000, 2)).toEqual(Uint8Array.of(0x77, 2));
  });

  test("setReadOnly() turns memory into ROM and back between two runs, and keeps its content", () => {
    using vm = host.createVm({ memoryBytes: 0x20000 });
    const ram = vm.memory.add({ gpa: 0x40000, bytes: 0x1000 });
    const program = asm.real16`mov ax, 0x4000
      mov ds, ax
      again: inc byte [0]
      out 0x80, al
      jmp again`;
    vm.memory.write(0x1000, program.bytes);
    const vcpu = vm.createVcpu();
    vcpu.enterMode("real16", { entry: 0x1000 });
    const engine = vm.engine as NvmmVm;
    expect([vcpu.run().kind, ram.data[0]]).toEqual(["pioOut", 1]);
    engine.setReadOnly(ram.slot, true);
    expect(vcpu.run()).toEqual({ kind: "mmioWrite", gpa: 0x40000, data: Uint8Array.of(2) });
    expect([vcpu.run().kind, ram.data[0]]).toEqual(["pioOut", 1]);
    engine.setReadOnly(ram.slot, false);
    expect([vcpu.run().kind, ram.data[0]]).toEqual(["pioOut", 2]);
    expect(() => engine.setReadOnly(77, true)).toThrow(RangeError);
  });

  test("several machines run side by side, and dispose in any order frees each", () => {
    const vms = Array.from({ length: 4 }, (_, i) => {
      const vm = host.createVm({ memoryBytes: 0x2000 });
      vm.memory.write(0x1000, Uint8Array.of(0xb0, i, 0xf4)); // MOV AL, i; HLT
      const vcpu = vm.createVcpu();
      vcpu.enterMode("real16", { entry: 0x1000 });
      return vm;
    });
    const ids = vms.map((vm) => (vm.engine as NvmmVm).machineId);
    expect(new Set(ids).size).toBe(4);
    expect(vms.map((vm) => vm.vcpus[0]?.run().kind)).toEqual(["hlt", "hlt", "hlt", "hlt"]);
    expect(vms.map((vm) => Number(vm.vcpus[0]?.registers.rax) & 0xff)).toEqual([0, 1, 2, 3]);
    for (const index of [2, 0, 3, 1]) vms[index]?.[Symbol.dispose]();
    for (const id of ids) expect(backend.machineInfo(id)).toBeUndefined();
  });

  test("30 machines made and disposed leave descriptors and mappings as they were", async () => {
    const { readdirSync, readFileSync } = await import("node:fs");
    const once = () => {
      using vm = host.createVm({ memoryBytes: 0x2000 });
      vm.memory.write(0x1000, Uint8Array.of(0xf4));
      const vcpu = vm.createVcpu();
      vcpu.enterMode("real16", { entry: 0x1000 });
      vcpu.run();
    };
    const fds = () => readdirSync("/proc/self/fd").length;
    const mappings = () =>
      readFileSync("/proc/self/maps", "utf8")
        .split("\n")
        .filter((line) => !line.includes("[")).length;
    once();
    const before = [fds(), mappings()];
    for (let i = 0; i < 30; i++) once();
    expect(fds()).toBe(before[0] as number);
    expect(mappings()).toBeLessThan((before[1] as number) + 20);
  });

  test("memory that outlives its machine is given back to the host all the same", () => {
    const vm = backend.createVm();
    const memory = vm.allocate(4096);
    vm[Symbol.dispose]();
    memory[Symbol.dispose]();
    expect(memory.bytes.length).toBe(0);
  });
});
