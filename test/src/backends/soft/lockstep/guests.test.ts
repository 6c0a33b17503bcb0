import { afterAll, describe, expect, test } from "bun:test";
import type { Backend } from "../../../../../src/backend.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { MODE_BITS, type Mode } from "../../../../../src/boot/mode.ts";
import { openBackend } from "../../../../../src/host.ts";
import { disassemble } from "../../../../../src/inspect/disassemble.ts";
import { Vm } from "../../../../../src/vm.ts";
import { EXPECTATIONS, type GuestExpectation, type Need } from "../../../../guests/expectations.ts";
import { ENTRY, MEMORY_BYTES, pagesOutsideLongMode } from "../../../../guests/machine.ts";
import { type Divergence, diverge, same } from "./align.ts";
import { type GuestTrace, traceGuest } from "./guest-trace.ts";
import type { Stop } from "./trace.ts";

/**
 * Every guest of `guests/` on KVM and on the software CPU, with the devices, input and script of its own test: first
 * KVM stepped, all registers behind every instruction; then KVM at its exits alone, memory at the end included. Left out,
 * since no two engines need agree on them:
 *
 * - RFLAGS.RF and the TF of a step, and so memory after stepping: an interrupt frame holds the flags;
 * - IA32_APIC_BASE where there is no irqchip, and so no APIC;
 * - the accessed bit of a PAE directory-pointer entry, which no manual has;
 * - PUSHF where KVM steps with the guest's TF: such a guest is compared at its exits;
 * - ticks of the PIT, which come by the wall clock: `timer` is compared at its exits.
 */
const STEPS = 1200;
const MILLISECONDS = 20_000;
/** The software CPU stops behind every instruction and inside REP; KVM on AMD comes back only after a handler. */
const TOLERANCE = { passOver: [Number.POSITIVE_INFINITY, 2] } as const;
const BY_WALL_CLOCK: ReadonlySet<string> = new Set(["timer"]);
const PUSHES_FLAGS: ReadonlySet<string> = new Set(["ring3"]);
const TF = 0x100n;
const ACCESSED = 0x20;
/** KVM as software takes IOPL from ring 3. */
const WITHOUT_IOPL = 2n;
/** How long a guest that never exits is watched without being stepped. */
const ENDLESS_MILLISECONDS = 20;

const soft = openSoft();
const { kvm, missing } = openKvm();

describe("guests in lockstep on the software CPU and KVM", () => {
  afterAll(() => kvm?.[Symbol.dispose]());
  for (const expectation of EXPECTATIONS.map(sameInput)) {
    const { guest, mode } = expectation;
    const reason = missing ?? lacking(expectation);
    const unstepped = reason === undefined ? cannotStep(guest, mode) : undefined;
    const how = unstepped === undefined ? "behind every instruction and at every exit" : `at every exit: ${unstepped}`;
    const skip = reason === undefined ? "" : ` (skipped: ${reason})`;
    test.skipIf(reason !== undefined)(`${guest} has the same registers ${how}${skip}`, () => {
      const input = {
        milliseconds: guest === "endless" ? ENDLESS_MILLISECONDS : MILLISECONDS,
        ...(mode === "long64-ring3" ? { rflags: WITHOUT_IOPL } : {}),
      };
      const engine = kvm as Backend;
      const stepped =
        unstepped === undefined
          ? traceGuest(engine, expectation, { ...input, stepOn: (steps) => steps < STEPS, stopUnstepped: true })
          : undefined;
      const exits = traceGuest(engine, expectation, { ...input, stepOn: () => false });
      const last = stepped?.stops.at(-1);
      const mine = traceGuest(soft, expectation, {
        ...input,
        stepOn: (_, stop) => stop === undefined || last === undefined || !same(stop, last),
      });
      if (stepped !== undefined) {
        expect(tell(mine, stepped)).toBeUndefined();
        expect(stepped.steps).toBeGreaterThan(0);
      }
      expect(tell(mine, exits)).toBeUndefined();
      expect(mine.transcript).toEqual([...exits.transcript]);
      expect(mine.end).toBe(exits.end);
      expect(firstDifference(memoryOf(mine), memoryOf(exits))).toBeUndefined();
    });
  }
});

/** What a guest reads of its engine made the same on both. */
function sameInput(expectation: GuestExpectation): GuestExpectation {
  const { guest, vcpu } = expectation;
  if (guest !== "cpuid") return expectation;
  return { ...expectation, vcpu: { cpuid: { 0: { ...vcpu?.cpuid?.[0], eax: 0xd } } } };
}

function openKvm(): { kvm?: Backend; missing?: string } {
  try {
    return { kvm: openBackend("kvm").engine };
  } catch (error) {
    return { missing: (error as Error).message };
  }
}

function lacking({ needs = [] }: GuestExpectation): string | undefined {
  const { irqchip, pit, msrExits } = (kvm as Backend).capabilities;
  const met: Record<Need, boolean> = { irqchip, pit, msrExits, legacyPaging: true };
  const need = needs.find((name) => !met[name]);
  if (need !== undefined) return `this KVM has no ${need}`;
  if (!needs.includes("legacyPaging")) return undefined;
  paging ??= pagesOutsideLongMode(kvm as Backend);
  return paging ? undefined : "this KVM pages only in long mode";
}
let paging: boolean | undefined;

/** Why a guest is not stepped, if it is not. */
function cannotStep(guest: string, mode: Mode): string | undefined {
  if (BY_WALL_CLOCK.has(guest)) return "its interrupts come by the wall clock";
  if (!(kvm as Backend).capabilities.singleStep) return "this KVM does not single-step";
  const flags = flagsWhileStepping(kvm as Backend, mode);
  if (flags === undefined) return `this KVM does not single-step ${mode}`;
  return PUSHES_FLAGS.has(guest) && (flags & TF) !== 0n ? "PUSHF shows the TF that this KVM steps with" : undefined;
}

/** What PUSHF stores while it is stepped, or undefined when stepping does not work in this mode. */
function flagsWhileStepping(backend: Backend, mode: Mode): bigint | undefined {
  using vm = new Vm(backend, { memoryBytes: MEMORY_BYTES });
  using vcpu = vm.createVcpu();
  vm.memory.write(ENTRY, Uint8Array.of(0x9c, 0x58, 0x90, 0x90)); // PUSHF, POP AX, NOP, NOP
  vcpu.enterMode(mode, { entry: ENTRY });
  for (const next of [1, 2, 3]) {
    vcpu.debug({ singleStep: true });
    if (vcpu.run({ timeoutMs: 1000 }).kind !== "debug" || vcpu.registers.rip !== BigInt(ENTRY + next)) return undefined;
  }
  return vcpu.registers.rax;
}

/** Where the engines part, for people. */
function tell(mine: GuestTrace, theirs: GuestTrace): string | undefined {
  const unfinished = { memory: new Uint8Array(0), end: undefined };
  const found = diverge({ ...mine, ...unfinished }, { ...theirs, ...unfinished }, TOLERANCE);
  return found === undefined ? undefined : describeDivergence(found, mine, theirs);
}

function describeDivergence({ at, fields }: Divergence, mine: GuestTrace, theirs: GuestTrace): string {
  const place = (name: string, trace: GuestTrace, index: number): string => {
    const stop = trace.stops[index];
    return `${name} stop ${index} of ${trace.stops.length}: ${stop === undefined ? trace.end : instruction(trace, stop)}`;
  };
  const lines = fields.map(({ name, values }) => `${name}: soft ${values[0]}, kvm ${values[1]}`);
  return [place("soft", mine, at[0]), place("kvm", theirs, at[1]), ...lines].join("\n");
}

function instruction(trace: GuestTrace, stop: Stop): string {
  const linear = (stop.get("rip") as bigint) + (stop.get("cs.base") ?? 0n);
  const code = trace.memory.subarray(Number(linear), Number(linear) + 15);
  const bits = MODE_BITS[trace.mode];
  return `${linear.toString(16)} ${disassemble(code, { bits, ip: linear, count: 1 })[0]?.text ?? "?"}`;
}

/** Memory at the end, without bits that QEMU's TCG (under a KVM that runs on it) sets where manuals have reserved ones. */
function memoryOf({ memory, mode, stops }: GuestTrace): Uint8Array {
  if (mode !== "pae") return memory;
  const pointers = Number(stops.at(-1)?.get("cr3") ?? 0n);
  return memory.map((byte, at) => (at >= pointers && at < pointers + 32 && at % 8 === 0 ? byte & ~ACCESSED : byte));
}

function firstDifference(mine: Uint8Array, theirs: Uint8Array): string | undefined {
  const at = mine.findIndex((byte, index) => byte !== theirs[index]);
  return at < 0 ? undefined : `byte 0x${at.toString(16)} of memory: soft ${mine[at]}, kvm ${theirs[at]}`;
}
