import { CR0, EFLAGS } from "../control-bits.ts";
import type { Cpu } from "../cpu.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import {
  baseOf,
  descriptorAddress,
  dplOf,
  isCode,
  isConforming,
  isPresent,
  isSystem,
  isWritableData,
  limitOf,
  loadFromDescriptor,
  loadLdt,
  loadNull,
  loadRealSegment,
  markAccessed,
  readDescriptor,
  setSegmentFields,
  typeOf,
} from "./descriptors.ts";

export type TaskCause = "jump" | "call" | "interrupt" | "return";

/** Offsets in a 32-bit TSS (Intel SDM Vol. 3A, "32-Bit Task-State Segment"). */
const TSS32 = {
  link: 0,
  cr3: 0x1c,
  eip: 0x20,
  eflags: 0x24,
  gpr: 0x28,
  segments: 0x48,
  ldt: 0x60,
  trap: 0x64,
  size: 0x68,
};
/** Offsets in a 16-bit TSS. */
const TSS16 = { link: 0, ip: 0x0e, flags: 0x10, gpr: 0x12, segments: 0x22, ldt: 0x2a, size: 0x2c };
const LOCAL_BREAKPOINTS = 0x155;
const SEGMENT_ORDER = [SegIndex.es, SegIndex.cs, SegIndex.ss, SegIndex.ds, SegIndex.fs, SegIndex.gs];

/** Hardware task switch (Intel SDM Vol. 3A, "Task Switching"). False when it raised; RIP must be what the old task resumes at. */
export function switchTask(
  cpu: Cpu,
  selector: number,
  cause: TaskCause,
  options: { errorCode?: number | undefined; external?: boolean } = {},
): boolean {
  const fail = (vector: Vector, code: number): false => {
    cpu.raise(vector, code | (options.external ? 1 : 0));
    return false;
  };
  // A task gate is checked as a far transfer is (Intel SDM Vol. 2A, INT n, "TASK-GATE"); only a back link raises #TS.
  const wrong = cause === "return" ? Vector.TS : Vector.GP;
  const error = selector & 0xfffc;
  if ((selector & 4) !== 0) return fail(wrong, error);
  const d = readDescriptor(cpu, selector, wrong);
  if (d === undefined) return false;
  const busy = (typeOf(d) & 2) !== 0;
  if (!isSystem(d) || (typeOf(d) & 5) !== 1 || busy !== (cause === "return")) return fail(wrong, error);
  if (!isPresent(d)) return fail(Vector.NP, error);
  const wide = (typeOf(d) & 8) !== 0;
  if (limitOf(d) < (wide ? TSS32.size : TSS16.size) - 1) return fail(Vector.TS, error);
  const next = baseOf(d);
  const image = new Uint8Array(wide ? TSS32.size : TSS16.size);
  if (!cpu.access.readLinear(next, image)) return false;
  const oldSelector = cpu.selector(SegIndex.tr);
  if (!saveTask(cpu, cause)) return false;
  if (cause === "jump" || cause === "return") if (!setBusy(cpu, oldSelector, false)) return false;
  if (cause === "call" || cause === "interrupt") {
    if (!cpu.access.writeSystem(next, BigInt(oldSelector), 2)) return false;
  }
  if (cause !== "return" && !setBusy(cpu, selector, true)) return false;
  const attributes = ((d.high >>> 8) & 0xff) | 2 | (((d.high >>> 20) & 0xf) << 8);
  setSegmentFields(cpu, SegIndex.tr, { selector, base: next, limit: limitOf(d), attributes });
  cpu.set(State.cr0, cpu.cr0 | CR0.TS);
  const nested = cause === "call" || cause === "interrupt";
  const loaded = new DataView(image.buffer);
  if (!loadTask(cpu, loaded, wide, nested)) return false;
  disableLocalBreakpoints(cpu);
  cpu.taskTrap = wide && (loaded.getUint16(TSS32.trap, true) & 1) !== 0;
  if (options.errorCode === undefined) return true;
  return pushError(cpu, options.errorCode, wide);
}

/** L0 to L3 and LE belong to the task that was left. */
function disableLocalBreakpoints(cpu: Cpu): void {
  const dr7 = State.dr + 5 * 8;
  if ((cpu.get(dr7) & LOCAL_BREAKPOINTS) === 0) return;
  cpu.set(dr7, cpu.get(dr7) & ~LOCAL_BREAKPOINTS);
  cpu.debugChanged();
}

function pushError(cpu: Cpu, code: number, wide: boolean): boolean {
  const stackWide = (cpu.attributes(SegIndex.ss) & 0x400) !== 0;
  const mask = stackWide ? 0xffff_ffffn : 0xffffn;
  const bytes = wide ? 4 : 2;
  const top = (cpu.gpr(4) - BigInt(bytes)) & mask;
  if (!cpu.access.writeSystem(cpu.segmentBase(SegIndex.ss) + top, BigInt(code), bytes)) return false;
  cpu.setGpr(4, (cpu.gpr(4) & ~mask & 0xffff_ffffn) | top);
  return true;
}

function setBusy(cpu: Cpu, selector: number, busy: boolean): boolean {
  const address = descriptorAddress(cpu, selector);
  if (address === undefined) return true;
  const byte = cpu.access.readSystem(address + 4n, 2);
  if (byte === undefined) return false;
  const access = Number(byte >> 8n);
  return cpu.access.writeSystem(address + 5n, BigInt(busy ? access | 2 : access & ~2), 1);
}

/** Writes the outgoing task's registers to its TSS. */
function saveTask(cpu: Cpu, cause: TaskCause): boolean {
  const base = cpu.segmentBase(SegIndex.tr);
  const wide = (cpu.attributes(SegIndex.tr) & 8) !== 0;
  let flags = cpu.eflags;
  if (cause === "return") flags &= ~EFLAGS.NT;
  if (wide) {
    const data = new DataView(new ArrayBuffer(0x40));
    data.setUint32(0, Number(cpu.rip & 0xffff_ffffn), true);
    data.setUint32(4, flags, true);
    for (let i = 0; i < 8; i++) data.setUint32(8 + i * 4, Number(cpu.gpr(i) & 0xffff_ffffn), true);
    for (const [i, index] of SEGMENT_ORDER.entries()) data.setUint32(0x28 + i * 4, cpu.selector(index), true);
    return cpu.access.writeLinear(base + BigInt(TSS32.eip), new Uint8Array(data.buffer));
  }
  const data = new DataView(new ArrayBuffer(TSS16.ldt - TSS16.ip));
  data.setUint16(0, Number(cpu.rip & 0xffffn), true);
  data.setUint16(2, flags & 0xffff, true);
  for (let i = 0; i < 8; i++) data.setUint16(4 + i * 2, Number(cpu.gpr(i) & 0xffffn), true);
  for (let i = 0; i < 4; i++) data.setUint16(20 + i * 2, cpu.selector(SEGMENT_ORDER[i] as number), true);
  return cpu.access.writeLinear(base + BigInt(TSS16.ip), new Uint8Array(data.buffer));
}

/** Loads the incoming task. From here on faults belong to the new task. */
function loadTask(cpu: Cpu, image: DataView, wide: boolean, nested: boolean): boolean {
  const selectors: number[] = [];
  let flags: number;
  let ldt: number;
  if (wide) {
    if (cpu.cr0 < 0) {
      cpu.set64(State.cr3, BigInt(image.getUint32(TSS32.cr3, true)));
      cpu.flushTlb();
    }
    cpu.rip = BigInt(image.getUint32(TSS32.eip, true));
    flags = image.getUint32(TSS32.eflags, true);
    for (let i = 0; i < 8; i++) cpu.setGpr(i, BigInt(image.getUint32(TSS32.gpr + i * 4, true)));
    for (let i = 0; i < 6; i++) selectors.push(image.getUint16(TSS32.segments + i * 4, true));
    ldt = image.getUint16(TSS32.ldt, true);
  } else {
    cpu.rip = BigInt(image.getUint16(TSS16.ip, true));
    flags = image.getUint16(TSS16.flags, true);
    // The upper halves are lost: zeros, as on KVM.
    for (let i = 0; i < 8; i++) cpu.setGpr(i, BigInt(image.getUint16(TSS16.gpr + i * 2, true)));
    for (let i = 0; i < 4; i++) selectors.push(image.getUint16(TSS16.segments + i * 2, true));
    selectors.push(0, 0);
    ldt = image.getUint16(TSS16.ldt, true);
  }
  cpu.eflags = nested ? flags | EFLAGS.NT : flags;
  // Selectors first, unusable, so that a fault on the way leaves none of the old task's segments.
  for (const [i, index] of SEGMENT_ORDER.entries()) loadNull(cpu, index, selectors[i] as number);
  cpu.setSegment(SegIndex.ldt, Seg.selector, ldt);
  if (cpu.v86) {
    for (const [i, index] of SEGMENT_ORDER.entries()) loadRealSegment(cpu, index, selectors[i] as number);
    return loadLdt(cpu, ldt) === 0 || asTaskFault(cpu, ldt);
  }
  if (loadLdt(cpu, ldt) !== 0) return asTaskFault(cpu, ldt);
  return loadTaskSegments(cpu, selectors);
}

/** Faults of segment loads become #TS inside a task switch. */
function asTaskFault(cpu: Cpu, selector: number): false {
  if (cpu.pending?.kind === "raise" && cpu.pending.fault.vector === Vector.GP) cpu.raise(Vector.TS, selector & 0xfffc);
  return false;
}

function loadTaskSegments(cpu: Cpu, selectors: readonly number[]): boolean {
  const fail = (vector: Vector, selector: number): false => {
    cpu.raise(vector, selector & 0xfffc);
    return false;
  };
  const cs = selectors[1] as number;
  const cpl = cs & 3;
  if ((cs & 0xfffc) === 0) return fail(Vector.TS, cs);
  const code = readDescriptor(cpu, cs, Vector.TS);
  if (code === undefined) return false;
  const level = isConforming(code) ? dplOf(code) <= cpl : dplOf(code) === cpl;
  if (isSystem(code) || !isCode(code) || !level) return fail(Vector.TS, cs);
  if (!isPresent(code)) return fail(Vector.NP, cs);
  const ss = selectors[2] as number;
  if ((ss & 0xfffc) === 0) return fail(Vector.TS, ss);
  const stack = readDescriptor(cpu, ss, Vector.TS);
  if (stack === undefined) return false;
  if (!isWritableData(stack) || dplOf(stack) !== cpl || (ss & 3) !== cpl) return fail(Vector.TS, ss);
  if (!isPresent(stack)) return fail(Vector.SS, ss);
  if (!markAccessed(cpu, cs, code) || !markAccessed(cpu, ss, stack)) return false;
  loadFromDescriptor(cpu, SegIndex.cs, cs, code);
  loadFromDescriptor(cpu, SegIndex.ss, ss, stack);
  for (const [i, index] of SEGMENT_ORDER.entries()) {
    if (index === SegIndex.cs || index === SegIndex.ss) continue;
    const selector = selectors[i] as number;
    if ((selector & 0xfffc) === 0) continue;
    const d = readDescriptor(cpu, selector, Vector.TS);
    if (d === undefined) return false;
    if (isSystem(d) || (isCode(d) && (d.high & 0x200) === 0)) return fail(Vector.TS, selector);
    if (!(isCode(d) && isConforming(d)) && Math.max(cpl, selector & 3) > dplOf(d)) return fail(Vector.TS, selector);
    if (!isPresent(d)) return fail(Vector.NP, selector);
    if (!markAccessed(cpu, selector, d)) return false;
    loadFromDescriptor(cpu, index, selector, d);
  }
  return true;
}
