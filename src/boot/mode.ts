import type {
  ControlName,
  DescriptorTable,
  GprName,
  RegisterAccess,
  Segment,
  SegmentName,
  TableName,
} from "../registers.ts";
import type { PageBytes, PageMapping } from "./page-tables.ts";
import type { PagingFormat } from "./paging.ts";

/**
 * The states a guest can start in.
 *
 * - `real16`: real-address mode, 64 KiB segments.
 * - `unreal16`: the same with 4 GiB limits left in DS, ES, FS and GS ("big real mode").
 * - `prot16`: protected mode, 16-bit segments of 64 KiB at base 0.
 * - `prot32`: protected mode, flat 4 GiB segments, no paging.
 * - `paged32`: `prot32` with 32-bit paging, 4 MiB pages (or 4 KiB with `pageBytes`).
 * - `pae`: `prot32` with PAE paging.
 * - `long64`: 64-bit mode in ring 0.
 * - `long64-ring3`: 64-bit mode in ring 3 with IOPL 3: the one mode that every KVM runs natively. Ports are open to it, except
 *   on a KVM that is software (kvm_pvm), where IN and OUT raise #GP in ring 3 all the same: report by MMIO there.
 * - `compat32`: a 32-bit code segment in long mode.
 */
export const MODES = [
  "real16",
  "unreal16",
  "prot16",
  "prot32",
  "paged32",
  "pae",
  "long64",
  "long64-ring3",
  "compat32",
] as const;
export type Mode = (typeof MODES)[number];

/** Width of the code a mode starts with: what to assemble or disassemble it as. */
export const MODE_BITS: Readonly<Record<Mode, 16 | 32 | 64>> = {
  real16: 16,
  unreal16: 16,
  prot16: 16,
  prot32: 32,
  paged32: 32,
  pae: 32,
  long64: 64,
  "long64-ring3": 64,
  compat32: 32,
};

/** Where the tables go when nothing else is said: the upper half of the first 64 KiB. */
export const DEFAULT_TABLES_GPA = 0x8000;
/** Where execution starts when nothing else is said. */
export const DEFAULT_ENTRY = 0x1000;

export interface ModeOptions {
  /** Linear address of the first instruction. Default 0x1000. */
  readonly entry?: number | bigint;
  /**
   * Initial stack pointer. Default: 0x1000 in the real modes and without tables (below the default entry), else just below
   * the tables; in ring 3 a page lower, as ring 0 gets that place.
   */
  readonly stack?: number | bigint;
  /** `real16`, `unreal16`: the value of every segment register, so that IP = entry - 16 × it (e.g. a .com file's PSP). */
  readonly realSegment?: number;
  /** Start in this ring: 0 by default, 3 for `long64-ring3`. The real modes have only 0. */
  readonly ring?: 0 | 3;
  /**
   * `guest` (the default) writes GDT, IDT, TSS and page tables into guest memory; `none` sets registers only. Then the
   * descriptor tables stay empty and paging needs `cr3`.
   */
  readonly tables?: "guest" | "none";
  /** Guest-physical start of the tables, a multiple of 4096. Default 0x8000; `ModeSetup.tables` tells the end. */
  readonly tablesGpa?: number;
  /** What to map. Default: identity, the whole first 4 GiB (4 MiB with 4 KiB pages), writable, executable. */
  readonly map?: readonly PageMapping[];
  /** Largest page. Default: 4 MiB in `paged32`, else 2 MiB. */
  readonly pageBytes?: PageBytes;
  /** `long64` and `long64-ring3`: `5-level` sets CR4.LA57, which the processor must have. Default `4-level`. */
  readonly paging?: "4-level" | "5-level";
  /** Page tables made elsewhere: no tables are built for paging, CR3 gets this value. */
  readonly cr3?: number | bigint;
  /** Interrupt handlers by vector; the IDT gets an interrupt gate for each. In real mode, offsets in segment 0. */
  readonly handlers?: Readonly<Record<number, number | bigint>>;
  /** Values of other registers, e.g. `{ rax: 0x2badb002n }`. All registers not named here or above become 0. */
  readonly gprs?: Partial<Readonly<Record<GprName, bigint>>>;
}

/** One line of what a mode sets. */
export interface ModeRow {
  /** As the manual spells it, e.g. `CR4` or `DS, ES, SS`. */
  readonly register: string;
  readonly value: string;
  /** Why it has to be so. */
  readonly why: string;
}

/** A piece of guest memory that a mode needs. */
export interface ModeTable {
  readonly what: string;
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

/** Everything a mode sets, before it touches a guest. */
export interface ModeSetup {
  readonly mode: Mode;
  readonly bits: 16 | 32 | 64;
  readonly ring: 0 | 3;
  /** How linear addresses become physical, or undefined without paging. */
  readonly paging: PagingFormat | undefined;
  readonly gprs: Readonly<Record<GprName, bigint>>;
  readonly segments: Readonly<Record<SegmentName, Segment>>;
  readonly descriptorTables: Readonly<Record<TableName, DescriptorTable>>;
  readonly controls: Partial<Readonly<Record<ControlName, bigint>>>;
  /** What goes into guest memory, lowest address first. Empty with `tables: "none"`. */
  readonly tables: readonly ModeTable[];
  /** The above for people, with reasons. */
  readonly rows: readonly ModeRow[];
}

/** The part of a vCPU's registers that entering a mode needs: any `RegisterAccess`. */
export type ModeRegisters = Pick<RegisterAccess, "writeGpr" | "writeSegment" | "writeTable" | "writeControl">;
