import { describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import type { VcpuState } from "../../../../src/backend.ts";
import type { Exit } from "../../../../src/exit.ts";
import { GPR_NAMES, SEGMENT_NAMES } from "../../../../src/registers.ts";
import { type KvmGuest, kvmGuest, noKvm } from "./guest.ts";
import { LibcTap } from "./libc-tap.ts";

const OUTS = asm.real16`
  again:
    inc ax
    out 0x80, ax
    jmp again`;

const everything = ({ vcpu: { registers } }: KvmGuest) => ({
  gprs: GPR_NAMES.map((name) => registers[name]),
  segments: SEGMENT_NAMES.map((name) => registers[name]),
  tables: [registers.gdt, registers.idt],
  control: [registers.cr0, registers.cr2, registers.cr3, registers.cr4, registers.efer, registers.xcr0],
  debug: [registers.dr0, registers.dr3, registers.dr7],
  msrs: [registers.msr("LSTAR"), registers.msr("STAR"), registers.msr("KERNEL_GS_BASE"), registers.msr("SYSENTER_EIP")],
  xmm: [0, 7, 15].map((i) => registers.xmm(i)),
  fpu: registers.fpu,
  events: registers.events,
});

/** Gives every kind of state a value of its own. */
function fill({ vcpu: { registers } }: KvmGuest): void {
  GPR_NAMES.slice(0, 16).forEach((name, i) => {
    registers[name] = 0x1000n * BigInt(i + 1);
  });
  registers.fs = { ...registers.fs, base: 0x12340n, selector: 0x1234 };
  registers.gdt = { base: 0x6000n, limit: 0x3f };
  registers.set({ cr2: 0xabcn, dr0: 0x1234n, dr3: 0x5678n });
  registers.xcr0 = 3n;
  registers.setMsr("LSTAR", 0x7fff_0000_1000n);
  registers.setMsr("STAR", 0x0023_0010_0000_0000n);
  registers.setMsr("KERNEL_GS_BASE", 0x5000n);
  registers.setMsr("SYSENTER_EIP", 0x6000n);
  for (const i of [0, 7, 15]) registers.setXmm(i, new Uint8Array(16).fill(i + 1));
  registers.fpu = { fcw: 0x27f, fsw: 0, ftw: 0, mxcsr: 0x1fa0 };
}

describe.skipIf(noKvm !== "")(`saveState() and restoreState()${noKvm}`, () => {
  for (const irqchip of ["none", "full", "split"] as const) {
    test(`carry every register into another vCPU, which goes on alike (irqchip ${irqchip})`, () => {
      using first = kvmGuest(OUTS, { irqchip });
      first.next();
      fill(first);
      const state = first.vcpu.saveState();
      using second = kvmGuest(OUTS, { irqchip });
      second.next();
      second.next();
      second.vcpu.restoreState(state);
      expect(everything(second)).toEqual(everything(first));
      expect(second.next()).toEqual(first.next());
      expect(second.vcpu.registers.rax).toBe(first.vcpu.registers.rax);
    });
  }

  test("carry the local APIC and the MP state with an irqchip", () => {
    using first = kvmGuest(OUTS, { irqchip: "full" });
    first.vcpu.registers.mpState = "halted";
    first.vcpu.registers.cr8 = 5n;
    const state = first.vcpu.saveState();
    expect(Object.keys(state.parts)).toContain("lapic");
    using second = kvmGuest(OUTS, { irqchip: "full" });
    second.vcpu.restoreState(state);
    expect([second.vcpu.registers.mpState, second.vcpu.registers.cr8]).toEqual(["halted", 5n]);
  });

  test("leave local APIC and MP state out where there is no irqchip", () => {
    using guest = kvmGuest(OUTS);
    const { parts } = guest.vcpu.saveState();
    expect(Object.keys(parts)).toEqual(["sregs", "xcrs", "xsave", "regs", "debugregs", "events", "msrs"]);
  });

  test("a state saved twice without a run between is the same, but for the clock", () => {
    using guest = kvmGuest(OUTS);
    fill(guest);
    const [one, two] = [guest.vcpu.saveState(), guest.vcpu.saveState()];
    for (const part of Object.keys(one.parts)) if (part !== "msrs") expect(two.parts[part]).toEqual(one.parts[part]);
  });

  test("a state whose parts have other sizes, or lack one, is refused by name and changes nothing", () => {
    using guest = kvmGuest(OUTS);
    fill(guest);
    const state = guest.vcpu.saveState();
    const before = everything(guest);
    const { xsave, regs, ...rest } = state.parts;
    for (const [parts, name] of [
      [{ ...state.parts, xsave: new Uint8Array(100) }, '"xsave" has 100 bytes'],
      [{ ...rest, xsave }, '"regs" has 0 bytes'],
      [{ ...rest, regs: regs?.subarray(1) }, '"xsave" has 0 bytes'],
    ] as [VcpuState["parts"], string][]) {
      expect(() => guest.vcpu.restoreState({ backend: "kvm", parts })).toThrow(TypeError);
      expect(() => guest.vcpu.restoreState({ backend: "kvm", parts })).toThrow(name);
    }
    expect(everything(guest)).toEqual(before);
  });

  test("every MSR that was saved is taken back", () => {
    using guest = kvmGuest(OUTS);
    fill(guest);
    const { parts } = guest.vcpu.saveState();
    using second = kvmGuest(OUTS);
    second.vcpu.restoreState({ backend: "kvm", parts });
    const again = second.vcpu.saveState().parts.msrs as Uint8Array;
    expect(again.length).toBe(parts.msrs?.length as number);
    // All but TSC, the last entry of 16 bytes, which goes on counting.
    expect(again.subarray(0, -16)).toEqual(parts.msrs?.subarray(0, -16) as Uint8Array);
  });

  test("registers written but not run are part of the state", () => {
    using guest = kvmGuest(OUTS);
    guest.vcpu.registers.rbx = 0x77n;
    guest.vcpu.registers.cr2 = 0x88n;
    const state = guest.vcpu.saveState();
    guest.vcpu.registers.rbx = 0n;
    guest.vcpu.restoreState(state);
    expect([guest.vcpu.registers.rbx, guest.vcpu.registers.cr2]).toEqual([0x77n, 0x88n]);
  });

  test("a state saved inside REP OUTSB, with registers looked at before, loses no byte and tells none twice", () => {
    const program = asm.real16`
      mov si, text
      mov cx, 4
      mov dx, 0x80
      cld
      rep outsb
      hlt
    text: db "abcd"`;
    using first = kvmGuest(program);
    const bytes: number[] = [];
    const note = (exit: Exit): boolean => {
      if (exit.kind === "pioOut") bytes.push(...exit.data);
      return exit.kind === "pioOut";
    };
    note(first.vcpu.enter());
    void first.vcpu.registers.rip;
    const state = first.vcpu.saveState();
    using second = kvmGuest(program);
    second.vcpu.restoreState(state);
    while (note(second.next()));
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe("abcd");
  });

  test("restoreState() says which MSR the host refuses, unless it holds the value already", () => {
    using tap = new LibcTap();
    using first = kvmGuest(OUTS);
    using second = kvmGuest(OUTS);
    const same = second.vcpu.saveState();
    fill(first);
    const other = first.vcpu.saveState();
    tap.answer = (name) => (name === "KVM_SET_MSRS" ? 0 : undefined);
    expect(() => second.vcpu.restoreState(other)).toThrow(RangeError);
    expect(() => second.vcpu.restoreState(other)).toThrow("SYSENTER_EIP (0x176) to 0x6000");
    tap.answer = undefined;
    second.vcpu.restoreState(same);
  });

  test("an MSR that the host refuses does not keep those behind it from being restored", () => {
    using tap = new LibcTap();
    using guest = kvmGuest(OUTS);
    const state = guest.vcpu.saveState();
    const saved = ((state.parts.msrs as Uint8Array).length - 8) / 16;
    let calls = 0;
    tap.answer = (name) => (name === "KVM_SET_MSRS" && ++calls === 3 ? 0 : undefined);
    guest.vcpu.restoreState(state);
    expect(calls).toBe(saved);
  });
});
