import { type CpuidOverrides, type CpuidValues, overrideCpuid } from "../index.ts";
import { UsageError } from "./usage-error.ts";

/**
 * `--cpuid 7.0:ebx=0,ecx=0x10`, `--cpuid 0x40000000:none`: the overrides that `createVcpu()` takes. Later ones win.
 *
 * @throws {UsageError} for a leaf, register or value that is none.
 */
export function parseCpuidOption(values: readonly string[]): CpuidOverrides {
  const overrides: Record<string, CpuidValues | null> = {};
  for (const text of values) {
    const colon = text.indexOf(":");
    const leaf = text.slice(0, colon);
    const assignments = text.slice(colon + 1);
    if (colon < 1) throw unreadable(text, "write <leaf>[.<subleaf>]:<register>=<value>, for example 7.0:ebx=0");
    if (assignments === "none") {
      overrides[leaf] = null;
    } else {
      overrides[leaf] = { ...overrides[leaf], ...registersOf(text, assignments) };
    }
    try {
      overrideCpuid([], { [leaf]: overrides[leaf] ?? null });
    } catch (error) {
      throw unreadable(text, (error as Error).message);
    }
  }
  return overrides;
}

function registersOf(text: string, assignments: string): CpuidValues {
  const entries = assignments.split(",").map((assignment): [string, number] => {
    const match = /^([a-z]+)=(0x[0-9a-f]+|\d+)$/i.exec(assignment.trim());
    if (match === null) throw unreadable(text, `"${assignment}" is not <register>=<value>, for example ebx=0x10`);
    return [match[1]!.toLowerCase(), Number(match[2])];
  });
  return Object.fromEntries(entries);
}

function unreadable(text: string, why: string): UsageError {
  return new UsageError(`Cannot read --cpuid "${text}"`, why, "--cpuid");
}
