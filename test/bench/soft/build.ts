/** Compiles the workloads: as guests of 32 and 64 bits, and as programs of the host. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Rounds of each workload in one process; the first ones warm up what compiles at run time. */
export const ROUNDS = 8;
export const WARM_UP_ROUNDS = 3;

export const WORKLOADS = [
  "integer loop",
  "sieve",
  "crc32",
  "sha-256",
  "memcpy, words",
  "rep movs",
  "quicksort",
  "recursive calls",
  "interpreter",
  "matrix, sse",
  "page-walk chase",
  "exit storm",
] as const;
export type Workload = (typeof WORKLOADS)[number];
/** Runs only in a guest. */
export const EXIT_STORM = WORKLOADS.indexOf("exit storm");
export const EXITS_PER_STORM = 100_000;

export type Bits = 32 | 64;

const FLAGS = [
  "-O2",
  "-ffreestanding",
  "-fno-pic",
  "-fno-pie",
  "-fno-stack-protector",
  "-fno-asynchronous-unwind-tables",
  // The same code in both widths, and no calls of memcpy in place of loops.
  "-fno-tree-vectorize",
  "-fno-tree-loop-distribute-patterns",
  "-mno-red-zone",
  "-nostdlib",
  "-static",
  "-Wl,--build-id=none",
  `-DROUNDS=${ROUNDS}`,
];
const WIDTH: Readonly<Record<Bits, readonly string[]>> = { 32: ["-m32", "-march=i686"], 64: ["-m64"] };

/** Files that exist until it is disposed. */
export class Images implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "vmexit-soft-speed-"));

  /** A Multiboot image. @throws {Error} without a compiler for that width. */
  guest(bits: Bits): string {
    const elf = join(this.#folder, `guest${bits}.elf`);
    const sources = [`start${bits}.S`, "guest.c", "workloads.c"].map((name) => join(import.meta.dir, name));
    run(["gcc", ...WIDTH[bits], ...FLAGS, `-Wl,-T,${join(import.meta.dir, "guest.ld")}`, "-o", elf, ...sources]);
    // Multiboot loaders take ELF32 only; addresses fit.
    if (bits === 64) run(["objcopy", "-O", "elf32-i386", elf]);
    return elf;
  }

  /** The workloads as a process of this host. */
  native(bits: Bits): string {
    const program = join(this.#folder, `native${bits}`);
    const sources = ["native.c", "workloads.c"].map((name) => join(import.meta.dir, name));
    run(["gcc", ...WIDTH[bits], ...FLAGS, "-o", program, ...sources]);
    return program;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function run(command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`Cannot run ${command[0]}: ${stderr.toString().trim()}`);
}
