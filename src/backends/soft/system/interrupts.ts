import { highOf, isCanonical, lowOf } from "../access.ts";
import { EFLAGS } from "../control-bits.ts";
import type { Cpu, Descriptor, Fault } from "../cpu.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import { INFO_SYSTEM, INFO_USER, INFO_WRITE } from "../translate/access-info.ts";
import {
  dplOf,
  isCode,
  isConforming,
  isPresent,
  isSystem,
  isWritableData,
  limitOf,
  loadFromDescriptor,
  loadNull,
  loadRealSegment,
  markAccessed,
  readDescriptor,
  setSegmentFields,
} from "./descriptors.ts";
import { switchTask } from "./tasks.ts";

/** What caused a delivery. */
export interface Event {
  readonly vector: number;
  readonly errorCode: number | undefined;
  /** INT n, INT3, INTO: gates must allow the CPL. */
  readonly software: boolean;
  /** From outside (NMI, interrupt line) rather than by the instruction: EXT of error codes. */
  readonly external: boolean;
  /** RIP of the INT instruction: RIP itself is already behind it. */
  readonly at?: bigint;
}

const DR7 = State.dr + 5 * 8;
const DR7_GD = 0x2000;
const CONTRIBUTORY = new Set<number>([Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP]);
const WITH_CODE = new Set<number>([Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC]);

/** Exceptions push an error code outside real mode. */
export function hasErrorCode(vector: number): boolean {
  return WITH_CODE.has(vector);
}

/**
 * Delivers an exception or interrupt, with double and triple faults (Intel SDM Vol. 3A, "Interrupt 8—Double Fault
 * Exception"). False when the processor shuts down; `cpu.faultChain` then holds what led there.
 */
export function deliver(cpu: Cpu, event: Event): boolean {
  let current = event;
  cpu.faultChain.length = 0;
  const behind = cpu.rip;
  for (;;) {
    if (!current.software && !current.external) {
      cpu.faultChain.push({ vector: current.vector as Vector, errorCode: current.errorCode });
    }
    const stepping = cpu.stepping;
    cpu.stepping = true;
    cpu.access.startInstruction();
    const done = deliverOnce(cpu, current);
    cpu.stepping = stepping;
    if (done) {
      // DR7.GD is off in the handler.
      if (current.vector === Vector.DB && !current.software) cpu.set(DR7, cpu.get(DR7) & ~DR7_GD);
      return true;
    }
    const pending = cpu.pending;
    cpu.pending = undefined;
    // What goes wrong with INT n is a fault at it, not behind it.
    if (current.at !== undefined && cpu.rip === behind) cpu.rip = current.at;
    // An MMIO read inside a delivery cannot be answered: treated as a failed delivery.
    if (pending?.kind !== "raise") return false;
    const next = combine(current, pending.fault);
    if (next === undefined) {
      cpu.faultChain.push(pending.fault);
      return false;
    }
    current = next;
  }
}

function combine(first: Event, second: Fault): Event | undefined {
  const fault = { vector: second.vector, errorCode: second.errorCode, software: false, external: false };
  if (first.software || first.external) return fault;
  if (first.vector === Vector.DF) return undefined;
  const contributory = CONTRIBUTORY.has(first.vector);
  const double =
    (contributory && CONTRIBUTORY.has(second.vector)) ||
    (first.vector === Vector.PF && (CONTRIBUTORY.has(second.vector) || second.vector === Vector.PF));
  return double ? { vector: Vector.DF, errorCode: 0, software: false, external: false } : fault;
}

function deliverOnce(cpu: Cpu, event: Event): boolean {
  if (!cpu.protectedMode) return deliverReal(cpu, event);
  return cpu.longMode ? deliverLong(cpu, event) : deliverProtected(cpu, event);
}

/** #GP and kin raised by a gate: index into the IDT, IDT bit, EXT bit. */
function gateError(event: Event): number {
  return event.vector * 8 + 2 + (event.software ? 0 : 1);
}

function selectorError(selector: number, event: Event): number {
  return (selector & 0xfffc) | (event.software ? 0 : 1);
}

function fail(cpu: Cpu, vector: Vector, code: number): false {
  cpu.raise(vector, code);
  return false;
}

function deliverReal(cpu: Cpu, event: Event): boolean {
  if (event.vector * 4 + 3 > cpu.get(State.idtLimit) >>> 0) return fail(cpu, Vector.GP, 0);
  const entry = cpu.access.readSystem(cpu.get64(State.idtBase) + BigInt(event.vector * 4), 4);
  if (entry === undefined) return false;
  const sp = cpu.gpr32(4) & 0xffff;
  const frame = new Uint8Array(6);
  const view = new DataView(frame.buffer);
  view.setUint16(0, Number(cpu.rip & 0xffffn), true);
  view.setUint16(2, cpu.selector(SegIndex.cs), true);
  view.setUint16(4, cpu.eflags & 0xffff, true);
  const base = cpu.segmentBase(SegIndex.ss);
  for (let i = 0; i < 3; i++) {
    const at = BigInt((sp - 6 + i * 2) & 0xffff);
    if (!cpu.access.writeLinear((base + at) & 0xffff_ffffn, frame.subarray(i * 2, i * 2 + 2))) return false;
  }
  cpu.setGpr(4, (cpu.gpr(4) & ~0xffffn) | BigInt((sp - 6) & 0xffff));
  cpu.set(State.eflags, cpu.get(State.eflags) & ~(EFLAGS.IF | EFLAGS.TF | EFLAGS.AC | EFLAGS.RF));
  loadRealSegment(cpu, SegIndex.cs, Number((entry >> 16n) & 0xffffn));
  cpu.rip = entry & 0xffffn;
  return true;
}

interface Gate {
  readonly type: number;
  readonly selector: number;
  readonly offset: bigint;
  readonly ist: number;
}

function readGate(cpu: Cpu, event: Event, size: 8 | 16): Gate | undefined {
  const error = gateError(event);
  if (event.vector * size + size - 1 > cpu.get(State.idtLimit) >>> 0) {
    cpu.raise(Vector.GP, error);
    return undefined;
  }
  const at = cpu.get64(State.idtBase) + BigInt(event.vector * size);
  const words = cpu.access.readSystem(at, 8);
  if (words === undefined) return undefined;
  const high = Number(words >> 32n);
  const type = (high >>> 8) & 0x1f;
  const allowed = size === 16 ? [0xe, 0xf] : [5, 6, 7, 0xe, 0xf];
  if (!allowed.includes(type) || (event.software && ((high >>> 13) & 3) < cpu.cpl)) {
    cpu.raise(Vector.GP, error);
    return undefined;
  }
  if ((high & 0x8000) === 0) {
    cpu.raise(Vector.NP, error);
    return undefined;
  }
  let offset = BigInt((Number(words & 0xffffn) | (high & 0xffff_0000)) >>> 0);
  if (size === 16) {
    const upper = cpu.access.readSystem(at + 8n, 4);
    if (upper === undefined) return undefined;
    offset |= upper << 32n;
  } else if ((type & 8) === 0) offset &= 0xffffn;
  return { type, selector: Number((words >> 16n) & 0xffffn), offset, ist: high & 7 };
}

/** Checks the gate's code segment. Undefined when it raised. */
function gateTarget(cpu: Cpu, event: Event, gate: Gate) {
  const error = selectorError(gate.selector, event);
  if ((gate.selector & 0xfffc) === 0) {
    cpu.raise(Vector.GP, event.software ? 0 : 1);
    return undefined;
  }
  const code = readDescriptor(cpu, gate.selector);
  if (code === undefined) {
    if (cpu.pending?.kind === "raise" && cpu.pending.fault.vector === Vector.GP) cpu.raise(Vector.GP, error);
    return undefined;
  }
  if (isSystem(code) || !isCode(code) || dplOf(code) > cpu.cpl) {
    cpu.raise(Vector.GP, error);
    return undefined;
  }
  if (!isPresent(code)) {
    cpu.raise(Vector.NP, error);
    return undefined;
  }
  return code;
}

function clearFlags(cpu: Cpu, gate: Gate): void {
  const trap = (gate.type & 1) !== 0;
  const cleared = EFLAGS.TF | EFLAGS.NT | EFLAGS.RF | EFLAGS.VM | (trap ? 0 : EFLAGS.IF);
  cpu.set(State.eflags, cpu.get(State.eflags) & ~cleared);
}

/** RFLAGS as a frame holds it: faults push RF set, so that the instruction restarts past its breakpoint. */
function savedFlags(cpu: Cpu, event: Event): number {
  const fault = !event.software && !event.external && event.vector !== Vector.DB && event.vector !== Vector.BP;
  return cpu.eflags | (fault ? EFLAGS.RF : 0);
}

/** What a stack segment lets a push reach. */
interface StackBounds {
  readonly limit: number;
  readonly expandDown: boolean;
  readonly wide: boolean;
}

function boundsOf(cpu: Cpu): StackBounds {
  const attributes = cpu.attributes(SegIndex.ss);
  const limit = cpu.segment(SegIndex.ss, Seg.limit) >>> 0;
  return { limit, expandDown: (attributes & 4) !== 0, wide: (attributes & 0x400) !== 0 };
}

export function boundsOfDescriptor(d: Descriptor): StackBounds {
  return { limit: limitOf(d), expandDown: (d.high & 0x400) !== 0, wide: (d.high & 0x40_0000) !== 0 };
}

/** Whether `count` values of `bytes` bytes fit below `top`. */
export function hasRoom({ limit, expandDown, wide }: StackBounds, top: bigint, bytes: number, count: number): boolean {
  const highest = wide ? 0xffff_ffff : 0xffff;
  for (let i = 1; i <= count; i++) {
    const first = Number((top - BigInt(i * bytes)) & BigInt(highest));
    const last = first + bytes - 1;
    if (expandDown ? first <= limit || last > highest : last > limit) return false;
  }
  return true;
}

/** Writes values downwards from a stack top of level `cpl`, as PUSH would. False when it faulted. */
function pushAll(
  cpu: Cpu,
  cpl: number,
  base: bigint,
  top: bigint,
  mask: bigint,
  bytes: 2 | 4 | 8,
  values: readonly bigint[],
): boolean {
  // Checked as a whole before anything is written: the first store may be the last that succeeds.
  const data = new Uint8Array(values.length * bytes);
  const view = new DataView(data.buffer);
  for (const [i, value] of values.entries()) {
    const at = data.length - (i + 1) * bytes;
    if (bytes === 2) view.setUint16(at, Number(value & 0xffffn), true);
    else if (bytes === 4) view.setUint32(at, Number(value & 0xffff_ffffn), true);
    else view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }
  const at = (below: number): bigint => {
    const offset = (top - BigInt(below)) & mask;
    return cpu.longMode ? BigInt.asUintN(64, base + offset) : (base + offset) & 0xffff_ffffn;
  };
  const info = INFO_SYSTEM | (cpl === 3 ? INFO_USER : 0);
  // The processor begins at the top: a page fault names the first word pushed.
  const first = at(bytes);
  if (cpu.access.checkRange(lowOf(first), highOf(first), bytes | info | INFO_WRITE) !== 0) return false;
  if (top >= BigInt(data.length)) return cpu.access.writeLinear(at(data.length), data, info);
  // Around the end of the segment word by word.
  return values.every((_, i) => {
    const word = data.subarray(data.length - (i + 1) * bytes, data.length - i * bytes);
    return cpu.access.writeLinear(at((i + 1) * bytes), word, info);
  });
}

function deliverProtected(cpu: Cpu, event: Event): boolean {
  if (cpu.v86 && event.software && event.vector !== 3 && event.vector !== 4 && cpu.iopl < 3)
    return fail(cpu, Vector.GP, 0);
  const gate = readGate(cpu, event, 8);
  if (gate === undefined) return false;
  const code = event.errorCode;
  if (gate.type === 5) {
    return switchTask(cpu, gate.selector, "interrupt", { errorCode: code, external: !event.software });
  }
  const target = gateTarget(cpu, event, gate);
  if (target === undefined) return false;
  const bytes = (gate.type & 8) !== 0 ? 4 : 2;
  const flags = BigInt(savedFlags(cpu, event) >>> 0);
  const frame = [flags, BigInt(cpu.selector(SegIndex.cs)), cpu.rip];
  if (code !== undefined) frame.push(BigInt(code >>> 0));
  const inner = !isConforming(target) && dplOf(target) < cpu.cpl;
  if (inner) {
    if (!toInnerStack(cpu, dplOf(target), bytes, frame, event)) return false;
  } else {
    if (cpu.v86 && dplOf(target) !== 0) return fail(cpu, Vector.GP, selectorError(gate.selector, event));
    const wide = (cpu.attributes(SegIndex.ss) & 0x400) !== 0;
    const mask = wide ? 0xffff_ffffn : 0xffffn;
    const top = cpu.gpr(4) & mask;
    if (!hasRoom(boundsOf(cpu), top, bytes, frame.length)) return fail(cpu, Vector.SS, event.software ? 0 : 1);
    if (!pushAll(cpu, cpu.cpl, cpu.segmentBase(SegIndex.ss), top, mask, bytes, frame)) return false;
    setStack(cpu, top - BigInt(frame.length * bytes), wide);
  }
  const cpl = inner ? dplOf(target) : cpu.cpl;
  if (!markAccessed(cpu, gate.selector, target)) return false;
  clearFlags(cpu, gate);
  loadFromDescriptor(cpu, SegIndex.cs, (gate.selector & 0xfffc) | cpl, target);
  cpu.rip = gate.offset;
  return true;
}

function setStack(cpu: Cpu, value: bigint, wide: boolean): void {
  if (wide) cpu.setGpr(4, value & 0xffff_ffffn);
  else cpu.setGpr(4, (cpu.gpr(4) & ~0xffffn) | (value & 0xffffn));
}

/** The stack of an inner level from the TSS. Undefined when it raised. */
export function innerStack(cpu: Cpu, dpl: number): { selector: number; pointer: bigint } | undefined {
  const tss = cpu.segmentBase(SegIndex.tr);
  const limit = cpu.segment(SegIndex.tr, Seg.limit) >>> 0;
  const wide = (cpu.attributes(SegIndex.tr) & 8) !== 0;
  const at = wide ? dpl * 8 + 4 : dpl * 4 + 2;
  if (at + (wide ? 5 : 3) > limit) {
    cpu.raise(Vector.TS, cpu.selector(SegIndex.tr) & 0xfffc);
    return undefined;
  }
  const pointer = cpu.access.readSystem(tss + BigInt(at), wide ? 4 : 2);
  const selector = cpu.access.readSystem(tss + BigInt(at + (wide ? 4 : 2)), 2);
  if (pointer === undefined || selector === undefined) return undefined;
  return { selector: Number(selector), pointer };
}

/** Checks a stack segment for level `dpl`. Undefined when it raised #TS or #SS. */
export function stackDescriptor(cpu: Cpu, selector: number, dpl: number, external: number) {
  const error = (selector & 0xfffc) | external;
  if ((selector & 0xfffc) === 0) {
    cpu.raise(Vector.TS, error);
    return undefined;
  }
  const d = readDescriptor(cpu, selector, Vector.TS);
  if (d === undefined) return undefined;
  if ((selector & 3) !== dpl || dplOf(d) !== dpl || !isWritableData(d)) {
    cpu.raise(Vector.TS, error);
    return undefined;
  }
  if (!isPresent(d)) {
    cpu.raise(Vector.SS, error);
    return undefined;
  }
  return d;
}

function toInnerStack(cpu: Cpu, dpl: number, bytes: 2 | 4, frame: readonly bigint[], event: Event): boolean {
  const stack = innerStack(cpu, dpl);
  if (stack === undefined) return false;
  const d = stackDescriptor(cpu, stack.selector, dpl, event.software ? 0 : 1);
  if (d === undefined) return false;
  const v86 = cpu.v86;
  const outer = [BigInt(cpu.selector(SegIndex.ss)), cpu.gpr(4) & 0xffff_ffffn];
  const segments = v86 ? [SegIndex.gs, SegIndex.fs, SegIndex.ds, SegIndex.es].map((i) => BigInt(cpu.selector(i))) : [];
  const values = [...segments, ...outer, ...frame];
  const wide = (d.high & 0x40_0000) !== 0;
  const mask = wide ? 0xffff_ffffn : 0xffffn;
  if (!hasRoom(boundsOfDescriptor(d), stack.pointer & mask, bytes, values.length)) {
    return fail(cpu, Vector.SS, selectorError(stack.selector, event));
  }
  const base = BigInt(((d.low >>> 16) | ((d.high & 0xff) << 16) | (d.high & 0xff00_0000)) >>> 0);
  if (!pushAll(cpu, dpl, base, stack.pointer & mask, mask, bytes, values)) return false;
  if (!markAccessed(cpu, stack.selector, d)) return false;
  // Leave virtual-8086 mode before segments are loaded by descriptor.
  cpu.set(State.eflags, cpu.get(State.eflags) & ~EFLAGS.VM);
  if (v86) for (const i of [SegIndex.gs, SegIndex.fs, SegIndex.ds, SegIndex.es]) loadNull(cpu, i, 0);
  loadFromDescriptor(cpu, SegIndex.ss, stack.selector, d);
  setStack(cpu, (stack.pointer & mask) - BigInt(values.length * bytes), wide);
  return true;
}

function deliverLong(cpu: Cpu, event: Event): boolean {
  const gate = readGate(cpu, event, 16);
  if (gate === undefined) return false;
  const target = gateTarget(cpu, event, gate);
  if (target === undefined) return false;
  // Gates of long mode lead to 64-bit code only.
  if ((target.high & 0x60_0000) !== 0x20_0000) return fail(cpu, Vector.GP, selectorError(gate.selector, event));
  const inner = !isConforming(target) && dplOf(target) < cpu.cpl;
  const cpl = inner ? dplOf(target) : cpu.cpl;
  let top = cpu.gpr(4);
  if (inner || gate.ist !== 0) {
    const at = gate.ist !== 0 ? 0x24 + (gate.ist - 1) * 8 : 4 + cpl * 8;
    if (at + 7 > cpu.segment(SegIndex.tr, Seg.limit) >>> 0) {
      return fail(cpu, Vector.TS, cpu.selector(SegIndex.tr) & 0xfffc);
    }
    const pointer = cpu.access.readSystem(cpu.segmentBase(SegIndex.tr) + BigInt(at), 8);
    if (pointer === undefined) return false;
    top = pointer;
  }
  top &= ~0xfn;
  const values = [
    BigInt(cpu.selector(SegIndex.ss)),
    cpu.gpr(4),
    BigInt(savedFlags(cpu, event) >>> 0),
    BigInt(cpu.selector(SegIndex.cs)),
    cpu.rip,
  ];
  if (event.errorCode !== undefined) values.push(BigInt(event.errorCode >>> 0));
  if (!isCanonical(cpu, BigInt.asUintN(64, top - BigInt(values.length * 8)))) return fail(cpu, Vector.SS, 0);
  if (!pushAll(cpu, cpl, 0n, top, (1n << 64n) - 1n, 8, values)) return false;
  if (!markAccessed(cpu, gate.selector, target)) return false;
  clearFlags(cpu, gate);
  loadFromDescriptor(cpu, SegIndex.cs, (gate.selector & 0xfffc) | cpl, target);
  if (inner) {
    setSegmentFields(cpu, SegIndex.ss, { selector: cpl, base: 0n, limit: 0, attributes: 0x1_0000 | (cpl << 5) });
  }
  cpu.setGpr(4, BigInt.asUintN(64, top - BigInt(values.length * 8)));
  cpu.rip = gate.offset;
  return true;
}
