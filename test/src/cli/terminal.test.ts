import { describe, expect, test } from "bun:test";
import { guest, MAIN, Scratch, whyNoKvm } from "./vmexit-process.ts";

const missing = whyNoKvm ?? (typeof Bun.Terminal === "function" ? undefined : "this Bun has no Bun.Terminal");
const onTerminal = test.skipIf(missing !== undefined);
const why = missing === undefined ? "" : ` (skipped: ${missing})`;

const CTRL_A = "\x01";
const CTRL_C = "\x03";
const CTRL_D = "\x04";
/** c_lflag: lines are edited, and what is typed is echoed. */
const ICANON_ECHO = 0o12;

/** The tool on a terminal of its own. */
class TerminalRun implements AsyncDisposable {
  readonly #terminal: Bun.Terminal;
  readonly #before: readonly number[];
  readonly child: Bun.Subprocess;
  shown = "";

  constructor(args: readonly string[], options: { bun?: readonly string[]; env?: Record<string, string> } = {}) {
    const decoder = new TextDecoder();
    this.#terminal = new Bun.Terminal({
      cols: 100,
      rows: 40,
      data: (_, bytes) => {
        this.shown += decoder.decode(bytes, { stream: true });
      },
    });
    this.#before = this.#flags();
    const { NO_COLOR: _, ...env } = process.env;
    this.child = Bun.spawn([process.execPath, ...(options.bun ?? []), MAIN, "boot", ...args], {
      terminal: this.#terminal,
      env: { ...env, ...options.env },
    });
  }

  /** Waits until the screen shows `text`; fails after 4 s. */
  async until(text: string): Promise<void> {
    for (let waited = 0; !this.shown.includes(text); waited += 10) {
      if (waited > 4000) throw new Error(`The terminal never showed ${JSON.stringify(text)}: ${this.shown}`);
      await Bun.sleep(10);
    }
  }

  type(text: string): void {
    this.#terminal.write(text);
  }

  get isRaw(): boolean {
    return (this.#terminal.localFlags & ICANON_ECHO) === 0;
  }

  get isRestored(): boolean {
    return Bun.deepEquals(this.#flags(), this.#before);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill();
    await this.child.exited;
    this.#terminal.close();
  }

  #flags(): readonly number[] {
    const { inputFlags, outputFlags, controlFlags, localFlags } = this.#terminal;
    return [inputFlags, outputFlags, controlFlags, localFlags];
  }
}

const HINT = "Ctrl-A X switches the machine off";

describe("vmexit boot on a terminal", () => {
  onTerminal(
    `hands each key to the guest, unechoed, and restores the terminal when the guest halts${why}`,
    async () => {
      await using run = new TerminalRun([guest("echo")]);
      await run.until(HINT);
      expect(run.isRaw).toBe(true);
      run.type("a");
      await run.until("\na");
      run.type(`b\r${CTRL_D}`);
      expect(await run.child.exited).toBe(0);
      await run.until("\nab\r");
      expect(run.isRestored).toBe(true);
    },
  );

  onTerminal(`Ctrl-A X switches the machine off, with status 0 and no crash screen${why}`, async () => {
    await using run = new TerminalRun([guest("endless")]);
    await run.until(HINT);
    run.type(`${CTRL_A}x`);
    expect(await run.child.exited).toBe(0);
    expect(run.shown).not.toContain("EAX");
    expect(run.isRestored).toBe(true);
  });

  onTerminal(`Ctrl-A H helps, Ctrl-A Ctrl-A and Ctrl-C reach a guest that reads${why}`, async () => {
    await using run = new TerminalRun([guest("echo")]);
    await run.until(HINT);
    run.type(`${CTRL_A}h`);
    await run.until("Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n");
    run.type(`${CTRL_A}${CTRL_A}`);
    await run.until("\x01");
    run.type(CTRL_C);
    await run.until("\x03");
    run.type(CTRL_D);
    expect(await run.child.exited).toBe(0);
  });

  onTerminal(`a second Ctrl-C ends a guest that does not read, with status 130 and where it is${why}`, async () => {
    await using run = new TerminalRun([guest("endless")]);
    await run.until(HINT);
    run.type(CTRL_C);
    await Bun.sleep(50);
    expect(run.child.exitCode).toBe(null);
    run.type(CTRL_C);
    expect(await run.child.exited).toBe(130);
    await run.until("jmp short 0x1000");
    expect(run.isRestored).toBe(true);
  });

  onTerminal(`SIGTERM, SIGHUP and SIGINT leave the terminal restored${why}`, async () => {
    for (const [signal, status] of Object.entries({ SIGTERM: 143, SIGHUP: 129, SIGINT: 130 })) {
      await using run = new TerminalRun([guest("endless")]);
      await run.until(HINT);
      expect(run.isRaw).toBe(true);
      run.child.kill(signal as "SIGTERM");
      expect(await run.child.exited).toBe(status);
      expect(run.isRestored).toBe(true);
    }
  });

  onTerminal(`an exception that nobody catches leaves the terminal restored${why}`, async () => {
    using scratch = new Scratch();
    const preload = scratch.write(
      "throw.ts",
      "setInterval(() => { if (process.stdin.isRaw) throw new Error('boom'); }, 20);",
    );
    await using run = new TerminalRun([guest("endless")], { bun: ["--preload", preload] });
    expect(await run.child.exited).toBe(70);
    await run.until("boom");
    expect(run.isRestored).toBe(true);
  });

  onTerminal(`has no time limit by itself, and keeps to one that is given${why}`, async () => {
    await using run = new TerminalRun([guest("endless"), "--timeout", "300ms"]);
    expect(await run.child.exited).toBe(124);
    await run.until("time limit of 300 ms reached");
    expect(run.isRestored).toBe(true);
  });

  onTerminal(`colours the crash screen, unless NO_COLOR is set${why}`, async () => {
    const args = [guest("endless"), "--timeout", "20ms"];
    await using coloured = new TerminalRun(args);
    await using plain = new TerminalRun(args, { env: { NO_COLOR: "1" } });
    await Promise.all([coloured.child.exited, plain.child.exited]);
    await coloured.until("no exit");
    await plain.until("no exit");
    expect(coloured.shown).toContain("\x1b[1;31mvmexit: time limit");
    expect(plain.shown).not.toContain("\x1b[");
  });
});
