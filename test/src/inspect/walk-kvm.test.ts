import { expect, test } from "bun:test";
import type { CpuidEntry } from "../../../src/backend.ts";
import { applyMode, buildPageTables, type Mode, type ModeOptions, modeSetup } from "../../../src/boot/index.ts";
import type { PagingFormat } from "../../../src/boot/paging.ts";
import { formatWalk, type PagingState, pagingStateOf, type WalkStep, walkPages } from "../../../src/inspect/walk.ts";
import { GuestMemory } from "../../../src/memory.ts";
import { noHardware, noKvm, withKvm } from "../boot/host-kvm.ts";
import { randomMappings } from "../boot/mappings.ts";
import { type Random, randomFrom } from "../boot/random.ts";

/** Low, so that a PDE whose PS bit is flipped on has no address bits above 36 set: KVM has only so many. */
const TABLES = 0x1000;
const SETUPS: Record<Exclude<PagingFormat, "5-level">, [Mode, ModeOptions]> = {
  "32-bit": ["paged32", { pageBytes: 0x1000 }],
  pse: ["paged32", {}],
  pae: ["pae", {}],
  "4-level": ["long64", {}],
};

/** What CPUID tells a walk. */
function cpuFacts(cpuid: readonly CpuidEntry[]): Pick<PagingState, "physicalBits" | "gigabytePages" | "vendor"> {
  const leaf = (number: number) => cpuid.find((entry) => entry.leaf === number);
  return {
    physicalBits: (leaf(0x80000008)?.eax ?? 36) & 0xff,
    gigabytePages: ((leaf(0x80000001)?.edx ?? 0) & (1 << 26)) !== 0,
    vendor: leaf(0)?.ebx === 0x68747541 ? "amd" : "intel",
  };
}

/** Flips one bit of an entry, but none that KVM treats in a way of its own. */
function flip(memory: GuestMemory, step: WalkStep, format: PagingFormat, random: Random): void {
  // KVM loads PDPTEs when CR3 is set, as the manual allows, and gives a 4 MiB page 36 address bits, not 40.
  if (format === "pae" && step.entry === "PDPTE") return;
  const narrow = format === "32-bit" || format === "pse";
  const bit = random.below(narrow ? 32 : 64);
  if (format === "pse" && step.entry === "PDE" && bit >= 17 && bit <= 20) return;
  if (narrow) memory.writeU32(step.entryGpa, (Number(step.value) ^ (1 << bit)) >>> 0);
  else memory.writeU64(step.entryGpa, step.value ^ (1n << BigInt(bit)));
}

/** Compares `rounds` random tables, with bits flipped in them as it goes; returns how often each outcome came. */
function compare(format: keyof typeof SETUPS, rounds: number): Map<string, number> {
  const random = randomFrom(0x7ab1e);
  const outcomes = new Map<string, number>();
  withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 0x400000 });
    using vcpu = vm.createVcpu(0);
    const facts = cpuFacts(vcpu.cpuid());
    const [mode, options] = SETUPS[format];
    const setup = modeSetup(mode, { ...options, tables: "none", cr3: TABLES });
    for (let round = 0; round < rounds; round++) {
      const mappings = randomMappings(random, format);
      const tables = buildPageTables(mappings, { format, gpa: TABLES });
      memory.write(TABLES, tables.bytes);
      applyMode(vcpu.registers, memory, setup);
      const state = { ...pagingStateOf(vcpu.registers), ...facts };
      for (const mapping of mappings) {
        for (let count = 0; count < 8; count++) {
          const gva = BigInt(mapping.gva) + BigInt(random.below(mapping.bytes));
          const { steps } = walkPages(memory, state, gva);
          if (steps.length > 0 && random.chance(0.5)) flip(memory, random.pick(steps), format, random);
          const walk = walkPages(memory, state, gva);
          expect(`${vcpu.translate(gva)} ${formatWalk(walk)}`).toBe(`${walk.gpa} ${formatWalk(walk)}`);
          const outcome = walk.stop?.kind ?? "translated";
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      }
    }
  });
  return outcomes;
}

for (const format of ["32-bit", "pse", "pae", "4-level"] as const) {
  const skipped = format === "4-level" ? noKvm : noHardware;
  test.skipIf(skipped !== "")(`walkPages() agrees with KVM_TRANSLATE on random ${format} tables${skipped}`, () => {
    const outcomes = compare(format, 30);
    expect(outcomes.get("translated")).toBeGreaterThan(50);
    expect(outcomes.get("notPresent")).toBeGreaterThan(10);
    if (format === "pae" || format === "4-level") expect(outcomes.get("reservedBit")).toBeGreaterThan(10);
  });
}
