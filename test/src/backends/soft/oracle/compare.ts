import { softEngine } from "../../../../../src/backends/soft/engine.ts";
import { CaseBuilder } from "./case.ts";
import { type Encoded, encode } from "./encode.ts";
import { type Form, FormIndex, type FormList, formList } from "./forms.ts";
import { completeImage, Image } from "./fpu-state.ts";
import { Guest } from "./guest.ts";
import { HostProcessor, hostFlags } from "./host.ts";
import { DATA, DATA_BYTES, Record, Shared } from "./layout.ts";
import { describeDifferences, type Mismatch, minimise } from "./mismatch.ts";
import { lanes, Random } from "./random.ts";
import { SequenceMaker, sequenceOf } from "./sequence.ts";
import { type Outcome, TOLERANCES } from "./tolerances.ts";
import { undefinedFlags } from "./undefined-flags.ts";
import { slotOffset, WORLDS, type World } from "./worlds.ts";

/** CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT, AC, ID: what user code sees and RF is not among. */
const FLAGS = 0x24_7fd5;
const PAGE_FAULT = 14;
const DEBUG = 1;
const BREAKPOINT = 3;
const OVERFLOW = 4;
const GENERAL_PROTECTION = 13;
const PENDING_BATCH = Shared.most;

/** One case of the present batch. */
interface Pending {
  readonly e: Encoded;
  readonly index: number;
  readonly target: number;
}

/** Counts of one unit in one mode. */
export interface Count {
  cases: number;
  mismatches: number;
  /** Cases that ended in each exception at the instruction itself, by vector. */
  readonly faults: Map<number, number>;
}

/** Compares the host processor with the software CPU, instruction by instruction. */
export class Comparison implements Disposable {
  readonly host = new HostProcessor();
  readonly guest = new Guest();
  readonly list: FormList;
  readonly worlds: readonly World[];
  /** By unit and mode. */
  readonly counts = new Map<string, Count>();
  /** Names of forms, with their mode, that no case was made of. */
  readonly unencodable = new Set<string>();
  /** What the worker did not survive. */
  readonly deaths: string[] = [];
  readonly #random: Random;
  readonly #index: FormIndex;
  readonly #outcome: Outcome;
  #pending: Pending[] = [];
  #sequences: SequenceMaker | undefined;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.list = formList(softEngine().registry, hostFlags());
    this.#index = new FormIndex(this.list.forms);
    this.worlds = WORLDS.filter((w) => !w.needsLocal || this.host.noLocal === undefined);
    const { pool } = this.host;
    for (let i = 0; i < pool.length; i += 32) lanes(this.#random, pool.subarray(i, i + 32));
    this.guest.readOnly = pool;
    const record = new Uint8Array(Record.size);
    this.#outcome = { record, view: new DataView(record.buffer), data: this.guest.data };
  }

  get cases(): number {
    let sum = 0;
    for (const { cases } of this.counts.values()) sum += cases;
    return sum;
  }

  /** Worlds in which a form can run. */
  worldsOf(form: Form): readonly World[] {
    return this.worlds.filter((w) => w.bits === form.bits);
  }

  /** Runs `count` cases of each of some encodings of every form. */
  *check(forms: Iterable<Form>, options: { encodings: number; count: number }): Generator<Mismatch> {
    for (const form of forms) {
      const worlds = this.worldsOf(form);
      for (let i = 0; i < options.encodings; i++) {
        const e = worlds.length === 0 ? undefined : this.#encode(form, this.#random.pick(worlds));
        if (e === undefined) {
          if (i === 0) this.unencodable.add(`${form.name} (${form.bits}-bit)`);
          break;
        }
        yield* this.#add(e, options.count);
      }
    }
    yield* this.#flush();
  }

  /** Runs `count` cases of each of some random sequences of instructions. */
  *checkSequences(options: { sequences: number; count: number }): Generator<Mismatch> {
    this.#sequences ??= new SequenceMaker(this.list.forms, this.#index);
    for (let i = 0; i < options.sequences; i++) {
      // Half of them in the one world of 64-bit code.
      const world = this.#random.chance(2) ? (this.worlds[0] as World) : this.#random.pick(this.worlds);
      const e = this.#sequences.make(world, this.#random);
      if (e !== undefined) yield* this.#add(e, options.count);
    }
    yield* this.#flush();
  }

  #encode(form: Form, world: World): Encoded | undefined {
    for (let i = 0; i < 12; i++) {
      const e = encode(form, world, this.#random, this.#index);
      if (e !== undefined) return e;
    }
    return undefined;
  }

  *#add(e: Encoded, count: number): Generator<Mismatch> {
    for (let i = 0; i < count; i++) {
      if (this.#pending.length === PENDING_BATCH) yield* this.#flush();
      const index = this.#pending.length;
      const builder = new CaseBuilder(e, this.#random, this.host.input(index));
      builder.build();
      this.#pending.push({ e, index, target: builder.target });
    }
  }

  *#flush(): Generator<Mismatch> {
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length === 0) return;
    const dead = new Set<number>();
    this.host.run(batch.length, (index, how) => {
      dead.add(index);
      const text = batch[index]?.e.text;
      this.deaths.push(`${text}: ${how}`);
    });
    let before: Encoded | undefined;
    const found: { pending: Pending; first: Mismatch; input: Uint8Array }[] = [];
    for (const pending of batch) {
      if (dead.has(pending.index)) continue;
      if (pending.e !== before) this.#load(pending.e);
      before = pending.e;
      const first = this.#differ(pending);
      if (first !== undefined) found.push({ pending, first, input: this.host.input(pending.index).slice() });
    }
    for (const { pending, first, input } of found) yield this.#minimised(pending, first, input);
  }

  #load(e: Encoded): void {
    this.guest.way = e.way;
    this.guest.world = e.world;
    this.guest.code = e.bytes;
  }

  #count(e: Encoded): Count {
    const key = `${e.form.unit} ${e.form.bits}-bit`;
    let count = this.counts.get(key);
    if (count === undefined) {
      count = { cases: 0, mismatches: 0, faults: new Map() };
      this.counts.set(key, count);
    }
    return count;
  }

  #differ(pending: Pending): Mismatch | undefined {
    const { e, index } = pending;
    const count = this.#count(e);
    count.cases++;
    const [host, soft] = this.#run(pending);
    if (
      host.view.getBigUint64(Record.rip, true) ===
      this.host.view.getBigUint64(this.host.input(index).byteOffset - this.host.shared.byteOffset + Record.rip, true)
    ) {
      const vector = host.view.getUint32(Record.vector, true);
      count.faults.set(vector, (count.faults.get(vector) ?? 0) + 1);
    }
    if (sameOutcome(host, soft)) return undefined;
    count.mismatches++;
    return describeDifferences(e, this.host.input(index), [host, soft], DATA);
  }

  /** Runs the guest on a case that the host has run, and puts aside what may differ. */
  #run({ e, index, target }: Pending): [host: Outcome, soft: Outcome] {
    const { host, guest } = this;
    const input = host.input(index);
    const given = viewOf(input);
    const from = Shared.pool + given.getUint32(Record.pool, true);
    guest.data.set(host.shared.subarray(from, from + DATA_BYTES));
    const patch = given.getUint32(Record.patchBytes, true);
    if (patch > 0)
      guest.data.set(input.subarray(Record.patch, Record.patch + patch), given.getUint32(Record.patchAt, true));
    const soft = this.#outcome;
    try {
      guest.run(input, soft.record);
    } catch (error) {
      throw new Error(`${e.world.name}: ${e.text} ; ${Buffer.from(e.bytes.subarray(0, e.length)).toString("hex")}`, {
        cause: error,
      });
    }
    const record = host.output(index);
    const theirs: Outcome = { record, view: viewOf(record), data: host.outputData(index) };
    const fpu = given.getUint32(Record.fpu, true) !== 0;
    normalise(e, theirs, soft, fpu);
    const end = slotOffset(e.world) + BigInt(e.length);
    const flags = FLAGS & ~undefinedFlags(e, given, theirs.view.getBigUint64(Record.rip, true) === end);
    for (const { view } of [theirs, soft])
      view.setUint32(Record.rflags, view.getUint32(Record.rflags, true) & flags, true);
    for (const t of TOLERANCES) if (t.matches(e.form.opcode)) t.accept(e, theirs, soft, target);
    return [theirs, soft];
  }

  /** Runs one case alone: as the first of the batch. */
  #again(e: Encoded, input: Uint8Array, target: number): [host: Outcome, soft: Outcome] | undefined {
    let died = false;
    this.host.input(0).set(input);
    this.host.run(1, () => {
      died = true;
    });
    return died ? undefined : this.#run({ e, index: 0, target });
  }

  #minimised({ e, target }: Pending, first: Mismatch, input: Uint8Array): Mismatch {
    this.#load(e);
    const differs = (candidate: Uint8Array) => {
      const outcomes = this.#again(e, candidate, target);
      return outcomes !== undefined && !sameOutcome(...outcomes);
    };
    // What shows only behind other cases is told as it was.
    if (!differs(input)) return { ...first, form: `${first.form}, not alone` };
    const shortest = this.#shortened(e, input, target);
    minimise(shortest, input, differs);
    const outcomes = this.#again(shortest, input, target);
    return outcomes === undefined ? first : describeDifferences(shortest, input, outcomes, DATA);
  }

  /** A sequence without the instructions that the disagreement does not need; leaves the shortest one loaded. */
  #shortened(e: Encoded, input: Uint8Array, target: number): Encoded {
    let shortest = e;
    for (const part of e.sequence?.parts ?? []) {
      const rest = shortest.sequence?.parts.filter((p) => p !== part) ?? [];
      const candidate = rest.length === 0 ? undefined : sequenceOf(rest, e.world);
      if (candidate === undefined) continue;
      this.#load(candidate);
      const old = input.slice(Record.code, Record.size);
      input.set(candidate.bytes, Record.code);
      const outcomes = this.#again(candidate, input, target);
      if (outcomes !== undefined && !sameOutcome(...outcomes)) shortest = candidate;
      else input.set(old, Record.code);
    }
    this.#load(shortest);
    return shortest;
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
    this.guest[Symbol.dispose]();
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Makes both records say the same thing in the same words. */
function normalise(e: Encoded, host: Outcome, soft: Outcome, fpu: boolean): void {
  breakpoint(e, host, soft);
  for (const { view, record } of [host, soft]) {
    if (view.getUint32(Record.vector, true) !== PAGE_FAULT) view.setBigUint64(Record.cr2, 0n, true);
    // Linux hides whether a kernel page exists, and so says that it does.
    else if (view.getInt32(Record.cr2 + 4, true) < 0)
      view.setUint32(Record.error, view.getUint32(Record.error, true) | 1, true);
    if (e.world.bits !== 64) for (let i = 0; i < 16; i++) view.setUint32(i * 8 + 4, 0, true);
    view.setUint32(Record.selectors + 12, 0, true);
    // Linux comes back from the signal by IRET, which takes the RPL off null selectors.
    for (let at = Record.selectors; at < Record.selectors + 12; at += 2)
      if ((view.getUint16(at, true) & ~3) === 0) view.setUint16(at, 0, true);
    if (!fpu) continue;
    const image = record.subarray(Record.image, Record.image + Image.size);
    completeImage(image);
    image.fill(0, Image.fop, Image.mxcsr);
    image.fill(0, Image.mxcsrMask, Image.st);
    image.fill(0, Image.xmm + 256, Image.ymm);
    for (let i = 0; i < 8; i++) image.fill(0, Image.st + 16 * i + 10, Image.st + 16 * i + 16);
  }
  if (!fpu) for (const { record } of [host, soft]) record.fill(0, Record.image, Record.image + Image.size);
  takeNullBases(e, host, soft);
}

/** The guest has no IDT: INT1, INT3 and INTO fail to be delivered, the last two with the gate's number, and stay where they are. */
function breakpoint(e: Encoded, host: Outcome, soft: Outcome): void {
  const vector = host.view.getUint32(Record.vector, true);
  if (vector !== DEBUG && vector !== BREAKPOINT && vector !== OVERFLOW) return;
  const theirs = soft.view.getUint32(Record.vector, true);
  const failed = theirs === GENERAL_PROTECTION && soft.view.getUint32(Record.error, true) === vector * 8 + 2;
  if (!failed && theirs !== DEBUG) return;
  soft.view.setUint32(Record.vector, vector, true);
  soft.view.setUint32(Record.error, 0, true);
  const behind = soft.view.getBigUint64(Record.rip, true) + BigInt(e.length);
  // Under a hypervisor INT1 is reported at or behind itself.
  const at = vector === DEBUG ? host.view.getBigUint64(Record.rip, true) : behind;
  soft.view.setBigUint64(Record.rip, at, true);
}

/** Whether a null selector clears the base of FS and GS: AMD leaves it, Intel clears it. Outside 64-bit mode bases are not asked. */
function takeNullBases(e: Encoded, host: Outcome, soft: Outcome): void {
  for (const [selector, base] of [
    [Record.selectors + 8, Record.fsBase],
    [Record.selectors + 10, Record.gsBase],
  ] as const) {
    const loaded = (host.view.getUint16(selector, true) & ~3) !== 0 || e.world.bits !== 64;
    const touched = e.form.opcode.kinds.some((k) => /^(fs|gs|seg_reg)$/.test(k)) || /^L[fg]s$/.test(e.form.opcode.word);
    if (loaded || touched) soft.view.setBigUint64(base, host.view.getBigUint64(base, true), true);
  }
}

function sameOutcome(host: Outcome, soft: Outcome): boolean {
  const { integerBytes, image, imageBytes } = Record;
  const same = (from: number, to: number) =>
    Buffer.compare(host.record.subarray(from, to), soft.record.subarray(from, to)) === 0;
  return same(0, integerBytes) && same(image, image + imageBytes) && Buffer.compare(host.data, soft.data) === 0;
}
