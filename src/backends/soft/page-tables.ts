/** Slow writes to marked pages after which all marks go: pages that are tables no longer would stay slow. */
const FORGET_AFTER = 4096;
/** A write over a present entry costs as much as so many others. */
const CHANGE = 16;
const PRESENT = 1;

/**
 * Which pages of WebAssembly memory hold page-table entries that translations came from. Writes to them take the slow
 * way, and one over a present entry empties the TLBs of all vCPUs. So a translation is never older than the tables: what
 * the guest sees does not depend on what a TLB happens to hold, nor on where runs are cut. (A processor may forget
 * translations at any time: Intel SDM Vol. 3A, "Details of TLB Use".)
 */
export class PageTables {
  readonly #words: Int32Array;
  /** One bit per page of 4 KiB. */
  readonly #marks: Int32Array;
  #slowWrites = 0;
  /** Called to empty a vCPU's TLB. */
  readonly flushes = new Set<() => void>();

  constructor(words: Int32Array) {
    this.#words = words;
    this.#marks = new Int32Array(Math.ceil(words.length / 1024 / 32));
  }

  /** A walk reads an entry at this address. */
  note(host: number): void {
    const index = host >>> 17;
    const bit = 1 << (host >>> 12);
    const marks = this.#marks[index] as number;
    if ((marks & bit) !== 0) return;
    this.#marks[index] = marks | bit;
    // Generated code may hold the page as writable.
    this.#flush();
  }

  isTable(host: number): boolean {
    return ((this.#marks[host >>> 17] as number) & (1 << (host >>> 12))) !== 0;
  }

  /** Whether a write of `bytes` bytes, inside one page, changes an entry that a translation may come from. */
  hits(host: number, bytes: number): boolean {
    if (!this.isTable(host)) return false;
    // Entries of 8 bytes and pairs of 4: a change of an upper half matters too.
    for (let at = (host >>> 3) << 1; at < (host + bytes) / 4; at += 2) {
      if ((((this.#words[at] as number) | (this.#words[at + 1] as number)) & PRESENT) !== 0) return true;
    }
    return false;
  }

  /** Whether a write to such a page needs nothing done. Called before it. */
  plain(host: number, bytes: number): boolean {
    if (this.#slowWrites >= FORGET_AFTER || this.hits(host, bytes)) return false;
    this.#slowWrites++;
    return true;
  }

  /** Called before such a page is written. */
  written(host: number, bytes: number): void {
    if (!this.isTable(host)) return;
    const change = this.hits(host, bytes);
    this.#slowWrites += change ? CHANGE : 1;
    if (this.#slowWrites > FORGET_AFTER) {
      this.#slowWrites = 0;
      this.#marks.fill(0);
      this.#flush();
    } else if (change) this.#flush();
  }

  #flush(): void {
    for (const flush of this.flushes) flush();
  }
}
