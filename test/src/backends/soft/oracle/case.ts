import type { Encoded, MemoryOperand } from "./encode.ts";
import { MAGIC2, randomFpu } from "./fpu-state.ts";
import { operandHint } from "./hints.ts";
import { DATA, DATA_BYTES, READ_ONLY, Record, Shared } from "./layout.ts";
import type { Random } from "./random.ts";
import { slotOffset } from "./worlds.ts";

const ARITHMETIC = 0x8d5;
const DF = 0x400;
const AC = 0x4_0000;
export const RSP = 4;

/** Fills in one case: registers, flags, addresses that make sense, operands worth trying. */
export class CaseBuilder {
  readonly e: Encoded;
  readonly random: Random;
  readonly record: Uint8Array;
  readonly view: DataView;
  #patched = false;
  /** Linear address of the explicit memory operand. */
  target = 0;

  constructor(e: Encoded, random: Random, record: Uint8Array) {
    this.e = e;
    this.random = random;
    this.record = record;
    this.view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  }

  build(): void {
    const { e, random, view, record } = this;
    const { world } = e;
    for (let i = 0; i < 16; i++) {
      const value = random.value();
      this.set(i, world.bits === 64 ? value : i < 8 ? value & 0xffff_ffffn : 0n);
    }
    view.setBigUint64(Record.rip, slotOffset(world), true);
    const direction = random.chance(e.form.opcode.kinds.some((k) => /^(seg|es)_r/.test(k)) ? 2 : 16) ? DF : 0;
    const alignment = random.chance(24) ? AC : 0;
    view.setBigUint64(Record.rflags, BigInt((random.next() & ARITHMETIC) | direction | alignment | 0x202), true);
    for (const [i, selector] of world.selectors.entries()) view.setUint16(Record.selectors + 2 * i, selector, true);
    view.setBigUint64(Record.fsBase, world.bits === 64 ? (world.bases[4] as bigint) : 0n, true);
    view.setBigUint64(Record.gsBase, world.bits === 64 ? (world.bases[5] as bigint) : 0n, true);
    record.set(e.bytes, Record.code);
    const fpu = e.form.unit !== "integer";
    view.setUint32(Record.fpu, fpu ? 1 : 0, true);
    view.setUint32(Record.pool, 16 * random.below((Shared.poolBytes - DATA_BYTES) / 16), true);
    view.setUint32(Record.patchBytes, 0, true);
    if (fpu) {
      const image = record.subarray(Record.image, Record.image + Record.imageBytes);
      const { unit } = e.form;
      randomFpu(random, image, { x87: unit === "x87" || (unit === "sequence" && random.chance(2)) });
      view.setUint32(Record.magic2, MAGIC2, true);
    }
    this.setStack();
    if (e.memory !== undefined) this.#address(e.memory);
    this.#strings();
    operandHint(e.form.opcode)?.(this);
  }

  get(register: number): bigint {
    return this.view.getBigUint64(Record.gpr + 8 * register, true);
  }
  set(register: number, value: bigint): void {
    this.view.setBigUint64(Record.gpr + 8 * register, BigInt.asUintN(64, value), true);
  }
  /** Replaces the low bits of a register. */
  setLow(register: number, bits: number, value: bigint): void {
    const low = BigInt.asUintN(bits, value);
    this.set(register, ((this.get(register) >> BigInt(bits)) << BigInt(bits)) | low);
  }

  /** Puts bytes where the instruction will find them, as far as they lie in the data. Once for each case. */
  patch(linear: number, bytes: Uint8Array): void {
    const at = linear - DATA;
    if (this.#patched || at < 0 || at + bytes.length > DATA_BYTES) return;
    this.#patched = true;
    this.view.setUint32(Record.patchAt, at, true);
    this.view.setUint32(Record.patchBytes, bytes.length, true);
    this.record.set(bytes, Record.patch);
  }

  /** Puts a little-endian number there. */
  patchNumber(linear: number, value: bigint, bytes: number): void {
    const out = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) out[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    this.patch(linear, out);
  }

  /** Linear address of the top of the stack. */
  get stack(): number {
    const { world } = this.e;
    return Number(BigInt.asUintN(world.stackBits, this.get(RSP)) + (world.bases[2] as bigint));
  }

  /** Points a register of the stack into the data. */
  setStack(register: number = RSP): void {
    const { world } = this.e;
    const { random } = this;
    const step = random.chance(8) ? 1 : 8;
    const inside = random.chance(24) ? random.below(DATA_BYTES) : 0x800 + random.below(0x1000);
    const linear = BigInt(DATA + inside - (inside % step));
    const offset = linear - (world.bases[2] as bigint);
    if (world.bits === 64) this.set(register, offset);
    else if (world.stackBits === 16) this.setLow(register, 16, offset);
    else this.set(register, BigInt.asUintN(32, offset));
    // ESP's upper half does not survive a return to a 16-bit stack on every kernel.
    if (world.stackBits === 16 && register === RSP) this.set(register, offset & 0xffffn);
  }

  /** A linear address for an operand of so many bytes: mostly aligned and inside, sometimes neither. */
  #pick(bytes: number): number {
    const { random } = this;
    const size = Math.max(bytes, 1);
    const kind = random.below(32);
    const inside = DATA + 0x800 + random.below(0x1000);
    if (kind < 20) return inside - (inside % alignmentOf(bytes));
    if (kind < 26) return inside;
    if (kind === 26) return DATA + 0x1000 - random.below(size);
    if (kind === 27) return DATA + DATA_BYTES - random.below(size + 8);
    if (kind === 28) return DATA - random.below(size + 8);
    if (kind === 29) return READ_ONLY + random.below(0x1000 - size);
    if (kind === 30) return DATA + DATA_BYTES + random.below(0x800);
    return inside;
  }

  /** Gives the base register what it takes for the operand to lie where it should. */
  #address(m: MemoryOperand): void {
    const { world } = this.e;
    const segment = BigInt.asUintN(64, world.bases[m.segment] as bigint);
    if (m.base < 0 && m.index < 0) {
      this.target = Number(
        BigInt.asUintN(world.bits === 64 ? 64 : 32, BigInt.asUintN(m.bits, m.displacement) + segment),
      );
      return;
    }
    const bytes = this.e.form.opcode.word.startsWith("Xs") || this.e.form.opcode.word.startsWith("Xr") ? 832 : m.bytes;
    this.target = this.#pick(bytes);
    const far = world.bits === 64 && m.bits === 64 && this.random.chance(64);
    if (m.vector) this.#vectorIndex(m);
    let index = 0n;
    if (m.index >= 0 && !m.vector) index = this.get(m.index) * BigInt(m.scale);
    const offset = BigInt(this.target) - segment - m.displacement - index;
    if (m.base >= 0) {
      this.setLow(m.base, m.bits, far ? this.random.u64() | (1n << 62n) : offset);
    } else this.#setIndex(m, BigInt(this.target) - segment - m.displacement);
    if (!m.vector) this.target = this.#linear(m, segment);
  }

  /** Where the operand lies, now that the registers are set. */
  #linear(m: MemoryOperand, segment: bigint): number {
    const base = m.base < 0 ? 0n : this.get(m.base);
    const index = m.index < 0 ? 0n : this.get(m.index) * BigInt(m.scale);
    const offset = BigInt.asUintN(m.bits, base + index + m.displacement);
    return Number(BigInt.asUintN(this.e.world.bits === 64 ? 64 : 32, offset + segment));
  }

  /** Without a base: what the scale divides. */
  #setIndex(m: MemoryOperand, offset: bigint): void {
    this.setLow(m.index, m.bits, offset / BigInt(m.scale));
  }

  /** Small indices for the most part, so that gathers stay inside. */
  #vectorIndex(m: MemoryOperand): void {
    const at = Record.image + (m.index < 0 ? 0 : 16 * m.index);
    // DPS, DPD, DD and DQ have indices of 32 bits, the others of 64.
    const bytes = /gatherd/i.test(this.e.form.opcode.word) ? 4 : 8;
    for (const part of [160, 576])
      for (let i = 0; i < 16; i += bytes) {
        const index = this.random.below(15) - (this.random.chance(3) ? 15 : 0);
        if (bytes === 4) this.view.setInt32(at + part + i, index, true);
        else this.view.setBigInt64(at + part + i, BigInt(index), true);
      }
  }

  /** Registers of string instructions. */
  #strings(): void {
    const { kinds } = this.e.form.opcode;
    const { world, addressBits } = this.e;
    const point = (register: number, segment: number) => {
      const linear = BigInt(this.#pick(8));
      const offset = linear - (world.bases[segment] as bigint);
      this.setLow(register, addressBits, offset);
      this.target = Number(linear);
    };
    if (kinds.includes("es_rDI")) point(7, 0);
    if (kinds.includes("seg_rDI")) point(7, 3);
    if (kinds.includes("seg_rSI")) point(6, 3);
    if (this.e.repeat && kinds.some((k) => /^(seg|es)_r/.test(k)))
      this.setLow(1, addressBits, BigInt(this.random.chance(8) ? this.random.below(2000) : this.random.below(9)));
  }
}

function alignmentOf(bytes: number): number {
  if (bytes >= 576) return 64;
  for (const step of [32, 16, 8, 4, 2]) if (bytes >= step) return step === 32 && bytes > 32 ? 16 : step;
  return 1;
}
