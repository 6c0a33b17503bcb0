import type { Cpu } from "../cpu.ts";
import { collectGarbage, noteGarbage } from "../garbage.ts";
import { Jump, State } from "../state.ts";
import type { Registry } from "../translate/context.ts";
import type { Mode } from "../translate/mode.ts";
import { type CodeSource, REGION_INSTRUCTIONS, type Translator } from "../translate/region.ts";
import type { Site } from "../translate/site.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { Snapshot } from "./snapshot.ts";
import type { CodeOwner } from "./tracker.ts";

/** A way into a translated region. */
export interface Entry {
  readonly region: Region;
  /** Block of its function. */
  readonly block: number;
}

/** A translated region: one function in the table. */
interface Region {
  readonly run: (block: number) => void;
  /** Index in the function table. */
  readonly func: number;
  /** What it writes to `State.region`. */
  readonly number: number;
  readonly page: Page;
  readonly mode: number;
  /** Where its translation began, in bytes from the start of the page. */
  readonly roots: readonly number[];
  readonly instructions: number;
  /** Made of regions that were translated one by one before. */
  readonly merged: boolean;
  /** By block. */
  readonly entries: readonly Entry[];
  /** What it was translated from. */
  readonly source: Snapshot;
  /** Run in which the two were last compared. */
  verified: number;
  /** Compared at every run, as the jump cache may lead to it. */
  watched: boolean;
}

/** A page of code: its guest-physical number, its linear address, and where it is in the WebAssembly memory. */
interface Place {
  readonly number: number;
  readonly linear: bigint;
  readonly host: number;
}

/** What was translated of one guest-physical page at one linear page. */
interface Page {
  readonly number: number;
  readonly linear: bigint;
  /** By bytes from the start of the page and mode. */
  readonly entries: Map<number, Entry>;
  readonly regions: Region[];
  /** Instructions executed when regions were merged last. */
  mergedAt: number;
}

/** A single instruction. */
export interface Step {
  readonly run: (block: number) => void;
  readonly rip: bigint;
  readonly bytes: Uint8Array;
  /** What it writes to `State.region`. */
  readonly region: number;
}

/** Compiled code is about this many times as large as the WebAssembly it comes from. */
const COMPILED_SIZE = 6;
/** How many times more instructions a merged region may hold. */
const MERGED = 2;
/** Instructions before a merged region is merged with more. */
const MERGE_AGAIN = 8_000_000;
/** Single instructions kept at most before all are thrown away. */
const MAX_STEPS = 2048;
/** Translations of a page that may be dropped before it goes one instruction at a time, and for how long (instructions). */
const CHURN_LIMIT = 16;
const CHURN_FORGOTTEN = 5_000_000;
/**
 * Regions compared at every run at most, and for how many runs. Then each has to be looked up once more, which takes as long
 * as a hundred comparisons: those that are no longer used drop out.
 */
const MOST_WATCHED = 64;
const RUNS_WATCHED = 4096;

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
  /** By the low half of the instruction pointer and mode. */
  readonly #steps = new Map<number, Step[]>();
  #stepCount = 0;
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

  readonly #byFunc: Region[] = [];
  /** Where the jump cache may lead, and the runs until that is asked anew. */
  #watched: Region[] = [];
  #runsLeft = RUNS_WATCHED;

  /** The entry that the jump cache names. */
  entryOf(func: number, block: number): Entry | undefined {
    return this.#byFunc[func]?.entries[block];
  }

  site(region: number, site: number): Site | undefined {
    return this.#regions[region]?.[site];
  }

  /** The caller may have written to guest memory: translated bytes are compared before they run again. */
  beginRun(): void {
    this.#run++;
    if (this.#watched.length > MOST_WATCHED || --this.#runsLeft === 0) {
      this.#unwatch();
      return;
    }
    const watched = this.#watched;
    for (let i = 0; i < watched.length; i++) if (!this.#verify(watched[i] as Region)) return;
  }

  /** Empties the jump cache: what runs from here on is looked up, and compared, first. */
  #unwatch(): void {
    for (const region of this.#watched) region.watched = false;
    this.#watched = [];
    this.#runsLeft = RUNS_WATCHED;
    this.#cpu.forgetJumps();
  }

  /** False when the guest's code is no longer what was translated: its page is dropped. */
  #verify(region: Region): boolean {
    if (region.verified === this.#run) return true;
    region.verified = this.#run;
    if (region.source.isCurrent) return true;
    this.#cpu.tracker.invalidate(region.page.number * 4096);
    return false;
  }

  /** The region entry for an instruction, translating it when new. Undefined when it must be executed on its own. */
  lookup(linear: bigint, gpa: number, mode: Mode): Entry | undefined {
    const cpu = this.#cpu;
    const number = Math.floor(gpa / 4096);
    const key = (gpa & 0xfff) * 4096 + mode.id;
    const linearPage = linear - (linear & 0xfffn);
    const entry = this.#pages
      .get(number)
      ?.find((page) => page.linear === linearPage)
      ?.entries.get(key);
    if (entry !== undefined && this.#verify(entry.region)) {
      this.#remember(linear, entry);
      return entry;
    }
    const slot = cpu.ram.find(gpa);
    if (slot === undefined) return undefined;
    const place = { number, linear: linearPage, host: slot.host + (number * 4096 - slot.gpa) };
    const translated = this.#translate(place, mode, [gpa & 0xfff]);
    if (translated !== undefined) this.#remember(linear, translated);
    return translated;
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
    cpu.set(at + Jump.func, entry.region.func);
    cpu.set(at + Jump.entry, entry.block);
    if (entry.region.watched) return;
    entry.region.watched = true;
    this.#watched.push(entry.region);
  }

  /** Translates what is reached from the roots, of which the last one counts most; in place of the regions `merged`. */
  #translate(place: Place, mode: Mode, roots: readonly number[], merged: readonly Region[] = []): Entry | undefined {
    const cpu = this.#cpu;
    const { number, linear, host } = place;
    const root = roots.at(-1) as number;
    const copy = cpu.ram.bytes.slice(host, host + 4096);
    const rip = BigInt.asUintN(mode.bits, linear - mode.csBase);
    // Nothing beyond the segment's limit is translated; running into it is found when it is fetched.
    const length = mode.csLimit < 0 ? 4096 : Math.min(4096, mode.csLimit - Number(rip) + 1);
    const source: CodeSource = { bytes: length < 4096 ? copy.subarray(0, Math.max(length, 0)) : copy, rip };
    if (root >= source.bytes.length) return undefined;
    const limit = this.#regionLimit(number) * (merged.length > 0 ? MERGED : 1);
    if (limit === 0) return undefined;
    const blocks = this.#translator.discover(source, mode, roots, this.stops, limit);
    if (!blocks.some((b) => b.start === root)) return undefined;
    const module = new ModuleBuilder();
    const func = this.#takeSlot();
    const regionNumber = this.#freeRegions.pop() ?? this.#regions.length;
    const options = { module, mode, base: cpu.base, region: regionNumber, func };
    this.#regions[regionNumber] = this.#translator.emit(source, blocks, "f", options);
    const run = this.#instantiate(module);
    cpu.table.set(func, run);
    this.counts.regions++;
    const start = Math.min(...blocks.map((b) => b.start));
    const end = Math.min(4096, Math.max(...blocks.map((b) => b.end)));
    const page = this.#page(number, linear);
    this.#release(page, merged);
    const entries: Entry[] = [];
    const region: Region = {
      run,
      func,
      number: regionNumber,
      page,
      mode: mode.id,
      roots,
      instructions: blocks.reduce((sum, b) => sum + b.instructions, 0),
      merged: merged.length > 0,
      entries,
      source: new Snapshot(cpu.ram.words, host + start, host + end),
      verified: this.#run,
      watched: false,
    };
    page.regions.push(region);
    this.#byFunc[func] = region;
    for (const [block, b] of blocks.entries()) {
      const entry = { region, block };
      entries.push(entry);
      const key = b.start * 4096 + mode.id;
      if (region.merged || !page.entries.has(key)) page.entries.set(key, entry);
    }
    cpu.tracker.add(this, number * 4096 + start, end - start);
    return page.entries.get(root * 4096 + mode.id);
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
   * Puts what was translated piece by piece around a busy place into one region, so that jumps between the pieces stay in
   * one function: interpreters, and functions that call each other. `linear` is where the guest happens to be.
   */
  consolidate(linear: bigint, gpa: number, mode: Mode): void {
    const number = Math.floor(gpa / 4096);
    const offset = gpa & 0xfff;
    const page = this.#pages.get(number)?.find((p) => p.linear === linear - BigInt(offset));
    const busy = page?.entries.get(offset * 4096 + mode.id)?.region;
    if (page === undefined || busy === undefined || busy.merged || this.stops.size > 0) return;
    const distance = (region: Region) =>
      region === busy ? -1 : Math.min(...region.roots.map((root) => Math.abs(root - offset)));
    const near = page.regions.filter((r) => r.mode === mode.id).sort((a, b) => distance(a) - distance(b));
    let room = this.#regionLimit(number) * MERGED;
    const chosen = near.filter((region) => {
      const fits = region.instructions <= room;
      if (fits) room -= region.instructions;
      return fits;
    });
    if (chosen.length < 2) return;
    // A place where code turns up bit by bit is not translated as a whole every time.
    const { instructions } = this.#cpu;
    if (chosen.some((region) => region.merged) && instructions - page.mergedAt < MERGE_AGAIN) return;
    page.mergedAt = instructions;
    const slot = this.#cpu.ram.find(gpa);
    if (slot === undefined) return;
    const roots = chosen.reverse().flatMap((region) => region.roots);
    const place = { number, linear: page.linear, host: slot.host + (number * 4096 - slot.gpa) };
    this.#translate(place, mode, roots, chosen);
  }

  /** Gives up regions of a page that another one replaces. */
  #release(page: Page, regions: readonly Region[]): void {
    if (regions.length === 0) return;
    for (const region of regions) {
      this.#free(region);
      page.regions.splice(page.regions.indexOf(region), 1);
    }
    for (const [key, entry] of page.entries) if (regions.includes(entry.region)) page.entries.delete(key);
    this.#unwatch();
  }

  #free({ func, number }: Region): void {
    this.#cpu.table.set(func, null);
    this.#freeSlots.push(func);
    this.#regions[number] = undefined;
    this.#freeRegions.push(number);
  }

  #page(number: number, linear: bigint): Page {
    let pages = this.#pages.get(number);
    if (pages === undefined) {
      pages = [];
      this.#pages.set(number, pages);
    }
    let page = pages.find((p) => p.linear === linear);
    if (page === undefined) {
      page = { number, linear, entries: new Map(), regions: [], mergedAt: 0 };
      pages.push(page);
    }
    return page;
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

  /** The instruction in the `most` bytes of `memory` at `at`, as a function of its own. Undefined when it takes more. */
  step(rip: bigint, memory: Uint8Array, at: number, most: number, mode: Mode): Step | undefined {
    const key = Number(rip & 0xffff_ffffn) * 4096 + mode.id;
    for (const known of this.#steps.get(key) ?? []) {
      if (known.rip === rip && known.bytes.length <= most && isAt(known.bytes, memory, at)) return known;
    }
    const source: CodeSource = { bytes: memory.subarray(at, at + most), rip };
    const [block] = this.#translator.discover(source, mode, [0], new Set(), 1);
    if (block === undefined || block.start !== 0) return undefined;
    if (this.#stepCount >= MAX_STEPS) this.#forgetSteps();
    const module = new ModuleBuilder();
    const region = this.#freeRegions.pop() ?? this.#regions.length;
    const options = { module, mode, base: this.#cpu.base, region, func: -1 };
    this.#regions[region] = this.#translator.emit(source, [block], "f", options);
    const step = { run: this.#instantiate(module), rip, bytes: source.bytes.slice(0, block.end), region };
    this.counts.steps++;
    this.#stepCount++;
    const others = this.#steps.get(key);
    if (others === undefined) this.#steps.set(key, [step]);
    else others.push(step);
    return step;
  }

  #forgetSteps(): void {
    for (const { region } of [...this.#steps.values()].flat()) {
      this.#regions[region] = undefined;
      this.#freeRegions.push(region);
    }
    this.#steps.clear();
    this.#stepCount = 0;
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
      for (const region of page.regions) this.#free(region);
    }
    this.#unwatch();
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
    this.#unwatch();
  }

  dispose(): void {
    this.#cpu.tracker.owners.delete(this);
    this.#pages.clear();
    this.#steps.clear();
    collectGarbage();
  }
}

function isAt(bytes: Uint8Array, memory: Uint8Array, at: number): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== memory[at + i]) return false;
  return true;
}
