/** Bytes per bit of a code page's map: writes beside translated code leave it alone. */
const GRAIN = 64;

/** Who must know when translated bytes change. */
export interface CodeOwner {
  /** Forget every translation of the page. */
  dropPage(page: number): void;
  /** The page has code now, so writes to it must be seen. */
  watchPage(page: number): void;
}

interface CodePage {
  /** 64 bits: which grains hold translated bytes. */
  readonly grains: Uint8Array;
  readonly owners: Set<CodeOwner>;
}

/** Which guest-physical pages hold translated code, over all vCPUs of a VM. */
export class CodeTracker {
  readonly #pages = new Map<number, CodePage>();
  readonly owners = new Set<CodeOwner>();

  /** Notes that `bytes` bytes at `gpa`, inside one page, were translated by `owner`. */
  add(owner: CodeOwner, gpa: number, bytes: number): void {
    const number = Math.floor(gpa / 4096);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = { grains: new Uint8Array(4096 / GRAIN), owners: new Set() };
      this.#pages.set(number, page);
      for (const other of this.owners) other.watchPage(number);
    }
    page.owners.add(owner);
    const first = Math.floor((gpa % 4096) / GRAIN);
    const last = Math.floor(((gpa % 4096) + bytes - 1) / GRAIN);
    page.grains.fill(1, first, last + 1);
  }

  isCodePage(gpa: number): boolean {
    return this.#pages.size > 0 && this.#pages.has(Math.floor(gpa / 4096));
  }

  /** Whether a write inside one page touches translated bytes. */
  hits(gpa: number, bytes: number): boolean {
    const page = this.#pages.get(Math.floor(gpa / 4096));
    if (page === undefined) return false;
    const last = Math.floor(((gpa % 4096) + bytes - 1) / GRAIN);
    for (let i = Math.floor((gpa % 4096) / GRAIN); i <= last; i++) if (page.grains[i] !== 0) return true;
    return false;
  }

  /** Forgets the translations of a page. */
  invalidate(gpa: number): void {
    const number = Math.floor(gpa / 4096);
    const page = this.#pages.get(number);
    if (page === undefined) return;
    this.#pages.delete(number);
    for (const owner of page.owners) owner.dropPage(number);
  }
}
