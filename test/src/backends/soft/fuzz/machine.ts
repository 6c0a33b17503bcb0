import type { SoftBackend } from "../../../../../src/backends/soft/backend.ts";
import { MAX_VCPUS } from "../../../../../src/backends/soft/ram.ts";
import { State } from "../../../../../src/backends/soft/state.ts";
import type { SoftVm } from "../../../../../src/backends/soft/vm.ts";
import type { Exit } from "../../../../../src/exit.ts";
import { GPR_NAMES, SEGMENT_NAMES } from "../../../../../src/registers.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";
import { type FuzzCase, LAST_PAGE, READ_ONLY_PAGE } from "./case.ts";

/** How a case is run: in one go, in slices of so many instructions, or stepping. All must come to the same. */
export type Schedule = "whole" | "steps" | number;

export interface FuzzRun {
  /** Exits with the instruction count and RIP at each. */
  readonly trace: readonly string[];
  /** Registers and a hash of memory at the end. */
  readonly end: string;
  readonly instructions: number;
}

const GUARD_BYTES = 0x10000;
const GUARD_BYTE = 0xa5;
const MAX_EXITS = 150;
const TF = 0x100n;
const NOTHING = new Uint8Array((MAX_VCPUS - 1) * State.size);
/** Far above what a case takes: only a run that ignores its instruction limit gets there. */
const HANG_MS = 10_000;
/** How long a guest that sleeps in HLT is waited for. */
const SLEEP_MS = 20;

/** Runs a case to `maxInstructions`, shutdown or its last exit. @throws {Error} when it touches what is not its memory, or hangs. Undefined when stepping cannot be compared. */
export function runCase(
  backend: SoftBackend,
  fuzz: FuzzCase,
  { schedule, maxInstructions }: { schedule: Schedule; maxInstructions: number },
): FuzzRun | undefined {
  using vm = new Vm(backend, {
    memoryBytes: 0,
    msrExits: { invalid: fuzz.seed % 3 === 0 },
    ...(fuzz.irqchip ? { irqchip: "full", pit: true } : {}),
  });
  const engine = vm.engine as SoftVm;
  using before = engine.allocate(GUARD_BYTES);
  const ram = vm.memory.add({ gpa: 0, bytes: READ_ONLY_PAGE });
  const readOnly = vm.memory.add({ gpa: READ_ONLY_PAGE, bytes: 0x1000, readOnly: true });
  const last = vm.memory.add({ gpa: LAST_PAGE, bytes: 0x1000, logDirty: true });
  using after = engine.allocate(GUARD_BYTES);
  const guards = [before.bytes, after.bytes];
  for (const guard of guards) guard.fill(GUARD_BYTE);

  using vcpu = vm.createVcpu();
  for (const { gpa, bytes } of fuzz.pieces) {
    const inReadOnly = Math.max(0, Math.min(bytes.length, READ_ONLY_PAGE - gpa));
    if (gpa < READ_ONLY_PAGE) ram.data.set(bytes.subarray(0, inReadOnly), gpa);
    if (gpa < READ_ONLY_PAGE && inReadOnly < bytes.length) readOnly.data.set(bytes.subarray(inReadOnly));
    if (gpa >= LAST_PAGE) last.data.set(bytes, gpa - LAST_PAGE);
  }
  vcpu.enterMode(fuzz.mode, fuzz.options);
  for (const { gpa, low, high } of fuzz.tablePatches) {
    vm.memory.writeU32(gpa, low);
    if (fuzz.mode !== "paged32") vm.memory.writeU32(gpa + 4, high);
  }
  const readOnlyHash = Bun.hash(readOnly.data);

  const interrupt = (vector: number): void => {
    if (!fuzz.irqchip) vcpu.interrupt(vector);
    else for (const level of [true, false]) engine.setIrqLine(vector & 15, level);
  };
  const trace = drive(vcpu, fuzz, { schedule, maxInstructions, interrupt });
  for (const guard of guards) {
    const at = guard.findIndex((byte) => byte !== GUARD_BYTE);
    if (at >= 0) throw new Error(`case ${fuzz.seed}: byte ${at} of guard ${guards.indexOf(guard)} was written`);
  }
  if (Bun.hash(readOnly.data) !== readOnlyHash) throw new Error(`case ${fuzz.seed}: the read-only page was written`);
  const neighbours = engine.ram.bytes.subarray(State.size, MAX_VCPUS * State.size);
  if (Buffer.compare(neighbours, NOTHING) !== 0) throw new Error(`case ${fuzz.seed}: another vCPU's state was written`);
  if (trace === undefined) return undefined;
  return {
    trace,
    end: `${describe(vcpu)} ram ${Bun.hash(ram.data).toString(16)} last ${Bun.hash(last.data).toString(16)}`,
    instructions: vcpu.instructions ?? 0,
  };
}

function drive(
  vcpu: Vcpu,
  fuzz: FuzzCase,
  options: { schedule: Schedule; maxInstructions: number; interrupt: (vector: number) => void },
): string[] | undefined {
  const { schedule, maxInstructions, interrupt } = options;
  const trace: string[] = [];
  const hang = performance.now() + HANG_MS;
  vcpu.setDeadline(hang);
  if (schedule === "steps") vcpu.debug({ singleStep: true });
  const slice = typeof schedule === "number" ? schedule : maxInstructions;
  while (trace.length < MAX_EXITS) {
    const left = maxInstructions - (vcpu.instructions ?? 0);
    if (left <= 0) break;
    vcpu.limitInstructions(Math.min(left, slice));
    if (fuzz.irqchip) vcpu.setDeadline(Math.min(hang, performance.now() + SLEEP_MS));
    const exit = vcpu.enter();
    if (exit.kind === "debug") {
      // The debugger owns #DB while it steps, so a guest that steps itself goes another way, as on KVM.
      if ((vcpu.registers.rflags & TF) !== 0n) return undefined;
      continue;
    }
    if (exit.kind === "interrupted") {
      if (exit.by === "timeout" && vcpu.registers.mpState !== "runnable") {
        trace.push(`asleep after ${vcpu.instructions} at ${vcpu.registers.rip.toString(16)}`);
        break;
      }
      if (exit.by === "timeout" && performance.now() < hang) continue;
      if (exit.by !== "maxInstructions") {
        throw new Error(`case ${fuzz.seed}: ${exit.by} after ${vcpu.instructions} instructions`);
      }
      continue;
    }
    const vector = fuzz.interrupts.get(trace.length);
    trace.push(`${describeExit(exit)} after ${vcpu.instructions} at ${vcpu.registers.rip.toString(16)}`);
    answer(exit, trace.length);
    if (exit.kind === "shutdown" || exit.kind === "internalError") break;
    if (vector === 2) vcpu.nmi();
    else if (vector !== undefined) interrupt(vector);
  }
  return trace;
}

/** The same answers every time, different from exit to exit. */
function answer(exit: Exit, count: number): void {
  if (exit.kind === "pioIn" || exit.kind === "mmioRead") {
    for (let i = 0; i < exit.data.length; i++) exit.data[i] = (count * 31 + i * 7) & 0xff;
  }
  if (exit.kind === "rdmsr") {
    exit.value = BigInt(count) * 0x1_0000_0101n;
    exit.error = count % 4 === 0;
  }
  if (exit.kind === "wrmsr") exit.error = count % 4 === 1;
}

function describeExit(exit: Exit): string {
  return JSON.stringify(exit, (_, value: unknown) => {
    if (typeof value === "bigint") return value.toString(16);
    return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
  });
}

/** Everything a guest can see of its registers. */
export function describe(vcpu: Vcpu): string {
  const { registers } = vcpu;
  const gprs = GPR_NAMES.map((name) => `${name}=${registers[name].toString(16)}`);
  const segments = SEGMENT_NAMES.map((name) => {
    const s = registers[name];
    const flags = `${s.s}${s.dpl}${s.present}${s.avl}${s.l}${s.db}${s.g}${s.unusable}`;
    return `${name}=${s.selector.toString(16)}:${s.base.toString(16)}+${s.limit.toString(16)}/${s.type.toString(16)}.${flags}`;
  });
  const { cr0, cr2, cr3, cr4, cr8, efer, dr6, dr7, gdt, idt } = registers;
  const controls = Object.entries({ cr0, cr2, cr3, cr4, cr8, efer, dr6, dr7 }).map(
    ([name, value]) => `${name}=${value.toString(16)}`,
  );
  const tables = `gdt=${gdt.base.toString(16)}+${gdt.limit.toString(16)} idt=${idt.base.toString(16)}+${idt.limit.toString(16)}`;
  const xsave = Bun.hash(registers.xsave).toString(16);
  return [...gprs, ...segments, ...controls, tables, `xsave=${xsave}`].join(" ");
}
