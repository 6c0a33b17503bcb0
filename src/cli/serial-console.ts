const CTRL_A = 0x01;
const CTRL_C = 0x03;

const HELP = `
  Ctrl-A X       switch the machine off
  Ctrl-A Ctrl-A  send Ctrl-A to the guest
  Ctrl-A H       this help
  Ctrl-C         goes to the guest; twice ends a guest that does not read it
`;

export interface SerialConsoleOptions {
  /** Hands bytes to the guest. @returns how many it took. */
  readonly receive: (bytes: Uint8Array) => number;
  /** Bytes the guest has not read yet. */
  readonly unread: () => number;
  /** Ctrl-A X. */
  readonly onPowerOff: () => void;
  /** Ctrl-C, and the guest has not read what was typed before. */
  readonly onInterrupt: () => void;
}

/**
 * Standard input as the guest's serial input. On a terminal: raw mode, every key goes to the guest but the Ctrl-A
 * commands. Else the bytes as they are, until they end.
 *
 * process.stdin costs 9 ms to load, so `open()` is for when a guest turns out to run longer than that.
 */
export class SerialConsole implements Disposable {
  readonly #options: SerialConsoleOptions;
  #open = false;
  #raw = false;
  #escaped = false;
  /** What the guest had no room for. */
  #rest: Uint8Array = new Uint8Array(0);
  #isOffering = false;
  #hasSpace = false;

  constructor(options: SerialConsoleOptions) {
    this.#options = options;
  }

  /** Whether input comes from a terminal. Known once it is open. */
  get isTerminal(): boolean {
    return this.#raw;
  }

  open(): void {
    const { stdin } = process;
    this.#open = true;
    if (stdin.isTTY) {
      this.#raw = true;
      // Before raw mode: whatever ends this process from now on, the terminal is put back.
      process.once("exit", this.#restore);
      stdin.setRawMode(true);
      process.stderr.write("vmexit: Ctrl-A X switches the machine off, Ctrl-A H helps\n");
    }
    stdin.on("data", this.#onData);
    stdin.on("error", () => {});
  }

  /** The guest has room again, if for one byte only. May be called from within `receive`. */
  readonly onSpace = (): void => {
    this.#hasSpace = true;
    if (!this.#isOffering) this.#offer();
  };

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    process.stdin.off("data", this.#onData);
    process.stdin.pause();
    this.#restore();
    process.off("exit", this.#restore);
  }

  readonly #restore = (): void => {
    if (!this.#raw) return;
    this.#raw = false;
    process.stdin.setRawMode(false);
  };

  readonly #onData = (chunk: Uint8Array): void => {
    this.#send(this.#raw ? this.#filter(chunk) : chunk);
  };

  #send(bytes: Uint8Array): void {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    this.#offer();
  }

  /** Hands on what waits, as much as the guest takes; until it took all, no more is read. */
  #offer(): void {
    this.#isOffering = true;
    do {
      this.#hasSpace = false;
      this.#rest = this.#rest.subarray(this.#options.receive(this.#rest));
    } while (this.#rest.length > 0 && this.#hasSpace);
    this.#isOffering = false;
    if (!this.#open) return;
    if (this.#rest.length > 0) process.stdin.pause();
    else process.stdin.resume();
  }

  /** Takes the Ctrl-A commands out of what was typed. */
  #filter(typed: Uint8Array): Uint8Array {
    const kept: number[] = [];
    for (const byte of typed) {
      if (this.#escaped) {
        this.#escaped = false;
        if (byte === CTRL_A) kept.push(byte);
        else this.#command(String.fromCharCode(byte).toLowerCase());
      } else if (byte === CTRL_A) this.#escaped = true;
      else if (byte === CTRL_C && this.#options.unread() + kept.length > 0) this.#options.onInterrupt();
      else kept.push(byte);
    }
    return Uint8Array.from(kept);
  }

  #command(key: string): void {
    if (key === "x") this.#options.onPowerOff();
    if (key === "h" || key === "?") process.stderr.write(HELP);
  }
}
