import { describe, expect, test } from "bun:test";
import { KVM_CREATE_VCPU } from "../../../../ffi/kvm/ioctls.ts";
import { libc } from "../../../../ffi/libc.ts";
import { asm } from "../../../../src/asm/index.ts";
import { KvmVcpu } from "../../../../src/backends/kvm/vcpu.ts";
import { DisposedError } from "../../../../src/errors.ts";
import type { ExitOf } from "../../../../src/exit.ts";
import { guestStateOf } from "../../../../src/inspect/guest-state.ts";
import { validateState } from "../../../../src/inspect/validate.ts";
import { GPR_NAMES } from "../../../../src/registers.ts";
import { type KvmGuest, kvmGuest, noKvm } from "./guest.ts";
import { LibcTap } from "./libc-tap.ts";

const EINTR = 4;
const EINVAL = 22;
const EFAULT = 14;
const TWO_OUTS = asm.real16`
  out 0x80, al
  out 0x81, al
  hlt`;

/** The vCPU behind a guest where KVM_CAP_SYNC_REGS is not there. */
function unsynced(guest: KvmGuest): KvmVcpu {
  const fd = libc().ioctl(guest.kvmVm.fd, KVM_CREATE_VCPU, 9);
  const vcpu = new KvmVcpu(fd, 9, {
    runBytes: guest.backend.system.runBytes,
    syncRegs: 0,
    xsaveBytes: 4096,
    irqchip: false,
  });
  vcpu.registers.writeSegment("cs", { ...vcpu.registers.readSegment("cs"), selector: 0, base: 0n });
  vcpu.registers.writeGpr(GPR_NAMES.indexOf("rip"), 0x1000n);
  return vcpu;
}

const refusal = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe.skipIf(noKvm !== "")(`KvmVcpu and a state that KVM refuses${noKvm}`, () => {
  for (const sync of [true, false]) {
    const host = sync ? "a host with KVM_CAP_SYNC_REGS" : "a host without it";

    test(`on ${host} every run refuses it until it is mended, and registers show it all the while`, () => {
      using guest = kvmGuest(TWO_OUTS);
      using own = sync ? undefined : unsynced(guest);
      const vcpu = own ?? guest.kvmVcpu;
      expect(vcpu.run()).toMatchObject({ kind: "pioOut", port: 0x80 });
      const cr0 = vcpu.registers.readControl("cr0");
      vcpu.registers.writeControl("cr0", cr0 | (1n << 40n));
      for (let i = 0; i < 3; i++) {
        expect(refusal(() => vcpu.run())).toMatchObject({
          name: "SyscallError",
          code: "EINVAL",
          call: sync ? "ioctl(KVM_RUN)" : "ioctl(KVM_SET_SREGS)",
          remedy: expect.stringContaining("validateState"),
        });
        const [violation] = validateState(guestStateOf(vcpu.registers));
        expect(violation?.what).toBe(`CR0 = 0x${(cr0 | (1n << 40n)).toString(16)} has bit 40 set, which must be 0`);
      }
      vcpu.registers.writeControl("cr0", cr0);
      expect(vcpu.run()).toMatchObject({ kind: "pioOut", port: 0x81 });
    });
  }

  test("general registers written with a refused state are kept", () => {
    using guest = kvmGuest(TWO_OUTS);
    const { registers } = guest.vcpu;
    guest.next();
    registers.rax = 0x5an;
    const { cr4 } = registers;
    registers.cr4 = cr4 | (1n << 63n);
    expect(() => guest.vcpu.run()).toThrow("CR4 = 0x8000000000000000 has reserved bit 63 set");
    expect(registers.rax).toBe(0x5an);
    registers.cr4 = cr4;
    expect(guest.next()).toMatchObject({ port: 0x81, data: Uint8Array.of(0x5a) });
  });

  test("a debug register that KVM refuses is refused again until it is mended", () => {
    using guest = kvmGuest(TWO_OUTS);
    guest.vcpu.registers.dr7 = 1n << 32n;
    for (let i = 0; i < 2; i++) expect(() => guest.vcpu.run()).toThrow("DR7 = 0x100000000 has bit 32 set");
    guest.vcpu.registers.dr7 = 0x400n;
    expect(guest.next().kind).toBe("pioOut");
  });
});

describe.skipIf(noKvm !== "")(`KvmVcpu and KVM_RUN that fails${noKvm}`, () => {
  /** A guest after its first exit, whose next KVM_RUN fails with `errno`, or `failing()` to change that. */
  function failing(errno: number): KvmGuest & { fail(on: boolean): void } {
    let armed = false;
    const tap = new LibcTap((name) => (armed && name === "KVM_RUN" ? errno : undefined));
    const guest = kvmGuest(TWO_OUTS);
    return {
      ...guest,
      fail: (on) => {
        armed = on;
      },
      [Symbol.dispose]: () => {
        tap[Symbol.dispose]();
        guest[Symbol.dispose]();
      },
    };
  }

  test("EINTR that no deadline and no kick explains is interrupted by signal, and the next run goes on", () => {
    using guest = failing(EINTR);
    guest.next();
    guest.fail(true);
    expect(guest.vcpu.enter()).toEqual({ kind: "interrupted", by: "signal" });
    guest.fail(false);
    expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x81 });
  });

  test("EFAULT without a kernel that tells which access it was is an error that names the likely cause", () => {
    using guest = failing(EFAULT);
    guest.next();
    guest.fail(true);
    expect(refusal(() => guest.vcpu.enter())).toMatchObject({
      call: "ioctl(KVM_RUN)",
      code: "EFAULT",
      remedy: expect.stringContaining("host memory is gone"),
    });
  });

  test("any other errno keeps the answer of the exit before for the run that succeeds", () => {
    let armed = false;
    using _tap = new LibcTap((name) => (armed && name === "KVM_RUN" ? EINVAL : undefined));
    using guest = kvmGuest(asm.real16`
      in al, 0x60
      out 0x80, al
      hlt`);
    const exit = guest.vcpu.enter() as ExitOf<"pioIn">;
    exit.data[0] = 0x42;
    armed = true;
    expect(() => guest.vcpu.enter()).toThrow("EINVAL");
    armed = false;
    expect(guest.next()).toMatchObject({ kind: "pioOut", data: Uint8Array.of(0x42) });
  });
});

describe.skipIf(noKvm !== "")(`KvmVcpu exits and answers${noKvm}`, () => {
  test("a shorter array put in the place of data leaves the rest all ones", () => {
    using guest = kvmGuest(asm.real16`
      in eax, 0x60
      hlt`);
    const exit = guest.vcpu.enter() as ExitOf<"pioIn">;
    exit.data = Uint8Array.of(0x11);
    guest.next();
    expect(guest.vcpu.registers.rax & 0xffffffffn).toBe(0xffffff11n);
  });

  test("a longer array put in the place of data is cut to the access", () => {
    using guest = kvmGuest(asm.real16`
      in al, 0x60
      hlt`);
    const exit = guest.vcpu.enter() as ExitOf<"pioIn">;
    exit.data = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55);
    guest.next();
    expect(guest.vcpu.registers.rax & 0xffffn).toBe(0x11n);
  });

  test("an exit that settling another produced is told by the next run, once, and in order", () => {
    using guest = kvmGuest(asm.real16`
      mov si, text
      mov cx, 3
      mov dx, 0x80
      cld
      rep outsb
      hlt
    text: db "abc"`);
    const bytes: number[] = [];
    for (let exit = guest.vcpu.enter(); exit.kind === "pioOut"; exit = guest.vcpu.enter()) {
      bytes.push(...exit.data);
      // Reading registers settles the OUT, which may be at its next element by then.
      void guest.vcpu.registers.rip;
      void guest.vcpu.registers.cs;
    }
    expect(bytes).toEqual([...new TextEncoder().encode("abc")]);
  });

  test("data of an OUT that was settled keeps its bytes for its holder", () => {
    using guest = kvmGuest(asm.real16`
      mov al, 1
      out 0x80, al
      mov al, 2
      out 0x80, al
      hlt`);
    const first = guest.vcpu.enter() as ExitOf<"pioOut">;
    guest.vcpu.registers.rbx = 1n;
    guest.vcpu.enter();
    expect(first.data).toEqual(Uint8Array.of(1));
  });

  test("saveState() with an IN outstanding takes its answer as it stands", () => {
    using guest = kvmGuest(asm.real16`
      in al, 0x60
      hlt`);
    const exit = guest.vcpu.enter() as ExitOf<"pioIn">;
    exit.data[0] = 0x42;
    const state = guest.vcpu.saveState();
    using second = kvmGuest(asm.real16`
      in al, 0x60
      hlt`);
    second.vcpu.restoreState(state);
    expect(second.next().kind).toBe("hlt");
    expect(second.vcpu.registers.rax & 0xffn).toBe(0x42n);
  });
});

describe.skipIf(noKvm !== "")(`KvmVcpu.interruptReady${noKvm}`, () => {
  const SPIN = asm.real16`
    sti
    nop
    out 0x80, al
  here:
    jmp here`;

  test("is false once the script has cleared IF, whatever the last exit said", () => {
    using guest = kvmGuest(SPIN);
    guest.next();
    expect(guest.vcpu.interruptReady).toBe(true);
    guest.vcpu.registers.rflags &= ~0x200n;
    expect(guest.vcpu.interruptReady).toBe(false);
    guest.vcpu.registers.rflags |= 0x200n;
    expect(guest.vcpu.interruptReady).toBe(true);
  });

  test("is false while an interrupt waits, also before the first run", () => {
    using guest = kvmGuest(SPIN);
    expect(guest.vcpu.interruptReady).toBe(false);
    guest.vcpu.registers.rflags |= 0x200n;
    expect(guest.vcpu.interruptReady).toBe(true);
    guest.kvmVcpu.injectInterrupt(0x20);
    expect(guest.vcpu.interruptReady).toBe(false);
  });

  test("is false after an interrupt was injected behind an exit that said the guest can take one", () => {
    using guest = kvmGuest(SPIN);
    guest.next();
    expect(guest.vcpu.interruptReady).toBe(true);
    guest.kvmVcpu.injectInterrupt(0x20);
    expect(guest.vcpu.interruptReady).toBe(false);
  });

  test("is false after restoreState() of a state with an interrupt in flight", () => {
    using guest = kvmGuest(SPIN);
    guest.vcpu.registers.rflags |= 0x200n;
    guest.kvmVcpu.injectInterrupt(0x20);
    const state = guest.vcpu.saveState();
    using second = kvmGuest(SPIN);
    second.vcpu.restoreState(state);
    expect(second.vcpu.interruptReady).toBe(false);
  });

  test("injectInterrupt() with the controllers in the kernel says how interrupts come there", () => {
    using guest = kvmGuest(SPIN, { irqchip: "full" });
    expect(() => guest.kvmVcpu.injectInterrupt(0x20)).toThrow(
      expect.objectContaining({ code: "ENXIO", remedy: expect.stringContaining("irqLine") }),
    );
  });
});

describe.skipIf(noKvm !== "")(`KvmVcpu.kick() and deadlines${noKvm}`, () => {
  test("a kick and a deadline at once yield both, one after the other", () => {
    using guest = kvmGuest(asm.real16`jmp $`);
    const { kvmVcpu } = guest;
    kvmVcpu.setDeadline(performance.now() - 1);
    kvmVcpu.kick();
    const ends = [kvmVcpu.run(), kvmVcpu.run()];
    expect(ends.map((exit) => exit.kind === "interrupted" && exit.by)).toEqual(["kick", "timeout"]);
    kvmVcpu.setDeadline(undefined);
  });

  test("a deadline that passed ends every run until it is moved", () => {
    using guest = kvmGuest(asm.real16`jmp $`);
    guest.kvmVcpu.setDeadline(performance.now() - 1);
    for (let i = 0; i < 3; i++) expect(guest.kvmVcpu.run()).toEqual({ kind: "interrupted", by: "timeout" });
    guest.kvmVcpu.setDeadline(undefined);
  });

  test("a kick survives the run that settles an exit for a register written behind it", () => {
    using guest = kvmGuest(asm.real16`
      in al, 0x60
      hlt`);
    guest.next();
    guest.vcpu.kick();
    guest.vcpu.registers.rbx = 1n;
    expect(guest.vcpu.run()).toEqual({ kind: "interrupted", by: "kick" });
    expect(guest.next().kind).toBe("hlt");
  });

  test("a deadline of one vCPU never ends a run of another", () => {
    using first = kvmGuest(asm.real16`jmp $`);
    using second = kvmGuest(TWO_OUTS);
    first.kvmVcpu.setDeadline(performance.now() + 1);
    expect(first.kvmVcpu.run()).toEqual({ kind: "interrupted", by: "timeout" });
    first.kvmVcpu.setDeadline(performance.now());
    Bun.sleepSync(2);
    second.kvmVcpu.setDeadline(performance.now() + 60_000);
    expect(second.kvmVcpu.run()).toMatchObject({ kind: "pioOut", port: 0x80 });
    second.kvmVcpu.setDeadline(undefined);
    expect(second.kvmVcpu.run()).toMatchObject({ kind: "pioOut", port: 0x81 });
  });

  test("arming costs system calls only when the deadline moves", () => {
    using tap = new LibcTap();
    using guest = kvmGuest(asm.real16`
    again:
      out 0x80, al
      jmp again`);
    guest.kvmVcpu.setDeadline(performance.now() + 60_000);
    guest.kvmVcpu.run();
    tap.clear();
    for (let i = 0; i < 5; i++) guest.kvmVcpu.run();
    expect(tap.calls).toEqual(new Array(5).fill("KVM_RUN"));
    guest.kvmVcpu.setDeadline(undefined);
  });

  test("a second kick before the run is one kick", () => {
    using guest = kvmGuest(TWO_OUTS);
    guest.vcpu.kick();
    guest.vcpu.kick();
    expect(guest.vcpu.run()).toEqual({ kind: "interrupted", by: "kick" });
    expect(guest.vcpu.run().kind).toBe("pioOut");
  });

  test("every call after dispose is refused as DisposedError", () => {
    using guest = kvmGuest(TWO_OUTS);
    const { kvmVcpu } = guest;
    kvmVcpu[Symbol.dispose]();
    kvmVcpu[Symbol.dispose]();
    for (const use of [
      () => kvmVcpu.fd,
      () => kvmVcpu.kvmRun,
      () => kvmVcpu.run(),
      () => kvmVcpu.kick(),
      () => kvmVcpu.interruptReady,
      () => kvmVcpu.injectInterrupt(1),
      () => kvmVcpu.injectNmi(),
      () => kvmVcpu.injectException(6),
      () => kvmVcpu.requestInterruptWindow(true),
      () => kvmVcpu.debug({}),
      () => kvmVcpu.translate(0n),
      () => kvmVcpu.cpuid(),
      () => kvmVcpu.saveState(),
      () => kvmVcpu.registers.readXsave(),
    ]) {
      expect(use).toThrow(DisposedError);
    }
  });
});
