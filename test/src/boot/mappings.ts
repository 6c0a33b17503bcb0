import { CR0, CR4, EFER, type PageMapping, type PagingFormat } from "../../../src/boot/index.ts";
import type { PagingState } from "../../../src/inspect/walk.ts";
import type { Random } from "./random.ts";

/** Registers that select `format`, NX on where the format has it. */
export function stateOf(format: PagingFormat, cr3: number): PagingState {
  const long = format === "4-level" || format === "5-level";
  const cr4 =
    (format === "pse" ? CR4.PSE : 0n) |
    (long || format === "pae" ? CR4.PAE : 0n) |
    (format === "5-level" ? CR4.LA57 : 0n);
  const efer = (long ? EFER.LME | EFER.LMA : 0n) | (long || format === "pae" ? EFER.NXE : 0n);
  return { cr0: CR0.PE | CR0.PG | CR0.WP, cr3: BigInt(cr3), cr4, efer };
}

export const FORMATS: readonly PagingFormat[] = ["32-bit", "pse", "pae", "4-level", "5-level"];

/** Ranges that do not overlap, a few pages to a few large pages long. */
export function randomMappings(random: Random, format: PagingFormat): PageMapping[] {
  const long = format === "4-level" || format === "5-level";
  const bits = format === "5-level" ? 57 : format === "4-level" ? 48 : 32;
  const mappings: PageMapping[] = [];
  for (let count = 1 + random.below(6), region = 0; region < count; region++) {
    const align = random.pick([0x1000, 0x20_0000, 0x40_0000]);
    // Regions of 256 MiB apart, scattered over the address space by their top bits.
    const low = BigInt(region) * 0x1000_0000n + BigInt(random.below(4) * align);
    const top = long ? BigInt(random.below(2 ** 16)) << BigInt(bits - 16) : 0n;
    const gva = BigInt.asUintN(long ? 64 : 32, BigInt.asIntN(long ? bits : 64, top | low));
    if (mappings.some((other) => BigInt(other.gva) >> 28n === gva >> 28n)) continue;
    const gpa = random.below(format === "32-bit" || format === "pse" ? 64 : 4096) * 0x40_0000 + random.below(4) * align;
    mappings.push({
      gva,
      gpa,
      bytes: random.pick([0x1000, 0x3000, 0x20_0000, 0x40_1000, 0x80_0000]),
      writable: random.chance(0.5),
      user: random.chance(0.5),
      noExecute: format !== "32-bit" && format !== "pse" && random.chance(0.5),
    });
  }
  return mappings;
}
