import { describe, expect, test } from "bun:test";
import * as ioctls from "../../../../ffi/kvm/ioctls.ts";
import { libc } from "../../../../ffi/libc.ts";
import { asm } from "../../../../src/asm/index.ts";
import { KvmVcpu, type VcpuHost } from "../../../../src/backends/kvm/vcpu.ts";
import { GPR_NAMES, SEGMENT_NAMES, type VcpuEvents } from "../../../../src/registers.ts";
import { type KvmGuest, kvmGuest, noKvm } from "./guest.ts";
import { LibcTap } from "./libc-tap.ts";

const OUT_FOREVER = asm.real16`
  again:
    inc ax
    out 0x80, al
    jmp again`;

/** A guest whose calls are counted from its first exit on. */
function tapped(): { guest: KvmGuest; tap: LibcTap } & Disposable {
  const tap = new LibcTap();
  try {
    const guest = kvmGuest(OUT_FOREVER);
    // The first exits let the counters of unread exits settle.
    for (let i = 0; i < 3; i++) {
      guest.vcpu.enter();
      void guest.vcpu.registers.rip;
      void guest.vcpu.registers.cs;
    }
    tap.clear();
    return {
      guest,
      tap,
      [Symbol.dispose]: () => {
        tap[Symbol.dispose]();
        guest[Symbol.dispose]();
      },
    };
  } catch (error) {
    tap[Symbol.dispose]();
    throw error;
  }
}

describe.skipIf(noKvm !== "")(`KvmRegisters and system calls${noKvm}`, () => {
  test("reading every general and special register after an exit costs no call but the run that settles an OUT", () => {
    using made = tapped();
    const { guest, tap } = made;
    const { registers } = guest.vcpu;
    guest.vcpu.enter();
    for (const name of [
      ...GPR_NAMES,
      ...SEGMENT_NAMES,
      "gdt",
      "idt",
      "cr0",
      "cr2",
      "cr3",
      "cr4",
      "cr8",
      "efer",
    ] as const)
      void registers[name];
    void registers.apicBase;
    const runs = tap.count("KVM_RUN");
    expect(runs).toBeLessThanOrEqual(2);
    expect(tap.calls).toEqual(new Array(runs).fill("KVM_RUN"));
  });

  test("writing many registers costs no call before the run, and none but KVM_RUN in it", () => {
    using made = tapped();
    const { guest, tap } = made;
    const { registers } = guest.vcpu;
    guest.vcpu.enter();
    void registers.rip;
    tap.clear();
    registers.set({ rax: 0x41n, rbx: 2n, rcx: 3n, rsp: 0x7000n, cr2: 0x1234n });
    registers.ds = { ...registers.ds, selector: 0x300, base: 0x3000n };
    registers.gdt = { base: 0x5000n, limit: 0x27 };
    expect(tap.calls.filter((call) => call !== "KVM_RUN")).toEqual([]);
    tap.clear();
    const exit = guest.vcpu.enter();
    expect(tap.calls).toEqual(["KVM_RUN"]);
    expect(exit).toMatchObject({ kind: "pioOut", data: Uint8Array.of(0x42) });
    expect([registers.rbx, registers.rcx, registers.cr2, registers.ds.base]).toEqual([2n, 3n, 0x1234n, 0x3000n]);
    expect(registers.gdt).toEqual({ base: 0x5000n, limit: 0x27 });
  });

  test("an exit that nobody looks at costs KVM_RUN alone", () => {
    using made = tapped();
    const { guest, tap } = made;
    for (let i = 0; i < 5; i++) guest.vcpu.enter();
    expect(tap.calls).toEqual(new Array(5).fill("KVM_RUN"));
  });

  test("a group that nobody reads for long is stored no more, and the next read still gets the present state", () => {
    using made = tapped();
    const { guest, tap } = made;
    for (let i = 0; i < 40; i++) guest.vcpu.enter();
    expect(guest.kvmVcpu.kvmRun.kvm_valid_regs).toBe(0);
    tap.clear();
    const { rax, cs } = guest.vcpu.registers;
    expect(rax & 0xffffn).toBe(43n);
    expect(cs.selector).toBe(0);
    expect([tap.count("KVM_GET_REGS"), tap.count("KVM_GET_SREGS")]).toEqual([1, 1]);
    // Asked for again, they come with every exit from now on.
    guest.vcpu.enter();
    tap.clear();
    expect(guest.vcpu.registers.rax & 0xffffn).toBe(44n);
    expect(tap.calls.filter((call) => call !== "KVM_RUN")).toEqual([]);
  });
});

/** A second vCPU of the guest's VM, as a host without KVM_CAP_SYNC_REGS would make it. */
function unsynced(guest: KvmGuest, changes: Partial<VcpuHost> = {}): KvmVcpu {
  const fd = libc().ioctl(guest.kvmVm.fd, ioctls.KVM_CREATE_VCPU, 7);
  const host: VcpuHost = {
    runBytes: guest.backend.system.runBytes,
    syncRegs: 0,
    xsaveBytes: 4096,
    irqchip: false,
    ...changes,
  };
  const vcpu = new KvmVcpu(fd, 7, host);
  const { registers } = vcpu;
  const cs = registers.readSegment("cs");
  registers.writeSegment("cs", { ...cs, selector: 0, base: 0n });
  registers.writeGpr(GPR_NAMES.indexOf("rip"), 0x1000n);
  return vcpu;
}

const RAX = GPR_NAMES.indexOf("rax");
const RIP = GPR_NAMES.indexOf("rip");

describe.skipIf(noKvm !== "")(`KvmRegisters without KVM_CAP_SYNC_REGS${noKvm}`, () => {
  test("reads one KVM_GET_REGS per exit, however many registers", () => {
    using tap = new LibcTap();
    using guest = kvmGuest(OUT_FOREVER);
    using vcpu = unsynced(guest);
    vcpu.run();
    void vcpu.registers.readGpr(RIP);
    vcpu.run();
    tap.clear();
    for (let i = 0; i < GPR_NAMES.length; i++) void vcpu.registers.readGpr(i);
    expect(tap.calls.filter((call) => call !== "KVM_RUN")).toEqual(["KVM_GET_REGS"]);
    expect(vcpu.registers.readGpr(RAX) & 0xffn).toBe(2n);
  });

  test("writes are loaded by one KVM_SET_REGS and one KVM_SET_SREGS at the next run, special registers first", () => {
    using tap = new LibcTap();
    using guest = kvmGuest(OUT_FOREVER);
    using vcpu = unsynced(guest);
    vcpu.run();
    for (const i of [RAX, 3, 1, 2]) vcpu.registers.writeGpr(i, 0x41n);
    vcpu.registers.writeControl("cr2", 0x5678n);
    tap.clear();
    expect(vcpu.run()).toMatchObject({ kind: "pioOut", data: Uint8Array.of(0x42) });
    expect(tap.calls).toEqual(["KVM_SET_SREGS", "KVM_SET_REGS", "KVM_RUN"]);
    expect(vcpu.registers.readControl("cr2")).toBe(0x5678n);
  });

  test("never asks the kernel to share registers", () => {
    using guest = kvmGuest(OUT_FOREVER);
    using vcpu = unsynced(guest);
    vcpu.run();
    vcpu.registers.writeGpr(RAX, 1n);
    vcpu.run();
    expect([vcpu.kvmRun.kvm_valid_regs, vcpu.kvmRun.kvm_dirty_regs]).toEqual([0, 0]);
  });

  test("a share of one group alone is not used", () => {
    using guest = kvmGuest(OUT_FOREVER);
    using vcpu = unsynced(guest, { syncRegs: 1 });
    vcpu.run();
    vcpu.registers.readGpr(RAX);
    expect(vcpu.kvmRun.kvm_valid_regs).toBe(0);
  });
});

describe.skipIf(noKvm !== "")(`KvmVcpu and what retires when${noKvm}`, () => {
  test("the first read behind an OUT takes one run that enters no guest, further ones take none", () => {
    using tap = new LibcTap();
    using guest = kvmGuest(OUT_FOREVER);
    guest.vcpu.enter();
    void guest.vcpu.registers.rip;
    guest.vcpu.enter();
    tap.clear();
    for (let i = 0; i < 5; i++) void guest.vcpu.registers.rip;
    expect(tap.calls).toEqual(["KVM_RUN"]);
  });

  test("a string OUT of one element read first does not mislead what is said of a plain OUT after it", () => {
    using guest = kvmGuest(asm.real16`
      mov si, 0x2000
      mov cx, 1
      mov dx, 0x80
      rep outsb
    after_string:
      out 0x81, al
    after_plain:
      hlt`);
    const { registers } = guest.vcpu;
    expect(guest.vcpu.enter()).toMatchObject({ kind: "pioOut", port: 0x80 });
    void registers.rip;
    expect(guest.vcpu.enter()).toMatchObject({ kind: "pioOut", port: 0x81 });
    expect(registers.rip).toBe(0x100dn);
  });
});

describe.skipIf(noKvm !== "")(`KvmRegisters by ioctl${noKvm}`, () => {
  test("an XSAVE image read and written back changes nothing", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    const image = registers.xsave;
    registers.xsave = image;
    expect(registers.xsave).toEqual(image);
    expect(image.length).toBeGreaterThanOrEqual(4096);
  });

  test("an XSAVE image of another size, or with a reserved MXCSR bit, is refused", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    const image = registers.xsave;
    expect(() => {
      registers.xsave = image.subarray(0, 512);
    }).toThrow(RangeError);
    registers.setXmm(0, new Uint8Array(16).fill(1));
    const bad = registers.xsave;
    bad[27] = 0x80;
    expect(() => {
      registers.xsave = bad;
    }).toThrow(expect.objectContaining({ name: "SyscallError", code: "EINVAL", call: "ioctl(KVM_SET_XSAVE)" }));
  });

  test("all 16 XMM registers are kept apart", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    for (let i = 0; i < 16; i++) registers.setXmm(i, new Uint8Array(16).fill(0x10 + i));
    guest.next();
    for (let i = 0; i < 16; i++) expect(registers.xmm(i)).toEqual(new Uint8Array(16).fill(0x10 + i));
    expect(() => registers.xmm(16)).toThrow(RangeError);
    expect(() => registers.setXmm(0, new Uint8Array(15))).toThrow(RangeError);
  });

  test("YMM halves are kept with their XMM halves, and are zero before the first write", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    const value = Uint8Array.from({ length: 32 }, (_, i) => i);
    registers.setXmm(5, value.subarray(0, 16));
    expect(registers.ymm(5)).toEqual(Uint8Array.from({ length: 32 }, (_, i) => (i < 16 ? i : 0)));
    registers.setYmm(6, value);
    guest.next();
    expect(registers.ymm(6)).toEqual(value);
    expect(registers.xmm(6)).toEqual(value.slice(0, 16));
    expect(registers.ymm(5).slice(16)).toEqual(new Uint8Array(16));
  });

  test("ST(i) keeps its 80 bits, and the x87 and SSE control words theirs", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    const one = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f);
    registers.setSt(3, one);
    registers.fpu = { fcw: 0x27f, fsw: 0x3800, ftw: 0x88, mxcsr: 0x1fa0 };
    guest.next();
    expect(registers.st(3)).toEqual(one);
    expect(registers.fpu).toEqual({ fcw: 0x27f, fsw: 0x3800, ftw: 0x88, mxcsr: 0x1fa0 });
    expect(() => registers.st(8)).toThrow(RangeError);
    expect(() => registers.setSt(0, new Uint8Array(8))).toThrow(RangeError);
  });

  test("every segment register reads back as written, hidden part and all", () => {
    using guest = kvmGuest([0xf4], { mode: "prot32" });
    const { registers } = guest.vcpu;
    for (const name of ["ds", "es", "fs", "gs"] as const) {
      const segment = { ...registers[name], selector: 0x10, base: 0x12345678n, limit: 0xfffff, g: 0, avl: 1 } as const;
      registers[name] = segment;
      expect(registers[name]).toEqual(segment);
    }
    guest.next();
    expect(registers.fs).toMatchObject({ base: 0x12345678n, limit: 0xfffff, g: 0, avl: 1, present: 1 });
  });

  test("debug registers are written at the next run and read back", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    registers.set({ dr0: 0x1111n, dr1: 0x2222n, dr2: 0x3333n, dr3: 0xffff800000001000n, dr7: 0x400n });
    guest.next();
    const { dr0, dr1, dr2, dr3, dr7, dr6 } = registers;
    expect([dr0, dr1, dr2, dr3, dr7]).toEqual([0x1111n, 0x2222n, 0x3333n, 0xffff800000001000n, 0x400n]);
    expect(dr6 & 0xffff0ff0n).toBe(0xffff0ff0n);
  });

  test("XCR0 reads back, and a value without bit 0 is refused", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    registers.xcr0 = 7n;
    expect(registers.xcr0).toBe(7n);
    expect(() => {
      registers.xcr0 = 6n;
    }).toThrow(expect.objectContaining({ code: "EINVAL", call: "ioctl(KVM_SET_XCRS)" }));
  });

  test("an MSR and the special register that holds it too never undo each other", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    registers.fs = { ...registers.fs, base: 0x7000n };
    registers.setMsr("GS_BASE", 0x8000n);
    expect(registers.fs.base).toBe(0x7000n);
    expect(registers.gs.base).toBe(0x8000n);
    expect(registers.msr("FS_BASE")).toBe(0x7000n);
    registers.efer |= 1n;
    expect(registers.msr("EFER") & 1n).toBe(1n);
    guest.next();
    expect([registers.fs.base, registers.gs.base, registers.efer & 1n]).toEqual([0x7000n, 0x8000n, 1n]);
  });

  test("an MSR the host has not is refused by name or number", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    expect(() => registers.msr(0x12345678)).toThrow("MSR 0x12345678");
    expect(() => registers.setMsr(0x12345678, 1n)).toThrow("0x1");
    expect(() => registers.setMsr("EFER", 1n << 63n)).toThrow("EFER (0xc0000080)");
  });

  test("MP state is runnable without an irqchip, and other states are refused with what to do", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const { registers } = guest.vcpu;
    expect(registers.mpState).toBe("runnable");
    expect(() => {
      registers.mpState = "halted";
    }).toThrow(expect.objectContaining({ code: "EINVAL", remedy: expect.stringContaining("irqchip") }));
  });

  test("MP state can be set and read with an irqchip", () => {
    using guest = kvmGuest(OUT_FOREVER, { irqchip: "full" });
    const { registers } = guest.vcpu;
    const second = guest.vm.createVcpu();
    expect(second.registers.mpState).toBe("uninitialized");
    for (const state of ["halted", "runnable"] as const) {
      registers.mpState = state;
      expect(registers.mpState).toBe(state);
    }
  });

  test("an MP state that is none is refused", () => {
    using guest = kvmGuest(OUT_FOREVER);
    expect(() => guest.kvmVcpu.registers.writeMpState("asleep" as "halted")).toThrow(RangeError);
  });
});

describe.skipIf(noKvm !== "")(`KvmRegisters events${noKvm}`, () => {
  const events = (guest: KvmGuest, change: (events: VcpuEvents) => void): VcpuEvents => {
    const now = guest.vcpu.registers.events;
    change(now);
    guest.vcpu.registers.events = now;
    return guest.vcpu.registers.events;
  };

  test("an injected fault reads back with its vector and error code", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const back = events(guest, (e) => {
      e.exception = { injected: true, pending: false, vector: 13, hasErrorCode: true, errorCode: 0x18 };
    });
    expect(back.exception).toMatchObject({ injected: true, vector: 13, hasErrorCode: true, errorCode: 0x18 });
  });

  test("a pending fault is not lost where KVM knows only injected ones", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const back = events(guest, (e) => {
      e.exception = { injected: false, pending: true, vector: 6, hasErrorCode: false, errorCode: 0 };
    });
    expect(back.exception).toMatchObject({ injected: true, vector: 6 });
  });

  test("an injected interrupt, an NMI mask and an interrupt shadow read back", () => {
    using guest = kvmGuest(OUT_FOREVER);
    const back = events(guest, (e) => {
      e.interrupt = { injected: true, vector: 0x31, soft: false, shadow: 1 };
      e.nmi = { injected: false, pending: false, masked: true };
    });
    expect(back.interrupt).toMatchObject({ injected: true, vector: 0x31 });
    expect(back.interrupt.shadow).not.toBe(0);
    expect(back.nmi.masked).toBe(true);
  });
});
