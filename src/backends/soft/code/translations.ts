import type { Cpu } from "../cpu.ts";
import { collectGarbage, noteGarbage } from "../garbage.ts";
import { Jump, State } from "../state.ts";
import type { Registry } from "../translate/context.ts";
import type { Mode } from "../translate/mode.ts";
import { type CodeSource, REGION_INSTRUCTIONS, type Translator } from "../translate/region.ts";
import type { Site } from "../translate/site.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import type { CodeOwner } from "./tracker.ts";

/** A way into a translated region. */
export interface Entry {
  readonly run: (entry: number) => void;
  /** Index in the function table. */
  readonly func: number;
  /** Block of that function. */
  readonly block: number;
  readonly page: Page;
}

/** What was translated of one guest-physical page at one linear page, and the bytes it was translated from. */
interface Page {
  readonly number: number;
  readonly linear: bigint;
  readonly entries: Map<number, Entry>;
  readonly funcs: { slot: number; region: number; mode: number }[];
  /** Where translations began, by mode, and how many of those were merged, and when. */
  readonly roots: Map<number, Set<number>>;
  readonly merged: Map<number, { readonly roots: number; readonly at: number }>;
  readonly host: number;
  /** Range of the page that was translated, and its bytes then. */
  start: number;
  end: number;
  copy: Uint8Array;
  /** The same range of guest memory. */
  live: Uint8Array;
  /** Run in which the bytes were last compared. */
  verified: number;
}

/** Compiled code is about this many times as large as the WebAssembly it comes from. */
const COMPILED_SIZE = 6;
/** How many times more instructions a merged region may hold. */
const MERGED = 2;
/** Instructions before a page is merged once more, unless it has twice as many roots by then. */
const MERGE_AGAIN = 8_000_000;
/** Single instructions kept at most before all are thrown away. */
const MAX_STEPS = 2048;
/** Translations of a page that may be dropped before it goes one instruction at a time, and for how long (instructions). */
const CHURN_LIMIT = 16;
const CHURN_FORGOTTEN = 5_000_000;
/** Pages compared at every run; beyond that each is compared when it is first entered. */
const EAGER_PAGES = 8;

/** The translated code of one vCPU. */
export class Translations implements CodeOwner {
  readonly #cpu: Cpu;
  readonly #translator: Translator;
  readonly #registry: Registry;
  readonly #loadMore: () => boolean;
  /** Helpers of the registry that are among the imports. */
  #bound = 0;
  readonly #imports: Record<string, WebAssembly.Memory | WebAssembly.Table | CallableFunction>;
  readonly #pages = new Map<number, Page[]>();
  readonly #regions: (readonly Site[] | undefined)[] = [];
  readonly #freeRegions: number[] = [];
  readonly #freeSlots: number[] = [];
  #nextSlot = 0;
  #steps = new Map<string, { run: (entry: number) => void; region: number }>();
  #run = 0;
  /** Pages whose code was changed, and when last. */
  readonly #churn = new Map<number, { drops: number; since: number }>();
  /** Instruction pointers where translation stops: breakpoints. */
  stops: ReadonlySet<bigint> = new Set();
  /** How often something was translated, for benches and tests. */
  readonly counts = { regions: 0, steps: 0, drops: 0 };

  constructor(
    cpu: Cpu,
    engine: { readonly translator: Translator; readonly registry: Registry; readonly loadMore: () => boolean },
    imports: Record<string, WebAssembly.Memory | WebAssembly.Table | CallableFunction>,
  ) {
    this.#cpu = cpu;
    this.#translator = engine.translator;
    this.#registry = engine.registry;
    this.#loadMore = engine.loadMore;
    this.#imports = imports;
    cpu.tracker.owners.add(this);
  }

  readonly #bySlot: { run: (entry: number) => void; page: Page; entries: Entry[] }[] = [];

  /** The entry that the jump cache names. */
  entryOf(func: number, block: number): Entry | undefined {
    const known = this.#bySlot[func];
    return known?.entries[block];
  }

  site(region: number, site: number): Site | undefined {
    return this.#regions[region]?.[site];
  }

  /** The caller may have written to guest memory: translated bytes are compared before they run again. */
  beginRun(): void {
    this.#run++;
    if (this.#pages.size > EAGER_PAGES) {
      this.#cpu.forgetJumps();
      return;
    }
    for (const pages of this.#pages.values()) for (const page of pages) this.#verify(page);
  }

  #verify(page: Page): boolean {
    if (page.verified === this.#run) return true;
    page.verified = this.#run;
    const same = sameBytes(page);
    if (!same) this.#cpu.tracker.invalidate(page.number * 4096);
    return same;
  }

  /** The region entry for an instruction, translating it when new. Undefined when it must be executed on its own. */
  lookup(linear: bigint, gpa: number, mode: Mode): Entry | undefined {
    const cpu = this.#cpu;
    const number = Math.floor(gpa / 4096);
    const key = (gpa & 0xfff) * 4096 + mode.id;
    const linearPage = linear - (linear & 0xfffn);
    // All of them, whatever is looked for: translating more of a page takes its bytes for those of what it has already.
    const pages = this.#pages.get(number) ?? [];
    const current = pages.filter((p) => this.#verify(p)).length === pages.length;
    const page = current ? pages.find((p) => p.entries.has(key) && p.linear === linearPage) : undefined;
    if (page !== undefined) {
      const entry = page.entries.get(key) as Entry;
      this.#remember(linear, entry);
      return entry;
    }
    const slot = cpu.ram.find(gpa);
    if (slot === undefined) return undefined;
    const entry = this.#translate(linear, gpa, slot.host + (number * 4096 - slot.gpa), mode);
    if (entry !== undefined) this.#remember(linear, entry);
    return entry;
  }

  #remember(linear: bigint, entry: Entry): void {
    // Breakpoints are looked for between regions, so that no region may lead into another by itself.
    if (this.stops.size > 0) return;
    const low = Number(linear & 0xffff_ffffn);
    const index = (low ^ Number((linear >> 12n) & 0xffff_ffffn)) & (Jump.entries - 1);
    const at = State.jumps + index * Jump.size;
    const cpu = this.#cpu;
    cpu.set64(at + Jump.linear, linear);
    cpu.set(at + Jump.mode, cpu.get(State.jumpTag));
    cpu.set(at + Jump.func, entry.func);
    cpu.set(at + Jump.entry, entry.block);
  }

  #translate(linear: bigint, gpa: number, host: number, mode: Mode, merge: readonly number[] = []): Entry | undefined {
    const cpu = this.#cpu;
    const offset = gpa & 0xfff;
    const linearPage = linear - BigInt(offset);
    const number = Math.floor(gpa / 4096);
    const copy = cpu.ram.bytes.slice(host, host + 4096);
    const rip = BigInt.asUintN(mode.bits, linearPage - mode.csBase);
    // Nothing beyond the segment's limit is translated; running into it is found when it is fetched.
    const length = mode.csLimit < 0 ? 4096 : Math.min(4096, mode.csLimit - Number(rip) + 1);
    const source: CodeSource = { bytes: length < 4096 ? copy.subarray(0, Math.max(length, 0)) : copy, rip };
    if (offset >= source.bytes.length) return undefined;
    const limit = this.#regionLimit(number);
    if (limit === 0) return undefined;
    const most = merge.length > 0 ? limit * MERGED : limit;
    const blocks = this.#translator.discover(source, mode, [offset, ...merge], this.stops, most);
    if (!blocks.some((b) => b.start === offset)) return undefined;
    const module = new ModuleBuilder();
    const slot = this.#takeSlot();
    const region = this.#freeRegions.pop() ?? this.#regions.length;
    const sites = this.#translator.emit(source, blocks, "f", { module, mode, base: cpu.base, region, func: slot });
    this.#regions[region] = sites;
    const run = this.#instantiate(module);
    this.#cpu.table.set(slot, run);
    this.counts.regions++;
    const start = Math.min(...blocks.map((b) => b.start));
    const end = Math.min(4096, Math.max(...blocks.map((b) => b.end)));
    const page = this.#page(number, linearPage, host, copy, start, end);
    if (merge.length > 0) this.#release(page, mode);
    page.funcs.push({ slot, region, mode: mode.id });
    const roots = page.roots.get(mode.id);
    if (roots === undefined) page.roots.set(mode.id, new Set([offset]));
    else roots.add(offset);
    const entries = blocks.map((_, block) => ({ run, func: slot, block, page }));
    this.#bySlot[slot] = { run, page, entries };
    for (const [block, b] of blocks.entries()) {
      const key = b.start * 4096 + mode.id;
      if (merge.length > 0 || !page.entries.has(key)) page.entries.set(key, entries[block] as Entry);
    }
    cpu.tracker.add(this, number * 4096 + start, end - start);
    return page.entries.get(offset * 4096 + mode.id);
  }

  /**
   * Instructions to translate at once: fewer where the guest keeps changing its code, in the end none, so that such code
   * goes one instruction at a time.
   */
  #regionLimit(page: number): number {
    const churn = this.#churn.get(page);
    if (churn === undefined) return REGION_INSTRUCTIONS;
    if (this.#cpu.instructions - churn.since > CHURN_FORGOTTEN) {
      this.#churn.delete(page);
      return REGION_INSTRUCTIONS;
    }
    return churn.drops > CHURN_LIMIT ? 0 : REGION_INSTRUCTIONS >> Math.min(churn.drops >> 1, 6);
  }

  /**
   * Puts what was translated piece by piece on a busy page into one region, so that jumps between the pieces stay in one
   * function: interpreters, and functions that call each other. `linear` is where the guest is when its slice ends.
   */
  consolidate(linear: bigint, gpa: number, mode: Mode): void {
    const number = Math.floor(gpa / 4096);
    const linearPage = linear - (linear & 0xfffn);
    const page = this.#pages.get(number)?.find((p) => p.linear === linearPage);
    if (page === undefined || this.stops.size > 0 || page.funcs.filter((f) => f.mode === mode.id).length < 2) return;
    const roots = [...(page.roots.get(mode.id) ?? [])];
    // What did not fit the region last time comes back as roots that are known: not again for those.
    const { roots: known, at } = page.merged.get(mode.id) ?? { roots: 1, at: 0 };
    const { instructions } = this.#cpu;
    if (roots.length <= known || (roots.length < known * 2 && instructions - at < MERGE_AGAIN)) return;
    page.merged.set(mode.id, { roots: roots.length, at: instructions });
    const [first, ...rest] = roots;
    const slot = this.#cpu.ram.find(gpa);
    if (first === undefined || slot === undefined) return;
    const start = linearPage + BigInt(first);
    this.#translate(start, number * 4096 + first, slot.host + (number * 4096 - slot.gpa), mode, rest);
  }

  /** Gives up the functions of a page and mode that another one is about to replace. */
  #release(page: Page, mode: Mode): void {
    for (const f of page.funcs) if (f.mode === mode.id) this.#free(f);
    page.funcs.splice(0, page.funcs.length, ...page.funcs.filter((f) => f.mode !== mode.id));
    for (const key of [...page.entries.keys()]) if ((key & 0xfff) === mode.id) page.entries.delete(key);
    this.#cpu.forgetJumps();
  }

  #free({ slot, region }: { slot: number; region: number }): void {
    this.#cpu.table.set(slot, null);
    this.#freeSlots.push(slot);
    this.#regions[region] = undefined;
    this.#freeRegions.push(region);
  }

  #page(number: number, linearPage: bigint, host: number, copy: Uint8Array, start: number, end: number): Page {
    let pages = this.#pages.get(number);
    if (pages === undefined) {
      pages = [];
      this.#pages.set(number, pages);
    }
    let page = pages.find((p) => p.linear === linearPage);
    if (page === undefined) {
      page = {
        number,
        linear: linearPage,
        entries: new Map(),
        funcs: [],
        roots: new Map(),
        merged: new Map(),
        host,
        start,
        end,
        copy: copy.slice(start, end),
        live: this.#live(host, start, end),
        verified: this.#run,
      };
      pages.push(page);
      return page;
    }
    page.start = Math.min(page.start, start);
    page.end = Math.max(page.end, end);
    page.copy = copy.slice(page.start, page.end);
    page.live = this.#live(host, page.start, page.end);
    return page;
  }

  #live(host: number, start: number, end: number): Uint8Array {
    return this.#cpu.ram.bytes.subarray(host + start, host + end);
  }

  #instantiate(module: ModuleBuilder): (entry: number) => void {
    const { memory } = this.#cpu.ram;
    const bytes = module.finish(memory.buffer.byteLength / 65536, 0);
    noteGarbage(bytes.length * COMPILED_SIZE);
    this.#bindHelpers();
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { v: this.#imports });
    return instance.exports.f as (entry: number) => void;
  }

  /** Helpers may have joined the registry since the last module. */
  #bindHelpers(): void {
    const { helpers } = this.#registry;
    if (helpers.size === this.#bound) return;
    this.#bound = helpers.size;
    for (const [name, helper] of helpers) {
      this.#imports[`helper:${name}`] ??= (...args: number[]) => helper(this.#cpu, ...args);
    }
  }

  #takeSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) return free;
    const { table } = this.#cpu;
    if (this.#nextSlot === table.length) table.grow(table.length);
    return this.#nextSlot++;
  }

  /** One instruction as a function of its own; `bytes` holds the instruction and maybe more. */
  step(rip: bigint, bytes: Uint8Array, mode: Mode): { run: (entry: number) => void; length: number } | undefined {
    const source: CodeSource = { bytes, rip };
    const [block] = this.#translator.discover(source, mode, [0], new Set(), 1);
    if (block === undefined || block.start !== 0) return undefined;
    const text = String.fromCharCode(...bytes.subarray(0, block.end));
    const key = `${mode.id}:${rip}:${text}`;
    let known = this.#steps.get(key);
    if (known === undefined) {
      if (this.#steps.size >= MAX_STEPS) this.#forgetSteps();
      const module = new ModuleBuilder();
      const region = this.#freeRegions.pop() ?? this.#regions.length;
      const options = { module, mode, base: this.#cpu.base, region, func: -1 };
      this.#regions[region] = this.#translator.emit(source, [block], "f", options);
      known = { run: this.#instantiate(module), region };
      this.counts.steps++;
      this.#steps.set(key, known);
    }
    return { run: known.run, length: block.end };
  }

  #forgetSteps(): void {
    for (const { region } of this.#steps.values()) {
      this.#regions[region] = undefined;
      this.#freeRegions.push(region);
    }
    this.#steps = new Map();
    collectGarbage();
  }

  dropPage(number: number): void {
    const pages = this.#pages.get(number);
    if (pages === undefined) return;
    this.#pages.delete(number);
    this.counts.drops++;
    const churn = this.#churn.get(number);
    if (churn === undefined) this.#churn.set(number, { drops: 1, since: this.#cpu.instructions });
    else {
      churn.drops++;
      churn.since = this.#cpu.instructions;
    }
    for (const page of pages) {
      for (const f of page.funcs) this.#free(f);
    }
    this.#cpu.forgetJumps();
  }

  watchPage(_number: number): void {
    this.#cpu.flushTlb();
  }

  /** An instruction was reached whose emitter was not loaded: translate again with all of them. */
  complete(): void {
    this.#loadMore();
    this.#forgetSteps();
    this.dropAll();
  }

  /** Forgets everything: breakpoints changed, or memory was mapped anew. */
  dropAll(): void {
    for (const number of [...this.#pages.keys()]) this.#cpu.tracker.invalidate(number * 4096);
    this.#cpu.forgetJumps();
  }

  dispose(): void {
    this.#cpu.tracker.owners.delete(this);
    this.#pages.clear();
    this.#steps.clear();
    collectGarbage();
  }
}

/** Short ranges are compared here: a call into the runtime costs more. */
const SHORT = 48;

function sameBytes(page: Page): boolean {
  const { copy, live } = page;
  if (copy.length > SHORT) return Buffer.compare(live, copy) === 0;
  for (let i = 0; i < copy.length; i++) if (copy[i] !== live[i]) return false;
  return true;
}
