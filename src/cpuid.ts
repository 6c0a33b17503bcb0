import type { CpuidEntry } from "./backend.ts";

/** The four result registers of one CPUID leaf; what is left out stays as it is. */
export interface CpuidValues {
  eax?: number;
  ebx?: number;
  ecx?: number;
  edx?: number;
}

/**
 * Changes to the CPUID table: `{ "0x40000000": { ebx: 0x786d7620 }, "7.0": { ebx: 0 }, "0x80000008": null }`. A key is a
 * leaf, or `leaf.subleaf`, decimal or 0x hexadecimal; null removes the leaf.
 */
export type CpuidOverrides = Readonly<Record<string | number, CpuidValues | null>>;

/** The table with the changes applied; leaves that are not there are added. @throws {RangeError} for a key or value that is none. */
export function overrideCpuid(table: readonly CpuidEntry[], overrides: CpuidOverrides): CpuidEntry[] {
  let entries = table.map((entry) => ({ ...entry }));
  for (const [key, values] of Object.entries(overrides)) {
    const { leaf, subleaf } = parseLeaf(key);
    const matches = (entry: CpuidEntry): boolean =>
      entry.leaf === leaf && (subleaf === undefined || (entry.subleaf ?? 0) === subleaf);
    if (values === null) {
      entries = entries.filter((entry) => !matches(entry));
      continue;
    }
    const checked = checkValues(key, values);
    const entry = entries.find(matches);
    if (entry !== undefined) Object.assign(entry, checked);
    else
      entries.push({ leaf, ...(subleaf === undefined ? {} : { subleaf }), eax: 0, ebx: 0, ecx: 0, edx: 0, ...checked });
  }
  return entries;
}

function parseLeaf(key: string): { leaf: number; subleaf: number | undefined } {
  const match = /^(0x[0-9a-f]+|\d+)(?:\.(0x[0-9a-f]+|\d+))?$/i.exec(key.trim());
  const leaf = Number(match?.[1] ?? Number.NaN);
  const subleaf = match?.[2] === undefined ? undefined : Number(match[2]);
  if (!(leaf <= 0xffffffff) || (subleaf !== undefined && subleaf > 0xffffffff)) {
    throw new RangeError(`Cannot read CPUID leaf "${key}": write it as 0x80000008 or 7.0`);
  }
  return { leaf, subleaf };
}

function checkValues(key: string, values: CpuidValues): CpuidValues {
  for (const [register, value] of Object.entries(values)) {
    if (!["eax", "ebx", "ecx", "edx"].includes(register)) {
      throw new RangeError(`Cannot set "${register}" of CPUID leaf ${key}: use eax, ebx, ecx or edx`);
    }
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
      throw new RangeError(`Cannot set ${register} of CPUID leaf ${key} to ${value}: use 0 to 0xffffffff`);
    }
  }
  return values;
}
