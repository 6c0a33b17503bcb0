import { CR0, CR4, EFER, RFLAG } from "../boot/control-bits.ts";
import { PAGING_LAYOUTS, type PagingFormat, type PagingLayout, type PagingLevel } from "../boot/paging.ts";
import type { PhysicalMemory } from "../boot/physical-memory.ts";
import { type RegisterAccess, RFLAGS } from "../registers.ts";

/**
 * The page walk of an x86 processor, in software: from a linear address to a guest-physical one, level by level. It reads
 * guest memory and nothing else, and changes nothing (accessed and dirty bits stay as they are).
 *
 * @see Intel SDM Vol. 3A, "Paging": "Hierarchical Paging Structures", "Access Rights", "Page-Fault Exceptions";
 *   AMD APM Vol. 2, "Page Translation and Protection"
 */

/** What decides how linear addresses are translated. */
export interface PagingState {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  /** RFLAGS.AC: lifts SMAP. Default false. */
  readonly alignmentCheck?: boolean;
  /** MAXPHYADDR, CPUID.80000008H:EAX[7:0]: address bits above it are reserved. Default 52. */
  readonly physicalBits?: number;
  /** CPUID.80000001H:EDX[26]: whether 1 GiB pages exist. Default true. */
  readonly gigabytePages?: boolean;
  /** AMD reserves bit 8 of PML4 and PML5 entries, Intel ignores it. Default `intel`. */
  readonly vendor?: "intel" | "amd";
}

/** What is to be done at the address. Without one, `walkPages()` checks no rights. */
export interface WalkAccess {
  readonly kind: "read" | "write" | "execute";
  /** Done by ring 3. Default false. */
  readonly user?: boolean;
}

/** One entry that the walk read. */
export interface WalkStep {
  /** `PML5E`, `PML4E`, `PDPTE`, `PDE` or `PTE`. */
  readonly entry: string;
  /** Guest-physical address of the table. */
  readonly tableGpa: number;
  readonly index: number;
  /** Guest-physical address of the entry itself. */
  readonly entryGpa: number;
  readonly value: bigint;
  readonly flags: WalkFlags;
  /** What the entry points to: the next table, or the page. */
  readonly targetGpa: number;
  /** Bytes it maps, when it maps a page. */
  readonly pageBytes: number | undefined;
}

/** An entry's bits by name. R/W and U/S read as set where the format has none (a PAE PDPTE). */
export interface WalkFlags {
  readonly present: boolean;
  readonly writable: boolean;
  readonly user: boolean;
  readonly writeThrough: boolean;
  readonly cacheDisable: boolean;
  readonly accessed: boolean;
  readonly dirty: boolean;
  readonly pageSize: boolean;
  readonly global: boolean;
  readonly noExecute: boolean;
}

/** Why a walk found no way. */
export type WalkStop =
  /** The upper bits do not repeat the highest one that is translated: #GP, no page fault. */
  | { readonly kind: "notCanonical"; readonly addressBits: number }
  | { readonly kind: "notPresent"; readonly entry: string }
  | { readonly kind: "reservedBit"; readonly entry: string; readonly bits: readonly number[] }
  | { readonly kind: "permission"; readonly entry: string; readonly rule: PermissionRule }
  /** No memory backs the table. */
  | { readonly kind: "noMemory"; readonly entry: string; readonly gpa: number };

/** `user`: ring 3 on a supervisor page; `write`: a read-only page (ring 0: with CR0.WP); the rest by their names. */
export type PermissionRule = "user" | "write" | "NX" | "SMEP" | "SMAP";

/** The outcome of a walk. */
export interface Walk {
  readonly gva: bigint;
  readonly format: PagingFormat | "none";
  readonly steps: readonly WalkStep[];
  /** Guest-physical address, when nothing stopped the walk. */
  readonly gpa: number | undefined;
  /** The page, also when its rights deny the access. Rights are those of all levels together. */
  readonly page: WalkPage | undefined;
  readonly stop: WalkStop | undefined;
  /** The page fault's error code, when the stop is a page fault. Assumes a supervisor read when no access was given. */
  readonly errorCode: number | undefined;
}

export interface WalkPage {
  readonly gpa: number;
  readonly bytes: number;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

/** The paging format that control registers select, or `none`. */
export function pagingFormat(state: Pick<PagingState, "cr0" | "cr4" | "efer">): PagingFormat | "none" {
  if (!(state.cr0 & CR0.PG)) return "none";
  if (!(state.cr4 & CR4.PAE)) return state.cr4 & CR4.PSE ? "pse" : "32-bit";
  if (!(state.efer & (EFER.LMA | EFER.LME))) return "pae";
  return state.cr4 & CR4.LA57 ? "5-level" : "4-level";
}

/** The paging state of a vCPU as it stands. */
export function pagingStateOf(registers: Pick<RegisterAccess, "readControl" | "readGpr">): PagingState {
  return {
    cr0: registers.readControl("cr0"),
    cr3: registers.readControl("cr3"),
    cr4: registers.readControl("cr4"),
    efer: registers.readControl("efer"),
    alignmentCheck: (registers.readGpr(RFLAGS) & RFLAG.AC) !== 0n,
  };
}

const has = (value: bigint, position: number) => ((value >> BigInt(position)) & 1n) === 1n;
/** Bits `to` down to `from` of a 64-bit word. */
const mask = (to: number, from: number) => (to < from ? 0n : ((1n << BigInt(to - from + 1)) - 1n) << BigInt(from));

function flagsOf(value: bigint, isPaePdpte: boolean): WalkFlags {
  return {
    present: has(value, 0),
    writable: isPaePdpte || has(value, 1),
    user: isPaePdpte || has(value, 2),
    writeThrough: has(value, 3),
    cacheDisable: has(value, 4),
    accessed: has(value, 5),
    dirty: has(value, 6),
    pageSize: has(value, 7),
    global: has(value, 8),
    noExecute: has(value, 63),
  };
}

/** What all steps of one walk share. */
interface Context {
  readonly memory: PhysicalMemory;
  readonly state: PagingState;
  readonly format: PagingFormat;
  readonly layout: PagingLayout;
  readonly physicalBits: number;
}

function reservedHigh({ format, state, physicalBits }: Context): bigint {
  // PAE has no ignored bits above the address; 4- and 5-level paging ignore 62:52.
  const high = mask(format === "pae" ? 62 : 51, physicalBits);
  return state.efer & EFER.NXE ? high : high | mask(63, 63);
}

/** Bits that must be zero in a present entry. */
function reservedBits(context: Context, level: PagingLevel, large: boolean): bigint {
  const { format, state, physicalBits } = context;
  if (format === "32-bit") return 0n;
  // A 4 MiB entry keeps address bits 39:32 in 20:13; bit 21 is free.
  if (format === "pse") return large ? mask(21, Math.min(physicalBits, 40) - 19) : 0n;
  const high = reservedHigh(context);
  if (format === "pae" && level.shift === 30) return high | mask(63, 63) | mask(8, 5) | mask(2, 1);
  if (large) return high | mask(level.shift - 1, 13);
  if (level.shift >= 39) return high | mask(7, 7) | (state.vendor === "amd" ? mask(8, 8) : 0n);
  return high;
}

function targetOf(context: Context, level: PagingLevel, value: bigint, large: boolean): number {
  if (large && context.format === "pse") {
    return Number(value & mask(31, 22)) + Number((value & mask(20, 13)) >> 13n) * 2 ** 32;
  }
  if (context.layout.entryBytes === 4) return Number(value & mask(31, 12));
  return Number(value & mask(51, large ? level.shift : 12));
}

function readEntry(memory: PhysicalMemory, gpa: number, bytes: 4 | 8): bigint {
  const data = memory.read(gpa, bytes);
  const view = new DataView(data.buffer, data.byteOffset, bytes);
  return bytes === 4 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true);
}

function takeStep(context: Context, level: PagingLevel, tableGpa: number, gva: bigint): WalkStep | WalkStop {
  const { memory, layout, format, state } = context;
  const index = Number((gva >> BigInt(level.shift)) % BigInt(level.entries));
  const entryGpa = tableGpa + index * layout.entryBytes;
  if (!memory.has(entryGpa, layout.entryBytes)) return { kind: "noMemory", entry: level.entry, gpa: entryGpa };
  const value = readEntry(memory, entryGpa, layout.entryBytes);
  const flags = flagsOf(value, format === "pae" && level.shift === 30);
  const noGigabytePages = level.shift === 30 && state.gigabytePages === false;
  const large = level.leaf === "ps" && flags.pageSize && !noGigabytePages;
  const pageBytes = large || level.leaf === "always" ? 2 ** level.shift : undefined;
  const targetGpa = targetOf(context, level, value, large);
  return { entry: level.entry, tableGpa, index, entryGpa, value, flags, targetGpa, pageBytes };
}

function checkStep(context: Context, level: PagingLevel, step: WalkStep): WalkStop | undefined {
  if (!step.flags.present) return { kind: "notPresent", entry: step.entry };
  const large = step.pageBytes !== undefined && level.leaf === "ps";
  let reserved = reservedBits(context, level, large);
  if (level.leaf === "ps" && level.shift === 30 && context.state.gigabytePages === false) reserved |= mask(7, 7);
  const wrong = step.value & reserved;
  if (wrong === 0n) return undefined;
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => has(wrong, bit));
  return { kind: "reservedBit", entry: step.entry, bits };
}

function pageOf(context: Context, steps: readonly WalkStep[]): WalkPage | undefined {
  const leaf = steps.at(-1);
  if (leaf?.pageBytes === undefined) return undefined;
  const nx = (context.state.efer & EFER.NXE) !== 0n && context.layout.entryBytes === 8;
  return {
    gpa: leaf.targetGpa,
    bytes: leaf.pageBytes,
    writable: steps.every((step) => step.flags.writable),
    user: steps.every((step) => step.flags.user),
    executable: !(nx && steps.some((step) => step.flags.noExecute)),
  };
}

function deniedBy(state: PagingState, page: WalkPage, access: WalkAccess): PermissionRule | undefined {
  if (access.user && !page.user) return "user";
  if (access.kind === "write" && !page.writable && (access.user || state.cr0 & CR0.WP)) return "write";
  if (access.kind === "execute" && !page.executable) return "NX";
  if (access.user || !page.user) return undefined;
  if (access.kind === "execute") return state.cr4 & CR4.SMEP ? "SMEP" : undefined;
  return state.cr4 & CR4.SMAP && !state.alignmentCheck ? "SMAP" : undefined;
}

/** The highest entry to blame; SMEP and SMAP are about the page as a whole. */
function blame(steps: readonly WalkStep[], rule: PermissionRule): string {
  const guilty = steps.find(({ flags }) => {
    if (rule === "user") return !flags.user;
    return rule === "write" ? !flags.writable : rule === "NX" && flags.noExecute;
  });
  return (guilty ?? steps.at(-1)!).entry;
}

function errorCodeOf(context: Context, stop: WalkStop, access: WalkAccess): number | undefined {
  if (stop.kind === "notCanonical" || stop.kind === "noMemory") return undefined;
  const { cr4, efer } = context.state;
  const fetchIsTold = (cr4 & CR4.SMEP) !== 0n || ((cr4 & CR4.PAE) !== 0n && (efer & EFER.NXE) !== 0n);
  return (
    (stop.kind === "notPresent" ? 0 : 1) |
    (access.kind === "write" ? 2 : 0) |
    (access.user ? 4 : 0) |
    (stop.kind === "reservedBit" ? 8 : 0) |
    (access.kind === "execute" && fetchIsTold ? 16 : 0)
  );
}

function rootOf(format: PagingFormat, cr3: bigint): number {
  if (format === "pae") return Number(cr3 & mask(31, 5));
  return Number(cr3 & (PAGING_LAYOUTS[format].entryBytes === 4 ? mask(31, 12) : mask(51, 12)));
}

function descend(context: Context, gva: bigint): { steps: WalkStep[]; stop: WalkStop | undefined } {
  const steps: WalkStep[] = [];
  let table = rootOf(context.format, context.state.cr3);
  for (const level of context.layout.levels) {
    const step = takeStep(context, level, table, gva);
    if ("kind" in step) return { steps, stop: step };
    steps.push(step);
    const stop = checkStep(context, level, step);
    if (stop || step.pageBytes !== undefined) return { steps, stop };
    table = step.targetGpa;
  }
  return { steps, stop: undefined };
}

/** The address as its format sees it: 32 bits, or 64 with the upper ones a copy of the highest translated. */
function isCanonical(gva: bigint, bits: number): boolean {
  return bits === 32 || BigInt.asUintN(64, BigInt.asIntN(bits, gva)) === gva;
}

/**
 * Translates `gva` as the processor would. Bounded by the number of levels whatever the tables hold, also when they point
 * at themselves. Protection keys, shadow stacks and LAM are not considered. In PAE mode the PDPTEs are read from memory,
 * as AMD does; Intel uses those loaded by the last write to CR3.
 *
 * @param access Rights to check, like a supervisor read when left out but without SMAP: translation alone.
 */
export function walkPages(memory: PhysicalMemory, state: PagingState, gva: bigint, access?: WalkAccess): Walk {
  const format = pagingFormat(state);
  if (format === "none") {
    const gpa = Number(BigInt.asUintN(32, gva));
    return { gva, format, steps: [], gpa, page: undefined, stop: undefined, errorCode: undefined };
  }
  const layout = PAGING_LAYOUTS[format];
  const context: Context = { memory, state, format, layout, physicalBits: state.physicalBits ?? 52 };
  const address = layout.addressBits === 32 ? BigInt.asUintN(32, gva) : BigInt.asUintN(64, gva);
  if (!isCanonical(address, layout.addressBits)) {
    const stop: WalkStop = { kind: "notCanonical", addressBits: layout.addressBits };
    return { gva: address, format, steps: [], gpa: undefined, page: undefined, stop, errorCode: undefined };
  }
  const found = descend(context, address);
  const { steps } = found;
  let { stop } = found;
  const page = stop ? undefined : pageOf(context, steps);
  const rule = page && access && deniedBy(state, page, access);
  if (rule) stop = { kind: "permission", entry: blame(steps, rule), rule };
  const gpa = stop || !page ? undefined : page.gpa + Number(address % BigInt(page.bytes));
  const errorCode = stop && errorCodeOf(context, stop, access ?? { kind: "read" });
  return { gva: address, format, steps, gpa, page, stop, errorCode };
}

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

/** A stop in words. */
export function describeStop(stop: WalkStop): string {
  switch (stop.kind) {
    case "notCanonical":
      return `the address is not canonical: ${stop.addressBits} bits are translated`;
    case "notPresent":
      return `the ${stop.entry} is not present`;
    case "reservedBit":
      return `the ${stop.entry} has reserved bit ${stop.bits.join(", ")} set`;
    case "noMemory":
      return `no memory backs the ${stop.entry} at ${hex(stop.gpa)}`;
    case "permission":
      return PERMISSION_WORDS[stop.rule].replace("%", stop.entry);
  }
}

const PERMISSION_WORDS: Readonly<Record<PermissionRule, string>> = {
  user: "the % is for the supervisor only",
  write: "the % is read-only",
  NX: "the % forbids execution (NX)",
  SMEP: "SMEP forbids ring 0 to execute from a user page (%)",
  SMAP: "SMAP forbids ring 0 to touch a user page (%)",
};

function flagWords(flags: WalkFlags): string {
  const words: [boolean, string][] = [
    [flags.present, "P"],
    [flags.writable, "W"],
    [flags.user, "U"],
    [flags.writeThrough, "PWT"],
    [flags.cacheDisable, "PCD"],
    [flags.accessed, "A"],
    [flags.dirty, "D"],
    [flags.pageSize, "PS"],
    [flags.global, "G"],
    [flags.noExecute, "NX"],
  ];
  return words.flatMap(([set, word]) => (set ? [word] : [])).join(" ");
}

/** A walk as lines of text: one per entry, then where it ended or why it stopped. */
export function formatWalk(walk: Walk): string {
  const lines = walk.steps.map(
    (step) =>
      `${step.entry.padEnd(5)} ${hex(step.tableGpa)}[${step.index}] = ${hex(step.value)} ${flagWords(step.flags)}`,
  );
  const end = walk.stop ? describeStop(walk.stop) : `GPA ${hex(walk.gpa ?? 0)}`;
  const page = walk.page ? ` (${walk.page.bytes / 1024} KiB page)` : "";
  return [
    `GVA ${hex(walk.gva)}, ${walk.format === "none" ? "no" : walk.format} paging`,
    ...lines,
    `→ ${end}${page}`,
  ].join("\n");
}
