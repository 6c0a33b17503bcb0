import { afterEach, describe, expect, test } from "bun:test";
import { asm, type Program } from "../../../../src/asm/index.ts";
import type { Vcpu } from "../../../../src/vcpu.ts";
import type { Vm } from "../../../../src/vm.ts";
import { missing, openRig, PEER_SYSTEMS, skipped } from "./peers.ts";

describe.each(PEER_SYSTEMS)(`NvmmRegisters on %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const { host, peer } = openRig(system, "registers");
  afterEach(() => expect(peer.violation()).toBe(""));

  function boot(program: Program): { vm: Vm; vcpu: Vcpu } & Disposable {
    const vm = host.createVm({ memoryBytes: 0x20000 });
    vm.memory.write(0x1000, program.bytes);
    const vcpu = vm.createVcpu();
    vcpu.enterMode("real16", { entry: 0x1000 });
    return { vm, vcpu, [Symbol.dispose]: () => vm[Symbol.dispose]() };
  }

  test("a new vCPU shows NVMM's reset state without a system call", () => {
    using vm = host.createVm();
    const { registers } = vm.createVcpu();
    peer.clear();
    expect([registers.rip, registers.rdx, registers.rflags]).toEqual([0xfff0n, 0x600n, 2n]);
    expect(registers.cs).toMatchObject({ selector: 0xf000, base: 0xffff0000n, limit: 0xffff, present: 1, unusable: 0 });
    expect([registers.cr0, registers.xcr0, registers.dr6, registers.dr7]).toEqual([
      0x60000010n,
      1n,
      0xffff0ff0n,
      0x400n,
    ]);
    expect(registers.fpu).toMatchObject({ fcw: 0x40, mxcsr: 0x1f80 });
    expect(peer.counter("syscalls")).toBe(0);
  });

  test("every group reads back as written, through a run", () => {
    using guest = boot(asm.real16`hlt`);
    const { registers } = guest.vcpu;
    registers.set({ r15: 0xfedcba9876543210n, cr2: 0x1234n, cr8: 5n, dr0: 0x4000n, dr3: 0x5000n });
    registers.gs = { ...registers.gs, base: 0x7000n, selector: 0x700, limit: 0xffffffff, g: 1 };
    registers.gdt = { base: 0x3000n, limit: 0x2f };
    registers.setMsr("SYSENTER_EIP", 0xdeadn);
    registers.setMsr("KERNEL_GS_BASE", 0xbeefn);
    registers.setSt(
      2,
      Uint8Array.from({ length: 10 }, (_, i) => i + 1),
    );
    registers.setXmm(
      15,
      Uint8Array.from({ length: 16 }, (_, i) => 255 - i),
    );
    registers.fpu = { fcw: 0x37f, fsw: 0, ftw: 0, mxcsr: 0x1fa0 };
    expect(guest.vcpu.run().kind).toBe("hlt");
    expect([registers.r15, registers.cr2, registers.cr8]).toEqual([0xfedcba9876543210n, 0x1234n, 5n]);
    expect([registers.dr0, registers.dr3]).toEqual([0x4000n, 0x5000n]);
    expect(registers.gs).toMatchObject({ base: 0x7000n, selector: 0x700, limit: 0xffffffff, g: 1 });
    expect(registers.gdt).toEqual({ base: 0x3000n, limit: 0x2f });
    expect([registers.msr("SYSENTER_EIP"), registers.msr("KERNEL_GS_BASE"), registers.msr("GS_BASE")]).toEqual([
      0xdeadn,
      0xbeefn,
      0x7000n,
    ]);
    expect(registers.st(2)).toEqual(Uint8Array.from({ length: 10 }, (_, i) => i + 1));
    expect(registers.xmm(15)).toEqual(Uint8Array.from({ length: 16 }, (_, i) => 255 - i));
    expect(registers.fpu.mxcsr).toBe(0x1fa0);
    expect(() => registers.ymm(0)).toThrow(RangeError);
  });

  test("an XSAVE image with an MXCSR mask of 0, which NVMM would take to zero MXCSR, keeps MXCSR", () => {
    using guest = boot(asm.real16`hlt`);
    const { registers } = guest.vcpu;
    const image = registers.xsave;
    new DataView(image.buffer).setUint32(24, 0x1f81, true);
    image.fill(0, 28, 32);
    registers.xsave = image;
    guest.vcpu.run();
    expect(registers.fpu.mxcsr).toBe(0x1f81);
  });

  test("components that XSTATE_BV leaves out get their initial state", () => {
    using guest = boot(asm.real16`hlt`);
    const { registers } = guest.vcpu;
    registers.setXmm(1, new Uint8Array(16).fill(9));
    const image = registers.xsave;
    image[512] = 0;
    registers.xsave = image;
    expect(registers.xmm(1)).toEqual(new Uint8Array(16));
    expect(registers.fpu).toMatchObject({ fcw: 0x37f, mxcsr: 0x1f80 });
    expect(() => {
      registers.xsave = new Uint8Array(100);
    }).toThrow(RangeError);
  });

  test("what is written while an IN waits comes after its answer", () => {
    using guest = boot(asm.real16`in al, 0x60
      hlt`);
    const exit = guest.vcpu.run();
    if (exit.kind !== "pioIn") throw new Error("no pioIn");
    exit.data[0] = 0x11;
    guest.vcpu.registers.rbx = 7n;
    expect([guest.vcpu.registers.rax & 0xffn, guest.vcpu.registers.rip]).toEqual([0x11n, 0x1002n]);
    guest.vcpu.registers.rax = 0x22n;
    expect(guest.vcpu.run().kind).toBe("hlt");
    expect([guest.vcpu.registers.rax, guest.vcpu.registers.rbx]).toEqual([0x22n, 7n]);
  });

  test("IN of each size changes as much of RAX as the processor does", () => {
    using guest = boot(asm.real16`in al, 0x60
      in ax, 0x60
      in eax, 0x60
      hlt`);
    const { vcpu } = guest;
    vcpu.registers.rax = 0x1122334455667788n;
    const seen: bigint[] = [];
    for (let exit = vcpu.run(); exit.kind !== "hlt"; exit = vcpu.run()) {
      seen.push(vcpu.registers.rax);
      if (exit.kind === "pioIn") exit.data.fill(0xa5);
    }
    expect([...seen, vcpu.registers.rax]).toEqual([
      0x1122334455667788n,
      0x11223344556677a5n,
      0x112233445566a5a5n,
      0xa5a5a5a5n,
    ]);
  });

  test("saved state restored into another vCPU goes on from there", () => {
    using guest = boot(asm.real16`mov ebx, 0x1234
      out 0x80, al
      mov ecx, ebx
      hlt`);
    guest.vcpu.run();
    guest.vcpu.registers.apicBase = 0xfee01900n;
    const state = guest.vcpu.saveState();
    using copy = host.createVm({ memoryBytes: 0x20000 });
    copy.memory.write(0, guest.vm.memory.read(0, 0x20000));
    const vcpu = copy.createVcpu();
    vcpu.restoreState(state);
    expect(vcpu.run().kind).toBe("hlt");
    expect([vcpu.registers.rcx, vcpu.registers.apicBase]).toEqual([0x1234n, 0xfee01900n]);
    expect(() => vcpu.restoreState({ backend: "nvmm", parts: { state: new Uint8Array(5) } })).toThrow(TypeError);
  });

  test("events show what waits and the interrupt shadow, and can be set", () => {
    using guest = boot(asm.real16`sti
      hlt`);
    const { vcpu } = guest;
    const { registers } = vcpu;
    vcpu.nmi();
    expect(registers.events.nmi).toEqual({ injected: false, pending: true, masked: false });
    const events = registers.events;
    events.nmi.pending = false;
    events.interrupt.shadow = 1;
    registers.events = events;
    expect(registers.events.interrupt.shadow).toBe(1);
    expect(registers.events.nmi.pending).toBe(false);
    expect(registers.mpState).toBe("runnable");
  });

  test("translate() walks the guest's tables and gives undefined where they end", () => {
    using vm = host.createVm({ memoryBytes: 0x200000 });
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, asm.long64`mov [0xdead], al`.bytes);
    vcpu.enterMode("long64", { entry: 0x1000 });
    expect(vcpu.translate(0x1234n)).toBe(0x1234);
    expect(vcpu.translate(0xffff800000000000n)).toBeUndefined();
  });
});
