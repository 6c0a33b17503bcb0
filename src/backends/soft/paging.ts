import type { CodeTracker } from "./code/tracker.ts";
import type { GuestRam } from "./ram.ts";

/** Physical address bits that page tables may use; CPUID 80000008H says the same. */
export const PHYSICAL_BITS = 40;

/** What a page walk needs to know of the processor. */
export interface PagingState {
  readonly cr0: number;
  /** CR3 without PCID and flags: physical address. */
  readonly root: number;
  readonly cr4: number;
  readonly efer: number;
  /** RFLAGS.AC. */
  readonly ac: boolean;
}

export interface Access {
  readonly write: boolean;
  readonly user: boolean;
  readonly execute: boolean;
  /** An access by the processor itself (descriptor tables): supervisor whatever the CPL, and never let through by AC. */
  readonly system: boolean;
  /**
   * Set A and D bits: not for a debugger's look (`no`). `unlessCode`: not in an entry that was translated as code, since
   * the translation may be running; the walk asks for a retry then.
   */
  readonly mark: "no" | "yes" | "unlessCode";
}

export type Walk =
  | { readonly ok: true; readonly page: number; readonly userPage: boolean; readonly canWrite: boolean }
  | { readonly ok: false; readonly errorCode: number; readonly retry?: boolean };

/** Where walks read. */
export interface WalkMemory {
  readonly ram: GuestRam;
  /** A and D bits change bytes: translations of them must go. */
  readonly tracker: CodeTracker;
}

const CR0_WP = 1 << 16;
const CR0_PG = 1 << 31;
const CR4 = { PSE: 1 << 4, PAE: 1 << 5, LA57: 1 << 12, SMEP: 1 << 20, SMAP: 1 << 21 } as const;
const EFER = { LMA: 1 << 10, NXE: 1 << 11 } as const;
const BIT = { P: 1, W: 2, U: 4, A: 0x20, D: 0x40, PS: 0x80 } as const;
/** Bits of a #PF error code. */
const CODE = { P: 1, W: 2, U: 4, RSVD: 8, I: 16 } as const;

interface Level {
  readonly shift: number;
  readonly indexBits: number;
  /** An entry here may map a large page. */
  readonly large: boolean;
}

const LONG: readonly Level[] = [
  { shift: 48, indexBits: 9, large: false },
  { shift: 39, indexBits: 9, large: false },
  { shift: 30, indexBits: 9, large: true },
  { shift: 21, indexBits: 9, large: true },
  { shift: 12, indexBits: 9, large: false },
];
const PAE: readonly Level[] = [
  { shift: 30, indexBits: 2, large: false },
  { shift: 21, indexBits: 9, large: true },
  { shift: 12, indexBits: 9, large: false },
];
const LEGACY: readonly Level[] = [
  { shift: 22, indexBits: 10, large: true },
  { shift: 12, indexBits: 10, large: false },
];

export function pagingOn(s: PagingState): boolean {
  return (s.cr0 & CR0_PG) !== 0;
}

/** Linear to guest-physical for the 4 KiB page of `linear` (low and high halves), with rights, A and D bits. */
export function walk(memory: WalkMemory, s: PagingState, low: number, high: number, access: Access): Walk {
  if (!pagingOn(s)) return { ok: true, page: (low & ~0xfff) >>> 0, userPage: true, canWrite: true };
  const wide = (s.cr4 & CR4.PAE) !== 0;
  const long = (s.efer & EFER.LMA) !== 0;
  const levels = long ? ((s.cr4 & CR4.LA57) !== 0 ? LONG : LONG.slice(1)) : wide ? PAE : LEGACY;
  return wide ? walkWide(memory, s, levels, long, low, high, access) : walkLegacy(memory, s, low, access);
}

function fault(s: PagingState, access: Access, code: number): Walk {
  const fetch = access.execute && ((s.efer & EFER.NXE) !== 0 || (s.cr4 & CR4.SMEP) !== 0);
  return {
    ok: false,
    errorCode: code | (access.write ? CODE.W : 0) | (access.user && !access.system ? CODE.U : 0) | (fetch ? CODE.I : 0),
  };
}

/** Whether the rights gathered on the way allow the access. */
function allowed(s: PagingState, access: Access, writable: boolean, userPage: boolean, noExecute: boolean): boolean {
  const user = access.user && !access.system;
  if (user && !userPage) return false;
  if (access.write && !writable && (user || (s.cr0 & CR0_WP) !== 0)) return false;
  if (access.execute) {
    if (noExecute) return false;
    return user || !userPage || (s.cr4 & CR4.SMEP) === 0;
  }
  return user || !userPage || (s.cr4 & CR4.SMAP) === 0 || (s.ac && !access.system);
}

interface Entry {
  readonly gpa: number;
  readonly host: number;
  readonly low: number;
  readonly high: number;
}

function readEntry(ram: GuestRam, gpa: number, bytes: 4 | 8): Entry | undefined {
  const slot = ram.find(gpa);
  if (slot === undefined) return undefined;
  const host = slot.host + (gpa - slot.gpa);
  ram.tables.note(host);
  return {
    gpa,
    host,
    low: ram.words[host >>> 2] as number,
    high: bytes === 8 ? (ram.words[(host >>> 2) + 1] as number) : 0,
  };
}

/** False when the entry may not be changed now. */
function mark({ ram, tracker }: WalkMemory, entry: Entry, bits: number, { mark }: Access): boolean {
  if (mark === "no" || (entry.low & bits) === bits) return true;
  if (tracker.hits(entry.gpa, 4)) {
    if (mark === "unlessCode") return false;
    tracker.invalidate(entry.gpa);
  }
  ram.words[entry.host >>> 2] = entry.low | bits;
  return true;
}

function finish(
  memory: WalkMemory,
  s: PagingState,
  access: Access,
  path: readonly Entry[],
  rights: { writable: boolean; userPage: boolean; noExecute: boolean },
  page: number,
): Walk {
  if (!allowed(s, access, rights.writable, rights.userPage, rights.noExecute)) return fault(s, access, CODE.P);
  const leaf = path.at(-1) as Entry;
  for (const entry of path) {
    const bits = entry === leaf && access.write ? BIT.A | BIT.D : BIT.A;
    if (!mark(memory, entry, bits, access)) return { ok: false, errorCode: 0, retry: true };
  }
  const user = access.user && !access.system;
  const canWrite = (rights.writable || (!user && (s.cr0 & CR0_WP) === 0)) && (access.write || (leaf.low & BIT.D) !== 0);
  return { ok: true, page, userPage: rights.userPage, canWrite };
}

function walkWide(
  memory: WalkMemory,
  s: PagingState,
  levels: readonly Level[],
  long: boolean,
  low: number,
  high: number,
  access: Access,
): Walk {
  let table = long ? s.root - (s.root % 4096) : s.root - (s.root % 32);
  const rights = { writable: true, userPage: true, noExecute: false };
  const path: Entry[] = [];
  for (const [depth, level] of levels.entries()) {
    const index = indexOf(low, high, level);
    const entry = readEntry(memory.ram, table + index * 8, 8);
    if (entry === undefined || (entry.low & BIT.P) === 0) return fault(s, access, 0);
    const topPae = !long && depth === 0;
    const large = level.large && (entry.low & BIT.PS) !== 0;
    if (reserved(s, entry, level, large, topPae)) return fault(s, access, CODE.P | CODE.RSVD);
    if (!topPae) {
      rights.writable &&= (entry.low & BIT.W) !== 0;
      rights.userPage &&= (entry.low & BIT.U) !== 0;
      rights.noExecute ||= entry.high < 0 && (s.efer & EFER.NXE) !== 0;
      path.push(entry);
    }
    const target = (entry.high & 0xfffff) * 0x1_0000_0000 + ((entry.low & ~0xfff) >>> 0);
    if (level.shift === 12) return finish(memory, s, access, path, rights, target);
    if (large) {
      const size = 2 ** level.shift;
      const inside = (level.shift === 30 ? low & 0x3fff_f000 : low & 0x1f_f000) >>> 0;
      return finish(memory, s, access, path, rights, target - (target % size) + inside);
    }
    table = target;
  }
  return fault(s, access, 0);
}

function indexOf(low: number, high: number, level: Level): number {
  const mask = (1 << level.indexBits) - 1;
  if (level.shift >= 32) return (high >>> (level.shift - 32)) & mask;
  // Bits on both sides of 32: only the directory-pointer level of long mode, and there the field is 30 to 38.
  const joined = (low >>> level.shift) | (level.shift + level.indexBits > 32 ? high << (32 - level.shift) : 0);
  return joined & mask;
}

function reserved(s: PagingState, entry: Entry, level: Level, large: boolean, topPae: boolean): boolean {
  if ((entry.high & 0x000f_ffff) >>> (PHYSICAL_BITS - 32) !== 0) return true;
  if (entry.high < 0 && (s.efer & EFER.NXE) === 0) return true;
  if (topPae) return (entry.low & 0x1e6) !== 0 || entry.high < 0;
  if ((s.efer & EFER.LMA) === 0 && (entry.high & 0x7ff0_0000) !== 0) return true;
  if (!level.large && level.shift > 12 && (entry.low & BIT.PS) !== 0) return true;
  return large && (entry.low & (level.shift === 30 ? 0x3fff_e000 : 0x1f_e000)) !== 0;
}

function walkLegacy(memory: WalkMemory, s: PagingState, low: number, access: Access): Walk {
  let table = s.root - (s.root % 4096);
  const rights = { writable: true, userPage: true, noExecute: false };
  const path: Entry[] = [];
  for (const level of LEGACY) {
    const entry = readEntry(memory.ram, table + ((low >>> level.shift) & 0x3ff) * 4, 4);
    if (entry === undefined || (entry.low & BIT.P) === 0) return fault(s, access, 0);
    rights.writable &&= (entry.low & BIT.W) !== 0;
    rights.userPage &&= (entry.low & BIT.U) !== 0;
    path.push(entry);
    if (level.large && (entry.low & BIT.PS) !== 0 && (s.cr4 & CR4.PSE) !== 0) {
      if ((entry.low & 0x20_0000) !== 0) return fault(s, access, CODE.P | CODE.RSVD);
      // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
      const page = ((entry.low >>> 13) & 0xff) * 0x1_0000_0000 + ((entry.low & 0xffc0_0000) >>> 0);
      return finish(memory, s, access, path, rights, page + (low & 0x3f_f000));
    }
    table = (entry.low & ~0xfff) >>> 0;
    if (level.shift === 12) return finish(memory, s, access, path, rights, table);
  }
  return fault(s, access, 0);
}

/**
 * The common case of `walk` without an object made: a page that is mapped, allowed, and whose A and D bits are set already.
 * Guest-physical page, or −1 to ask `walk`.
 */
export function quickWalk(
  ram: GuestRam,
  s: PagingState,
  low: number,
  high: number,
  write: boolean,
  user: boolean,
): number {
  if (!pagingOn(s)) return (low & ~0xfff) >>> 0;
  // Everything on the way must be present and accessed, writable for a write, and open to the user for the user.
  const need = BIT.P | BIT.A | (write ? BIT.W : 0) | (user ? BIT.U : 0);
  // Under SMAP what the supervisor may do with the user's pages depends on more.
  const shunned = !user && (s.cr4 & CR4.SMAP) !== 0 ? BIT.U : 0;
  const quick = { need, write, shunned };
  if ((s.cr4 & CR4.PAE) === 0) return quickLegacy(ram, s, low, quick);
  const aligned = s.root - (s.root % 4096);
  if ((s.efer & EFER.LMA) !== 0) {
    return quickWide(ram, s, low, high, quick, { table: aligned, shift: (s.cr4 & CR4.LA57) === 0 ? 39 : 48 });
  }
  const table = quickPointer(ram, s, low);
  return table < 0 ? -1 : quickWide(ram, s, low, 0, quick, { table, shift: 21 });
}

/** The page directory that one of PAE's four pointers leads to, or −1. */
function quickPointer(ram: GuestRam, s: PagingState, low: number): number {
  const gpa = s.root - (s.root % 32) + (low >>> 30) * 8;
  const slot = ram.find(gpa);
  if (slot === undefined) return -1;
  const host = slot.host + (gpa - slot.gpa);
  ram.tables.note(host);
  const entry = ram.words[host >>> 2] as number;
  const upper = ram.words[(host >>> 2) + 1] as number;
  // Present, and none of the reserved bits.
  if ((entry & (BIT.P | 0x1e6)) !== BIT.P || upper < 0 || upper > 0xff) return -1;
  return upper * 0x1_0000_0000 + ((entry & ~0xfff) >>> 0);
}

/** What a quick walk asks of all entries on the way. */
interface Quick {
  /** Bits that must be set. */
  readonly need: number;
  readonly write: boolean;
  /** Bits that must not be set in all of them. */
  readonly shunned: number;
}

/** Address bits of a table entry's high half beyond the physical ones. */
const BEYOND = 0xf_ffff & ~((1 << (PHYSICAL_BITS - 32)) - 1);

/** Through tables of 8-byte entries, from the one whose index begins at bit `shift` of the address. */
function quickWide(
  ram: GuestRam,
  s: PagingState,
  low: number,
  high: number,
  quick: Quick,
  from: { readonly table: number; readonly shift: number },
): number {
  const { need, write } = quick;
  let { table } = from;
  let common = quick.shunned;
  // Outside long mode bits 52 to 62 are reserved.
  const reserved = (s.efer & EFER.LMA) === 0 ? BEYOND | 0x7ff0_0000 : BEYOND;
  for (let { shift } = from; ; shift -= 9) {
    const index =
      shift >= 32
        ? (high >>> (shift - 32)) & 0x1ff
        : ((low >>> shift) | (shift > 23 ? high << (32 - shift) : 0)) & 0x1ff;
    const slot = ram.find(table);
    if (slot === undefined) return -1;
    const host = slot.host + (table - slot.gpa) + index * 8;
    ram.tables.note(host);
    const at = host >>> 2;
    const entry = ram.words[at] as number;
    const upper = ram.words[at + 1] as number;
    // NX does not matter to data, but it is reserved without EFER.NXE.
    if ((entry & need) !== need || (upper & reserved) !== 0) return -1;
    if (upper < 0 && (s.efer & EFER.NXE) === 0) return -1;
    common &= entry;
    const target = (upper & 0xff) * 0x1_0000_0000 + ((entry & ~0xfff) >>> 0);
    if (shift === 12) return common !== 0 || (write && (entry & BIT.D) === 0) ? -1 : target;
    if ((entry & BIT.PS) !== 0) {
      if (shift >= 39 || common !== 0 || (write && (entry & BIT.D) === 0)) return -1;
      const mask = shift === 30 ? 0x3fff_f000 : 0x1f_f000;
      if ((entry & mask & ~0x1000) !== 0) return -1;
      return target - (entry & mask & 0x1000) + (low & mask);
    }
    table = target;
  }
}

function quickLegacy(ram: GuestRam, s: PagingState, low: number, quick: Quick): number {
  const { need, write } = quick;
  let table = s.root - (s.root % 4096);
  let common = quick.shunned;
  for (let shift = 22; ; shift = 12) {
    const slot = ram.find(table);
    if (slot === undefined) return -1;
    const host = slot.host + (table - slot.gpa) + ((low >>> shift) & 0x3ff) * 4;
    ram.tables.note(host);
    const entry = ram.words[host >>> 2] as number;
    if ((entry & need) !== need || (shift === 22 && (entry & BIT.PS) !== 0)) return -1;
    common &= entry;
    table = (entry & ~0xfff) >>> 0;
    if (shift === 12) return common !== 0 || (write && (entry & BIT.D) === 0) ? -1 : table;
  }
}
