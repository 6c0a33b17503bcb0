/** What every benchmark prints: where it ran, and medians with their spread. */
import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";

/** The machine in one line. */
export function hostLine(): string {
  let kvm = "no KVM";
  try {
    const vendor = readFileSync("/proc/cpuinfo", "utf8").match(/^vendor_id\s*:\s*(.*)$/m)?.[1] ?? "";
    const modules = ["kvm_intel", "kvm_amd", "kvm_pvm"].filter((name) => moduleLoaded(name));
    kvm = `${vendor}, ${modules.join(" ") || "KVM built in or none"}`;
  } catch {}
  return `${cpus()[0]?.model ?? "?"} × ${cpus().length}, ${kvm}, ${process.platform} ${release()}, Bun ${Bun.version}`;
}

function moduleLoaded(name: string): boolean {
  try {
    readFileSync(`/sys/module/${name}/initstate`);
    return true;
  } catch {
    return false;
  }
}

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (fraction: number): number => sorted[Math.round((sorted.length - 1) * fraction)] ?? Number.NaN;
  return { min: at(0), median: at(0.5), max: at(1) };
}

export function formatSpread(spread: Spread, digits: number): string {
  const [min, median, max] = [spread.min, spread.median, spread.max].map((value) => value.toFixed(digits));
  return `${median} (${min} to ${max})`;
}

/** Alternates two measurements and returns ours, theirs, and theirs ÷ ours pair by pair: above 1 we are faster. */
export async function paired(
  rounds: number,
  ours: () => number | Promise<number>,
  theirs: () => number | Promise<number>,
): Promise<{ ours: Spread; theirs: Spread; ratio: Spread }> {
  const a: number[] = [];
  const b: number[] = [];
  for (let round = 0; round < rounds; round++) {
    // The order alternates too: whoever runs second finds warmer caches and a busier host alike.
    if (round % 2 === 0) a.push(await ours());
    b.push(await theirs());
    if (round % 2 === 1) a.push(await ours());
  }
  return { ours: spreadOf(a), theirs: spreadOf(b), ratio: spreadOf(a.map((value, i) => (b[i] as number) / value)) };
}
