import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { asm } from "../../src/asm/index.ts";
import { DeviceError, DisposedError, GuestStateError } from "../../src/errors.ts";
import type { ExitOf } from "../../src/exit.ts";
import { guestStateOf } from "../../src/inspect/guest-state.ts";
import { validateState } from "../../src/inspect/validate.ts";
import { kvmGuest, noKvm } from "../src/backends/kvm/guest.ts";

const onAmd = existsSync("/sys/module/kvm_amd");
const notAmd = noKvm || (onAmd ? "" : " (skipped: no kvm_amd, whose processor checks this state at entry)");
const onHardware = onAmd || existsSync("/sys/module/kvm_intel");
const notHardware = noKvm || (onHardware ? "" : " (skipped: this software KVM spins in a triple fault)");

const OUTS = asm.real16`
  again:
    out 0x80, al
    inc al
    jmp again`;

describe.skipIf(noKvm !== "")(`a guest that goes wrong${noKvm}`, () => {
  test("a state that KVM refuses ends vm.run() as GuestStateError, naming the bit and the rule", async () => {
    using guest = kvmGuest(OUTS, { mode: "prot32" });
    guest.vcpu.registers.cr0 = (guest.vcpu.registers.cr0 & ~0x60000000n) | 0x20000000n;
    const refusal = await guest.vm.run({ timeoutMs: 1000 }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(refusal).toBeInstanceOf(GuestStateError);
    expect((refusal as GuestStateError).violations.map(({ what }) => what)).toEqual(["CR0.NW is 1 and CR0.CD is 0"]);
  });

  test("code in memory that nothing backs ends vm.run() as failed, with the internal error and its address", async () => {
    using guest = kvmGuest(asm.real16`jmp 0xa000:0`);
    const { outcome, exit } = await guest.vm.run({ timeoutMs: 5000 });
    expect(outcome).toEqual({ kind: "failed", exit: exit as ExitOf<"internalError"> });
    expect(exit).toMatchObject({ kind: "internalError", suberror: 1, name: "emulation failure" });
    expect(guest.vcpu.registers.cs.base + guest.vcpu.registers.rip).toBe(0xa0000n);
  });

  test("after an internal error the guest can be mended and goes on", async () => {
    using guest = kvmGuest(asm.real16`jmp 0xa000:0`);
    await guest.vm.run({ timeoutMs: 5000 });
    guest.vm.memory.add({ gpa: 0xa0000, bytes: 4096 }).data[0] = 0xf4;
    expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "halted" });
  });

  test("a device that throws ends vm.run() by name, and the next run goes on behind its exit", async () => {
    using guest = kvmGuest(OUTS);
    const written: number[] = [];
    guest.vm.pio.map(0x80, 1, {
      name: "fragile",
      read: () => {},
      write: (_, data) => {
        written.push(data[0] as number);
        if (data[0] === 3) throw new Error("three is too much");
        if (data[0] === 6) guest.vm.stop();
      },
    });
    await expect(guest.vm.run({ timeoutMs: 5000 })).rejects.toThrow(DeviceError);
    expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "aborted" });
    expect(written).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test("disposing a VM from another's exit ends its run as DisposedError and leaves the other running", async () => {
    using first = kvmGuest(OUTS);
    const second = kvmGuest(asm.real16`jmp $`);
    const spinning = second.vm.run({ sliceMs: 1 });
    const failure = spinning.catch((error: unknown) => error);
    let exits = 0;
    const result = await first.vm.run({
      timeoutMs: 5000,
      sliceMs: 1,
      onExit: () => {
        if (++exits === 3) second[Symbol.dispose]();
        return exits === 6 ? "stop" : undefined;
      },
    });
    expect([result.outcome, exits]).toEqual([{ kind: "aborted" }, 6]);
    expect(await failure).toBeInstanceOf(DisposedError);
    expect(second.vm.disposed).toBe(true);
  });

  test("two VMs in one process run at once by turns, and keep their own exits", async () => {
    using first = kvmGuest(OUTS);
    using second = kvmGuest(OUTS);
    const values: number[][] = [[], []];
    const run = (guest: typeof first, into: number[]) =>
      guest.vm.run({
        timeoutMs: 5000,
        sliceMs: 1,
        onExit: (exit) => {
          if (exit.kind === "pioOut") into.push(exit.data[0] as number);
          return into.length === 50 ? "stop" : undefined;
        },
      });
    await Promise.all([run(first, values[0] as number[]), run(second, values[1] as number[])]);
    const expected = Array.from({ length: 50 }, (_, i) => i);
    expect(values).toEqual([expected, expected]);
  });
});

test.skipIf(notAmd !== "")(
  `a state that only the processor refuses is failEntry with its reason explained, and the validator names it${notAmd}`,
  () => {
    using guest = kvmGuest([0xf4], { mode: "long64" });
    const { registers } = guest.vcpu;
    registers.cs = { ...registers.cs, db: 1 };
    // The engine's own vCPU: the public one looks at the state before it enters the first time.
    const exit = guest.kvmVcpu.run() as ExitOf<"failEntry">;
    expect(exit.kind).toBe("failEntry");
    expect(exit.explanation).not.toBe("");
    const [violation] = validateState(guestStateOf(guest.vcpu.access), { enforcedBy: ["amd"] });
    expect(violation?.what).toBe("CS.L and CS.D are both 1");
  },
);

test.skipIf(notHardware !== "")(`a triple fault ends vm.run() as tripleFault${notHardware}`, async () => {
  using guest = kvmGuest(
    asm.prot32`
      lidt [empty]
      int3
    empty: dw 0
      dd 0`,
    { mode: "prot32" },
  );
  expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "tripleFault" });
});
