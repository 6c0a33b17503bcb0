import type { HostMemory, SlotMapping } from "../../backend.ts";
import { CapabilityError, MemoryError } from "../../errors.ts";
import { collectGarbage, noteGarbage } from "./garbage.ts";
import { PageTables } from "./page-tables.ts";
import { State } from "./state.ts";

/** vCPUs of one VM at most: each has its state in front of guest memory. */
export const MAX_VCPUS = 8;
const PAGE = 4096;
const WASM_PAGE = 65536;
/** First byte that guest memory may take. */
const RAM_BASE = MAX_VCPUS * State.size;
/** What to ask JavaScriptCore for, in 64 KiB pages: address space only, touched pages alone cost memory. */
const SIZES = [65536, 32768, 16384, 4096, 1024];

/** A slot with its place in the WebAssembly memory. */
export interface RamSlot {
  readonly slot: number;
  readonly gpa: number;
  readonly bytes: number;
  /** WebAssembly address of the first byte. */
  readonly host: number;
  readonly readOnly: boolean;
  readonly dirty: Uint32Array | undefined;
}

/** A range handed out by `allocate`. */
class RamRange implements HostMemory {
  readonly address: number;
  readonly #length: number;
  readonly #ram: GuestRam;
  #bytes: Uint8Array | undefined;

  constructor(ram: GuestRam, address: number, length: number) {
    this.#ram = ram;
    this.address = address;
    this.#length = length;
    this.#bytes = new Uint8Array(ram.memory.buffer, address, length);
  }

  get bytes(): Uint8Array {
    return this.#bytes ?? new Uint8Array(0);
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
  }

  [Symbol.dispose](): void {
    if (this.#bytes === undefined) return;
    this.#bytes = undefined;
    this.#ram.release(this.address, this.#length);
  }
}

/**
 * The WebAssembly memory of one VM: state of the vCPUs, then guest memory. It never grows, so views stay valid until the
 * VM is disposed; `memory.grow(0)` then detaches every one of them, which is what empties `bytes`.
 */
export class GuestRam {
  readonly memory: WebAssembly.Memory;
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Int32Array<ArrayBuffer>;
  readonly tables: PageTables;
  slots: readonly RamSlot[] = [];
  #free: { address: number; length: number }[];
  /** Bytes below this were handed out before and may hold data. */
  #high = RAM_BASE;
  /** Called when the slots change: TLBs hold WebAssembly addresses. */
  readonly changed = new Set<() => void>();
  #last: RamSlot | undefined;

  constructor() {
    this.memory = reserve();
    const { buffer } = this.memory;
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.words = new Int32Array(buffer);
    this.tables = new PageTables(this.words);
    this.#free = [{ address: RAM_BASE, length: buffer.byteLength - RAM_BASE }];
  }

  /** @throws {CapabilityError} when the range does not fit the 32-bit address space of WebAssembly. */
  allocate(length: number): HostMemory {
    const rounded = Math.ceil(length / PAGE) * PAGE;
    const index = this.#free.findIndex((range) => range.length >= rounded);
    const range = this.#free[index];
    if (range === undefined) {
      throw new CapabilityError("soft", `${length} bytes of guest memory`, {
        remedy: "keep all memory of one guest below 4 GiB, or use a backend with a hypervisor",
      });
    }
    const { address } = range;
    if (range.length === rounded) this.#free.splice(index, 1);
    else this.#free[index] = { address: address + rounded, length: range.length - rounded };
    if (address < this.#high) this.bytes.fill(0, address, Math.min(address + rounded, this.#high));
    this.#high = Math.max(this.#high, address + rounded);
    return new RamRange(this, address, length);
  }

  release(address: number, length: number): void {
    const rounded = Math.ceil(length / PAGE) * PAGE;
    const ranges = [...this.#free, { address, length: rounded }].sort((a, b) => a.address - b.address);
    this.#free = [];
    for (const range of ranges) {
      const last = this.#free.at(-1);
      if (last !== undefined && last.address + last.length === range.address) last.length += range.length;
      else this.#free.push({ ...range });
    }
  }

  mapSlot(slot: number, mapping: SlotMapping): void {
    if (!(mapping.memory instanceof RamRange)) {
      throw new MemoryError("Cannot map memory of another backend", mapping, {
        remedy: "allocate it with this VM's allocate()",
      });
    }
    const entry: RamSlot = {
      slot,
      gpa: mapping.gpa,
      bytes: mapping.bytes,
      host: mapping.memory.address + mapping.offset,
      readOnly: mapping.readOnly,
      dirty: mapping.logDirty ? new Uint32Array(Math.ceil(mapping.bytes / PAGE / 32)) : undefined,
    };
    this.#replace([...this.slots, entry]);
  }

  unmapSlot(slot: number): void {
    this.#replace(this.slots.filter((s) => s.slot !== slot));
  }

  #replace(slots: readonly RamSlot[]): void {
    this.slots = slots;
    this.#last = undefined;
    for (const changed of this.changed) changed();
  }

  /** The slot that backs a guest-physical address. */
  find(gpa: number): RamSlot | undefined {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa < last.gpa + last.bytes) return last;
    for (const slot of this.slots) {
      if (gpa >= slot.gpa && gpa < slot.gpa + slot.bytes) {
        this.#last = slot;
        return slot;
      }
    }
    return undefined;
  }

  dirtyLog(slot: number): Uint32Array {
    const entry = this.slots.find((s) => s.slot === slot);
    const dirty = entry?.dirty;
    if (dirty === undefined) return new Uint32Array(0);
    const copy = dirty.slice();
    dirty.fill(0);
    for (const changed of this.changed) changed();
    return copy;
  }

  dispose(): void {
    this.slots = [];
    this.changed.clear();
    this.tables.flushes.clear();
    this.memory.grow(0);
    noteGarbage(this.#high - RAM_BASE);
    collectGarbage();
  }
}

function reserve(): WebAssembly.Memory {
  for (const initial of SIZES) {
    try {
      return new WebAssembly.Memory({ initial, maximum: initial });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new CapabilityError("soft", `${((SIZES.at(-1) as number) * WASM_PAGE) >> 20} MiB of WebAssembly memory`, {
    remedy: "dispose virtual machines that are no longer used",
  });
}

export function markDirty(slot: RamSlot, gpa: number): void {
  if (slot.dirty === undefined) return;
  const page = (gpa - slot.gpa) >>> 12;
  slot.dirty[page >>> 5] = (slot.dirty[page >>> 5] as number) | (1 << (page & 31));
}
