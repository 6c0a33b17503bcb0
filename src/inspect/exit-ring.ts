import { copyExit, type Exit, type PioSize } from "../exit.ts";

/** One exit as the ring kept it. */
export interface RecordedExit {
  /** 1 for the first exit seen. */
  readonly number: number;
  /** A copy; `data` holds what the guest wrote, all ones for a read, and at most the first eight bytes. */
  readonly exit: Exit;
  /** Length of the payload before it was cut. */
  readonly bytes: number;
}

type Access = "pioIn" | "pioOut" | "mmioRead" | "mmioWrite";

const PAYLOAD_BYTES = 8;

/**
 * The last exits of a run, at the price of a few stores each: nothing is formatted, and nothing allocated for an access,
 * so that it can stay on. Give `record` to `vm.observe()`.
 */
export class ExitRing {
  readonly #size: number;
  /** An access by its kind, its numbers beside it; any other exit as a copy. */
  readonly #what: (Access | Exit)[];
  readonly #addresses: Float64Array;
  readonly #sizes: Uint8Array;
  readonly #lengths: Uint32Array;
  readonly #payloads: Uint8Array;
  #count = 0;

  constructor(size = 16) {
    this.#size = size;
    this.#what = new Array<Access | Exit>(size).fill("pioOut");
    this.#addresses = new Float64Array(size);
    this.#sizes = new Uint8Array(size);
    this.#lengths = new Uint32Array(size);
    this.#payloads = new Uint8Array(size * PAYLOAD_BYTES);
  }

  /** Exits seen. */
  get count(): number {
    return this.#count;
  }

  readonly record = (exit: Exit): void => {
    // Time slices are no exits of the guest's.
    if (exit.kind === "interrupted") return;
    const at = this.#count++ % this.#size;
    switch (exit.kind) {
      case "pioIn":
      case "pioOut":
        this.#sizes[at] = exit.size;
        this.#keep(at, exit.kind, exit.port, exit.data);
        break;
      case "mmioRead":
      case "mmioWrite":
        this.#keep(at, exit.kind, exit.gpa, exit.data);
        break;
      default:
        this.#what[at] = copyExit(exit);
    }
  };

  /** The last exits, oldest first. */
  last(count: number = this.#size): RecordedExit[] {
    const kept = Math.min(count, this.#count, this.#size);
    return Array.from({ length: kept }, (_, i) => this.#recorded(this.#count - kept + i));
  }

  #keep(at: number, kind: Access, address: number, data: Uint8Array): void {
    this.#what[at] = kind;
    this.#addresses[at] = address;
    this.#lengths[at] = data.length;
    const start = at * PAYLOAD_BYTES;
    const length = Math.min(data.length, PAYLOAD_BYTES);
    for (let i = 0; i < length; i++) this.#payloads[start + i] = data[i]!;
  }

  #recorded(index: number): RecordedExit {
    const at = index % this.#size;
    const what = this.#what[at]!;
    const number = index + 1;
    if (typeof what !== "string") return { number, exit: what, bytes: 0 };
    const bytes = this.#lengths[at]!;
    const start = at * PAYLOAD_BYTES;
    const data = this.#payloads.slice(start, start + Math.min(bytes, PAYLOAD_BYTES));
    const address = this.#addresses[at]!;
    if (what === "mmioRead" || what === "mmioWrite") return { number, bytes, exit: { kind: what, gpa: address, data } };
    const size = this.#sizes[at] as PioSize;
    return { number, bytes, exit: { kind: what, port: address, size, count: bytes / size, data } };
  }
}
