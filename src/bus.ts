import type { Device } from "./device.ts";
import { BusError } from "./errors.ts";

export type BusName = "pio" | "mmio";

/** Addresses a bus has: ports of I/O space, or bytes of guest-physical address space (52 bits, the architectural limit). */
export const BUS_ADDRESSES: Readonly<Record<BusName, number>> = { pio: 0x10000, mmio: 2 ** 52 };

export interface MapOptions {
  /**
   * What the device sees as the offset of `start`. Default 0. For a device whose registers lie in more than one range,
   * e.g. a keyboard controller at ports 0x60 and 0x64.
   */
  offset?: number;
}

/** A device on a bus. Disposing it frees its range. */
export interface Mapping<D extends Device = Device> extends Disposable {
  readonly bus: BusName;
  readonly start: number;
  readonly length: number;
  readonly offset: number;
  readonly device: D;
}

/**
 * Finds the device behind a port or a guest-physical address.
 *
 * An access belongs as a whole to the device that owns its **first** byte, as on QEMU ("MMIO registers can be expected
 * to perform full-width accesses based only on their address", system/physmem.c) and on PCI, where one device claims a
 * cycle: a 32-bit OUT to 0xCF8 never reaches a reset register at 0xCF9. What reaches beyond the device's range is the
 * device's to ignore: such bytes read all ones.
 */
export class Bus {
  readonly name: BusName;
  /** Sorted by start, never overlapping. Replaced, not changed, so that a device may map and unmap inside its handler. */
  #mappings: readonly BusMapping<Device>[] = [];
  #last: BusMapping<Device> | undefined;

  constructor(name: BusName) {
    this.name = name;
  }

  /** What is mapped now, in order of address. */
  get mappings(): readonly Mapping[] {
    return this.#mappings;
  }

  /**
   * Puts a device behind a range.
   *
   * @param start First port, or guest-physical address in bytes.
   * @param length Ports or bytes.
   * @throws {BusError} when the range is empty, leaves the bus or overlaps another device's.
   */
  map<D extends Device>(start: number, length: number, device: D, options: MapOptions = {}): Mapping<D> {
    this.#checkRange(start, length, device);
    const at = this.#indexAbove(start);
    for (const other of [this.#mappings[at - 1], this.#mappings[at]]) {
      if (other !== undefined && start < other.end && other.start < start + length) {
        throw this.#overlap(start, length, device, other);
      }
    }
    const mapping = new BusMapping(this.name, { start, length, offset: options.offset ?? 0 }, device, () =>
      this.#remove(mapping),
    );
    this.#mappings = this.#mappings.toSpliced(at, 0, mapping);
    return mapping;
  }

  /** The mapping that owns `address`, if any. Allocates nothing. */
  find(address: number): Mapping | undefined {
    return this.#find(address);
  }

  /**
   * Reads `data` from the device at `address`; where none is, `data` becomes all ones.
   *
   * @param size Bytes per access. Below `data.length` the access is a string instruction's: every element goes to `address`.
   * @returns Whether a device answered.
   */
  read(address: number, data: Uint8Array, size: number = data.length): boolean {
    for (let i = 0; i < data.length; i++) data[i] = 0xff;
    const owner = this.#find(address);
    if (owner === undefined) return false;
    const offset = address - owner.start + owner.offset;
    if (size === data.length) owner.device.read(offset, data);
    else for (let i = 0; i < data.length; i += size) owner.device.read(offset, data.subarray(i, i + size));
    return true;
  }

  /**
   * Writes `data` to the device at `address`; where none is, nothing happens.
   *
   * @param size As for `read`.
   * @returns Whether a device took it.
   */
  write(address: number, data: Uint8Array, size: number = data.length): boolean {
    const owner = this.#find(address);
    if (owner === undefined) return false;
    const offset = address - owner.start + owner.offset;
    if (size === data.length) owner.device.write(offset, data);
    else for (let i = 0; i < data.length; i += size) owner.device.write(offset, data.subarray(i, i + size));
    return true;
  }

  #find(address: number): BusMapping<Device> | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const below = this.#mappings[this.#indexAbove(address) - 1];
    if (below === undefined || address >= below.end) return undefined;
    this.#last = below;
    return below;
  }

  /** Index of the first mapping that starts above `address`. */
  #indexAbove(address: number): number {
    let low = 0;
    let high = this.#mappings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#mappings[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #remove(mapping: BusMapping<Device>): void {
    this.#mappings = this.#mappings.filter((other) => other !== mapping);
    if (this.#last === mapping) this.#last = undefined;
  }

  #checkRange(start: number, length: number, device: Device): void {
    const addresses = BUS_ADDRESSES[this.name];
    const where = `"${device.name}" at ${hex(start)} on the ${this.name} bus`;
    if (!Number.isSafeInteger(length) || length <= 0) {
      throw new BusError(this.name, device.name, `Cannot map ${where} with a length of ${length}`, {
        remedy: "map at least one address",
      });
    }
    if (!Number.isSafeInteger(start) || start < 0 || start + length > addresses) {
      throw new BusError(this.name, device.name, `Cannot map ${length} addresses of ${where}`, {
        remedy: `stay within 0x0 to ${hex(addresses - 1)}`,
      });
    }
  }

  #overlap(start: number, length: number, device: Device, other: Mapping): BusError {
    const range = (from: number, count: number) => `${hex(from)}-${hex(from + count - 1)}`;
    return new BusError(
      this.name,
      device.name,
      `Cannot map "${device.name}" at ${range(start, length)} on the ${this.name} bus: ` +
        `"${other.device.name}" is at ${range(other.start, other.length)}`,
      { remedy: "move one of the two, or dispose the mapping that is there", other: other.device.name },
    );
  }
}

class BusMapping<D extends Device> implements Mapping<D> {
  readonly bus: BusName;
  readonly start: number;
  readonly length: number;
  /** First address behind the range. */
  readonly end: number;
  readonly offset: number;
  readonly device: D;
  readonly #remove: () => void;

  constructor(bus: BusName, range: { start: number; length: number; offset: number }, device: D, remove: () => void) {
    this.bus = bus;
    this.start = range.start;
    this.length = range.length;
    this.end = range.start + range.length;
    this.offset = range.offset;
    this.device = device;
    this.#remove = remove;
  }

  [Symbol.dispose](): void {
    this.#remove();
  }
}

function hex(address: number): string {
  return Number.isSafeInteger(address) ? `0x${address.toString(16)}` : String(address);
}
