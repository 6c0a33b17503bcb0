import { AsmError, assemble } from "../../../../../src/asm/index.ts";
import {
  codeSegment,
  dataSegment,
  encodeDescriptor,
  ldtSegment,
  tssSegment,
} from "../../../../../src/boot/descriptor.ts";
import { callGate, interruptGate, taskGate, trapGate } from "../../../../../src/boot/gate.ts";
import type { Mode, ModeOptions, ModeSetup } from "../../../../../src/boot/mode.ts";
import { modeSetup } from "../../../../../src/boot/mode-setup.ts";
import type { PageMapping } from "../../../../../src/boot/page-tables.ts";
import { SELECTORS } from "../../../../../src/boot/protected-mode.ts";
import { buildTss16, buildTss32, TSS64 } from "../../../../../src/boot/tss.ts";
import { Random } from "../oracle/random.ts";
import { ADDRESSES, handlerBytes } from "./handlers.ts";
import { control, integer, type Width } from "./integer-statements.ts";
import { EXTRA, LAYOUT, LDT, SOFTWARE_VECTORS, TSS2, TSS3, VECTORS } from "./layout.ts";
import { type Family, type Setting, system } from "./system-statements.ts";

export const LOCKSTEP_MODES = ["real16", "prot32", "paged32", "pae", "long64"] as const satisfies readonly Mode[];
export type LockstepMode = (typeof LOCKSTEP_MODES)[number];

/** A program that every engine can be given: memory, and the registers it starts with. */
export interface Program {
  readonly mode: LockstepMode;
  /** Assembly text of each statement, for the report. */
  readonly statements: readonly string[];
  readonly setup: ModeSetup;
  readonly pieces: readonly { readonly gpa: number; readonly bytes: Uint8Array }[];
}

const FAMILY: Readonly<Record<LockstepMode, Family>> = {
  real16: "real",
  prot32: "protected",
  paged32: "protected",
  pae: "protected",
  long64: "long",
};
const BITS: Readonly<Record<LockstepMode, Width>> = { real16: 16, prot32: 32, paged32: 32, pae: 32, long64: 64 };

export interface Generation {
  readonly count: number;
  /** Hardware task switches and virtual-8086 mode. */
  readonly heavy?: boolean;
  /** Accesses beyond segment limits. */
  readonly limits?: boolean;
  /** Changes of ring. */
  readonly rings?: boolean;
}

/** Statements from a seed. Each stands on its own, so that a failing program can be cut down. */
export function generate(seed: number, mode: LockstepMode, options: Generation): string[] {
  const r = new Random(seed * 40503 + LOCKSTEP_MODES.indexOf(mode));
  const bits = BITS[mode];
  const setting: Setting = {
    family: FAMILY[mode],
    bits,
    paged: mode !== "prot32" && mode !== "real16",
    wide: mode === "pae" || mode === "long64",
    heavy: options.heavy ?? false,
    limits: options.limits ?? false,
    rings: options.rings ?? false,
  };
  return Array.from({ length: options.count }, (_, index) => {
    const label = `s${index}`;
    const kind = r.below(10);
    if (kind < 2) return `  ${integer(r, bits)}`;
    if (kind < 4) return control(r, bits, `${label}_c`);
    return system(r, setting, label);
  });
}

/** The whole source: each statement first says where to go on when it faults. */
export function source(mode: LockstepMode, statements: readonly string[]): string {
  const bits = BITS[mode];
  const recover = { 16: "mov word [cs:RECOVER]", 32: "mov dword [cs:RECOVER]", 64: "mov qword [abs RECOVER]" }[bits];
  const lines = [`bits ${bits}`, `org ${LAYOUT.code}`];
  // The rig's QEMU ends when ring 3 is left with a busy 32-bit TSS that VMRUN loaded: one that LTR loaded will do.
  if (bits === 32) lines.push("  mov ax, 0x48", "  ltr ax");
  statements.forEach((statement, index) => {
    // CS is flat in every mode and cannot be written through in protected mode: SS is what handlers leave flat.
    lines.push(`  ${recover.replace("cs:", bits === 16 ? "cs:" : "ss:")}, next${index}`, statement, `next${index}:`);
  });
  lines.push("done:", "  hlt", "  jmp done");
  return lines.join("\n");
}

/** Makes memory and registers of `statements`. Statements that do not assemble (a jump too far) give undefined. */
export function build(mode: LockstepMode, statements: readonly string[]): Program | undefined {
  const bits = BITS[mode];
  let code: Uint8Array;
  try {
    code = assemble(source(mode, statements), { defines: ADDRESSES }).bytes;
  } catch (error) {
    if (error instanceof AsmError && /far|range|fit/i.test(error.message)) return undefined;
    throw error;
  }
  if (code.length > LAYOUT.handlers - LAYOUT.code - 0x800) return undefined;
  const vectors = Array.from({ length: VECTORS }, (_, vector) => vector);
  const setup = modeSetup(mode, {
    entry: LAYOUT.code,
    stack: mode === "real16" ? LAYOUT.kernelStack - 0x800 : LAYOUT.kernelStack,
    ...(mode === "real16" || mode === "prot32" ? {} : { pageBytes: 0x1000 as const, map: pages(mode) }),
    ...(mode === "real16"
      ? { handlers: realHandlers(vectors) }
      : { handlers: Object.fromEntries(vectors.map((vector) => [vector, LAYOUT.handlers + 16 * vector])) }),
  } satisfies ModeOptions);
  const log = new Uint8Array(16);
  new DataView(log.buffer).setUint32(0, LAYOUT.log, true);
  const data = Uint8Array.from({ length: 0x1000 }, (_, i) => (i * 37 + (i >>> 8)) & 0xff);
  const pieces = [
    ...setup.tables.map(({ gpa, bytes }) => ({ gpa, bytes })),
    ...(mode === "real16" ? [] : extras(mode)),
    { gpa: LAYOUT.code, bytes: code },
    { gpa: LAYOUT.handlers, bytes: handlerBytes(bits) },
    { gpa: LAYOUT.targets, bytes: assemble(TARGETS[bits], { origin: LAYOUT.targets, defines: ADDRESSES }).bytes },
    { gpa: LAYOUT.logPointer, bytes: log },
    { gpa: LAYOUT.data, bytes: data },
    ...(mode === "real16" ? [{ gpa: 0x3800, bytes: data.subarray(0, 0x780) }] : []),
  ];
  const gdt = { base: BigInt(LAYOUT.tables), limit: EXTRA.end - 1 };
  const whole: ModeSetup =
    mode === "real16" ? setup : { ...setup, descriptorTables: { ...setup.descriptorTables, gdt } };
  return { mode, statements, setup: whole, pieces };
}

/** Where gates lead: a mark in EBX, and back by the interrupt that any ring may use. */
const TARGETS: Readonly<Record<Width, string>> = {
  16: "bits 16\n  inc bx\n  int 0x30\n  hlt",
  32: "bits 32\n  inc ebx\n  mov esi, ebp\n  pushfd\n  pop edi\n  and edi, ~0x100\n  int 0x30\n  hlt",
  // The same bytes are also run as 32-bit code, from compatibility segments.
  64: "bits 64\n  add ebx, 3\n  mov esi, ebp\n  pushfq\n  pop rdi\n  and edi, ~0x100\n  int 0x30\n  hlt",
};

function realHandlers(vectors: readonly number[]): Record<number, number> {
  return Object.fromEntries(vectors.map((vector) => [vector, LAYOUT.handlers + 16 * vector]));
}

function pages(mode: LockstepMode): PageMapping[] {
  const noExecute = mode !== "paged32";
  const page = (gva: number, rights: Partial<PageMapping>): PageMapping => ({
    gva,
    gpa: gva,
    bytes: 0x1000,
    ...rights,
  });
  return [
    { gva: 0, gpa: 0, bytes: LAYOUT.supervisorPage, user: true },
    page(LAYOUT.supervisorPage, {}),
    page(LAYOUT.readOnlyPage, { user: true, writable: false }),
    page(LAYOUT.supervisorReadOnlyPage, { writable: false }),
    page(LAYOUT.noExecutePage, { user: true, ...(noExecute ? { noExecute: true } : {}) }),
    { gva: LAYOUT.absentPage + 0x1000, gpa: LAYOUT.absentPage + 0x1000, bytes: 0x1a000, user: true },
  ];
}

/** Gates, segments with limits, an LDT, a second TSS. */
function extras(mode: LockstepMode): { gpa: number; bytes: Uint8Array }[] {
  const long = mode === "long64";
  const bits = long ? 64 : 32;
  const at = (selector: number, bytes: Uint8Array) => ({ gpa: LAYOUT.tables + selector, bytes });
  const wide = { wide: long };
  const target = { bits, selector: SELECTORS.kernelCode, offset: LAYOUT.targets } as const;
  const absent = dataSegment({ bits: 32 });
  absent.present = 0;
  const codeBits = long ? 64 : 32;
  const descriptors = [
    at(EXTRA.conforming, encodeDescriptor(codeSegment({ bits: codeBits, conforming: true }))),
    at(EXTRA.executeOnly, encodeDescriptor(codeSegment({ bits: codeBits, executeOnly: true }))),
    at(EXTRA.readOnly, encodeDescriptor(dataSegment({ bits: 32, readOnly: true }))),
    at(EXTRA.expandDown, encodeDescriptor(dataSegment({ bits: 32, expandDown: true, limit: 0x1ffff }))),
    at(EXTRA.absent, encodeDescriptor(absent)),
    at(EXTRA.callGate, callGate({ ...target, dpl: 3, ...(long ? {} : { parameters: 2 }) })),
    at(EXTRA.ldt, encodeDescriptor(ldtSegment({ base: LDT.base, limit: LDT.end - 1 }), wide)),
    at(EXTRA.small, encodeDescriptor(dataSegment({ bits: 32, base: LAYOUT.data, limit: 0x2fff, dpl: 3 }))),
    at(EXTRA.kernelCallGate, callGate(target)),
  ];
  const ldt = [
    { gpa: LDT.base + (LDT.code & ~7), bytes: encodeDescriptor(codeSegment({ bits: codeBits })) },
    { gpa: LDT.base + (LDT.data & ~7), bytes: encodeDescriptor(dataSegment({ bits: 32, dpl: 3 })) },
  ];
  const legacy = [
    at(SELECTORS.tss, encodeDescriptor(tssSegment({ bits: 32, base: LAYOUT.tables + 0x100, available: true }))),
    at(EXTRA.tss2, encodeDescriptor(tssSegment({ bits: 32, base: TSS2, available: true }))),
    at(EXTRA.taskGate, taskGate({ selector: EXTRA.tss2, dpl: 3 })),
    { gpa: TSS2, bytes: secondTask(mode) },
    at(EXTRA.userCallGate16, callGate({ ...target, bits: 16, dpl: 3, parameters: 2 })),
    at(EXTRA.tss16, encodeDescriptor(tssSegment({ bits: 16, base: TSS3, available: true }))),
    at(EXTRA.stack16, encodeDescriptor(dataSegment({ bits: 16 }))),
    { gpa: TSS3, bytes: narrowTask() },
  ];
  return [...descriptors, ...ldt, ...(long ? [] : legacy), ...gates(mode)];
}

/** The second task: other registers, same code. It comes back by an interrupt to the handlers like everyone else. */
function secondTask(mode: LockstepMode): Uint8Array {
  return buildTss32({
    eip: LAYOUT.targets,
    eflags: 0x2,
    esp: LAYOUT.gateStack,
    esp0: LAYOUT.kernelStack,
    ss0: SELECTORS.kernelData,
    eax: 0x1111_1111,
    ebx: 0x2222_2222,
    ebp: 0x3333_3333,
    cs: SELECTORS.kernelCode,
    ss: SELECTORS.kernelData,
    ds: SELECTORS.kernelData,
    es: SELECTORS.userData,
    cr3: mode === "prot32" ? 0 : LAYOUT.tables + 0x2000,
  });
}

/** A task of 16 bits, on a stack of 16 bits. */
function narrowTask(): Uint8Array {
  return buildTss16({
    ip: LAYOUT.targets,
    flags: 0x2,
    sp: LAYOUT.gateStack,
    sp0: LAYOUT.gateStack,
    ss0: EXTRA.stack16,
    ax: 0x1111,
    bx: 0x2222,
    bp: 0x3333,
    cs: SELECTORS.kernelCode,
    ss: EXTRA.stack16,
    ds: SELECTORS.kernelData,
    es: SELECTORS.userData,
  });
}

/** IDT entries that differ from `enterMode()`'s interrupt gates for ring 0. */
function gates(mode: LockstepMode): { gpa: number; bytes: Uint8Array }[] {
  const long = mode === "long64";
  const bits = long ? 64 : 32;
  const entry = (vector: number, bytes: Uint8Array) => ({
    gpa: LAYOUT.tables + 0x1000 + vector * (long ? 16 : 8),
    bytes,
  });
  const to = (vector: number, selector: number = SELECTORS.kernelCode) =>
    ({ bits, selector, offset: LAYOUT.handlers + 16 * vector, dpl: 3 }) as const;
  const v = SOFTWARE_VECTORS;
  const absent = interruptGate(to(v.absent));
  absent[5] = (absent[5] as number) & 0x7f;
  return [
    entry(3, interruptGate(to(3))),
    entry(4, trapGate(to(4))),
    entry(v.interrupt3, interruptGate(to(v.interrupt3))),
    entry(v.trap3, trapGate(to(v.trap3))),
    entry(v.absent, absent),
    entry(v.badSelector, interruptGate(to(v.badSelector, SELECTORS.kernelData))),
    entry(v.conforming, interruptGate(to(v.conforming, EXTRA.conforming))),
    // IST1 of the TSS.
    ...(long ? [{ gpa: LAYOUT.tables + 0x100 + TSS64.ist1[0], bytes: little(LAYOUT.gateStack) }] : []),
    ...(long
      ? [entry(v.ist, interruptGate({ ...to(v.ist), ist: 1 }))]
      : [
          entry(v.task, taskGate({ selector: EXTRA.tss2, dpl: 3 })),
          entry(v.interrupt16, interruptGate({ ...to(v.interrupt16), bits: 16 })),
          entry(v.trap16, trapGate({ ...to(v.trap16), bits: 16 })),
        ]),
  ];
}

function little(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8);
}
