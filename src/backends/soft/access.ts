import type { Cpu } from "./cpu.ts";
import type { Watchpoints } from "./debug.ts";
import type { MmioTransfer } from "./in-flight.ts";
import { type Access, pagingOn, quickWalk, type Walk, walk } from "./paging.ts";
import { markDirty, type RamSlot } from "./ram.ts";
import { Seg, SegIndex, State, Tlb, tlbTable, Vector } from "./state.ts";
import { answer } from "./system/ports.ts";
import { INFO_SEGMENT_SHIFT, INFO_SYSTEM, INFO_USER, INFO_WRITE } from "./translate/access-info.ts";

/** Part of an access inside one page. */
interface Piece {
  readonly gpa: number;
  /** Bytes from the start of the access. */
  readonly at: number;
  readonly bytes: number;
  readonly slot: RamSlot | undefined;
}

const MASK64 = (1n << 64n) - 1n;

/**
 * Memory as the guest sees it, off the fast path: segment rules, page walks, TLB fills, accesses across pages, MMIO,
 * writes to translated code and watchpoints. The methods named `slow…` are called by generated code.
 */
export class MemoryAccess {
  readonly #cpu: Cpu;
  /** Views of the scratch area by their size: a new one costs more than an access. */
  readonly #scratches = new Map<number, Uint8Array>();
  /** What the present instruction has already exchanged with MMIO. */
  #transfers: MmioTransfer[] = [];
  #next = 0;
  watchpoints: Watchpoints | undefined;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  // --- Called by generated code ----------------------------------------------------------------------------------

  /** WebAssembly address to load from, or 0 when the instruction leaves. */
  slowLoad(low: number, high: number, info: number): number {
    const quick = this.#quick(low, high, info, false);
    if (quick !== 0) return quick;
    const pieces = this.#translate(low, high, info & 0xff, info);
    if (pieces === undefined) return 0;
    const [first] = pieces;
    if (pieces.length === 1 && first?.slot !== undefined) {
      return first.slot.host + (first.gpa - first.slot.gpa);
    }
    const { cpu, scratch } = this.#scratch(info & 0xff);
    for (const piece of pieces) if (!this.#readPiece(piece, scratch)) return 0;
    return cpu.base + State.scratch;
  }

  /** Stores what is in the scratch area. 0 when done. */
  slowStore(low: number, high: number, info: number): number {
    const quick = this.#quick(low, high, info, true);
    if (quick !== 0) {
      const from = this.#cpu.base + State.scratch;
      this.#cpu.ram.bytes.copyWithin(quick, from, from + (info & 0xff));
      return 0;
    }
    const pieces = this.#translate(low, high, info & 0xff, info | INFO_WRITE);
    if (pieces === undefined || this.#mustRetry(pieces)) return 1;
    const [first] = pieces;
    if (pieces.length === 1 && first?.slot !== undefined && !first.slot.readOnly) {
      this.#touch(first);
      const cpu = this.#cpu;
      const from = cpu.base + State.scratch;
      cpu.ram.bytes.copyWithin(first.slot.host + (first.gpa - first.slot.gpa), from, from + first.bytes);
      return 0;
    }
    const { scratch } = this.#scratch(info & 0xff);
    for (const piece of pieces) this.#writePiece(piece, scratch);
    return 0;
  }

  /** Address where an operand can be read and written, or 0. The scratch area stands in where RAM cannot serve directly. */
  slowModify(low: number, high: number, info: number): number {
    const quick = this.#quick(low, high, info, true);
    if (quick !== 0) return quick;
    const pieces = this.#translate(low, high, info & 0xff, info | INFO_WRITE);
    if (pieces === undefined || this.#mustRetry(pieces)) return 0;
    const [first] = pieces;
    if (pieces.length === 1 && first !== undefined && first.slot !== undefined && !first.slot.readOnly) {
      this.#touch(first);
      return first.slot.host + (first.gpa - first.slot.gpa);
    }
    const { cpu, scratch } = this.#scratch(info & 0xff);
    for (const piece of pieces) if (!this.#readPiece(piece, scratch)) return 0;
    return cpu.base + State.scratch;
  }

  /** A plain TLB miss: one page of RAM that needs nobody's attention. 0 to go the careful way. */
  #quick(low: number, high: number, info: number, write: boolean): number {
    const cpu = this.#cpu;
    if ((low & 0xfff) + (info & 0xff) > 4096 || this.watchpoints?.active) return 0;
    if (high !== 0 && !isCanonicalPair(cpu, low, high)) return 0;
    const user = (info & INFO_USER) !== 0;
    const page = quickWalk(cpu.ram, cpu.pagingState, low, high, write, user);
    if (page < 0) return 0;
    const slot = cpu.ram.find(page);
    if (slot === undefined) return 0;
    if (
      write &&
      (slot.readOnly || cpu.tracker.isCodePage(page) || (slot.dirty !== undefined && !isDirty(slot, page)))
    ) {
      return 0;
    }
    const host = slot.host + (page - slot.gpa);
    if (write && cpu.ram.tables.isTable(host)) {
      const at = host + (low & 0xfff);
      return cpu.ram.tables.plain(at, info & 0xff) ? at : 0;
    }
    this.#enter(low, high, user, write, host);
    return host + (low & 0xfff);
  }

  /** Writes a TLB entry for the page of `low` that lies at `host`. */
  #enter(low: number, high: number, user: boolean, write: boolean, host: number): void {
    const { i32 } = this.#cpu;
    const at = (tlbTable(user, write) + ((low >>> 12) & (Tlb.entries - 1)) * Tlb.size) >> 2;
    const page = low & ~0xfff;
    this.#cpu.noteTlbEntry(at);
    i32[at] = page;
    i32[at + 1] = high;
    i32[at + 2] = (host - page) | 0;
  }

  /** Faults unless the whole range can be accessed. 0 when it can. */
  checkRange(low: number, high: number, info: number): number {
    const pieces = this.#translate(low, high, info & 0xff, info);
    if (pieces === undefined) return 1;
    return (info & INFO_WRITE) !== 0 && this.#mustRetry(pieces) ? 1 : 0;
  }

  /** The whole rule for a segment access that generated code could not allow by itself. 0 when allowed. */
  checkSegment(offset: number, info: number): number {
    const cpu = this.#cpu;
    const index = (info >> INFO_SEGMENT_SHIFT) & 7;
    const slot = State.segments + index * Seg.size;
    const attributes = cpu.get(slot + Seg.attributes);
    const limit = cpu.get(slot + Seg.limit) >>> 0;
    const from = offset >>> 0;
    const last = from + (info & 0xff) - 1;
    const code = (attributes & 8) !== 0;
    const write = (info & INFO_WRITE) !== 0;
    let good = cpu.mode.real || (attributes & 0x1_0080) === 0x80;
    if (good && !cpu.mode.real) good = write ? !code && (attributes & 2) !== 0 : !code || (attributes & 2) !== 0;
    if (good) {
      const down = !cpu.mode.real && !code && (attributes & 4) !== 0;
      good = down ? from > limit && last <= ((attributes & 0x400) !== 0 ? 0xffff_ffff : 0xffff) : last <= limit;
    }
    return good ? 0 : cpu.raise(index === SegIndex.ss ? Vector.SS : Vector.GP, 0);
  }

  // --- For helpers -----------------------------------------------------------------------------------------------

  /** Reads as the guest's instruction does. `unit`: what the operand has to be aligned by where alignment is checked. False when it faulted or leaves. */
  read(segment: number, offset: bigint, into: Uint8Array, unit = 1): boolean {
    const linear = this.#linear(segment, offset, into.length, false);
    return (
      linear !== undefined && this.#aligned(linear, unit) && this.readLinear(linear, into, this.#userInfo(segment))
    );
  }

  write(segment: number, offset: bigint, from: Uint8Array, unit = 1): boolean {
    const linear = this.#linear(segment, offset, from.length, true);
    return (
      linear !== undefined && this.#aligned(linear, unit) && this.writeLinear(linear, from, this.#userInfo(segment))
    );
  }

  /** Faults unless the bytes, 255 at most, can be written. */
  checkWrite(segment: number, offset: bigint, bytes: number, unit = 1): boolean {
    const linear = this.#linear(segment, offset, bytes, true);
    if (linear === undefined || !this.#aligned(linear, unit)) return false;
    return this.checkRange(lowOf(linear), highOf(linear), bytes | this.#userInfo(segment) | INFO_WRITE) === 0;
  }

  /** #AC(0) where alignment is checked; an address that is not canonical is refused later. */
  #aligned(linear: bigint, unit: number): boolean {
    const cpu = this.#cpu;
    if (unit === 1 || !cpu.mode.alignCheck) return true;
    if ((Number(linear & 0xffn) & (unit - 1)) === 0 || (cpu.code64 && !isCanonical(cpu, linear))) return true;
    cpu.raise(Vector.AC, 0);
    return false;
  }

  #userInfo(segment: number): number {
    return (this.#cpu.mode.user ? INFO_USER : 0) | (segment << INFO_SEGMENT_SHIFT);
  }

  #linear(segment: number, offset: bigint, bytes: number, write: boolean): bigint | undefined {
    const cpu = this.#cpu;
    if (cpu.code64) return (offset + (segment >= 4 ? cpu.segmentBase(segment) : 0n)) & MASK64;
    const low = Number(offset & 0xffff_ffffn);
    const info = (segment << INFO_SEGMENT_SHIFT) | (write ? INFO_WRITE : 0);
    // Sizes have eight bits there: of a state image both ends are asked about.
    if (this.checkSegment(low, Math.min(bytes, 255) | info) !== 0) return undefined;
    if (bytes > 255 && this.checkSegment(low + bytes - 1, 1 | info) !== 0) return undefined;
    return (offset + cpu.segmentBase(segment)) & 0xffff_ffffn;
  }

  /** Reads at a linear address; `INFO_SYSTEM` for the processor's own accesses. */
  readLinear(linear: bigint, into: Uint8Array, info: number = INFO_SYSTEM): boolean {
    for (let at = 0; at < into.length; ) {
      const bytes = Math.min(into.length - at, 128);
      const part = linear + BigInt(at);
      const pieces = this.#translate(lowOf(part), highOf(part), bytes, info & ~INFO_WRITE);
      if (pieces === undefined) return false;
      const target = into.subarray(at, at + bytes);
      for (const piece of pieces) if (!this.#readPiece(piece, target)) return false;
      at += bytes;
    }
    return true;
  }

  writeLinear(linear: bigint, from: Uint8Array, info: number = INFO_SYSTEM): boolean {
    const writes: { pieces: Piece[]; data: Uint8Array }[] = [];
    for (let at = 0; at < from.length; ) {
      const bytes = Math.min(from.length - at, 128);
      const part = linear + BigInt(at);
      const pieces = this.#translate(lowOf(part), highOf(part), bytes, info | INFO_WRITE);
      if (pieces === undefined || this.#mustRetry(pieces)) return false;
      writes.push({ pieces, data: from.subarray(at, at + bytes) });
      at += bytes;
    }
    for (const { pieces, data } of writes) for (const piece of pieces) this.#writePiece(piece, data);
    return true;
  }

  /** A little-endian value of the processor's own tables. Undefined when it faulted. */
  readSystem(linear: bigint, bytes: 2 | 4 | 8): bigint | undefined {
    const data = new Uint8Array(8);
    if (!this.readLinear(linear, data.subarray(0, bytes))) return undefined;
    return new DataView(data.buffer).getBigUint64(0, true);
  }

  writeSystem(linear: bigint, value: bigint, bytes: 1 | 2 | 4 | 8): boolean {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    return this.writeLinear(linear, data.subarray(0, bytes));
  }

  /** GPA of a byte as an access of the given kind finds it, without side effects. */
  probe(linear: bigint, access: Omit<Access, "mark">): Walk {
    return walk(this.#cpu, this.#cpu.pagingState, lowOf(linear), highOf(linear), { ...access, mark: "no" });
  }

  /** GPA of an instruction byte, or undefined with the fault noted. */
  fetch(linear: bigint): number | undefined {
    const cpu = this.#cpu;
    if (cpu.code64 && !isCanonical(cpu, linear)) {
      cpu.raise(Vector.GP, 0);
      return undefined;
    }
    const low = lowOf(linear);
    const access = { write: false, user: cpu.mode.user, execute: true, system: false, mark: "yes" } as const;
    const found = walk(cpu, cpu.pagingState, low, highOf(linear), access);
    if (!found.ok) {
      cpu.set64(State.cr2, linear);
      cpu.raise(Vector.PF, found.errorCode);
      return undefined;
    }
    return found.page + (low & 0xfff);
  }

  // --- MMIO ------------------------------------------------------------------------------------------------------

  /** A new instruction begins: nothing of the last one is to be repeated. */
  startInstruction(): void {
    this.#next = 0;
    if (this.#transfers.length > 0) this.#transfers = [];
  }

  /** What the instruction at RIP has exchanged with MMIO so far. */
  get transfers(): readonly MmioTransfer[] {
    return this.#transfers;
  }
  set transfers(transfers: readonly MmioTransfer[]) {
    this.#transfers = [...transfers];
    this.#next = 0;
  }

  /** The same instruction begins again. */
  restartInstruction(): void {
    this.#next = 0;
  }

  #readMmio(gpa: number, data: Uint8Array): boolean {
    const known = this.#transfers[this.#next];
    if (known !== undefined && !known.write && known.gpa === gpa && known.bytes === data.length) {
      this.#next++;
      data.set(answer(known.exit.data, data.length));
      return true;
    }
    const cpu = this.#cpu;
    this.#transfers.length = this.#next;
    const exit = { kind: "mmioRead" as const, gpa, data: new Uint8Array(data.length).fill(0xff) };
    this.#transfers.push({ gpa, bytes: data.length, write: false, exit });
    cpu.exits.push(exit);
    cpu.pending = { kind: "exit" };
    return false;
  }

  #writeMmio(gpa: number, data: Uint8Array): void {
    const known = this.#transfers[this.#next];
    if (known?.write && known.gpa === gpa && known.bytes === data.length) {
      this.#next++;
      return;
    }
    const exit = { kind: "mmioWrite" as const, gpa, data: data.slice() };
    this.#transfers.length = this.#next++;
    this.#transfers.push({ gpa, bytes: data.length, write: true, exit });
    this.#cpu.exits.push(exit);
  }

  // --- Pieces ----------------------------------------------------------------------------------------------------

  #scratch(bytes: number): { cpu: Cpu; scratch: Uint8Array } {
    const cpu = this.#cpu;
    let scratch = this.#scratches.get(bytes);
    if (scratch === undefined) {
      scratch = cpu.ram.bytes.subarray(cpu.base + State.scratch, cpu.base + State.scratch + bytes);
      this.#scratches.set(bytes, scratch);
    }
    return { cpu, scratch };
  }

  /** Page by page to guest-physical pieces, with TLB fill. Undefined when it faulted, with the fault noted. */
  #translate(low: number, high: number, bytes: number, info: number): Piece[] | undefined {
    const cpu = this.#cpu;
    const write = (info & INFO_WRITE) !== 0;
    if (cpu.longMode && cpu.mode.bits === 64 && !isCanonicalPair(cpu, low, high)) {
      const stack = ((info >> INFO_SEGMENT_SHIFT) & 7) === SegIndex.ss;
      cpu.raise(stack ? Vector.SS : Vector.GP, 0);
      return undefined;
    }
    if (this.watchpoints?.active && !this.#watch(low, high, bytes, write, info)) return undefined;
    const first = Math.min(bytes, 4096 - (low & 0xfff));
    const one = this.#piece(low, high, 0, first, write, info);
    if (one === undefined) return undefined;
    if (first === bytes) return [one];
    const carry = (low >>> 0) + first > 0xffff_ffff ? 1 : 0;
    const nextHigh = cpu.mode.bits === 64 ? (high + carry) | 0 : 0;
    const two = this.#piece((low + first) | 0, nextHigh, first, bytes - first, write, info);
    return two === undefined ? undefined : [one, two];
  }

  #watch(low: number, high: number, bytes: number, write: boolean, info: number): boolean {
    const cpu = this.#cpu;
    if ((info & INFO_SYSTEM) !== 0) return true;
    const linear = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const hit = this.watchpoints?.match(linear, bytes, write) ?? 0;
    if (hit === 0) return true;
    if (!cpu.stepping) {
      cpu.pending = { kind: "retry" };
      return false;
    }
    this.watchpoints?.note(hit);
    return true;
  }

  #piece(low: number, high: number, at: number, bytes: number, write: boolean, info: number): Piece | undefined {
    const cpu = this.#cpu;
    const user = (info & INFO_USER) !== 0;
    // With both, the processor's own access has the user's rights: a frame on the user's stack.
    const system = (info & INFO_SYSTEM) !== 0 && !user;
    const state = cpu.pagingState;
    const mark = cpu.stepping ? "yes" : "unlessCode";
    const found = walk(cpu, state, low, high, { write, user, execute: false, system, mark });
    if (!found.ok) {
      if (found.retry) {
        cpu.pending = { kind: "retry" };
        return undefined;
      }
      cpu.set64(State.cr2, (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
      cpu.raise(Vector.PF, found.errorCode);
      return undefined;
    }
    const slot = cpu.ram.find(found.page);
    if (slot !== undefined && !system)
      this.#fill(low, high, { user, write }, found, slot, pagingOn(state) && found.userPage && !user);
    return { gpa: found.page + (low & 0xfff), at, bytes, slot };
  }

  /** Puts a page into the TLB, as far as it may be used without coming here. */
  #fill(
    low: number,
    high: number,
    kind: { user: boolean; write: boolean },
    found: Extract<Walk, { ok: true }>,
    slot: RamSlot,
    otherwise: boolean,
  ): void {
    const cpu = this.#cpu;
    const { user, write } = kind;
    // Supervisor access to user pages depends on AC under SMAP: asked again each time.
    if (otherwise && (cpu.cr4 & 0x20_0000) !== 0) return;
    if (this.watchpoints?.active && this.watchpoints.onPage(low, high)) return;
    if (write && !this.#mayWrite(found, slot)) return;
    this.#enter(low, high, user, write, slot.host + (found.page - slot.gpa));
  }

  /** Whether writes to the page need nobody's attention. */
  #mayWrite(found: Extract<Walk, { ok: true }>, slot: RamSlot): boolean {
    const { tracker, ram } = this.#cpu;
    if (!found.canWrite || slot.readOnly || tracker.isCodePage(found.page)) return false;
    if (ram.tables.isTable(slot.host + (found.page - slot.gpa))) return false;
    return slot.dirty === undefined || isDirty(slot, found.page);
  }

  /** Whether the pieces of a write need the one-instruction way: MMIO, translated code, page tables. Notes the retry. */
  #mustRetry(pieces: readonly Piece[]): boolean {
    const cpu = this.#cpu;
    if (cpu.stepping) return false;
    for (const piece of pieces) {
      const { slot, gpa, bytes } = piece;
      const plain = slot !== undefined && !slot.readOnly && !cpu.tracker.hits(gpa, bytes);
      if (!plain || cpu.ram.tables.hits(slot.host + (gpa - slot.gpa), bytes)) {
        cpu.pending = { kind: "retry" };
        return true;
      }
    }
    return false;
  }

  #readPiece(piece: Piece, data: Uint8Array): boolean {
    const cpu = this.#cpu;
    const { slot } = piece;
    if (slot !== undefined) {
      const host = slot.host + (piece.gpa - slot.gpa);
      data.set(cpu.ram.bytes.subarray(host, host + piece.bytes), piece.at);
      return true;
    }
    if (!cpu.stepping) {
      cpu.pending = { kind: "retry" };
      return false;
    }
    for (let done = 0; done < piece.bytes; done += 8) {
      const from = piece.at + done;
      const bytes = Math.min(8, piece.bytes - done);
      if (!this.#readMmio(piece.gpa + done, data.subarray(from, from + bytes))) return false;
    }
    return true;
  }

  /** Dirty log, translated code and page tables, before RAM is written. */
  #touch(piece: Piece): void {
    const { tracker, ram } = this.#cpu;
    const { slot } = piece;
    if (slot !== undefined) {
      markDirty(slot, piece.gpa);
      ram.tables.written(slot.host + (piece.gpa - slot.gpa), piece.bytes);
    }
    if (tracker.hits(piece.gpa, piece.bytes)) tracker.invalidate(piece.gpa);
  }

  #writePiece(piece: Piece, data: Uint8Array): void {
    const { slot } = piece;
    if (slot !== undefined && !slot.readOnly) {
      this.#touch(piece);
      const host = slot.host + (piece.gpa - slot.gpa);
      this.#cpu.ram.bytes.set(data.subarray(piece.at, piece.at + piece.bytes), host);
      return;
    }
    for (let done = 0; done < piece.bytes; done += 8) {
      const from = piece.at + done;
      this.#writeMmio(piece.gpa + done, data.subarray(from, from + Math.min(8, piece.bytes - done)));
    }
  }
}

function isDirty(slot: RamSlot, gpa: number): boolean {
  const page = (gpa - slot.gpa) >>> 12;
  return (((slot.dirty?.[page >>> 5] ?? 0) >>> (page & 31)) & 1) !== 0;
}

export function lowOf(value: bigint): number {
  return Number(value & 0xffff_ffffn) | 0;
}
export function highOf(value: bigint): number {
  return Number((value >> 32n) & 0xffff_ffffn) | 0;
}

/** Bits 63 to 47 are equal (to 56 with five levels). */
export function isCanonicalPair(cpu: Cpu, _low: number, high: number): boolean {
  const shift = (cpu.cr4 & 0x1000) !== 0 ? 24 : 15;
  const top = high >> shift;
  return top === 0 || top === -1;
}

export function isCanonical(cpu: Cpu, linear: bigint): boolean {
  return isCanonicalPair(cpu, 0, highOf(linear));
}
