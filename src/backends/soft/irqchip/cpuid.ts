import type { CpuidEntry } from "../../../backend.ts";

/** CPUID.01H:EDX.APIC */
const APIC = 1 << 9;

/** The table with the local APIC that an irqchip brings. */
export function withApic(table: readonly CpuidEntry[]): readonly CpuidEntry[] {
  return table.map((entry) => (entry.leaf === 1 ? { ...entry, edx: (entry.edx | APIC) >>> 0 } : entry));
}
