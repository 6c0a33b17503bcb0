import { PAGING_LAYOUTS, type PagingFormat, type PagingLayout, type PagingLevel, PTE } from "./paging.ts";

/** A range of linear addresses and what it maps to. */
export interface PageMapping {
  /** First linear address, a multiple of 4096; canonical (`0xffff800000000000n` and up for the high half). */
  readonly gva: number | bigint;
  /** First guest-physical address, a multiple of 4096. */
  readonly gpa: number;
  /** Length, a multiple of 4096. */
  readonly bytes: number;
  /** Default true. */
  readonly writable?: boolean;
  /** Whether ring 3 may use it. Default false. */
  readonly user?: boolean;
  /** Default false. Needs EFER.NXE, and no 32-bit format has it. */
  readonly noExecute?: boolean;
  readonly global?: boolean;
  readonly writeThrough?: boolean;
  readonly cacheDisable?: boolean;
  /** Largest page to use in this range. Default: that of the whole build. */
  readonly pageBytes?: PageBytes;
}

/** 4 KiB, 2 MiB, 4 MiB or 1 GiB. */
export type PageBytes = 0x1000 | 0x200000 | 0x400000 | 0x40000000;

export interface PageTableOptions {
  readonly format: PagingFormat;
  /** Where the tables go: guest-physical, a multiple of 4096. The root comes first. */
  readonly gpa: number;
  /** Largest page to use. Default 4 MiB for `pse`, 2 MiB for the 8-byte formats (not every CPU has 1 GiB pages). */
  readonly pageBytes?: PageBytes;
}

/** Page tables ready to be written to guest memory. */
export interface PageTables {
  /** Guest-physical address of the root: CR3. */
  readonly root: number;
  /** All tables, back to back from `root`. */
  readonly bytes: Uint8Array;
  /** One entry per table of 4 KiB in `bytes`, in order. */
  readonly tables: readonly { readonly gpa: number; readonly table: string }[];
  /** Number of pages mapped, by page size in bytes. */
  readonly pages: ReadonlyMap<number, number>;
}

const PAGE = 4096;
const SMALL_PAGE: PageBytes = 0x1000;

/** A range in page frame numbers: below 2^45 even for 57-bit addresses, so numbers are exact. */
interface Frames {
  from: number;
  to: number;
  target: number;
  flags: number;
  noExecute: boolean;
  largest: number;
  readonly source: PageMapping;
}

class Table {
  readonly #view: DataView;
  readonly bytes = new Uint8Array(PAGE);
  readonly children = new Map<number, Table>();
  readonly gpa: number;
  readonly level: number;

  constructor(gpa: number, level: number) {
    this.gpa = gpa;
    this.level = level;
    this.#view = new DataView(this.bytes.buffer);
  }

  /** ORs `low` into the entry and sets its address and NX. */
  set(layout: PagingLayout, index: number, low: number, gpa: number, noExecute: boolean): void {
    const at = index * layout.entryBytes;
    const address = gpa % 2 ** 32;
    this.#view.setUint32(at, (this.#view.getUint32(at, true) | low | address) >>> 0, true);
    if (layout.entryBytes === 4) return;
    this.#view.setUint32(at + 4, (Math.floor(gpa / 2 ** 32) | (noExecute ? 0x80000000 : 0)) >>> 0, true);
  }
}

const hex = (value: number | bigint) => `0x${value.toString(16)}`;
const describe = (range: PageMapping) => `${hex(range.bytes)} bytes at ${hex(range.gva)}`;

/** The range's first page frame number, with the sign-extension of a canonical address taken off. */
function frameOf(range: PageMapping, addressBits: number): number {
  const gva = BigInt(range.gva);
  const bits = BigInt(addressBits);
  const low = BigInt.asUintN(addressBits, gva);
  const canonical = addressBits === 32 ? low : BigInt.asUintN(64, BigInt.asIntN(addressBits, gva));
  const last = low + BigInt(range.bytes) - 1n;
  const half = 1n << (bits - 1n);
  const crossesHole = addressBits !== 32 && low < half && last >= half;
  if (gva !== canonical || last >> bits || crossesHole) {
    throw new RangeError(`Cannot map ${describe(range)}: addresses of this format have ${addressBits} bits`);
  }
  return Number(low / BigInt(PAGE));
}

function checkRange(range: PageMapping, format: PagingFormat): void {
  if (!(Number.isSafeInteger(range.bytes) && range.bytes > 0)) {
    throw new RangeError(`Cannot map ${range.bytes} bytes at ${hex(range.gva)}: the length must be positive`);
  }
  if (!(Number.isSafeInteger(range.gpa) && range.gpa >= 0)) {
    throw new RangeError(`Cannot map to ${range.gpa}: it is no guest-physical address`);
  }
  if (BigInt(range.gva) % 4096n !== 0n || range.gpa % PAGE !== 0 || range.bytes % PAGE !== 0) {
    throw new RangeError(`Cannot map ${describe(range)} to ${hex(range.gpa)}: all must be multiples of 4096`);
  }
  const physicalBits = format === "32-bit" ? 32 : format === "pse" ? 40 : 52;
  if (range.gpa + range.bytes > 2 ** physicalBits) {
    throw new RangeError(`Cannot map to ${hex(range.gpa)}: ${format} entries hold ${physicalBits} address bits`);
  }
  if (range.noExecute && PAGING_LAYOUTS[format].entryBytes === 4) {
    throw new RangeError(`Cannot map ${describe(range)} without execute: ${format} entries have no NX bit`);
  }
}

function flagsOf(range: PageMapping): number {
  return (
    PTE.present |
    ((range.writable ?? true) ? PTE.writable : 0) |
    (range.user ? PTE.user : 0) |
    (range.writeThrough ? PTE.writeThrough : 0) |
    (range.cacheDisable ? PTE.cacheDisable : 0) |
    (range.global ? PTE.global : 0)
  );
}

function toFrames(range: PageMapping, options: PageTableOptions, largest: number): Frames {
  checkRange(range, options.format);
  const from = frameOf(range, PAGING_LAYOUTS[options.format].addressBits);
  return {
    from,
    to: from + range.bytes / PAGE,
    target: range.gpa / PAGE,
    flags: flagsOf(range),
    noExecute: range.noExecute ?? false,
    largest: (range.pageBytes ?? largest) / PAGE,
    source: range,
  };
}

/** Sorts, refuses overlaps, and joins neighbours that map on alike, so that a large page can span them. */
function joinNeighbours(all: Frames[]): Frames[] {
  const joined: Frames[] = [];
  for (const next of all.toSorted((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last && next.from < last.to) {
      throw new RangeError(`Cannot map ${describe(next.source)}: it overlaps ${describe(last.source)}`);
    }
    const goesOn =
      last !== undefined &&
      last.to === next.from &&
      last.target + (last.to - last.from) === next.target &&
      last.flags === next.flags &&
      last.noExecute === next.noExecute &&
      last.largest === next.largest;
    if (goesOn) last.to = next.to;
    else joined.push({ ...next });
  }
  return joined;
}

function pageSizesOf(layout: PagingLayout): number[] {
  return layout.levels.filter((level) => level.leaf !== "never").map((level) => 2 ** level.shift);
}

function checkPageBytes(format: PagingFormat, pageBytes: number): void {
  const sizes = pageSizesOf(PAGING_LAYOUTS[format]);
  if (!sizes.includes(pageBytes)) {
    throw new RangeError(`Cannot use pages of ${pageBytes} bytes: ${format} has ${sizes.join(" and ")}`);
  }
}

/** Low bits of a 4 MiB entry's address above 4 GiB (PSE-36): bits 39:32 go to 20:13. */
function largeAddress(layout: PagingLayout, gpa: number): number {
  if (layout.entryBytes === 8) return gpa;
  return (gpa % 2 ** 32) + Math.floor(gpa / 2 ** 32) * 2 ** 13;
}

class TableBuilder {
  readonly layout: PagingLayout;
  readonly tables: Table[] = [];
  readonly pages = new Map<number, number>();
  readonly #gpa: number;

  constructor(options: PageTableOptions) {
    this.layout = PAGING_LAYOUTS[options.format];
    this.#gpa = options.gpa;
    this.allocate(0);
  }

  allocate(level: number): Table {
    const table = new Table(this.#gpa + this.tables.length * PAGE, level);
    this.tables.push(table);
    return table;
  }

  map(frames: Frames): void {
    this.#fill(this.tables[0]!, frames, frames.from, frames.to);
  }

  #fill(table: Table, frames: Frames, from: number, to: number): void {
    const level = this.layout.levels[table.level]!;
    const span = 2 ** (level.shift - 12);
    for (let at = from; at < to; ) {
      const end = Math.min(to, (Math.floor(at / span) + 1) * span);
      const index = Math.floor(at / span) % level.entries;
      const target = frames.target + (at - frames.from);
      if (this.#isLeaf(level, frames, at, end, target)) this.#setLeaf(table, level, index, target * PAGE, frames);
      else this.#fill(this.#child(table, index, frames), frames, at, end);
      at = end;
    }
  }

  #isLeaf(level: PagingLevel, frames: Frames, at: number, end: number, target: number): boolean {
    if (level.leaf !== "ps") return level.leaf === "always";
    const span = 2 ** (level.shift - 12);
    return end - at === span && span <= frames.largest && target % span === 0;
  }

  #setLeaf(table: Table, level: PagingLevel, index: number, gpa: number, frames: Frames): void {
    const large = level.leaf === "ps";
    const address = large ? largeAddress(this.layout, gpa) : gpa;
    if (!large && this.layout.entryBytes === 4 && gpa >= 2 ** 32) {
      throw new RangeError(`Cannot map ${describe(frames.source)} to ${hex(gpa)}: only 4 MiB pages reach above 4 GiB`);
    }
    table.set(this.layout, index, frames.flags | (large ? PTE.pageSize : 0), address, frames.noExecute);
    const pageBytes = 2 ** level.shift;
    this.pages.set(pageBytes, (this.pages.get(pageBytes) ?? 0) + 1);
  }

  #child(table: Table, index: number, frames: Frames): Table {
    let child = table.children.get(index);
    if (!child) {
      child = this.allocate(table.level + 1);
      table.children.set(index, child);
    }
    // A PAE PDPTE has no R/W and U/S: those bits are reserved there.
    const isPdpte = this.layout.levels.length === 3 && table.level === 0;
    const rights = isPdpte ? 0 : frames.flags & (PTE.writable | PTE.user);
    table.set(this.layout, index, PTE.present | rights, child.gpa, false);
    return child;
  }
}

/**
 * Page tables that map `ranges`, with the largest pages that fit and no table that is not needed. Tables above a page get
 * write and user rights when anything below has them, so the page's own entry decides.
 *
 * @throws {RangeError} for an overlap, an address outside the format, or an alignment no page has.
 * @see Intel SDM Vol. 3A, "Paging"
 */
export function buildPageTables(ranges: readonly PageMapping[], options: PageTableOptions): PageTables {
  const layout = PAGING_LAYOUTS[options.format];
  const sizes = pageSizesOf(layout);
  const largest = options.pageBytes ?? sizes.find((bytes) => bytes <= 0x400000) ?? SMALL_PAGE;
  if (!(Number.isSafeInteger(options.gpa) && options.gpa >= 0 && options.gpa % PAGE === 0)) {
    throw new RangeError(`Cannot put page tables at ${hex(options.gpa)}: it must be a multiple of 4096`);
  }
  checkPageBytes(options.format, largest);
  for (const range of ranges) if (range.pageBytes) checkPageBytes(options.format, range.pageBytes);
  const builder = new TableBuilder(options);
  for (const frames of joinNeighbours(ranges.map((range) => toFrames(range, options, largest)))) builder.map(frames);
  const bytes = new Uint8Array(builder.tables.length * PAGE);
  builder.tables.forEach((table, index) => {
    bytes.set(table.bytes, index * PAGE);
  });
  return {
    root: options.gpa,
    bytes,
    tables: builder.tables.map(({ gpa, level }) => ({ gpa, table: layout.levels[level]!.table })),
    pages: builder.pages,
  };
}
