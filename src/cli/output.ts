// Fresh memory is dear at start-up: 64 KiB cost 3 ms here, a page at a time.
const BUFFER_BYTES = 4096;

/**
 * Bytes on their way to a file descriptor of this process, in order and without bound on what the reader may delay: a
 * guest that prints faster than its reader reads waits.
 *
 * process.stdout costs 9 ms to load and node:fs 2 ms, so neither is touched for what fits one last `end()`.
 */
export class Output {
  readonly #fd: 1 | 2;
  readonly #onFailure: () => void;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #used = 0;
  #last: number | undefined;
  #scheduled = false;
  #failure: string | undefined;

  /** @param onFailure Nothing can be written any more: `failure` says why. */
  constructor(fd: 1 | 2, onFailure: () => void = () => {}) {
    this.#fd = fd;
    this.#onFailure = onFailure;
  }

  /** Why nothing can be written any more, e.g. `EPIPE` when the reader left. What comes after is dropped. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Whether the last byte ended a line, or none was written. */
  get isAtLineStart(): boolean {
    return this.#last === undefined || this.#last === 0x0a;
  }

  readonly byte = (value: number): void => {
    if (this.#used === BUFFER_BYTES) this.flush();
    this.#buffer[this.#used++] = value;
    this.#last = value;
    if (!this.#scheduled) this.#schedule();
  };

  text(text: string): void {
    for (const byte of new TextEncoder().encode(text)) this.byte(byte);
  }

  /** Writes what is there and waits until the reader took it. */
  flush(): void {
    if (this.#used === 0) return;
    const { writeSync } = require("node:fs") as typeof import("node:fs");
    for (let done = 0; done < this.#used && this.#failure === undefined; ) {
      try {
        done += writeSync(this.#fd, this.#buffer, done, this.#used - done);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === "EAGAIN") Bun.sleepSync(1);
        else if (code !== "EINTR") this.#fail(error);
      }
    }
    this.#used = 0;
  }

  /** The last flush. */
  async end(): Promise<void> {
    const rest = this.#buffer.subarray(0, this.#used);
    this.#used = 0;
    // Bun.write() of nothing truncates a file that stdout was redirected to.
    if (rest.length === 0 || this.#failure !== undefined) return;
    try {
      await Bun.write(this.#fd === 1 ? Bun.stdout : Bun.stderr, rest);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failure = (error as { code?: string }).code ?? String(error);
    this.#onFailure();
  }

  /** A guest that runs on is seen at the next turn of the event loop. */
  #schedule(): void {
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.flush();
    });
  }
}
