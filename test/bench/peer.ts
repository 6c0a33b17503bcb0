/** The C program of a comparison: built by the benchmark, fed through a pipe so that batches can alternate. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Peer implements Disposable {
  readonly #folder: string;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(folder: string, child: Bun.Subprocess<"pipe", "pipe", "inherit">) {
    this.#folder = folder;
    this.#child = child;
    this.#lines = linesOf(child.stdout);
  }

  /** Compiles and starts the C source. @throws {Error} without a C compiler. */
  static build(source: string): Peer {
    const folder = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
    const binary = join(folder, "peer");
    const compiled = Bun.spawnSync(["cc", "-O2", "-Wall", "-o", binary, source], { stderr: "inherit" });
    if (compiled.exitCode !== 0 || !existsSync(binary)) {
      rmSync(folder, { recursive: true });
      throw new Error("Cannot compile the C peer: install a C compiler (Debian: gcc) and linux-libc-dev");
    }
    return new Peer(folder, Bun.spawn([binary], { stdin: "pipe", stdout: "pipe", stderr: "inherit" }));
  }

  /** Sends one command; returns its nanoseconds. */
  async ask(command: string): Promise<number> {
    this.#child.stdin.write(`${command}\n`);
    this.#child.stdin.flush();
    const line = await this.#lines.next();
    if (line.done) throw new Error(`The C peer ended on "${command}"`);
    return Number(line.value);
  }

  [Symbol.dispose](): void {
    this.#child.stdin.end();
    this.#child.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      yield rest.slice(0, end);
      rest = rest.slice(end + 1);
    }
  }
}
