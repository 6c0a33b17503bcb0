import type { Code, OpCodeInfo } from "iced-x86";
import { iced } from "./iced.ts";
import { type Slot, slotFor } from "./slots.ts";

/**
 * iced's opcode table packed into bytes. Asking iced itself costs some 12 ms for the first question and 20 calls into
 * WebAssembly for each form, so the answers are kept in generated/; a test compares them with iced's.
 */

/** Bytes per code. */
export const RECORD = 18;

/** Offsets in a record, in bytes. */
export const field = {
  mnemonic: 0, //        two bytes
  operandCount: 2,
  operands: 3, //        five operand kinds
  operandSize: 8, //     in bytes, 0 for none
  addressSize: 9,
  encoding: 10, //       iced's EncodingKind, 255 for what is no instruction of ours
  flags: 11,
  memoryBytes: 12, //    two bytes
  broadcastBytes: 14,
  broadcastCount: 15,
  vector: 16,
  fixedBytes: 17,
} as const;

/** Bits of the flags field. */
export const flag = { mode16: 1, mode32: 2, mode64: 4, default64: 8, rare: 16, waits: 32, farMemory: 64 } as const;

/** Bits of the vector field, which only EVEX forms have. */
export const vector = { masking: 1, zeroing: 2, maskRequired: 4, rounding: 8, suppressExceptions: 16 } as const;

/** EncodingKind of Knights Corner's MVEX, which is left out, and the last one we take. */
const LAST_ENCODING = 4;

const ESCAPE_BYTES = [0, 1, 2, 2, 2, 2, 2, 2, 2];

/** Bytes of opcode, ModRM and immediates, and of the prefixes that the mode does not change. */
function fixedBytes(info: OpCodeInfo, encoding: number, slots: readonly Slot[]): number {
  const { EncodingKind } = iced();
  let bytes = info.opCodeLength;
  for (const slot of slots) bytes += slot.bytes;
  if (slots.some((slot) => slot.modrm) || info.groupIndex >= 0 || info.rmGroupIndex >= 0) bytes++;
  if (encoding === EncodingKind.EVEX) return bytes + 6;
  // The two-byte VEX prefix has no W and only the 0F map.
  if (encoding === EncodingKind.VEX) return bytes + (info.table > 1 || info.W === 1 ? 4 : 3);
  if (encoding !== EncodingKind.Legacy) return bytes + 3;
  return bytes + (ESCAPE_BYTES[info.table] ?? 0) + (info.mandatoryPrefix > 1 ? 1 : 0);
}

/** `Broadcast512_Float32` repeats a 4-byte element 16 times; `Broadcast512_2xFloat16` repeats a pair. */
function broadcastCount(name: string, elementBytes: number): number {
  const parts = /^Broadcast(\d+)_(2x)?/.exec(name);
  if (!parts) return 0;
  return Number(parts[1]) / 8 / (parts[2] ? Math.max(4, elementBytes) : elementBytes);
}

function bits<K extends string>(names: Readonly<Record<K, number>>, set: Readonly<Record<K, boolean>>): number {
  return (Object.keys(names) as K[]).reduce((all, name) => all | (set[name] ? names[name] : 0), 0);
}

function packForm(info: OpCodeInfo, record: DataView): void {
  const { EncodingKind, MemorySize, MemorySizeExt } = iced();
  record.setUint16(field.mnemonic, info.mnemonic, true);
  const known = info.isInstruction && info.encoding <= LAST_ENCODING;
  record.setUint8(field.encoding, known ? info.encoding : 255);
  if (!known) return;
  const slots: Slot[] = [];
  for (let i = 0; i < info.opCount; i++) {
    record.setUint8(field.operands + i, info.opKind(i));
    slots.push(slotFor(info.opKind(i)));
  }
  record.setUint8(field.operandCount, info.opCount);
  record.setUint8(field.operandSize, info.operandSize / 8);
  record.setUint8(field.addressSize, info.addressSize / 8);
  record.setUint16(field.memoryBytes, MemorySizeExt.size(info.memorySize), true);
  record.setUint8(field.fixedBytes, fixedBytes(info, info.encoding, slots));
  const { memorySize } = info;
  record.setUint8(
    field.flags,
    bits(flag, {
      mode16: info.mode16,
      mode32: info.mode32,
      mode64: info.mode64,
      default64: info.defaultOpSize64 || info.forceOpSize64,
      rare: info.decoderOption !== 0,
      waits: info.fwait,
      farMemory: memorySize >= MemorySize.SegPtr16 && memorySize <= MemorySize.SegPtr64,
    }),
  );
  if (info.encoding !== EncodingKind.EVEX) return;
  record.setUint8(
    field.vector,
    bits(vector, {
      masking: info.canUseOpMaskRegister,
      zeroing: info.canUseZeroingMasking,
      maskRequired: info.requireOpMaskRegister,
      rounding: info.canUseRoundingControl,
      suppressExceptions: info.canSuppressAllExceptions,
    }),
  );
  if (!info.canBroadcast) return;
  const elementBytes = MemorySizeExt.elementSize(info.broadcastMemorySize);
  record.setUint8(field.broadcastBytes, elementBytes);
  record.setUint8(field.broadcastCount, broadcastCount(MemorySize[info.broadcastMemorySize]!, elementBytes));
}

/** Packs what iced knows about every code, one record each, in code order. */
export function packForms(): Uint8Array {
  const { Code, CodeExt } = iced();
  let count = 0;
  while (Code[count] !== undefined) count++;
  const bytes = new Uint8Array(count * RECORD);
  for (let code: Code = 0; code < count; code++) {
    const info = CodeExt.opCode(code);
    packForm(info, new DataView(bytes.buffer, code * RECORD, RECORD));
    info.free();
  }
  return bytes;
}
