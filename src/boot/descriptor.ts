import type { Segment } from "../registers.ts";

/**
 * Segment descriptors: the 8-byte entries of a GDT or LDT (16 bytes for system descriptors of 64-bit mode) and the hidden
 * part of a segment register that a processor loads from one.
 *
 * @see Intel SDM Vol. 3A, "Segment Descriptors" and "System Descriptor Types"; AMD APM Vol. 2, "Legacy Segment Descriptors"
 */

/** System descriptor types (S = 0). */
export const SYSTEM_TYPE = {
  tss16Available: 1,
  ldt: 2,
  tss16Busy: 3,
  callGate16: 4,
  taskGate: 5,
  interruptGate16: 6,
  trapGate16: 7,
  tss32Available: 9,
  tss32Busy: 11,
  callGate32: 12,
  interruptGate32: 14,
  trapGate32: 15,
} as const;

/** What the constructors of segments share. */
export interface SegmentOptions {
  /** Default 0. */
  selector?: number;
  /** Default 0. */
  base?: number | bigint;
  /** Last valid offset in bytes. Default: 0xffff for 16-bit segments, all 4 GiB otherwise. */
  limit?: number;
  /** Default 0. */
  dpl?: 0 | 1 | 2 | 3;
}

function hidden(type: number, s: 0 | 1, options: SegmentOptions, defaultLimit: number): Segment {
  const limit = options.limit ?? defaultLimit;
  return {
    selector: options.selector ?? 0,
    base: BigInt(options.base ?? 0),
    limit,
    type,
    s,
    dpl: options.dpl ?? 0,
    present: 1,
    avl: 0,
    l: 0,
    db: 0,
    g: limit > 0xfffff ? 1 : 0,
    unusable: 0,
  };
}

/** A code segment, readable and accessed, as a far jump would load it. */
export function codeSegment(
  options: SegmentOptions & { bits: 16 | 32 | 64; conforming?: boolean; executeOnly?: boolean },
): Segment {
  const type = 9 | (options.executeOnly ? 0 : 2) | (options.conforming ? 4 : 0);
  const segment = hidden(type, 1, options, options.bits === 16 ? 0xffff : 0xffffffff);
  segment.l = options.bits === 64 ? 1 : 0;
  segment.db = options.bits === 32 ? 1 : 0;
  return segment;
}

/** A data or stack segment, writable and accessed. `bits` sizes the stack pointer and, by default, the limit. */
export function dataSegment(
  options: SegmentOptions & { bits: 16 | 32; readOnly?: boolean; expandDown?: boolean },
): Segment {
  const type = 1 | (options.readOnly ? 0 : 2) | (options.expandDown ? 4 : 0);
  const segment = hidden(type, 1, options, options.bits === 16 ? 0xffff : 0xffffffff);
  segment.db = options.bits === 32 ? 1 : 0;
  return segment;
}

/** A task-state segment. Busy by default, as it is once LTR loaded it. `bits` 64 has the encoding of 32. */
export function tssSegment(options: SegmentOptions & { bits: 16 | 32 | 64; available?: boolean }): Segment {
  const busy = options.available ? 0 : 2;
  return hidden((options.bits === 16 ? 1 : 9) | busy, 0, options, options.bits === 16 ? 0x2b : 0x67);
}

/** A local descriptor table. */
export function ldtSegment(options: SegmentOptions): Segment {
  return hidden(SYSTEM_TYPE.ldt, 0, options, 0xffff);
}

/** The register after loading a null selector. */
export function nullSegment(selector = 0): Segment {
  return { ...hidden(0, 0, { selector, limit: 0 }, 0), present: 0, unusable: 1 };
}

/** A segment register in real-address mode: base = selector × 16, limit 64 KiB unless a larger one was left in it. */
export function realSegment(selector: number, options: { code?: boolean; limit?: number } = {}): Segment {
  const place = { selector, base: selector * 16, limit: options.limit ?? 0xffff };
  return hidden(options.code ? 11 : 3, 1, place, 0xffff);
}

function limitField(segment: Segment): number {
  const { limit, g } = segment;
  if (g === 1) {
    if ((limit & 0xfff) !== 0xfff) {
      throw new RangeError(`Cannot encode limit 0x${limit.toString(16)} with G = 1: its low 12 bits must be ones`);
    }
    return limit >>> 12;
  }
  if (limit < 0 || limit > 0xfffff) {
    throw new RangeError(`Cannot encode limit 0x${limit.toString(16)} with G = 0: it has 20 bits, so set G`);
  }
  return limit;
}

/**
 * The 8-byte descriptor that loads as `segment`; with `wide`, the 16 bytes of a 64-bit system descriptor (TSS, LDT).
 * @throws {RangeError} when the limit fits no granularity, or the base needs more than 32 bits and not `wide`.
 */
export function encodeDescriptor(segment: Segment, options: { wide?: boolean } = {}): Uint8Array {
  if (segment.base < 0n || segment.base >> (options.wide ? 64n : 32n)) {
    throw new RangeError(`Cannot encode base 0x${segment.base.toString(16)}: the descriptor holds fewer bits`);
  }
  const limit = limitField(segment);
  const base = Number(segment.base & 0xffffffffn);
  const bytes = new Uint8Array(options.wide ? 16 : 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, limit & 0xffff, true);
  view.setUint32(2, base & 0xffffff, true);
  bytes[5] = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
  bytes[6] = (limit >>> 16) | (segment.avl << 4) | (segment.l << 5) | (segment.db << 6) | (segment.g << 7);
  bytes[7] = base >>> 24;
  if (options.wide) view.setUint32(8, Number(segment.base >> 32n), true);
  return bytes;
}

const bit = (value: number, position: number): 0 | 1 => ((value >>> position) & 1) as 0 | 1;

/** The segment register that loading the descriptor in `bytes` gives: 8 bytes, or 16 for a 64-bit system descriptor. */
export function decodeDescriptor(bytes: Uint8Array, selector = 0): Segment {
  if (bytes.length !== 8 && bytes.length !== 16) {
    throw new RangeError(`Cannot decode a descriptor of ${bytes.length} bytes: it has 8, or 16 in 64-bit mode`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const access = view.getUint8(5);
  const flags = view.getUint8(6);
  const g = bit(flags, 7);
  const field = view.getUint16(0, true) | ((flags & 0xf) << 16);
  const low = BigInt((view.getUint32(2, true) & 0xffffff) + view.getUint8(7) * 0x1000000);
  return {
    selector,
    base: low | (bytes.length === 16 ? BigInt(view.getUint32(8, true)) << 32n : 0n),
    limit: g ? ((field << 12) | 0xfff) >>> 0 : field,
    type: access & 0xf,
    s: bit(access, 4),
    dpl: ((access >>> 5) & 3) as Segment["dpl"],
    present: bit(access, 7),
    avl: bit(flags, 4),
    l: bit(flags, 5),
    db: bit(flags, 6),
    g,
    unusable: bit(access, 7) ? 0 : 1,
  };
}
