import { GuestError } from "../errors.ts";
import { hex } from "./guest-plan.ts";

/** A guest file read with every access checked: what is wrong becomes a `GuestError` that names the field. Little-endian. */
export class GuestFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** The error to throw when `field` makes the file unusable. `problem` goes on after "as". */
  bad(field: string, problem: string, remedy = "rebuild or download the file again"): GuestError {
    return new GuestError(this.name, `Cannot load "${this.name}" as ${problem}`, { remedy, field });
  }

  #check(offset: number, bytes: number, field: string): void {
    if (offset >= 0 && offset + bytes <= this.length) return;
    throw this.bad(
      field,
      `${field} lies at ${hex(offset)} to ${hex(offset + bytes)} and the file ends at ${hex(this.length)}`,
    );
  }

  u8(offset: number, field: string): number {
    this.#check(offset, 1, field);
    return this.#view.getUint8(offset);
  }

  u16(offset: number, field: string): number {
    this.#check(offset, 2, field);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number, field: string): number {
    this.#check(offset, 4, field);
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number, field: string): bigint {
    this.#check(offset, 8, field);
    return this.#view.getBigUint64(offset, true);
  }

  /** A 64-bit size or physical address as a number. @throws {GuestError} from 2^52 on, which no x86 address reaches. */
  size64(offset: number, field: string): number {
    const value = this.u64(offset, field);
    if (value < 1n << 52n) return Number(value);
    throw this.bad(field, `${field} is ${hex(value)}, beyond any physical memory`);
  }

  slice(offset: number, bytes: number, field: string): Uint8Array {
    this.#check(offset, bytes, field);
    return this.bytes.subarray(offset, offset + bytes);
  }
}
