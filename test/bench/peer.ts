/** The C program of a comparison: built by the benchmark, fed through a pipe so that batches can alternate. */
import { dlopen, FFIType } from "bun:ffi";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cString } from "../../ffi/libc.ts";

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
    const { folder, binary } = compile(source, []);
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

/** The same C program inside this process: what is left between the two is the processes' difference. */
export class PeerHere implements Disposable {
  readonly #folder: string;
  readonly #library: ReturnType<typeof openLibrary>;

  /** @throws {Error} without a C compiler. */
  constructor(source: string) {
    const { folder, binary } = compile(source, ["-shared", "-fPIC"]);
    this.#folder = folder;
    this.#library = openLibrary(binary);
  }

  /** As `Peer.ask()`. */
  ask(command: string, count: number, file: string): number {
    return Number(this.#library.symbols.ask(cString(command), count, cString(file)));
  }

  [Symbol.dispose](): void {
    this.#library.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function openLibrary(binary: string) {
  return dlopen(binary, {
    ask: { args: [FFIType.ptr, FFIType.i64_fast, FFIType.ptr], returns: FFIType.u64_fast },
  } as const);
}

function compile(source: string, options: readonly string[]): { folder: string; binary: string } {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
  const binary = join(folder, "peer");
  const compiled = Bun.spawnSync(["cc", "-O2", "-Wall", ...options, "-o", binary, source], { stderr: "inherit" });
  if (compiled.exitCode === 0 && existsSync(binary)) return { folder, binary };
  rmSync(folder, { recursive: true });
  throw new Error("Cannot compile the C peer: install a C compiler (Debian: gcc) and linux-libc-dev");
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
