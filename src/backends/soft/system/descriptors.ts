import { EFLAGS } from "../control-bits.ts";
import type { Cpu, Descriptor } from "../cpu.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";

/** Attribute bits as `Seg.attributes` holds them. */
export const ATTRIBUTE = {
  accessed: 1,
  s: 0x10,
  present: 0x80,
  l: 0x200,
  db: 0x400,
  g: 0x800,
  unusable: 0x1_0000,
} as const;

/** Access byte and flags of a descriptor: bits 0–7 and 8–11. */
export function attributesOf(d: Descriptor): number {
  return ((d.high >>> 8) & 0xff) | (((d.high >>> 20) & 0xf) << 8);
}
export function baseOf(d: Descriptor): bigint {
  return BigInt(((d.low >>> 16) | ((d.high & 0xff) << 16) | (d.high & 0xff00_0000)) >>> 0);
}
export function limitOf(d: Descriptor): number {
  const limit = (d.low & 0xffff) | (d.high & 0xf_0000);
  return (d.high & 0x80_0000) !== 0 ? ((limit << 12) | 0xfff) >>> 0 : limit;
}
export function typeOf(d: Descriptor): number {
  return (d.high >>> 8) & 0xf;
}
export function dplOf(d: Descriptor): number {
  return (d.high >>> 13) & 3;
}
export function isSystem(d: Descriptor): boolean {
  return (d.high & 0x1000) === 0;
}
export function isPresent(d: Descriptor): boolean {
  return (d.high & 0x8000) !== 0;
}
export function isCode(d: Descriptor): boolean {
  return (d.high & 0x1800) === 0x1800;
}
export function isConforming(d: Descriptor): boolean {
  return (d.high & 0x400) !== 0;
}
export function isWritableData(d: Descriptor): boolean {
  return (d.high & 0x1a00) === 0x1200;
}

/** Linear address of a descriptor, undefined beyond its table's limit or for a selector without a table. */
export function descriptorAddress(cpu: Cpu, selector: number): bigint | undefined {
  const local = (selector & 4) !== 0;
  if (local && (cpu.attributes(SegIndex.ldt) & (ATTRIBUTE.present | ATTRIBUTE.unusable)) !== ATTRIBUTE.present) {
    return undefined;
  }
  const limit = local ? cpu.segment(SegIndex.ldt, Seg.limit) >>> 0 : cpu.get(State.gdtLimit) >>> 0;
  if ((selector & 0xfff8) + 7 > limit) return undefined;
  return (local ? cpu.segmentBase(SegIndex.ldt) : cpu.get64(State.gdtBase)) + BigInt(selector & 0xfff8);
}

/**
 * Reads a descriptor. Undefined when that faulted: with `vector` (selector as error code) beyond the table, or with the
 * page fault of the access.
 */
export function readDescriptor(cpu: Cpu, selector: number, vector: Vector = Vector.GP): Descriptor | undefined {
  const address = descriptorAddress(cpu, selector);
  if (address === undefined) {
    cpu.raise(vector, selector & 0xfffc);
    return undefined;
  }
  const value = cpu.access.readSystem(address, 8);
  if (value === undefined) return undefined;
  return { low: Number(value & 0xffff_ffffn) | 0, high: Number(value >> 32n) | 0 };
}

/** Upper half of the 64-bit base of a 16-byte system descriptor. */
export function readUpperBase(cpu: Cpu, selector: number): bigint | undefined {
  const address = descriptorAddress(cpu, selector);
  if (address === undefined) return undefined;
  const upper = cpu.access.readSystem(address + 8n, 4);
  return upper === undefined ? undefined : upper << 32n;
}

/** Sets the accessed bit in the table. False when that faulted. */
export function markAccessed(cpu: Cpu, selector: number, d: Descriptor): boolean {
  if ((d.high & 0x100) !== 0) return true;
  const address = descriptorAddress(cpu, selector);
  return address !== undefined && cpu.access.writeSystem(address + 5n, BigInt(((d.high >>> 8) & 0xff) | 1), 1);
}

/** Puts selector, base, limit and rights into a segment register. */
export function setSegmentFields(
  cpu: Cpu,
  index: number,
  fields: { selector: number; base: bigint; limit: number; attributes: number },
): void {
  cpu.setSegment(index, Seg.selector, fields.selector & 0xffff);
  cpu.setSegmentBase(index, fields.base);
  cpu.setSegment(index, Seg.limit, fields.limit | 0);
  cpu.setSegment(index, Seg.attributes, fields.attributes);
  cpu.changeMode();
}

export function loadFromDescriptor(cpu: Cpu, index: number, selector: number, d: Descriptor): void {
  setSegmentFields(cpu, index, {
    selector,
    base: baseOf(d),
    limit: limitOf(d),
    attributes: attributesOf(d) | ATTRIBUTE.accessed,
  });
}

/** A null selector: not usable; 64-bit mode reads through it all the same. The base stays what it was, as on AMD. */
export function loadNull(cpu: Cpu, index: number, selector: number): void {
  setSegmentFields(cpu, index, { selector, base: 0n, limit: 0, attributes: ATTRIBUTE.unusable });
}

/** Real and virtual-8086 mode: base is selector × 16; the limit stays, and virtual-8086 fixes the rights. */
export function loadRealSegment(cpu: Cpu, index: number, selector: number): void {
  cpu.setSegment(index, Seg.selector, selector & 0xffff);
  cpu.setSegmentBase(index, BigInt(selector & 0xffff) << 4n);
  if (cpu.v86) {
    cpu.setSegment(index, Seg.limit, 0xffff);
    cpu.setSegment(index, Seg.attributes, 0xf3);
  } else if (index === SegIndex.cs) {
    // A far transfer in real mode leaves data rights in CS, as processors do.
    cpu.setSegment(index, Seg.attributes, (cpu.attributes(index) & ~0x60) | 0x93);
  }
  cpu.changeMode();
}

/**
 * Loads ES, SS, DS, FS, GS, with the checks of MOV to a segment register (Intel SDM Vol. 2, "MOV"). 0 when done, 1 when
 * it raised.
 */
export function loadSegmentRegister(cpu: Cpu, index: number, selector: number): number {
  if (!cpu.protectedMode || cpu.v86) {
    loadRealSegment(cpu, index, selector);
    return 0;
  }
  const rpl = selector & 3;
  const { cpl } = cpu;
  const error = selector & 0xfffc;
  if (index === SegIndex.cs) return cpu.raise(Vector.UD);
  if ((selector & 0xfffc) === 0) {
    if (index === SegIndex.ss) {
      if (!cpu.code64 || cpl === 3 || rpl !== cpl) return cpu.raise(Vector.GP, 0);
      setSegmentFields(cpu, index, {
        selector,
        base: 0n,
        limit: 0,
        attributes: ATTRIBUTE.unusable | (cpl << 5),
      });
      return 0;
    }
    loadNull(cpu, index, selector);
    return 0;
  }
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  if (index === SegIndex.ss) {
    if (rpl !== cpl || !isWritableData(d) || dplOf(d) !== cpl) return cpu.raise(Vector.GP, error);
    if (!isPresent(d)) return cpu.raise(Vector.SS, error);
  } else {
    if (isSystem(d) || (isCode(d) && (d.high & 0x200) === 0)) return cpu.raise(Vector.GP, error);
    if ((!isCode(d) || !isConforming(d)) && (rpl > dplOf(d) || cpl > dplOf(d))) return cpu.raise(Vector.GP, error);
    if (!isPresent(d)) return cpu.raise(Vector.NP, error);
  }
  if (!markAccessed(cpu, selector, d)) return 1;
  loadFromDescriptor(cpu, index, selector, d);
  return 0;
}

/** LLDT. */
export function loadLdt(cpu: Cpu, selector: number): number {
  if ((selector & 0xfffc) === 0) {
    loadNull(cpu, SegIndex.ldt, selector);
    return 0;
  }
  if ((selector & 4) !== 0) return cpu.raise(Vector.GP, selector & 0xfffc);
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  if (!isSystem(d) || typeOf(d) !== 2) return cpu.raise(Vector.GP, selector & 0xfffc);
  if (!isPresent(d)) return cpu.raise(Vector.NP, selector & 0xfffc);
  return loadSystemSegment(cpu, SegIndex.ldt, selector, d);
}

/** LTR: marks the TSS busy. */
export function loadTask(cpu: Cpu, selector: number): number {
  const error = selector & 0xfffc;
  if (error === 0 || (selector & 4) !== 0) return cpu.raise(Vector.GP, error);
  const d = readDescriptor(cpu, selector);
  if (d === undefined) return 1;
  const type = typeOf(d);
  if (!isSystem(d) || !(type === 9 || (type === 1 && !cpu.longMode))) return cpu.raise(Vector.GP, error);
  if (!isPresent(d)) return cpu.raise(Vector.NP, error);
  const address = descriptorAddress(cpu, selector);
  if (address === undefined || !cpu.access.writeSystem(address + 5n, BigInt(((d.high >>> 8) & 0xff) | 2), 1)) return 1;
  return loadSystemSegment(cpu, SegIndex.tr, selector, { low: d.low, high: d.high | 0x200 });
}

function loadSystemSegment(cpu: Cpu, index: number, selector: number, d: Descriptor): number {
  let base = baseOf(d);
  if (cpu.longMode) {
    const upper = readUpperBase(cpu, selector);
    if (upper === undefined) return 1;
    base |= upper;
  }
  setSegmentFields(cpu, index, { selector, base, limit: limitOf(d), attributes: attributesOf(d) });
  return 0;
}

/** DS, ES, FS and GS that the new CPL may not hold become null (returns to an outer level). */
export function dropPrivilegedSegments(cpu: Cpu, cpl: number): void {
  for (const index of [SegIndex.es, SegIndex.ds, SegIndex.fs, SegIndex.gs]) {
    const attributes = cpu.attributes(index);
    if ((attributes & ATTRIBUTE.unusable) !== 0) continue;
    const conforming = (attributes & 0x1c) === 0x1c;
    if (!conforming && ((attributes >> 5) & 3) < cpl) loadNull(cpu, index, 0);
  }
}

/** VERR, VERW, LAR and LSL look without faulting; undefined when the descriptor may not be seen at all. */
export function peekDescriptor(cpu: Cpu, selector: number): Descriptor | "fault" | undefined {
  if ((selector & 0xfffc) === 0 || descriptorAddress(cpu, selector) === undefined) return undefined;
  return readDescriptor(cpu, selector) ?? "fault";
}

/** Whether privilege allows LAR, LSL, VERR, VERW to see the descriptor. */
export function visible(cpu: Cpu, selector: number, d: Descriptor): boolean {
  if (!isSystem(d) && isCode(d) && isConforming(d)) return true;
  return Math.max(cpu.cpl, selector & 3) <= dplOf(d);
}

/** VM flag for readers of the state. */
export function isVirtual8086(cpu: Cpu): boolean {
  return (cpu.get(State.eflags) & EFLAGS.VM) !== 0;
}
