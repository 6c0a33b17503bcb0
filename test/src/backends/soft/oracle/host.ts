import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as layout from "./layout.ts";
import { OUTPUT_DATA, OUTPUTS, Record, SHARED_BYTES, Shared } from "./layout.ts";
import { LOCAL } from "./worlds.ts";

/** Why the host cannot be asked, or undefined when it can. */
export function unavailable(): string | undefined {
  const lacking = missing();
  if (lacking !== undefined) return lacking;
  using host = new HostProcessor();
  return host.hypervisor === TCG ? "the host's processor is QEMU's TCG, an emulator too" : undefined;
}

const TCG = "TCGTCGTCGTCG";

function missing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux host";
  if (Bun.which("nasm") === null) return "needs nasm";
  return hostFlags().has("avx") ? undefined : "needs a host with AVX";
}

/** The processor's feature flags as Linux names them, and its maker. */
export function hostFlags(): ReadonlySet<string> {
  const text = readFileSync("/proc/cpuinfo", "utf8");
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, "m").exec(text)?.[1]?.split(" ") ?? [];
  return new Set([...field("flags"), ...field("vendor_id")]);
}

/** The layout's numbers as nasm takes them. */
function definitions(): string {
  return Object.entries(layout)
    .flatMap(([name, value]) =>
      typeof value === "number"
        ? [`%define ${name} ${value}`]
        : Object.entries(value).map(([field, number]) => `%define ${name}.${field} ${number}`),
    )
    .join("\n");
}

function assemble(directory: string): string {
  const [source, program] = [join(directory, "worker.asm"), join(directory, "worker")];
  const text = readFileSync(join(import.meta.dir, "worker.asm"), "utf8");
  writeFileSync(source, `${definitions()}\n%line 1 worker.asm\n${text}`);
  const run = Bun.spawnSync(["nasm", "-f", "bin", "-o", program, source]);
  if (run.exitCode !== 0) throw new Error(run.stderr.toString());
  chmodSync(program, 0o755);
  return program;
}

/** One case's record among the inputs. */
export function inputAt(index: number): number {
  return Shared.inputs + index * Record.size;
}

/**
 * The host processor, behind a worker process that runs batches of cases. The worker shares a file with the test: inputs
 * go in, `run()` starts it, outcomes lie in the same file when it is done.
 */
export class HostProcessor implements Disposable {
  readonly shared: Uint8Array;
  readonly view: DataView;
  readonly #directory = mkdtempSync(join(tmpdir(), "vmexit-oracle-"));
  readonly #worker: string;
  readonly #file: number;
  /** Why local descriptors cannot be had, and so no 16-bit code and no segments with a base. */
  readonly noLocal: string | undefined;

  constructor() {
    this.#worker = assemble(this.#directory);
    const path = join(this.#directory, "shared");
    this.#file = openSync(path, "w+");
    ftruncateSync(this.#file, SHARED_BYTES);
    this.shared = Bun.mmap(path, { shared: true });
    this.view = new DataView(this.shared.buffer, this.shared.byteOffset, SHARED_BYTES);
    this.#describe();
    this.run(0);
    const refused = this.view.getBigInt64(Shared.ldtResult, true);
    this.noLocal = refused === 0n ? undefined : `modify_ldt(2) is refused with errno ${-refused}`;
    if (refused !== 0n) this.view.setUint32(Shared.ldtCount, 0, true);
  }

  /** struct user_desc: entry, base, limit, then bit-fields: 32-bit, contents, read or execute only, pages, absent, usable. */
  #describe(): void {
    for (const [i, s] of LOCAL.entries()) {
      const at = Shared.ldt + i * 16;
      const contents = { data: 0, expandDown: 1, code: 2 }[s.kind];
      const bits = (s.big ? 1 : 0) | (contents << 1) | (s.restricted ? 8 : 0) | (s.absent ? 0x20 : 0);
      for (const [j, word] of [i, s.base, s.limit, bits].entries()) this.view.setUint32(at + j * 4, word, true);
    }
    this.view.setUint32(Shared.ldtCount, LOCAL.length, true);
  }

  /** What a hypervisor says that it is; without one, anything. */
  get hypervisor(): string {
    return Buffer.from(this.shared.subarray(Shared.hypervisor, Shared.hypervisor + 12)).toString("latin1");
  }

  /** The bytes that the pool of initial data is made of. */
  get pool(): Uint8Array {
    return this.shared.subarray(Shared.pool, Shared.pool + Shared.poolBytes);
  }
  input(index: number): Uint8Array {
    return this.shared.subarray(inputAt(index), inputAt(index) + Record.size);
  }
  output(index: number): Uint8Array {
    const at = OUTPUTS + index * Record.size;
    return this.shared.subarray(at, at + Record.size);
  }
  outputData(index: number): Uint8Array {
    const at = OUTPUT_DATA + index * layout.DATA_BYTES;
    return this.shared.subarray(at, at + layout.DATA_BYTES);
  }

  /** Runs the first `count` cases. A case that the worker does not survive is told apart by `died`. */
  run(count: number, died: (index: number, how: string) => void = () => {}): void {
    this.view.setUint32(Shared.count, count, true);
    this.view.setUint32(Shared.done, 0, true);
    for (;;) {
      const run = Bun.spawnSync([this.#worker], {
        stdin: this.#file,
        stdout: "ignore",
        stderr: "ignore",
        timeout: 3_000,
      });
      const done = this.view.getUint32(Shared.done, true);
      if (run.exitCode === 0 && done === count) return;
      if (run.exitCode === 1) throw new Error("The worker could not map its memory");
      died(done, String(run.signalCode ?? `exit code ${run.exitCode}`));
      if (done + 1 >= count) return;
      this.view.setUint32(Shared.done, done + 1, true);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    rmSync(this.#directory, { recursive: true });
  }
}
