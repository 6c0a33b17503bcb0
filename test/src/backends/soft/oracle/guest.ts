import type { Cpu } from "../../../../../src/backends/soft/cpu.ts";
import { loadVectorUnits, softEngine } from "../../../../../src/backends/soft/engine.ts";
import { State } from "../../../../../src/backends/soft/state.ts";
import { SoftVm } from "../../../../../src/backends/soft/vm.ts";
import { readXsaveImage, writeXsaveImage } from "../../../../../src/backends/soft/xsave.ts";
import type { Exit } from "../../../../../src/exit.ts";
import type { SegmentName } from "../../../../../src/registers.ts";
import { CODE, DATA, DATA_BYTES, HLT, READ_ONLY, Record, SLOT } from "./layout.ts";
import { CODE32, CODE64, FLAT, LOCAL, type World } from "./worlds.ts";

/** Guest-physical layout. Code has many pages, of which one at a time is mapped, so that translations are not always thrown away. */
const TABLES = 0x1000;
const GDT = 0x6000;
const LDT = 0x6800;
const DATA_AT = 0x8000;
const READ_ONLY_AT = 0xa000;
const CODE_AT = 0x10000;
const CODE_PAGES = 64;
/** Linear address of the first 64 KiB, where user code never looks. */
const SYSTEM = 0xffff_8000_0000_0000n;
const GDT_BYTES = 0x80;

const PRESENT = 1n;
const WRITE = 2n;
const USER = 4n;
const NO_EXECUTE = 1n << 63n;

/** CR0 with AM, WP, NE, ET, MP, PE, PG; CR4 with FSGSBASE, OSFXSR, OSXMMEXCPT, OSXSAVE, PAE; EFER with NXE, LMA, LME, SCE: as Linux has them. */
const CR0 = 0x8005_0033n;
const CR4 = 0x5_0620n;
const EFER = 0xd01n;

/** More than the software CPU remembers that a page's code was changed. */
const LONG_AGO = 6_000_000;

const NAMES: readonly SegmentName[] = ["es", "cs", "ss", "ds", "fs", "gs"];

function descriptor(base: number, limit: number, access: number, flags: number): bigint {
  const low = (limit & 0xffff) | ((base & 0xffff) << 16);
  const high = ((base >>> 16) & 0xff) | (access << 8) | (limit & 0xf_0000) | (flags << 20) | (base & 0xff00_0000);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** Descriptors of Linux's GDT that user code can tell apart, by index. */
const GLOBAL: readonly (readonly [number, bigint])[] = [
  [1, descriptor(0, 0xf_ffff, 0x9b, 0xc)],
  [2, descriptor(0, 0xf_ffff, 0x9b, 0xa)],
  [3, descriptor(0, 0xf_ffff, 0x93, 0xc)],
  [CODE32 >> 3, descriptor(0, 0xf_ffff, 0xfb, 0xc)],
  [FLAT >> 3, descriptor(0, 0xf_ffff, 0xf3, 0xc)],
  [CODE64 >> 3, descriptor(0, 0xf_ffff, 0xfb, 0xa)],
];

/** A user_desc as the kernel makes a descriptor of it: DPL 3, accessed, AVL clear. */
function localDescriptor(index: number): bigint {
  const s = LOCAL[index];
  if (s === undefined) throw new TypeError(`No local segment ${index}`);
  const type = s.kind === "code" ? (s.restricted ? 9 : 11) : (s.kind === "expandDown" ? 5 : 1) | (s.restricted ? 0 : 2);
  return descriptor(s.base, s.limit, (s.absent ? 0 : 0x80) | 0x70 | type, s.big ? 4 : 0);
}

export type Way = "whole" | "steps" | "slices";
export const WAYS: readonly Way[] = ["whole", "whole", "whole", "whole", "steps", "slices"];

/** The software CPU at CPL 3, with the memory, descriptors and control registers that the worker has under Linux. */
export class Guest implements Disposable {
  readonly #vm: SoftVm;
  readonly #vcpu;
  readonly cpu: Cpu;
  /** The data pages as the guest sees them. */
  readonly data: Uint8Array;
  readonly #low: Uint8Array;
  readonly #view: DataView;
  #page = 0;
  #world: World | undefined;
  #way: Way = "whole";

  constructor() {
    const engine = softEngine();
    loadVectorUnits(engine.registry);
    this.#vm = new SoftVm(engine, {});
    this.#vcpu = this.#vm.createVcpu(0);
    this.cpu = this.#vcpu.cpu;
    const bytes = CODE_AT + CODE_PAGES * 0x1000;
    const memory = this.#vm.allocate(bytes);
    this.#vm.mapSlot(0, { offset: 0, readOnly: false, logDirty: false, gpa: 0, memory, bytes });
    this.#low = memory.bytes;
    this.#view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, bytes);
    this.data = this.#low.subarray(DATA_AT, DATA_AT + DATA_BYTES);
    this.#low.fill(HLT, CODE_AT);
    this.#pageTables();
    for (const [index, value] of GLOBAL) this.#view.setBigUint64(GDT + index * 8, value, true);
    for (const index of LOCAL.keys()) this.#view.setBigUint64(LDT + index * 8, localDescriptor(index), true);
    const r = this.#vcpu.registers;
    r.writeControl("cr3", BigInt(TABLES));
    r.writeControl("cr4", CR4);
    r.writeControl("efer", EFER);
    r.writeControl("cr0", CR0);
    r.writeControl("xcr0", 7n);
    r.writeTable("gdt", { base: SYSTEM + BigInt(GDT), limit: GDT_BYTES - 1 });
    // Without an IDT every exception is a shutdown that leaves the state as the exception found it.
    r.writeTable("idt", { base: 0n, limit: 0 });
    const system = { dpl: 0, present: 1, s: 0, avl: 0, l: 0, db: 0, g: 0, unusable: 0 } as const;
    r.writeSegment("ldt", {
      ...system,
      selector: 0x50,
      type: 2,
      base: SYSTEM + BigInt(LDT),
      limit: LOCAL.length * 8 - 1,
    });
    r.writeSegment("tr", { ...system, selector: 0x40, type: 11, base: 0n, limit: 0x10 });
  }

  /** Four levels: the test's addresses for the user, the first 64 KiB at `SYSTEM` for the supervisor. */
  #pageTables(): void {
    const entry = (table: number, index: number, value: bigint) =>
      this.#view.setBigUint64(TABLES + table * 0x1000 + index * 8, value, true);
    const table = (n: number) => BigInt(TABLES + n * 0x1000) | PRESENT | WRITE | USER;
    entry(0, 0, table(1));
    entry(1, 0, table(2));
    entry(2, CODE >>> 21, table(3));
    entry(0, 256, table(4));
    entry(4, 0, 0x83n);
    const page = (linear: number, gpa: number, rights: bigint) =>
      entry(3, (linear >>> 12) & 0x1ff, BigInt(gpa) | PRESENT | USER | rights);
    page(CODE, CODE_AT, 0n);
    page(DATA, DATA_AT, WRITE | NO_EXECUTE);
    page(DATA + 0x1000, DATA_AT + 0x1000, WRITE | NO_EXECUTE);
    page(READ_ONLY, READ_ONLY_AT, NO_EXECUTE);
  }

  set readOnly(bytes: Uint8Array) {
    this.#low.set(bytes.subarray(0, 0x1000), READ_ONLY_AT);
  }

  /** Puts an instruction, filled up with HLT, into a page that was not used for a while. */
  set code(bytes: Uint8Array) {
    this.#page = (this.#page + 1) % CODE_PAGES;
    const at = CODE_AT + this.#page * 0x1000;
    this.#low.set(bytes, at + (SLOT - CODE));
    this.#view.setBigUint64(TABLES + 0x3000 + ((CODE >>> 12) & 0x1ff) * 8, BigInt(at) | PRESENT | USER, true);
    this.cpu.retired += LONG_AGO;
    this.cpu.flushTlb();
  }

  /** How the next cases are run: as a whole, by the debugger's single steps, or one instruction in each run. */
  set way(way: Way) {
    if (way === this.#way) return;
    this.#way = way;
    this.#vcpu.debug({ singleStep: way === "steps" });
    if (way !== "slices") this.#vcpu.setInstructionLimit(undefined);
  }

  /** The exit behind which the case is not over. */
  get #goesOn(): Exit["kind"] | undefined {
    return this.#way === "steps" ? "debug" : this.#way === "slices" ? "interrupted" : undefined;
  }

  #enter(): Exit {
    if (this.#way === "slices") this.#vcpu.setInstructionLimit(1);
    return this.#vcpu.run();
  }

  set world(world: World) {
    this.#world = world;
    for (const [index, name] of NAMES.entries())
      this.#load(name, world.selectors[index] as number, world.bases[index] as bigint);
  }

  /** What a load of the selector leaves; `base` counts for null selectors. */
  #load(name: SegmentName, selector: number, base: bigint): void {
    const at = (selector & 4) !== 0 ? LDT : GDT;
    const d = this.#view.getBigUint64(at + (selector & ~7), true);
    const bit = (n: bigint) => Number((d >> n) & 1n) as 0 | 1;
    const raw = Number((d & 0xffffn) | ((d >> 32n) & 0xf_0000n));
    const none = (selector & ~3) === 0;
    this.#vcpu.registers.writeSegment(name, {
      selector,
      base: none ? base : BigInt.asUintN(32, ((d >> 16n) & 0xff_ffffn) | ((d >> 32n) & 0xff00_0000n)),
      limit: none ? 0 : bit(55n) ? raw * 4096 + 4095 : raw,
      type: Number((d >> 40n) & 0xfn),
      s: none ? 1 : bit(44n),
      dpl: 3,
      present: none ? 0 : bit(47n),
      avl: bit(52n),
      l: bit(53n),
      db: bit(54n),
      g: bit(55n),
      unusable: none ? 1 : 0,
    });
  }

  /** Runs a case: `input` is a record without its code, the data are in place. Writes the outcome as the worker does. */
  run(input: Uint8Array, output: Uint8Array): void {
    const { cpu } = this;
    const view = viewOf(input);
    const out = viewOf(output);
    const world = this.#world as World;
    const u64 = new BigUint64Array(input.buffer, input.byteOffset, 18);
    cpu.u64.set(u64.subarray(0, 16), State.gpr >> 3);
    cpu.rip = u64[Record.rip >> 3] as bigint;
    cpu.eflags = Number(u64[Record.rflags >> 3]);
    const fpu = view.getUint32(Record.fpu, true) !== 0;
    if (fpu) writeXsaveImage(cpu, input.subarray(Record.image, Record.image + Record.imageBytes));
    cpu.set64(State.cr2, 0n);
    let exit = this.#enter();
    while (exit.kind === this.#goesOn) exit = this.#enter();
    if (exit.kind !== "shutdown") throw new Error(`The guest left with ${exit.kind}`);
    const fault = this.#vcpu.faultChain[0];
    for (let i = 0; i < 16; i++) out.setBigUint64(i * 8, cpu.gpr(i), true);
    out.setBigUint64(Record.rip, cpu.rip, true);
    out.setUint32(Record.rflags, cpu.eflags, true);
    out.setUint32(Record.rflags + 4, 0, true);
    out.setUint32(Record.vector, fault?.vector ?? 0, true);
    out.setUint32(Record.error, fault?.errorCode ?? 0, true);
    out.setBigUint64(Record.cr2, cpu.get64(State.cr2), true);
    let moved = false;
    for (let i = 0; i < 6; i++) {
      const selector = cpu.selector(i);
      moved ||= selector !== world.selectors[i];
      out.setUint16(Record.selectors + i * 2, selector, true);
    }
    out.setBigUint64(Record.fsBase, cpu.segmentBase(4), true);
    out.setBigUint64(Record.gsBase, cpu.segmentBase(5), true);
    moved ||= cpu.segmentBase(4) !== world.bases[4] || cpu.segmentBase(5) !== world.bases[5];
    if (fpu) {
      output.set(readXsaveImage(cpu), Record.image);
    }
    if (moved) this.world = world;
  }

  [Symbol.dispose](): void {
    this.#vm[Symbol.dispose]();
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
