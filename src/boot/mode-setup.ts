import { type DescriptorTable, GPR_NAMES, type GprName, type Segment, type SegmentName } from "../registers.ts";
import { CR0, CR4, EFER, nameBits, RFLAG } from "./control-bits.ts";
import { codeSegment, dataSegment, nullSegment, realSegment, tssSegment } from "./descriptor.ts";
import { interruptGate } from "./gate.ts";
import { buildGdt } from "./gdt.ts";
import { buildIdt, buildIvt, type Idt } from "./idt.ts";
import {
  DEFAULT_ENTRY,
  DEFAULT_TABLES_GPA,
  MODE_BITS,
  type Mode,
  type ModeOptions,
  type ModeRow,
  type ModeSetup,
  type ModeTable,
} from "./mode.ts";
import { buildPageTables, type PageMapping, type PageTables } from "./page-tables.ts";
import type { PagingFormat } from "./paging.ts";
import { buildTss32, buildTss64 } from "./tss.ts";

/**
 * Selectors of the GDT that a mode writes: the same places in every mode, so that a guest can change between them. Ring 3
 * selectors carry RPL 3. `kernelCode` is 64-bit in long mode, else as wide as the mode. The order suits SYSCALL and SYSRET
 * with STAR = 0x00230008_00000000, and ring 3 has the selectors of Linux processes: a KVM without VMX and SVM (kvm_pvm)
 * runs ring 3 with those of its host.
 */
export const SELECTORS = {
  kernelCode: 0x08,
  kernelData: 0x10,
  code32: 0x18,
  userCode32: 0x23,
  userData: 0x2b,
  userCode64: 0x33,
  code16: 0x38,
  data16: 0x40,
  tss: 0x48,
} as const;

/** Offsets from `tablesGpa`. The page tables are last, since their number depends on what they map. */
export const TABLES_LAYOUT = { gdt: 0, tss: 0x100, idt: 0x1000, pageTables: 0x2000 } as const;

const FOUR_GIB = 0x1_0000_0000;
const hex = (value: number | bigint) => `0x${value.toString(16)}`;

const PAGING: Readonly<Partial<Record<Mode, PagingFormat>>> = {
  paged32: "pse",
  pae: "pae",
  long64: "4-level",
  "long64-ring3": "4-level",
  compat32: "4-level",
};

/** What all parts of a set-up need to know. */
interface Plan {
  readonly mode: Mode;
  readonly bits: 16 | 32 | 64;
  readonly real: boolean;
  readonly long: boolean;
  readonly ring: 0 | 3;
  readonly paging: PagingFormat | undefined;
  readonly tablesGpa: number;
  readonly withTables: boolean;
  readonly entry: bigint;
  readonly options: ModeOptions;
}

function makePlan(mode: Mode, options: ModeOptions): Plan {
  const bits = MODE_BITS[mode];
  if (bits === undefined)
    throw new RangeError(`Cannot enter mode "${mode}": it is one of ${Object.keys(MODE_BITS).join(", ")}`);
  const real = mode === "real16" || mode === "unreal16";
  const ring = options.ring ?? (mode === "long64-ring3" ? 3 : 0);
  const tablesGpa = options.tablesGpa ?? DEFAULT_TABLES_GPA;
  const entry = BigInt(options.entry ?? DEFAULT_ENTRY);
  let paging = PAGING[mode];
  if (paging === "pse" && options.pageBytes === 0x1000) paging = "32-bit";
  if (options.paging) {
    if (paging !== "4-level") throw new RangeError(`Cannot use ${options.paging} paging in ${mode}`);
    paging = options.paging;
  }
  if (real && ring === 3) throw new RangeError(`Cannot enter ${mode} in ring 3: real mode has no rings`);
  if (options.realSegment !== undefined && !real) throw new RangeError(`Cannot use realSegment in ${mode}`);
  if (
    !(Number.isSafeInteger(tablesGpa) && tablesGpa >= 0 && tablesGpa % 4096 === 0 && tablesGpa < FOUR_GIB - 0x10000)
  ) {
    throw new RangeError(`Cannot put tables at ${hex(tablesGpa)}: it must be a multiple of 4096 below 4 GiB`);
  }
  const withTables = (options.tables ?? "guest") === "guest";
  if (paging && !withTables && options.cr3 === undefined) {
    throw new RangeError(`Cannot enter ${mode} with tables: "none" and no cr3: paging needs page tables`);
  }
  if (entry < 0n || (bits !== 64 && entry >= BigInt(FOUR_GIB))) {
    throw new RangeError(`Cannot start ${mode} at ${hex(entry)}: the address is too wide`);
  }
  const long = paging === "4-level" || paging === "5-level";
  return { mode, bits, real, long, ring, paging, tablesGpa, withTables, entry, options };
}

/** Ring 3 starts a page lower: what enters ring 0 gets the stack right below the tables (TSS.RSP0). */
function defaultStack(plan: Plan): number {
  if (plan.real || !plan.withTables) return DEFAULT_ENTRY;
  return Math.max(plan.tablesGpa - (plan.ring === 3 ? 0x1000 : 0), 0);
}

/** Segment registers, with the reasons. */
interface Segments {
  readonly segments: Record<SegmentName, Segment>;
  /** What CS adds to IP. */
  readonly codeBase: bigint;
  readonly rows: ModeRow[];
}

function realSegments(plan: Plan): Segments {
  // Without a wish, the paragraph that keeps IP below 64 KiB; 0 for everything in the first.
  const selector = plan.options.realSegment ?? (plan.entry > 0xffffn ? Number(plan.entry >> 4n) & 0xf000 : 0);
  const codeBase = BigInt(selector * 16);
  const offset = plan.entry - codeBase;
  if (offset < 0n || offset > 0xffffn) {
    throw new RangeError(
      `Cannot start ${plan.mode} at ${hex(plan.entry)}: IP reaches 64 KiB above CS = ${hex(selector)}`,
    );
  }
  const other = plan.options.realSegment ?? 0;
  const limit = plan.mode === "unreal16" ? 0xffffffff : 0xffff;
  const data = () => realSegment(other, { limit });
  return {
    segments: {
      cs: realSegment(selector, { code: true }),
      ss: realSegment(other),
      ds: data(),
      es: data(),
      fs: data(),
      gs: data(),
      tr: tssSegment({ bits: 32, limit: 0xffff }),
      ldt: nullSegment(),
    },
    codeBase,
    rows: [
      {
        register: "CS",
        value: `${hex(selector)}, base ${hex(selector * 16)}`,
        why: "in real mode the base is selector × 16",
      },
      { register: "SS", value: `${hex(other)}, limit 0xffff`, why: "a 16-bit stack" },
      {
        register: "DS, ES, FS, GS",
        value: `${hex(other)}, limit ${hex(limit)}`,
        why:
          limit === 0xffff
            ? "the reset limit of 64 KiB"
            : "limits left behind by protected mode: 32-bit addresses reach 4 GiB",
      },
    ],
  };
}

function codeFor(plan: Plan): Segment {
  const dpl = plan.ring;
  if (plan.mode === "compat32") {
    return codeSegment({ bits: 32, dpl, selector: plan.ring === 3 ? SELECTORS.userCode32 : SELECTORS.code32 });
  }
  if (plan.bits === 64) {
    return codeSegment({ bits: 64, dpl, selector: plan.ring === 3 ? SELECTORS.userCode64 : SELECTORS.kernelCode });
  }
  return codeSegment({ bits: plan.bits, dpl, selector: plan.ring === 3 ? SELECTORS.userCode32 : SELECTORS.kernelCode });
}

function protectedSegments(plan: Plan): Segments {
  const cs = codeFor(plan);
  const selector = plan.ring === 3 ? SELECTORS.userData : SELECTORS.kernelData;
  const data = () => dataSegment({ bits: plan.bits === 16 ? 16 : 32, dpl: plan.ring, selector });
  const tssBase = plan.withTables ? plan.tablesGpa + TABLES_LAYOUT.tss : 0;
  const kind = cs.l ? "64-bit code (L = 1, D = 0)" : `${plan.bits}-bit code`;
  return {
    segments: {
      cs,
      ss: data(),
      ds: data(),
      es: data(),
      fs: data(),
      gs: data(),
      tr: tssSegment({ bits: plan.long ? 64 : 32, base: tssBase, selector: SELECTORS.tss }),
      ldt: nullSegment(),
    },
    codeBase: 0n,
    rows: [
      {
        register: "CS",
        value: `${hex(cs.selector)}, base 0, limit ${hex(cs.limit)}, DPL ${plan.ring}`,
        why: `${kind}, ring ${plan.ring}`,
      },
      {
        register: "SS, DS, ES, FS, GS",
        value: `${hex(selector)}, base 0, limit ${hex(data().limit)}, DPL ${plan.ring}`,
        why: "flat, writable; SS.DPL is the current privilege level",
      },
    ],
  };
}

function taskRows(plan: Plan): ModeRow[] {
  const tss =
    plan.withTables && !plan.real ? `${hex(SELECTORS.tss)}, base ${hex(plan.tablesGpa + TABLES_LAYOUT.tss)}` : "base 0";
  return [
    { register: "TR", value: `${tss}, busy`, why: "VMX refuses to enter a guest whose TR holds no busy TSS" },
    { register: "LDTR", value: "unusable", why: "no local descriptors" },
  ];
}

function controlsOf(plan: Plan, cr3: bigint | undefined): { controls: ModeSetup["controls"]; rows: ModeRow[] } {
  let cr0: bigint = CR0.ET;
  let cr4 = 0n;
  if (!plan.real) cr0 |= CR0.PE;
  if (plan.bits !== 16) {
    cr0 |= CR0.MP | CR0.NE;
    cr4 |= CR4.OSFXSR | CR4.OSXMMEXCPT;
  }
  if (plan.paging) cr0 |= CR0.WP | CR0.PG;
  if (plan.paging === "pse") cr4 |= CR4.PSE;
  if (plan.paging === "pae" || plan.long) cr4 |= CR4.PAE;
  if (plan.paging === "5-level") cr4 |= CR4.LA57;
  const efer = plan.long ? EFER.LME | EFER.LMA | EFER.NXE : plan.paging === "pae" ? EFER.NXE : 0n;
  const rows: ModeRow[] = [
    { register: "CR0", value: nameBits(cr0, CR0), why: cr0Reason(plan) },
    { register: "CR3", value: hex(cr3 ?? 0n), why: plan.paging ? "root of the page tables" : "unused without paging" },
    { register: "CR4", value: nameBits(cr4, CR4), why: cr4Reason(plan) },
    { register: "EFER", value: nameBits(efer, EFER), why: eferReason(plan) },
  ];
  return { controls: { cr0, cr2: 0n, cr3: cr3 ?? 0n, cr4, efer }, rows };
}

function cr0Reason(plan: Plan): string {
  if (plan.real) return "PE and PG clear: real mode";
  if (plan.bits === 16) return "PE: protected mode";
  const fpu = "MP and NE let x87 code run and fault by #MF";
  return plan.paging
    ? `PE and PG: protected mode with paging; WP binds ring 0 to read-only pages; ${fpu}`
    : `PE: protected mode; ${fpu}`;
}

function cr4Reason(plan: Plan): string {
  if (plan.bits === 16) return "nothing is needed";
  const sse = "OSFXSR and OSXMMEXCPT allow SSE";
  if (plan.paging === "pse") return `PSE allows 4 MiB pages; ${sse}`;
  if (plan.paging === "pae") return `PAE makes entries 8 bytes wide; ${sse}`;
  if (plan.long) return `PAE: long mode demands it${plan.paging === "5-level" ? "; LA57: five levels" : ""}; ${sse}`;
  return sse;
}

function eferReason(plan: Plan): string {
  if (plan.long) return "LME with PG makes LMA: long mode; NXE gives page entries their NX bit";
  return plan.paging === "pae" ? "NXE gives page entries their NX bit" : "no long mode";
}

function defaultMap(plan: Plan): PageMapping[] {
  const bytes = plan.options.pageBytes === 0x1000 ? 0x400000 : FOUR_GIB;
  return [{ gva: 0, gpa: 0, bytes, user: plan.ring === 3 }];
}

function pagesOf(plan: Plan): PageTables | undefined {
  if (!plan.paging || !plan.withTables || plan.options.cr3 !== undefined) return undefined;
  const { map, pageBytes } = plan.options;
  return buildPageTables(map ?? defaultMap(plan), {
    format: plan.paging,
    gpa: plan.tablesGpa + TABLES_LAYOUT.pageTables,
    ...(pageBytes === undefined ? {} : { pageBytes }),
  });
}

function gdtOf(plan: Plan, tss: Segment): Uint8Array {
  const bits = plan.long ? 64 : plan.bits === 16 ? 16 : 32;
  const data = plan.bits === 16 ? 16 : 32;
  return buildGdt(
    {
      kernelCode: codeSegment({ bits }),
      kernelData: dataSegment({ bits: data }),
      code32: codeSegment({ bits: 32 }),
      userCode32: codeSegment({ bits: plan.bits === 16 ? 16 : 32, dpl: 3 }),
      userData: dataSegment({ bits: data, dpl: 3 }),
      userCode64: plan.long ? codeSegment({ bits: 64, dpl: 3 }) : undefined,
      code16: codeSegment({ bits: 16 }),
      data16: dataSegment({ bits: 16 }),
      tss,
    },
    { bits },
  ).bytes;
}

function idtOf(plan: Plan): Idt {
  const bits = plan.long ? 64 : plan.bits;
  const selector = SELECTORS.kernelCode;
  const gates = Object.entries(plan.options.handlers ?? {}).map(([vector, offset]): [number, Uint8Array] => [
    Number(vector),
    interruptGate({ bits, selector, offset }),
  ]);
  return buildIdt(Object.fromEntries(gates), { bits });
}

function realTables(plan: Plan): ModeTable[] {
  const handlers = Object.entries(plan.options.handlers ?? {});
  if (handlers.length === 0 || !plan.withTables) return [];
  // Only the vectors asked for: the others may belong to whoever loaded the guest.
  return handlers.map(([vector, offset]) => {
    if (BigInt(offset) > 0xffffn) throw new RangeError(`Cannot set vector ${vector} to ${hex(offset)}: IP has 16 bits`);
    const entry = buildIvt({ 0: { segment: 0, offset: Number(offset) } }, { vectors: 1 }).bytes;
    return { what: `vector ${vector}`, gpa: Number(vector) * 4, bytes: entry };
  });
}

function tablesOf(plan: Plan, segments: Segments, pages: PageTables | undefined): ModeTable[] {
  if (plan.real) return realTables(plan);
  if (!plan.withTables) return [];
  const stack = plan.tablesGpa;
  const tss = plan.long
    ? buildTss64({ rsp0: stack })
    : buildTss32({ esp0: stack, ss0: SELECTORS.kernelData, cr3: pages?.root ?? 0 });
  const at = (offset: number) => plan.tablesGpa + offset;
  const tables: ModeTable[] = [
    { what: "GDT", gpa: at(TABLES_LAYOUT.gdt), bytes: gdtOf(plan, segments.segments.tr) },
    { what: "TSS", gpa: at(TABLES_LAYOUT.tss), bytes: tss },
    { what: "IDT", gpa: at(TABLES_LAYOUT.idt), bytes: idtOf(plan).bytes },
  ];
  if (pages) tables.push({ what: "page tables", gpa: pages.root, bytes: pages.bytes });
  return tables;
}

function descriptorTables(plan: Plan, tables: readonly ModeTable[]): { gdt: DescriptorTable; idt: DescriptorTable } {
  const find = (what: string): DescriptorTable => {
    const table = tables.find((candidate) => candidate.what === what);
    return table ? { base: BigInt(table.gpa), limit: table.bytes.length - 1 } : { base: 0n, limit: 0 };
  };
  return { gdt: find("GDT"), idt: plan.real ? { base: 0n, limit: 0x3ff } : find("IDT") };
}

function gprsOf(plan: Plan, stack: bigint, codeBase: bigint): Record<GprName, bigint> {
  const all = Object.fromEntries(GPR_NAMES.map((name) => [name, 0n])) as Record<GprName, bigint>;
  const rflags = RFLAG.fixed | (plan.ring === 3 ? RFLAG.IOPL : 0n);
  return { ...all, rsp: stack, rip: plan.entry - codeBase, rflags, ...plan.options.gprs };
}

function startRows(plan: Plan, gprs: Record<GprName, bigint>): ModeRow[] {
  return [
    { register: "RIP", value: hex(gprs.rip), why: "the entry" },
    {
      register: "RSP",
      value: hex(gprs.rsp),
      why: plan.real ? "grows down, away from the code" : "grows down, away from the tables",
    },
    {
      register: "RFLAGS",
      value: hex(gprs.rflags),
      why:
        plan.ring === 3
          ? "bit 1 is always 1; IOPL 3 lets ring 3 use IN and OUT; IF clear"
          : "bit 1 is always 1; IF clear",
    },
  ];
}

function tableRows(plan: Plan, tables: { gdt: DescriptorTable; idt: DescriptorTable }): ModeRow[] {
  const show = (table: DescriptorTable) => `base ${hex(table.base)}, limit ${hex(table.limit)}`;
  const gdtReason =
    plan.withTables && !plan.real ? "matches the loaded segments, so that they can be reloaded" : "none";
  return [
    { register: "GDTR", value: show(tables.gdt), why: gdtReason },
    {
      register: "IDTR",
      value: show(tables.idt),
      why: plan.real ? "the interrupt vector table" : "gates for `handlers`; any other vector ends in a triple fault",
    },
  ];
}

/**
 * Works out all that `mode` sets, without a guest: to look at, to print, to apply with `applyMode()`.
 *
 * @throws {RangeError} for options that contradict the mode or each other.
 */
export function modeSetup(mode: Mode, options: ModeOptions = {}): ModeSetup {
  const plan = makePlan(mode, options);
  const stack = BigInt(options.stack ?? defaultStack(plan));
  const segments = plan.real ? realSegments(plan) : protectedSegments(plan);
  const pages = pagesOf(plan);
  const cr3 = options.cr3 === undefined ? pages && BigInt(pages.root) : BigInt(options.cr3);
  const { controls, rows } = controlsOf(plan, cr3);
  const tables = tablesOf(plan, segments, pages);
  const descriptors = descriptorTables(plan, tables);
  const gprs = gprsOf(plan, stack, segments.codeBase);
  return {
    mode,
    bits: plan.bits,
    ring: plan.ring,
    paging: plan.paging,
    gprs,
    segments: segments.segments,
    descriptorTables: descriptors,
    controls,
    tables,
    rows: [...rows, ...segments.rows, ...taskRows(plan), ...tableRows(plan, descriptors), ...startRows(plan, gprs)],
  };
}
