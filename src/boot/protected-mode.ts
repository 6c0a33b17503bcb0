import type { Segment, SegmentName } from "../registers.ts";
import { CR0, CR4, EFER } from "./control-bits.ts";
import { codeSegment, dataSegment, nullSegment, tssSegment } from "./descriptor.ts";
import { interruptGate } from "./gate.ts";
import { buildGdt } from "./gdt.ts";
import { buildIdt, type Idt } from "./idt.ts";
import { DEFAULT_ENTRY, type ModeSetup, type ModeTable } from "./mode.ts";
import { FOUR_GIB, type ModeParts, type ModePlan } from "./mode-plan.ts";
import { buildPageTables, type PageMapping, type PageTables } from "./page-tables.ts";
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

function codeFor(plan: ModePlan): Segment {
  const dpl = plan.ring;
  if (plan.mode === "compat32") {
    return codeSegment({ bits: 32, dpl, selector: plan.ring === 3 ? SELECTORS.userCode32 : SELECTORS.code32 });
  }
  if (plan.bits === 64) {
    return codeSegment({ bits: 64, dpl, selector: plan.ring === 3 ? SELECTORS.userCode64 : SELECTORS.kernelCode });
  }
  return codeSegment({ bits: plan.bits, dpl, selector: plan.ring === 3 ? SELECTORS.userCode32 : SELECTORS.kernelCode });
}

function segmentsOf(plan: ModePlan): Record<SegmentName, Segment> {
  const selector = plan.ring === 3 ? SELECTORS.userData : SELECTORS.kernelData;
  const data = () => dataSegment({ bits: plan.bits === 16 ? 16 : 32, dpl: plan.ring, selector });
  const tssBase = plan.withTables ? plan.tablesGpa + TABLES_LAYOUT.tss : 0;
  return {
    cs: codeFor(plan),
    ss: data(),
    ds: data(),
    es: data(),
    fs: data(),
    gs: data(),
    tr: tssSegment({ bits: plan.long ? 64 : 32, base: tssBase, selector: SELECTORS.tss }),
    ldt: nullSegment(),
  };
}

function controlsOf(plan: ModePlan, cr3: bigint): ModeSetup["controls"] {
  let cr0: bigint = CR0.ET | CR0.PE;
  let cr4 = 0n;
  if (plan.bits !== 16) {
    cr0 |= CR0.MP | CR0.NE;
    cr4 |= CR4.OSFXSR | CR4.OSXMMEXCPT;
  }
  if (plan.paging) cr0 |= CR0.WP | CR0.PG;
  if (plan.paging === "pse") cr4 |= CR4.PSE;
  if (plan.paging === "pae" || plan.long) cr4 |= CR4.PAE;
  if (plan.paging === "5-level") cr4 |= CR4.LA57;
  const efer = plan.long ? EFER.LME | EFER.LMA | EFER.NXE : plan.paging === "pae" ? EFER.NXE : 0n;
  return { cr0, cr2: 0n, cr3, cr4, efer };
}

function defaultMap(plan: ModePlan): PageMapping[] {
  const bytes = plan.options.pageBytes === 0x1000 ? 0x400000 : FOUR_GIB;
  return [{ gva: 0, gpa: 0, bytes, user: plan.ring === 3 }];
}

function pagesOf(plan: ModePlan): PageTables | undefined {
  if (!plan.paging || !plan.withTables || plan.options.cr3 !== undefined) return undefined;
  const { map, pageBytes } = plan.options;
  return buildPageTables(map ?? defaultMap(plan), {
    format: plan.paging,
    gpa: plan.tablesGpa + TABLES_LAYOUT.pageTables,
    ...(pageBytes === undefined ? {} : { pageBytes }),
  });
}

function gdtOf(plan: ModePlan, tss: Segment): Uint8Array {
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

function idtOf(plan: ModePlan): Idt {
  const bits = plan.long ? 64 : plan.bits;
  const selector = SELECTORS.kernelCode;
  const gates = Object.entries(plan.options.handlers ?? {}).map(([vector, offset]): [number, Uint8Array] => [
    Number(vector),
    interruptGate({ bits, selector, offset }),
  ]);
  return buildIdt(Object.fromEntries(gates), { bits });
}

function tssOf(plan: ModePlan, cr3: bigint): Uint8Array {
  const stack = plan.tablesGpa;
  return plan.long
    ? buildTss64({ rsp0: stack })
    : buildTss32({ esp0: stack, ss0: SELECTORS.kernelData, cr3: BigInt.asUintN(32, cr3) });
}

function tablesOf(plan: ModePlan, parts: { tr: Segment; cr3: bigint; pages: PageTables | undefined }): ModeTable[] {
  if (!plan.withTables) return [];
  const { pages } = parts;
  const at = (offset: number) => plan.tablesGpa + offset;
  const tables: ModeTable[] = [
    { what: "GDT", gpa: at(TABLES_LAYOUT.gdt), bytes: gdtOf(plan, parts.tr) },
    { what: "TSS", gpa: at(TABLES_LAYOUT.tss), bytes: tssOf(plan, parts.cr3) },
    { what: "IDT", gpa: at(TABLES_LAYOUT.idt), bytes: idtOf(plan).bytes },
  ];
  if (pages) tables.push({ what: "page tables", gpa: pages.root, bytes: pages.bytes });
  return tables;
}

function descriptorTablesOf(tables: readonly ModeTable[]): ModeSetup["descriptorTables"] {
  const find = (what: string) => {
    const table = tables.find((candidate) => candidate.what === what);
    return table ? { base: BigInt(table.gpa), limit: table.bytes.length - 1 } : { base: 0n, limit: 0 };
  };
  return { gdt: find("GDT"), idt: find("IDT") };
}

/** Ring 3 starts a page lower: what enters ring 0 gets the stack right below the tables (TSS.RSP0). */
function stackOf(plan: ModePlan): number {
  if (!plan.withTables) return DEFAULT_ENTRY;
  return Math.max(plan.tablesGpa - (plan.ring === 3 ? 0x1000 : 0), 0);
}

/** Every mode with CR0.PE set. */
export function protectedMode(plan: ModePlan): ModeParts {
  const segments = segmentsOf(plan);
  const pages = pagesOf(plan);
  const cr3 = BigInt(plan.options.cr3 ?? pages?.root ?? 0);
  const tables = tablesOf(plan, { tr: segments.tr, cr3, pages });
  return {
    segments,
    descriptorTables: descriptorTablesOf(tables),
    controls: controlsOf(plan, cr3),
    tables,
    codeBase: 0n,
    stack: stackOf(plan),
  };
}
