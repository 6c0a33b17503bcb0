import { DEFAULT_ENTRY, DEFAULT_TABLES_GPA, MODE_BITS, type Mode, type ModeOptions, type ModeSetup } from "./mode.ts";
import type { PagingFormat } from "./paging.ts";

export const FOUR_GIB = 0x1_0000_0000;
export const hex = (value: number | bigint) => `0x${value.toString(16)}`;

const PAGING: Readonly<Partial<Record<Mode, PagingFormat>>> = {
  paged32: "pse",
  pae: "pae",
  long64: "4-level",
  "long64-ring3": "4-level",
  compat32: "4-level",
};

/** What all parts of a set-up need to know. */
export interface ModePlan {
  readonly mode: Mode;
  readonly bits: 16 | 32 | 64;
  readonly real: boolean;
  readonly long: boolean;
  readonly ring: 0 | 3;
  readonly paging: PagingFormat | undefined;
  readonly tablesGpa: number;
  readonly withTables: boolean;
  readonly entry: bigint;
  readonly options: ModeOptions;
}

/** @throws {RangeError} for options that contradict the mode or each other. */
export function planMode(mode: Mode, options: ModeOptions): ModePlan {
  const bits = MODE_BITS[mode];
  if (bits === undefined)
    throw new RangeError(`Cannot enter mode "${mode}": it is one of ${Object.keys(MODE_BITS).join(", ")}`);
  const real = mode === "real16" || mode === "unreal16";
  const ring = options.ring ?? (mode === "long64-ring3" ? 3 : 0);
  const tablesGpa = options.tablesGpa ?? DEFAULT_TABLES_GPA;
  const entry = BigInt(options.entry ?? DEFAULT_ENTRY);
  let paging = PAGING[mode];
  if (paging === "pse" && options.pageBytes === 0x1000) paging = "32-bit";
  if (options.paging) {
    if (paging !== "4-level") throw new RangeError(`Cannot use ${options.paging} paging in ${mode}`);
    paging = options.paging;
  }
  if (real && ring === 3) throw new RangeError(`Cannot enter ${mode} in ring 3: real mode has no rings`);
  if (options.realSegment !== undefined && !real) throw new RangeError(`Cannot use realSegment in ${mode}`);
  if (
    !(Number.isSafeInteger(tablesGpa) && tablesGpa >= 0 && tablesGpa % 4096 === 0 && tablesGpa < FOUR_GIB - 0x10000)
  ) {
    throw new RangeError(`Cannot put tables at ${hex(tablesGpa)}: it must be a multiple of 4096 below 4 GiB`);
  }
  const withTables = (options.tables ?? "guest") === "guest";
  if (paging && !withTables && options.cr3 === undefined) {
    throw new RangeError(`Cannot enter ${mode} with tables: "none" and no cr3: paging needs page tables`);
  }
  if (entry < 0n || (bits !== 64 && entry >= BigInt(FOUR_GIB))) {
    throw new RangeError(`Cannot start ${mode} at ${hex(entry)}: the address is too wide`);
  }
  const long = paging === "4-level" || paging === "5-level";
  return { mode, bits, real, long, ring, paging, tablesGpa, withTables, entry, options };
}

/** What a kind of mode sets on its own. */
export interface ModeParts {
  readonly segments: ModeSetup["segments"];
  readonly descriptorTables: ModeSetup["descriptorTables"];
  readonly controls: ModeSetup["controls"];
  readonly tables: ModeSetup["tables"];
  /** What CS adds to IP. */
  readonly codeBase: bigint;
  /** Initial stack pointer when the caller names none. */
  readonly stack: number;
}
