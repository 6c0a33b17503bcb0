import { isCanonical } from "../access.ts";
import { EFLAGS } from "../control-bits.ts";
import type { Cpu, Descriptor } from "../cpu.ts";
import { SegIndex, State, Vector } from "../state.ts";
import {
  baseOf,
  dplOf,
  dropPrivilegedSegments,
  isCode,
  isConforming,
  isPresent,
  isSystem,
  isWritableData,
  limitOf,
  loadFromDescriptor,
  loadRealSegment,
  markAccessed,
  readDescriptor,
  readUpperBase,
  setSegmentFields,
  typeOf,
} from "./descriptors.ts";
import { boundsOfDescriptor, hasRoom, innerStack, stackDescriptor } from "./interrupts.ts";
import { switchTask } from "./tasks.ts";

type Bytes = 2 | 4 | 8;
const MASK = { 2: 0xffffn, 4: 0xffff_ffffn, 8: (1n << 64n) - 1n } as const;

/** The guest's stack from TypeScript: reads and writes relative to RSP, which moves when the instruction has succeeded. */
export class Stack {
  readonly #cpu: Cpu;
  readonly #mask: bigint;
  pointer: bigint;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
    this.#mask = cpu.mode.stackBits === 64 ? MASK[8] : cpu.mode.stackBits === 32 ? MASK[4] : MASK[2];
    this.pointer = cpu.gpr(4) & this.#mask;
  }

  pop(bytes: Bytes): bigint | undefined {
    const data = new Uint8Array(8);
    if (!this.#cpu.readMemory(SegIndex.ss, this.pointer, data.subarray(0, bytes), bytes)) return undefined;
    this.pointer = (this.pointer + BigInt(bytes)) & this.#mask;
    return new DataView(data.buffer).getBigUint64(0, true);
  }

  push(value: bigint, bytes: Bytes): boolean {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    const at = (this.pointer - BigInt(bytes)) & this.#mask;
    if (!this.#cpu.writeMemory(SegIndex.ss, at, data.subarray(0, bytes), bytes)) return false;
    this.pointer = at;
    return true;
  }

  skip(bytes: number): void {
    this.pointer = (this.pointer + BigInt(bytes)) & this.#mask;
  }

  commit(): void {
    const old = this.#cpu.gpr(4);
    this.#cpu.setGpr(4, this.#mask === MASK[2] ? (old & ~0xffffn) | this.pointer : this.pointer);
  }
}

function target(cpu: Cpu): { offset: bigint; selector: number } {
  return { offset: cpu.get64(State.scratch), selector: cpu.get(State.scratch + 8) & 0xffff };
}

/** A code segment for a direct far jump or call. Undefined when it raised. */
function checkCode(cpu: Cpu, selector: number, d: Descriptor): boolean {
  const error = selector & 0xfffc;
  const { cpl } = cpu;
  const allowed = isConforming(d) ? dplOf(d) <= cpl : (selector & 3) <= cpl && dplOf(d) === cpl;
  if (!isCode(d) || !allowed || (cpu.longMode && (d.high & 0x60_0000) === 0x60_0000)) {
    cpu.raise(Vector.GP, error);
    return false;
  }
  if (!isPresent(d)) {
    cpu.raise(Vector.NP, error);
    return false;
  }
  return true;
}

/** #GP(0) unless the offset lies in the segment about to be loaded. */
function checkOffset(cpu: Cpu, d: Descriptor, offset: bigint): boolean {
  const code64 = cpu.longMode && (d.high & 0x20_0000) !== 0;
  const good = code64 ? isCanonical(cpu, offset) : offset <= BigInt(limitOf(d));
  if (!good) cpu.raise(Vector.GP, 0);
  return good;
}

function enterCode(cpu: Cpu, selector: number, d: Descriptor, cpl: number, offset: bigint): number {
  if (!checkOffset(cpu, d, offset) || !markAccessed(cpu, selector, d)) return 1;
  loadFromDescriptor(cpu, SegIndex.cs, (selector & 0xfffc) | cpl, d);
  cpu.rip = offset;
  return 0;
}

export function farJump(cpu: Cpu, bytes: number): number {
  const { offset, selector } = target(cpu);
  if (cpu.mode.real) {
    loadRealSegment(cpu, SegIndex.cs, selector);
    cpu.rip = offset;
    return 0;
  }
  if ((selector & 0xfffc) === 0) return cpu.raise(Vector.GP, 0);
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  if (!isSystem(d)) {
    if (!checkCode(cpu, selector, d)) return 1;
    return enterCode(cpu, selector, d, cpu.cpl, offset & MASK[bytes as Bytes]);
  }
  return throughSystem(cpu, selector, d, "jump");
}

/** TSS, task gate or call gate as the target of a far jump or call. */
function throughSystem(cpu: Cpu, selector: number, d: Descriptor, kind: "jump" | "call"): number {
  const error = selector & 0xfffc;
  const type = typeOf(d);
  if (dplOf(d) < cpu.cpl || dplOf(d) < (selector & 3)) return cpu.raise(Vector.GP, error);
  if (cpu.longMode ? type !== 0xc : ![1, 4, 5, 9, 0xc].includes(type)) return cpu.raise(Vector.GP, error);
  if (!isPresent(d)) return cpu.raise(Vector.NP, error);
  if (type === 4 || type === 0xc) return callGate(cpu, selector, d, kind);
  const task = type === 5 ? (d.low >>> 16) & 0xffff : selector;
  return switchTask(cpu, task, kind) ? 0 : 1;
}

function callGate(cpu: Cpu, gateSelector: number, gate: Descriptor, kind: "jump" | "call"): number {
  const bytes: Bytes = cpu.longMode ? 8 : typeOf(gate) === 0xc ? 4 : 2;
  const selector = (gate.low >>> 16) & 0xffff;
  let offset = BigInt(((gate.low & 0xffff) | (gate.high & 0xffff_0000)) >>> 0);
  if (bytes === 2) offset &= 0xffffn;
  if (cpu.longMode) {
    const upper = readUpperBase(cpu, gateSelector);
    if (upper === undefined) return 1;
    offset |= upper;
  }
  const error = selector & 0xfffc;
  if (error === 0) return cpu.raise(Vector.GP, 0);
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  if (!isCode(d) || dplOf(d) > cpu.cpl) return cpu.raise(Vector.GP, error);
  if (cpu.longMode && (d.high & 0x60_0000) !== 0x20_0000) return cpu.raise(Vector.GP, error);
  if (!isPresent(d)) return cpu.raise(Vector.NP, error);
  const inner = !isConforming(d) && dplOf(d) < cpu.cpl;
  if (kind === "jump") {
    if (inner) return cpu.raise(Vector.GP, error);
    return enterCode(cpu, selector, d, cpu.cpl, offset);
  }
  const back = [BigInt(cpu.selector(SegIndex.cs)), cpu.rip];
  if (!inner) {
    const stack = new Stack(cpu);
    for (const value of back) if (!stack.push(value, bytes)) return 1;
    if (enterCode(cpu, selector, d, cpu.cpl, offset) !== 0) return 1;
    stack.commit();
    return 0;
  }
  return innerCall(cpu, selector, d, { bytes, offset, parameters: gate.high & 31, back });
}

interface InnerCall {
  readonly bytes: Bytes;
  readonly offset: bigint;
  readonly parameters: number;
  readonly back: readonly bigint[];
}

function innerCall(cpu: Cpu, selector: number, d: Descriptor, call: InnerCall): number {
  const dpl = dplOf(d);
  const { bytes } = call;
  if (cpu.longMode) {
    const pointer = cpu.access.readSystem(cpu.segmentBase(SegIndex.tr) + BigInt(4 + dpl * 8), 8);
    if (pointer === undefined) return 1;
    const values = [BigInt(cpu.selector(SegIndex.ss)), cpu.gpr(4), ...call.back];
    if (!writeDown(cpu, 0n, pointer, MASK[8], bytes, values)) return 1;
    if (enterCode(cpu, selector, d, dpl, call.offset) !== 0) return 1;
    setSegmentFields(cpu, SegIndex.ss, { selector: dpl, base: 0n, limit: 0, attributes: 0x1_0000 | (dpl << 5) });
    cpu.setGpr(4, BigInt.asUintN(64, pointer - 32n));
    return 0;
  }
  const stack = innerStack(cpu, dpl);
  if (stack === undefined) return 1;
  const ss = stackDescriptor(cpu, stack.selector, dpl, 0);
  if (ss === undefined) return 1;
  const old = new Stack(cpu);
  const parameters: bigint[] = [];
  for (let i = 0; i < call.parameters; i++) {
    const value = old.pop(bytes);
    if (value === undefined) return 1;
    parameters.unshift(value);
  }
  const values = [BigInt(cpu.selector(SegIndex.ss)), cpu.gpr(4), ...parameters, ...call.back];
  const mask = (ss.high & 0x40_0000) !== 0 ? MASK[4] : MASK[2];
  if (!hasRoom(boundsOfDescriptor(ss), stack.pointer & mask, bytes, values.length)) {
    return cpu.raise(Vector.SS, stack.selector & 0xfffc);
  }
  if (!writeDown(cpu, baseOf(ss), stack.pointer & mask, mask, bytes, values)) return 1;
  if (!markAccessed(cpu, stack.selector, ss) || !markAccessed(cpu, selector, d)) return 1;
  if (!checkOffset(cpu, d, call.offset)) return 1;
  loadFromDescriptor(cpu, SegIndex.ss, stack.selector, ss);
  const pointer = (stack.pointer - BigInt(values.length * bytes)) & mask;
  cpu.setGpr(4, mask === MASK[4] ? pointer : (cpu.gpr(4) & ~0xffffn) | pointer);
  loadFromDescriptor(cpu, SegIndex.cs, (selector & 0xfffc) | dpl, d);
  cpu.rip = call.offset;
  return 0;
}

function writeDown(
  cpu: Cpu,
  base: bigint,
  top: bigint,
  mask: bigint,
  bytes: Bytes,
  values: readonly bigint[],
): boolean {
  let at = top;
  for (const value of values) {
    at = (at - BigInt(bytes)) & mask;
    const linear = cpu.longMode ? BigInt.asUintN(64, base + at) : (base + at) & 0xffff_ffffn;
    if (!cpu.access.writeSystem(linear, value, bytes)) return false;
  }
  return true;
}

export function farCall(cpu: Cpu, bytes: number): number {
  const { offset, selector } = target(cpu);
  const width = bytes as Bytes;
  if (cpu.mode.real) {
    const stack = new Stack(cpu);
    if (!stack.push(BigInt(cpu.selector(SegIndex.cs)), width) || !stack.push(cpu.rip, width)) return 1;
    stack.commit();
    loadRealSegment(cpu, SegIndex.cs, selector);
    cpu.rip = offset;
    return 0;
  }
  if ((selector & 0xfffc) === 0) return cpu.raise(Vector.GP, 0);
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  if (isSystem(d)) return throughSystem(cpu, selector, d, "call");
  if (!checkCode(cpu, selector, d)) return 1;
  const stack = new Stack(cpu);
  if (!stack.push(BigInt(cpu.selector(SegIndex.cs)), width) || !stack.push(cpu.rip, width)) return 1;
  if (enterCode(cpu, selector, d, cpu.cpl, offset & MASK[width]) !== 0) return 1;
  stack.commit();
  return 0;
}

export function farReturn(cpu: Cpu, bytes: number, extra: number): number {
  const width = bytes as Bytes;
  const stack = new Stack(cpu);
  const offset = stack.pop(width);
  const selector = offset === undefined ? undefined : stack.pop(width);
  if (offset === undefined || selector === undefined) return 1;
  const cs = Number(selector & 0xffffn);
  stack.skip(extra);
  if (cpu.mode.real) {
    stack.commit();
    loadRealSegment(cpu, SegIndex.cs, cs);
    cpu.rip = offset;
    return 0;
  }
  return returnTo(cpu, stack, width, { offset, cs, extra });
}

interface Return {
  readonly offset: bigint;
  readonly cs: number;
  readonly extra: number;
  /** IRET: RFLAGS to load, and SS:RSP comes even without a change of privilege in 64-bit mode. */
  readonly flags?: bigint;
}

/** The code segment a return leads to. Undefined when it raised. */
function returnCode(cpu: Cpu, cs: number): Descriptor | undefined {
  const error = cs & 0xfffc;
  const raise = (vector: Vector, code: number): undefined => {
    cpu.raise(vector, code);
    return undefined;
  };
  if (error === 0) return raise(Vector.GP, 0);
  const d = readDescriptor(cpu, cs);
  if (d === undefined) return undefined;
  const rpl = cs & 3;
  const level = isConforming(d) ? dplOf(d) <= rpl : dplOf(d) === rpl;
  if (!isCode(d) || isSystem(d) || rpl < cpu.cpl || !level) return raise(Vector.GP, error);
  if (cpu.longMode && (d.high & 0x60_0000) === 0x60_0000) return raise(Vector.GP, error);
  if (!isPresent(d)) return raise(Vector.NP, error);
  return d;
}

function returnTo(cpu: Cpu, stack: Stack, bytes: Bytes, to: Return): number {
  const d = returnCode(cpu, to.cs);
  if (d === undefined) return 1;
  const rpl = to.cs & 3;
  const outer = rpl > cpu.cpl;
  const withStack = outer || (to.flags !== undefined && cpu.code64);
  let ss: { selector: number; pointer: bigint; descriptor: Descriptor | undefined } | undefined;
  if (withStack) {
    ss = popStack(cpu, stack, bytes, rpl, d);
    if (ss === undefined) return 1;
  }
  if (!checkOffset(cpu, d, to.offset) || !markAccessed(cpu, to.cs, d)) return 1;
  const fromCpl = cpu.cpl;
  const fromIopl = cpu.iopl;
  if (ss === undefined) stack.commit();
  loadFromDescriptor(cpu, SegIndex.cs, to.cs, d);
  cpu.rip = to.offset;
  if (ss !== undefined) {
    if (ss.descriptor !== undefined) loadFromDescriptor(cpu, SegIndex.ss, ss.selector, ss.descriptor);
    else {
      const attributes = 0x1_0000 | (rpl << 5);
      setSegmentFields(cpu, SegIndex.ss, { selector: ss.selector, base: 0n, limit: 0, attributes });
    }
    const pointer = ss.pointer + BigInt(outer ? to.extra : 0);
    // A 16-bit stack keeps the upper half of ESP.
    const narrow =
      ss.descriptor !== undefined &&
      (ss.descriptor.high & 0x40_0000) === 0 &&
      !(cpu.longMode && (d.high & 0x20_0000) !== 0);
    if (narrow) cpu.setGpr(4, (cpu.gpr(4) & ~0xffffn) | (pointer & 0xffffn));
    else cpu.setGpr(4, bytes === 8 ? BigInt.asUintN(64, pointer) : pointer & 0xffff_ffffn);
  }
  if (to.flags !== undefined) loadFlags(cpu, Number(to.flags & 0xffff_ffffn), bytes, fromCpl, fromIopl);
  if (outer) dropPrivilegedSegments(cpu, rpl);
  return 0;
}

function popStack(cpu: Cpu, stack: Stack, bytes: Bytes, rpl: number, code: Descriptor) {
  const pointer = stack.pop(bytes);
  const selector = pointer === undefined ? undefined : stack.pop(bytes);
  if (pointer === undefined || selector === undefined) return undefined;
  const ss = Number(selector & 0xffffn);
  const error = ss & 0xfffc;
  const to64 = cpu.longMode && (code.high & 0x20_0000) !== 0;
  if (error === 0) {
    if (!to64 || rpl === 3) {
      cpu.raise(Vector.GP, 0);
      return undefined;
    }
    return { selector: ss, pointer, descriptor: undefined };
  }
  const d = readDescriptor(cpu, ss);
  if (d === undefined) return undefined;
  if ((ss & 3) !== rpl || !isWritableData(d) || dplOf(d) !== rpl) {
    cpu.raise(Vector.GP, error);
    return undefined;
  }
  if (!isPresent(d)) {
    cpu.raise(Vector.SS, error);
    return undefined;
  }
  if (!markAccessed(cpu, ss, d)) return undefined;
  return { selector: ss, pointer, descriptor: d };
}

/** RFLAGS bits that POPF and IRET may change, by privilege. */
export function loadFlags(cpu: Cpu, value: number, bytes: Bytes, cpl: number, iopl: number): void {
  let mask = 0xcd5 | EFLAGS.TF | EFLAGS.NT;
  if (bytes !== 2) mask |= EFLAGS.RF | EFLAGS.AC | EFLAGS.ID;
  if (cpl === 0) mask |= EFLAGS.IOPL | (bytes !== 2 ? EFLAGS.VIF | EFLAGS.VIP : 0);
  if (cpl <= iopl) mask |= EFLAGS.IF;
  cpu.eflags = (cpu.eflags & ~mask) | (value & mask);
  cpu.changeMode();
}

export function iret(cpu: Cpu, bytes: number): number {
  const width = bytes as Bytes;
  cpu.nmiBlocked = false;
  if (cpu.protectedMode && cpu.v86 && cpu.iopl < 3) return cpu.raise(Vector.GP, 0);
  if (!cpu.mode.real && (cpu.get(State.eflags) & EFLAGS.NT) !== 0) return returnTask(cpu);
  const stack = new Stack(cpu);
  const offset = stack.pop(width);
  const selector = offset === undefined ? undefined : stack.pop(width);
  const flags = selector === undefined ? undefined : stack.pop(width);
  if (offset === undefined || selector === undefined || flags === undefined) return 1;
  const cs = Number(selector & 0xffffn);
  if (cpu.mode.real) {
    stack.commit();
    loadRealSegment(cpu, SegIndex.cs, cs);
    cpu.rip = offset;
    // Virtual-8086 mode keeps IOPL, as CPL 3 does.
    loadFlags(cpu, Number(flags & 0xffff_ffffn), width, cpu.v86 ? 3 : 0, cpu.v86 ? cpu.iopl : 0);
    return 0;
  }
  const word = Number(flags & 0xffff_ffffn);
  if ((word & EFLAGS.VM) !== 0 && cpu.cpl === 0 && width === 4 && !cpu.longMode)
    return enterV86(cpu, stack, offset, cs, word);
  return returnTo(cpu, stack, width, { offset, cs, extra: 0, flags });
}

function returnTask(cpu: Cpu): number {
  if (cpu.longMode) return cpu.raise(Vector.GP, 0);
  const link = cpu.access.readSystem(cpu.segmentBase(SegIndex.tr), 2);
  if (link === undefined) return 1;
  return switchTask(cpu, Number(link), "return") ? 0 : 1;
}

function enterV86(cpu: Cpu, stack: Stack, offset: bigint, cs: number, flags: number): number {
  const values: bigint[] = [];
  for (let i = 0; i < 6; i++) {
    const value = stack.pop(4);
    if (value === undefined) return 1;
    values.push(value);
  }
  cpu.eflags = flags & 0x3f_7fd5;
  cpu.changeMode();
  loadRealSegment(cpu, SegIndex.cs, cs);
  const order = [SegIndex.ss, SegIndex.es, SegIndex.ds, SegIndex.fs, SegIndex.gs];
  for (const [i, index] of order.entries()) loadRealSegment(cpu, index, Number((values[i + 1] as bigint) & 0xffffn));
  cpu.setGpr(4, (values[0] as bigint) & 0xffff_ffffn);
  cpu.rip = offset & 0xffffn;
  return 0;
}

/** A flat code or stack segment as SYSCALL and SYSENTER load it. */
export function loadFlat(cpu: Cpu, index: number, selector: number, attributes: number): void {
  setSegmentFields(cpu, index, { selector, base: 0n, limit: 0xffff_ffff, attributes });
}

export const FLAT = { code32: 0xc9b, code64: 0xa9b, data: 0xc93 } as const;

/** Rights with a DPL. */
export function withDpl(attributes: number, dpl: number): number {
  return (attributes & ~0x60) | (dpl << 5);
}
