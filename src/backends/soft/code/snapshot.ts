/** Words up to which a range is compared here: a call into the runtime costs more. */
const SHORT = 12;

/** A range of memory as it was, to be compared with what it is. */
export class Snapshot {
  readonly #live: Int32Array;
  readonly #copy: Int32Array;
  /** The same as bytes, where the runtime compares them. */
  readonly #long: { readonly live: Uint8Array; readonly copy: Uint8Array } | undefined;

  /** From `start` to `end`, in bytes of `memory`, as whole words. */
  constructor(memory: Int32Array, start: number, end: number) {
    this.#live = memory.subarray(Math.floor(start / 4), Math.ceil(end / 4));
    this.#copy = this.#live.slice();
    this.#long = this.#copy.length > SHORT ? { live: bytesOf(this.#live), copy: bytesOf(this.#copy) } : undefined;
  }

  get isCurrent(): boolean {
    const live = this.#live;
    const copy = this.#copy;
    if (this.#long !== undefined) return Buffer.compare(this.#long.live, this.#long.copy) === 0;
    for (let i = 0; i < copy.length; i++) if (copy[i] !== live[i]) return false;
    return true;
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
