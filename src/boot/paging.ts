/**
 * The five ways x86 lays out page tables, as data for the builder and for the walk.
 *
 * @see Intel SDM Vol. 3A, "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging"
 */

/** `32-bit`: two levels, 4 KiB pages; `pse`: the same with 4 MiB pages (CR4.PSE). */
export type PagingFormat = "32-bit" | "pse" | "pae" | "4-level" | "5-level";

/** One level of tables, from the root down. */
export interface PagingLevel {
  /** The manual's name of an entry, e.g. `PDE`. */
  readonly entry: string;
  /** The manual's name of the table. */
  readonly table: string;
  /** Lowest address bit this level's index is taken from. */
  readonly shift: number;
  /** Entries in one table. */
  readonly entries: number;
  /** Whether an entry here can map a page: always, or when its PS bit is set. */
  readonly leaf: "never" | "ps" | "always";
}

/** A layout of page tables. */
export interface PagingLayout {
  readonly levels: readonly PagingLevel[];
  readonly entryBytes: 4 | 8;
  /** Width of a linear address. */
  readonly addressBits: 32 | 48 | 57;
}

const PML5: PagingLevel = { entry: "PML5E", table: "PML5", shift: 48, entries: 512, leaf: "never" };
const PML4: PagingLevel = { entry: "PML4E", table: "PML4", shift: 39, entries: 512, leaf: "never" };
const PDPT: PagingLevel = { entry: "PDPTE", table: "PDPT", shift: 30, entries: 512, leaf: "ps" };
const PD: PagingLevel = { entry: "PDE", table: "page directory", shift: 21, entries: 512, leaf: "ps" };
const PT: PagingLevel = { entry: "PTE", table: "page table", shift: 12, entries: 512, leaf: "always" };
const PAE_PDPT: PagingLevel = { ...PDPT, entries: 4, leaf: "never" };
const PD32: PagingLevel = { ...PD, shift: 22, entries: 1024, leaf: "never" };
const PT32: PagingLevel = { ...PT, entries: 1024 };

export const PAGING_LAYOUTS: Readonly<Record<PagingFormat, PagingLayout>> = {
  "32-bit": { levels: [PD32, PT32], entryBytes: 4, addressBits: 32 },
  pse: { levels: [{ ...PD32, leaf: "ps" }, PT32], entryBytes: 4, addressBits: 32 },
  pae: { levels: [PAE_PDPT, PD, PT], entryBytes: 8, addressBits: 32 },
  "4-level": { levels: [PML4, PDPT, PD, PT], entryBytes: 8, addressBits: 48 },
  "5-level": { levels: [PML5, PML4, PDPT, PD, PT], entryBytes: 8, addressBits: 57 },
};

/** Bits of a page-table entry. NX is bit 63 of the 8-byte formats. */
export const PTE = {
  present: 1 << 0,
  writable: 1 << 1,
  user: 1 << 2,
  writeThrough: 1 << 3,
  cacheDisable: 1 << 4,
  accessed: 1 << 5,
  dirty: 1 << 6,
  pageSize: 1 << 7,
  global: 1 << 8,
} as const;
export const PTE_NX = 1n << 63n;
