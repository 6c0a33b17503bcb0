import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { CR0, CR4, EFER, enterMode, type Mode } from "../../../src/boot/index.ts";
import { VmmError } from "../../../src/errors.ts";
import { guestStateOf } from "../../../src/inspect/guest-state.ts";
import { type StateAuthority, validateState } from "../../../src/inspect/validate.ts";
import { GuestMemory } from "../../../src/memory.ts";
import type { ControlName, RegisterAccess, Segment } from "../../../src/registers.ts";
import { noKvm, withKvm } from "../boot/host-kvm.ts";

type Change = (registers: RegisterAccess) => void;

const flip =
  (name: ControlName, bits: bigint): Change =>
  (registers) =>
    registers.writeControl(name, registers.readControl(name) ^ bits);
const segment =
  (name: "cs" | "tr", part: Partial<Segment>): Change =>
  (registers) =>
    registers.writeSegment(name, { ...registers.readSegment(name), ...part });

/** One halting guest in `mode`, `change`d: what the validator says, and what KVM does. */
function judge(mode: Mode, change: Change): { enforcedBy: Set<StateAuthority>; outcome: string } {
  return withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 0x10000 });
    memory.write(0x1000, Uint8Array.of(0xf4));
    using vcpu = vm.createVcpu(0);
    enterMode(vcpu.registers, memory, mode);
    change(vcpu.registers);
    const enforcedBy = new Set(
      validateState(guestStateOf(vcpu.registers)).flatMap((violation) => violation.enforcedBy),
    );
    vcpu.setDeadline(performance.now() + 5000);
    try {
      return { enforcedBy, outcome: vcpu.run().kind };
    } catch (error) {
      if (error instanceof VmmError) return { enforcedBy, outcome: "refused" };
      throw error;
    }
  });
}

/** By the rules that hold on this host. */
function expectedOutcome(enforcedBy: Set<StateAuthority>): string {
  if (enforcedBy.has("kvm")) return "refused";
  return enforcedBy.has("amd") && existsSync("/sys/module/kvm_amd") ? "failEntry" : "hlt";
}

const CASES: [string, Mode, Change, StateAuthority[]][] = [
  ["nothing wrong", "long64", () => {}, []],
  ["CR0.CD and CR0.NW", "prot32", flip("cr0", CR0.NW | CR0.CD), []],
  ["bit 40 of CR0", "long64", flip("cr0", 1n << 40n), ["intel", "amd", "kvm"]],
  ["CR0.PG without CR0.PE", "real16", flip("cr0", CR0.PG), ["intel", "amd", "kvm"]],
  ["CR0.NW without CR0.CD", "prot32", flip("cr0", CR0.NW), ["amd", "kvm"]],
  ["bit 52 of CR3 in long mode", "long64", flip("cr3", 1n << 52n), ["intel", "amd", "kvm"]],
  ["bit 52 of CR3 outside long mode", "prot32", flip("cr3", 1n << 52n), ["intel", "amd"]],
  ["bit 15 of CR4", "long64", flip("cr4", 1n << 15n), ["intel", "amd", "kvm"]],
  ["no CR4.PAE in long mode", "long64", flip("cr4", CR4.PAE), ["intel", "amd", "kvm"]],
  ["bit 1 of EFER", "long64", flip("efer", 2n), ["intel", "amd"]],
  ["EFER.LMA without CR0.PG", "long64", flip("cr0", CR0.PG), ["intel", "kvm"]],
  ["EFER.LMA without EFER.LME", "long64", flip("efer", EFER.LME), ["intel", "kvm"]],
  ["EFER.LME and CR0.PG without EFER.LMA", "long64", flip("efer", EFER.LMA), ["intel", "kvm"]],
  ["CS.L outside long mode", "prot32", segment("cs", { l: 1 }), ["kvm"]],
  ["CS.L and CS.D", "long64", segment("cs", { db: 1 }), ["intel", "amd"]],
  ["bit 32 of DR7", "long64", (registers) => registers.writeDebug("dr7", 1n << 32n), ["intel", "amd", "kvm"]],
];

describe(`validateState() and KVM judge alike`, () => {
  for (const [name, mode, change, authorities] of CASES) {
    test.skipIf(noKvm !== "")(`${name}${noKvm}`, () => {
      const { enforcedBy, outcome } = judge(mode, change);
      expect([...enforcedBy].toSorted()).toEqual(authorities.toSorted());
      expect(outcome).toBe(expectedOutcome(enforcedBy));
    });
  }
});

test.skipIf(noKvm !== "" || existsSync("/sys/module/kvm_intel"))(
  `validateState() is stricter than AMD about segments: a TSS that is not busy runs there${noKvm || (existsSync("/sys/module/kvm_intel") ? " [skipped: VMX here]" : "")}`,
  () => {
    const { enforcedBy, outcome } = judge("long64", segment("tr", { type: 9 }));
    expect([...enforcedBy, outcome]).toEqual(["intel", "hlt"]);
  },
);
