import { SYSTEM_TYPE } from "./descriptor.ts";

/**
 * Gate descriptors: how control enters code through an IDT, GDT or LDT.
 *
 * @see Intel SDM Vol. 3A, "IDT Descriptors", "Call Gates", "64-Bit Mode IDT", "IA-32e Mode Call Gates", "Task-Gate Descriptor"
 */

/** Where a gate leads. */
export interface GateOptions {
  bits: 16 | 32 | 64;
  /** Code segment of the handler. */
  selector: number;
  /** Address of the handler in that segment. */
  offset: number | bigint;
  /** Least privileged ring whose INT n or CALL may use the gate. Default 0. */
  dpl?: 0 | 1 | 2 | 3;
}

function gate(type: number, options: GateOptions, extra: number): Uint8Array {
  const offset = BigInt(options.offset);
  if (offset < 0n || offset >> BigInt(options.bits)) {
    throw new RangeError(`Cannot put offset 0x${offset.toString(16)} into a ${options.bits}-bit gate`);
  }
  const bytes = new Uint8Array(options.bits === 64 ? 16 : 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, Number(offset & 0xffffn), true);
  view.setUint16(2, options.selector, true);
  bytes[4] = extra;
  bytes[5] = 0x80 | ((options.dpl ?? 0) << 5) | type;
  view.setUint16(6, Number((offset >> 16n) & 0xffffn), true);
  if (options.bits === 64) view.setUint32(8, Number(offset >> 32n), true);
  return bytes;
}

function checkIst(options: { bits: number; ist?: number }): number {
  const ist = options.ist ?? 0;
  if (ist < 0 || ist > 7 || (ist > 0 && options.bits !== 64)) {
    throw new RangeError(`Cannot use IST ${ist} in a ${options.bits}-bit gate: 64-bit gates have 1 to 7`);
  }
  return ist;
}

/** An interrupt gate: clears IF on the way in. `ist` picks a stack of the 64-bit TSS. */
export function interruptGate(options: GateOptions & { ist?: number }): Uint8Array {
  const type = options.bits === 16 ? SYSTEM_TYPE.interruptGate16 : SYSTEM_TYPE.interruptGate32;
  return gate(type, options, checkIst(options));
}

/** A trap gate: leaves IF as it is. */
export function trapGate(options: GateOptions & { ist?: number }): Uint8Array {
  const type = options.bits === 16 ? SYSTEM_TYPE.trapGate16 : SYSTEM_TYPE.trapGate32;
  return gate(type, options, checkIst(options));
}

/** A call gate for a GDT or LDT. `parameters` (0 to 31 words or doublewords) are copied between stacks, not in 64-bit mode. */
export function callGate(options: GateOptions & { parameters?: number }): Uint8Array {
  const count = options.parameters ?? 0;
  if (count < 0 || count > (options.bits === 64 ? 0 : 31)) {
    throw new RangeError(`Cannot copy ${count} parameters through a ${options.bits}-bit call gate`);
  }
  return gate(options.bits === 16 ? SYSTEM_TYPE.callGate16 : SYSTEM_TYPE.callGate32, options, count);
}

/** A task gate: `selector` names a TSS. Not in 64-bit mode. */
export function taskGate(options: { selector: number; dpl?: 0 | 1 | 2 | 3 }): Uint8Array {
  return gate(SYSTEM_TYPE.taskGate, { ...options, bits: 16, offset: 0 }, 0);
}

/** A gate taken apart. */
export interface DecodedGate {
  readonly type: number;
  readonly selector: number;
  readonly offset: bigint;
  readonly dpl: number;
  readonly present: boolean;
  /** IST of a 64-bit gate; parameter count of a call gate. */
  readonly extra: number;
}

/** The fields of a gate of 8 or 16 bytes. */
export function decodeGate(bytes: Uint8Array): DecodedGate {
  if (bytes.length !== 8 && bytes.length !== 16) {
    throw new RangeError(`Cannot decode a gate of ${bytes.length} bytes: it has 8, or 16 in 64-bit mode`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const access = view.getUint8(5);
  const low = BigInt(view.getUint16(0, true)) | (BigInt(view.getUint16(6, true)) << 16n);
  return {
    type: access & 0xf,
    selector: view.getUint16(2, true),
    offset: low | (bytes.length === 16 ? BigInt(view.getUint32(8, true)) << 32n : 0n),
    dpl: (access >>> 5) & 3,
    present: access >= 0x80,
    extra: view.getUint8(4) & 0x1f,
  };
}
