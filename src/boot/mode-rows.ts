import type { DescriptorTable } from "../registers.ts";
import { CR0, CR4, EFER, nameBits } from "./control-bits.ts";
import type { ModeRow, ModeSetup } from "./mode.ts";

type Setup = Omit<ModeSetup, "rows">;

const hex = (value: number | bigint) => `0x${value.toString(16)}`;
const isReal = ({ controls }: Setup) => !((controls.cr0 ?? 0n) & CR0.PE);
const isLong = ({ controls }: Setup) => ((controls.efer ?? 0n) & EFER.LMA) !== 0n;

function cr0Reason(setup: Setup): string {
  if (isReal(setup)) return "PE and PG clear: real mode";
  if (setup.bits === 16) return "PE: protected mode";
  const fpu = "MP and NE let x87 code run and fault by #MF";
  return setup.paging
    ? `PE and PG: protected mode with paging; WP binds ring 0 to read-only pages; ${fpu}`
    : `PE: protected mode; ${fpu}`;
}

function cr4Reason(setup: Setup): string {
  if (setup.bits === 16) return "nothing is needed";
  const sse = "OSFXSR and OSXMMEXCPT allow SSE";
  if (setup.paging === "pse") return `PSE allows 4 MiB pages; ${sse}`;
  if (setup.paging === "pae") return `PAE makes entries 8 bytes wide; ${sse}`;
  if (isLong(setup))
    return `PAE: long mode demands it${setup.paging === "5-level" ? "; LA57: five levels" : ""}; ${sse}`;
  return sse;
}

function eferReason(setup: Setup): string {
  if (isLong(setup)) return "LME with PG makes LMA: long mode; NXE gives page entries their NX bit";
  return setup.paging === "pae" ? "NXE gives page entries their NX bit" : "no long mode";
}

function controlRows(setup: Setup): ModeRow[] {
  const { cr0 = 0n, cr3 = 0n, cr4 = 0n, efer = 0n } = setup.controls;
  return [
    { register: "CR0", value: nameBits(cr0, CR0), why: cr0Reason(setup) },
    { register: "CR3", value: hex(cr3), why: setup.paging ? "root of the page tables" : "unused without paging" },
    { register: "CR4", value: nameBits(cr4, CR4), why: cr4Reason(setup) },
    { register: "EFER", value: nameBits(efer, EFER), why: eferReason(setup) },
  ];
}

function realSegmentRows({ segments: { cs, ss, ds } }: Setup): ModeRow[] {
  const large = "limits left behind by protected mode: 32-bit addresses reach 4 GiB";
  return [
    {
      register: "CS",
      value: `${hex(cs.selector)}, base ${hex(cs.base)}`,
      why: "in real mode the base is selector × 16",
    },
    { register: "SS", value: `${hex(ss.selector)}, limit ${hex(ss.limit)}`, why: "a 16-bit stack" },
    {
      register: "DS, ES, FS, GS",
      value: `${hex(ds.selector)}, limit ${hex(ds.limit)}`,
      why: ds.limit === 0xffff ? "the reset limit of 64 KiB" : large,
    },
  ];
}

function segmentRows({ bits, ring, segments: { cs, ds } }: Setup): ModeRow[] {
  const kind = cs.l ? "64-bit code (L = 1, D = 0)" : `${bits}-bit code`;
  return [
    {
      register: "CS",
      value: `${hex(cs.selector)}, base 0, limit ${hex(cs.limit)}, DPL ${ring}`,
      why: `${kind}, ring ${ring}`,
    },
    {
      register: "SS, DS, ES, FS, GS",
      value: `${hex(ds.selector)}, base 0, limit ${hex(ds.limit)}, DPL ${ring}`,
      why: "flat, writable; SS.DPL is the current privilege level",
    },
  ];
}

function taskRows({ segments: { tr } }: Setup): ModeRow[] {
  return [
    {
      register: "TR",
      value: `${hex(tr.selector)}, base ${hex(tr.base)}, busy`,
      why: "VMX refuses to enter a guest whose TR holds no busy TSS",
    },
    { register: "LDTR", value: "unusable", why: "no local descriptors" },
  ];
}

function tableRows(setup: Setup): ModeRow[] {
  const { gdt, idt } = setup.descriptorTables;
  const show = (table: DescriptorTable) => `base ${hex(table.base)}, limit ${hex(table.limit)}`;
  return [
    {
      register: "GDTR",
      value: show(gdt),
      why: gdt.limit > 0 ? "matches the loaded segments, so that they can be reloaded" : "none",
    },
    {
      register: "IDTR",
      value: show(idt),
      why: isReal(setup)
        ? "the interrupt vector table"
        : "gates for `handlers`; any other vector ends in a triple fault",
    },
  ];
}

function startRows(setup: Setup): ModeRow[] {
  const { gprs, ring } = setup;
  const away = isReal(setup) ? "the code" : "the tables";
  return [
    { register: "RIP", value: hex(gprs.rip), why: "the entry" },
    { register: "RSP", value: hex(gprs.rsp), why: `grows down, away from ${away}` },
    {
      register: "RFLAGS",
      value: hex(gprs.rflags),
      why: `bit 1 is always 1;${ring === 3 ? " IOPL 3 lets ring 3 use IN and OUT;" : ""} IF clear`,
    },
  ];
}

/** What each register gets, and why. */
export function modeRows(setup: Setup): ModeRow[] {
  const segments = isReal(setup) ? realSegmentRows(setup) : segmentRows(setup);
  return [...controlRows(setup), ...segments, ...taskRows(setup), ...tableRows(setup), ...startRows(setup)];
}

/** The rows of one or several set-ups as Markdown tables. */
export function describeModes(setups: readonly ModeSetup[]): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return setups
    .map(({ mode, rows }) => {
      const lines = rows.map(({ register, value, why }) => `| ${register} | ${cell(value)} | ${cell(why)} |`);
      return [`### ${mode}`, "", "| Register | Value | Why |", "|---|---|---|", ...lines, ""].join("\n");
    })
    .join("\n");
}
