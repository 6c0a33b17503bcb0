import type { BackendVm, HostMemory, MemoryOptions } from "./backend.ts";
import { CapabilityError, MemoryError } from "./errors.ts";

/** Bytes of a guest page as slots and dirty logs count them. */
export const PAGE_BYTES = 4096;
/** Largest guest-physical address plus one: 52 bits (Intel SDM Vol. 3A, "Physical Address Space"). */
const GPA_END = 2 ** 52;

export interface SlotOptions extends MemoryOptions {
  /** Guest-physical start in bytes, a multiple of 4096. */
  gpa: number;
  /** Length in bytes, a multiple of 4096, at most 4 GiB. */
  bytes: number;
  /** Guest writes become `mmioWrite` exits. */
  readOnly?: boolean;
  /** Record which pages the guest writes, for `dirtyPages()`. */
  logDirty?: boolean;
}

export interface AliasOptions {
  /** Guest-physical start in bytes, a multiple of 4096. */
  gpa: number;
  /** The slot whose memory appears a second time. */
  of: MemorySlot;
  /** Bytes into that slot, a multiple of 4096. Default 0. */
  offset?: number;
  /** Default: to the slot's end. */
  bytes?: number;
  readOnly?: boolean;
  logDirty?: boolean;
}

/** A range of guest-physical memory backed by the host. Disposing it removes it from the guest. */
export interface MemorySlot extends Disposable {
  /** The engine's number of the slot. */
  readonly slot: number;
  readonly gpa: number;
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly logDirty: boolean;
  /** The memory itself, shared with the guest; empty once the slot is removed. */
  readonly data: Uint8Array;
}

/** A run of pages. */
export interface PageRange {
  readonly gpa: number;
  readonly bytes: number;
}

/** Host memory and how many slots show it: the last one to go frees it. */
interface Backing {
  readonly memory: HostMemory;
  users: number;
}

class Slot implements MemorySlot {
  readonly slot: number;
  readonly gpa: number;
  readonly end: number;
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly logDirty: boolean;
  readonly backing: Backing;
  readonly offset: number;
  #data: Uint8Array | undefined;
  readonly #remove: (slot: Slot) => void;

  constructor(
    place: { slot: number; gpa: number; bytes: number; readOnly: boolean; logDirty: boolean },
    backing: Backing,
    offset: number,
    remove: (slot: Slot) => void,
  ) {
    this.slot = place.slot;
    this.gpa = place.gpa;
    this.bytes = place.bytes;
    this.end = place.gpa + place.bytes;
    this.readOnly = place.readOnly;
    this.logDirty = place.logDirty;
    this.backing = backing;
    this.offset = offset;
    this.#remove = remove;
  }

  get data(): Uint8Array {
    this.#data ??= this.backing.memory.bytes.subarray(this.offset, this.offset + this.bytes);
    return this.#data;
  }

  /** As `data.set()`, but a slot that is only written to never needs a view of its memory. */
  write(start: number, data: Uint8Array): void {
    if (this.#data === undefined) this.backing.memory.write(this.offset + start, data);
    else this.#data.set(data, start);
  }

  /** Leaves an empty view behind. */
  forget(): void {
    this.#data = new Uint8Array(0);
  }

  [Symbol.dispose](): void {
    this.#remove(this);
  }
}

/**
 * The guest's physical memory: slots, and access by GPA. Every access is bounds-checked; one that crosses from a slot
 * into the next works when they touch.
 *
 * @see KVM_SET_USER_MEMORY_REGION, Documentation/virt/kvm/api.rst, Linux v6.1
 */
export class GuestMemory implements Disposable {
  readonly #vm: BackendVm;
  readonly #backend: {
    readonly name: string;
    readonly maxSlots: number;
    readonly readOnly: boolean;
    readonly dirtyLog: boolean;
  };
  /** Sorted by GPA. */
  readonly #slots: Slot[] = [];
  /** The slot of the last access: the next one is usually near. */
  #last: Slot | undefined;
  readonly #scratch = new DataView(new ArrayBuffer(8));
  readonly #scratchBytes = new Uint8Array(this.#scratch.buffer);

  constructor(
    vm: BackendVm,
    backend: { name: string; capabilities: { maxSlots: number; readOnlyMemory: boolean; dirtyLog: boolean } },
  ) {
    this.#vm = vm;
    const { maxSlots, readOnlyMemory, dirtyLog } = backend.capabilities;
    this.#backend = { name: backend.name, maxSlots, readOnly: readOnlyMemory, dirtyLog };
  }

  /** All slots, lowest GPA first. */
  get slots(): readonly MemorySlot[] {
    return this.#slots;
  }

  /** Bytes of all slots together. */
  get bytes(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.bytes, 0);
  }

  /** One past the highest backed GPA; 0 without memory. */
  get end(): number {
    return this.#slots.at(-1)?.end ?? 0;
  }

  /**
   * Adds zeroed memory as one slot.
   *
   * @throws {RangeError} for a misaligned or empty range, or more than 4 GiB in one slot.
   * @throws {MemoryError} when the range overlaps another slot.
   * @throws {CapabilityError} for a read-only or logged slot where the backend has none.
   * @throws {SyscallError} when the host refuses, e.g. ENOMEM.
   */
  add(options: SlotOptions): MemorySlot {
    const place = this.#place(options);
    const memory = this.#vm.allocate(options.bytes, options);
    try {
      return this.#map(place, { memory, users: 0 }, 0);
    } catch (error) {
      memory[Symbol.dispose]();
      throw error;
    }
  }

  /** Shows memory of an existing slot at a second GPA, e.g. a BIOS below 1 MiB and at the top of 4 GiB. Errors as `add()`. */
  alias(options: AliasOptions): MemorySlot {
    const { of, offset = 0 } = options;
    const source = this.#slots.find((slot) => slot === of);
    if (source === undefined) throw new RangeError("Cannot alias a slot that is not part of this guest");
    const bytes = options.bytes ?? source.bytes - offset;
    if (offset % PAGE_BYTES !== 0 || offset < 0 || offset + bytes > source.bytes) {
      throw new RangeError(
        `Cannot alias ${bytes} bytes at offset ${offset} of a slot of ${source.bytes} bytes: stay inside it, in steps of ${PAGE_BYTES}`,
      );
    }
    return this.#map(this.#place({ ...options, bytes }), source.backing, source.offset + offset);
  }

  /** Removes a slot; accesses of the guest become MMIO. Removing twice is harmless. */
  remove(slot: MemorySlot): void {
    const index = this.#slots.indexOf(slot as Slot);
    const held = this.#slots[index];
    if (held === undefined) return;
    this.#vm.unmapSlot(held.slot);
    this.#forget(index, held);
  }

  /** @throws {MemoryError} unless `[gpa, gpa + length)` is backed. */
  read(gpa: number, length: number): Uint8Array {
    this.#check(gpa, length);
    const target = new Uint8Array(length);
    this.readInto(gpa, target);
    return target;
  }

  /** As `read()`, into memory of the caller. */
  readInto(gpa: number, target: Uint8Array): void {
    this.#check(gpa, target.length);
    for (let done = 0; done < target.length; ) {
      const slot = this.#slotAt(gpa + done, target.length - done);
      const start = gpa + done - slot.gpa;
      const count = Math.min(target.length - done, slot.bytes - start);
      target.set(slot.data.subarray(start, start + count), done);
      done += count;
    }
  }

  /** Writes regardless of `readOnly`, which binds the guest only. @throws {MemoryError} unless the whole range is backed. */
  write(gpa: number, data: Uint8Array): void {
    this.#check(gpa, data.length);
    for (let done = 0; done < data.length; ) {
      const slot = this.#slotAt(gpa + done, data.length - done);
      const start = gpa + done - slot.gpa;
      const count = Math.min(data.length - done, slot.bytes - start);
      slot.write(start, count === data.length ? data : data.subarray(done, done + count));
      done += count;
    }
  }

  /** The memory itself, shared with the guest, without a copy. @throws {MemoryError} unless it lies within one slot. */
  view(gpa: number, length: number): Uint8Array {
    const slot = this.#slotAt(gpa, length);
    const start = gpa - slot.gpa;
    if (start + length > slot.bytes) {
      throw new MemoryError(
        `Cannot view ${length} bytes at GPA ${hex(gpa)}`,
        { gpa, bytes: length },
        {
          remedy: `the slot ends at ${hex(slot.end)}: view its part, or read() across slots`,
        },
      );
    }
    return slot.data.subarray(start, start + length);
  }

  fill(gpa: number, length: number, value: number): void {
    this.#check(gpa, length);
    for (let done = 0; done < length; ) {
      const slot = this.#slotAt(gpa + done, length - done);
      const start = gpa + done - slot.gpa;
      const count = Math.min(length - done, slot.bytes - start);
      slot.data.fill(value, start, start + count);
      done += count;
    }
  }

  /** Copies within the guest; the ranges may overlap. */
  copy(from: number, to: number, length: number): void {
    this.#check(to, length);
    this.write(to, this.read(from, length));
  }

  /**
   * GPA of the first occurrence of `pattern` in backed memory within `[from, to)`, or undefined. Slots that touch are
   * searched across their border.
   */
  find(pattern: Uint8Array | string, range: { from?: number; to?: number } = {}): number | undefined {
    const bytes = typeof pattern === "string" ? new TextEncoder().encode(pattern) : pattern;
    if (bytes.length === 0) throw new RangeError("Cannot find an empty pattern");
    const { from = 0, to = this.end } = range;
    for (const [index, slot] of this.#slots.entries()) {
      const start = Math.max(from, slot.gpa);
      const end = Math.min(to, slot.end);
      if (start < end) {
        const data = slot.data;
        const at = Buffer.from(data.buffer, data.byteOffset + start - slot.gpa, end - start).indexOf(bytes);
        if (at >= 0) return start + at;
      }
      const found = this.#findAcross(bytes, index, { from, to });
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** An occurrence that begins in one slot and ends in one that follows without a gap. */
  #findAcross(bytes: Uint8Array, index: number, range: { from: number; to: number }): number | undefined {
    const slot = this.#slots[index] as Slot;
    const reach = slot.end + bytes.length - 1;
    let end = slot.end;
    for (let next = index + 1; end < reach && this.#slots[next]?.gpa === end; next++) end = this.#slots[next]!.end;
    const from = Math.max(range.from, slot.gpa, slot.end - bytes.length + 1);
    const to = Math.min(range.to, end, reach);
    if (to - from < bytes.length) return undefined;
    const at = Buffer.from(this.read(from, to - from)).indexOf(bytes);
    return at < 0 ? undefined : from + at;
  }

  /** Whether every byte of the range is backed. */
  has(gpa: number, length: number): boolean {
    return this.#gap(gpa, length) === undefined;
  }

  readU8(gpa: number): number {
    const slot = this.#slotAt(gpa, 1);
    return slot.data[gpa - slot.gpa]!;
  }
  readU16(gpa: number): number {
    return this.#at(gpa, 2).getUint16(0, true);
  }
  readU32(gpa: number): number {
    return this.#at(gpa, 4).getUint32(0, true);
  }
  readU64(gpa: number): bigint {
    return this.#at(gpa, 8).getBigUint64(0, true);
  }
  writeU8(gpa: number, value: number): void {
    const slot = this.#slotAt(gpa, 1);
    slot.data[gpa - slot.gpa] = value;
  }
  writeU16(gpa: number, value: number): void {
    this.#scratch.setUint16(0, value, true);
    this.write(gpa, this.#scratchBytes.subarray(0, 2));
  }
  writeU32(gpa: number, value: number): void {
    this.#scratch.setUint32(0, value, true);
    this.write(gpa, this.#scratchBytes.subarray(0, 4));
  }
  writeU64(gpa: number, value: bigint): void {
    this.#scratch.setBigUint64(0, value, true);
    this.write(gpa, this.#scratchBytes);
  }

  /** The NUL-terminated string at `gpa`, decoded as UTF-8, at most `maxBytes` long (default 4096). */
  readCString(gpa: number, maxBytes = 4096): string {
    const bytes: number[] = [];
    for (let at = gpa; bytes.length < maxBytes; at++) {
      const byte = this.readU8(at);
      if (byte === 0) break;
      bytes.push(byte);
    }
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }

  /**
   * Pages the guest wrote since the last call, as ranges, lowest first; asking clears the log. Without `slot`, all
   * slots that log.
   *
   * @throws {CapabilityError} when the slot does not log.
   * @see KVM_GET_DIRTY_LOG, Documentation/virt/kvm/api.rst, Linux v6.1
   */
  *dirtyPages(slot?: MemorySlot): Generator<PageRange> {
    if (slot !== undefined && !slot.logDirty) {
      throw new CapabilityError(this.#backend.name, "dirty log of a slot added without it", {
        remedy: "add the slot with { logDirty: true }",
      });
    }
    for (const candidate of slot === undefined ? this.#slots.filter((s) => s.logDirty) : [slot]) {
      yield* rangesOf(this.#vm.dirtyLog(candidate.slot), candidate);
    }
  }

  /**
   * Frees all memory after its VM is gone. The slots went with the VM: unmapping them one by one before would cost more
   * than all the rest of a VM's life.
   */
  [Symbol.dispose](): void {
    while (this.#slots.length > 0) this.#forget(this.#slots.length - 1, this.#slots.at(-1) as Slot);
  }

  /** A view for a read of up to 8 bytes: the slot's own memory, or a scratch copy across a border. */
  #at(gpa: number, length: number): DataView {
    const slot = this.#slotAt(gpa, length);
    const start = gpa - slot.gpa;
    if (start + length <= slot.bytes) this.#scratchBytes.set(slot.data.subarray(start, start + length));
    else this.readInto(gpa, this.#scratchBytes.subarray(0, length));
    return this.#scratch;
  }

  #slotAt(gpa: number, length: number): Slot {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa < last.end && Number.isInteger(gpa)) return last;
    const slot = this.#slots.find((candidate) => gpa >= candidate.gpa && gpa < candidate.end);
    if (slot === undefined || !Number.isInteger(gpa)) throw this.#unbacked(gpa, gpa, length);
    this.#last = slot;
    return slot;
  }

  /** First GPA in the range that no slot backs. */
  #gap(gpa: number, length: number): number | undefined {
    if (!Number.isInteger(gpa) || gpa < 0 || gpa >= GPA_END) return length > 0 ? gpa : undefined;
    let at = gpa;
    for (const slot of this.#slots) {
      if (at >= gpa + length) break;
      if (slot.end <= at) continue;
      if (slot.gpa > at) return at;
      at = slot.end;
    }
    return at < gpa + length ? at : undefined;
  }

  #check(gpa: number, length: number): void {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa + length <= last.end && Number.isInteger(gpa)) return;
    const gap = this.#gap(gpa, length);
    if (gap !== undefined) throw this.#unbacked(gpa, gap, length);
  }

  #unbacked(gpa: number, gap: number, length: number): MemoryError {
    const ranges = this.#slots.map((slot) => `${hex(slot.gpa)}-${hex(slot.end - 1)}`).join(", ");
    return new MemoryError(
      `Cannot access ${length} bytes at GPA ${hex(gpa)}: nothing backs ${hex(gap)}`,
      { gpa, bytes: length },
      { remedy: ranges === "" ? "add a memory slot first" : `the guest has memory at ${ranges}` },
    );
  }

  #place(options: Omit<SlotOptions, keyof MemoryOptions>): ConstructorParameters<typeof Slot>[0] {
    const { gpa, bytes, readOnly = false, logDirty = false } = options;
    checkRange(gpa, bytes);
    if (readOnly) this.#need(this.#backend.readOnly, "read-only memory slots");
    if (logDirty) this.#need(this.#backend.dirtyLog, "dirty log");
    const other = this.#slots.find((slot) => gpa < slot.end && slot.gpa < gpa + bytes);
    if (other !== undefined) {
      throw new MemoryError(
        `Cannot map ${hex(gpa)}-${hex(gpa + bytes - 1)}`,
        { gpa, bytes },
        {
          remedy: `slot ${other.slot} already covers ${hex(other.gpa)}-${hex(other.end - 1)}: remove it first or choose a free range`,
        },
      );
    }
    return { slot: this.#freeSlot(gpa, bytes), gpa, bytes, readOnly, logDirty };
  }

  #need(has: boolean, what: string): void {
    if (!has) {
      throw new CapabilityError(this.#backend.name, what, {
        remedy: "choose another backend, or ask backend.capabilities first",
      });
    }
  }

  #freeSlot(gpa: number, bytes: number): number {
    const used = new Set(this.#slots.map((slot) => slot.slot));
    let slot = 0;
    while (used.has(slot)) slot++;
    if (slot >= this.#backend.maxSlots) {
      throw new MemoryError(
        `Cannot map slot ${slot}`,
        { gpa, bytes },
        {
          remedy: `the ${this.#backend.name} backend has ${this.#backend.maxSlots} slots: remove one, or map larger ranges`,
        },
      );
    }
    return slot;
  }

  #map(place: ConstructorParameters<typeof Slot>[0], backing: Backing, offset: number): Slot {
    const { memory } = backing;
    this.#vm.mapSlot(place.slot, { ...place, memory, offset });
    backing.users++;
    const slot = new Slot(place, backing, offset, (self) => this.remove(self));
    const index = this.#slots.findIndex((candidate) => candidate.gpa > slot.gpa);
    this.#slots.splice(index < 0 ? this.#slots.length : index, 0, slot);
    return slot;
  }

  #forget(index: number, slot: Slot): void {
    this.#slots.splice(index, 1);
    this.#last = undefined;
    slot.forget();
    if (--slot.backing.users === 0) slot.backing.memory[Symbol.dispose]();
  }
}

/** Rejects what no slot can be: not a page multiple, empty, negative, beyond 52 bits. */
function checkRange(gpa: number, bytes: number): void {
  if (!Number.isInteger(bytes) || bytes <= 0 || bytes % PAGE_BYTES !== 0) {
    throw new RangeError(`Cannot map ${bytes} bytes of memory: use a multiple of ${PAGE_BYTES} above 0`);
  }
  if (!Number.isInteger(gpa) || gpa < 0 || gpa % PAGE_BYTES !== 0) {
    throw new RangeError(`Cannot map memory at GPA ${gpa}: use a multiple of ${PAGE_BYTES}`);
  }
  if (gpa + bytes > GPA_END) {
    throw new RangeError(`Cannot map memory up to ${hex(gpa + bytes)}: physical addresses have at most 52 bits`);
  }
}

function* rangesOf(bitmap: Uint32Array, slot: MemorySlot): Generator<PageRange> {
  const pages = slot.bytes / PAGE_BYTES;
  let start = -1;
  for (let page = 0; page <= pages; page++) {
    const word = bitmap[page >>> 5] ?? 0;
    if (start < 0 && word === 0 && (page & 31) === 0) {
      page += 31;
      continue;
    }
    const dirty = page < pages && ((word >>> (page & 31)) & 1) === 1;
    if (dirty && start < 0) start = page;
    if (!dirty && start >= 0) {
      yield { gpa: slot.gpa + start * PAGE_BYTES, bytes: (page - start) * PAGE_BYTES };
      start = -1;
    }
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
