import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "../../..");
export const MAIN = join(ROOT, "src/cli/main.ts");

/** A committed guest, e.g. `hello`. */
export function guest(name: string): string {
  return join(ROOT, "guests", `${name}.bin`);
}

export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface VmexitOptions {
  /** What the process reads; it is not a terminal. Default: nothing. */
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Runs the tool as a user does, and waits for its end. */
export async function vmexit(args: readonly string[], options: VmexitOptions = {}): Promise<Finished> {
  const child = Bun.spawn([process.execPath, MAIN, ...args], {
    stdin: new Blob([options.stdin ?? ""]),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const [status, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { status, stdout, stderr };
}

/** Why no guest can run here; undefined when one can. */
export const whyNoKvm: string | undefined = (() => {
  if (process.platform !== "linux") return "no Linux";
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `/dev/kvm: ${(error as { code?: string }).code}`;
  }
})();

/** For the end of a test's name. */
export const skipped = whyNoKvm === undefined ? "" : ` (skipped: ${whyNoKvm})`;

/** A folder for a test's files, gone when disposed. */
export class Scratch implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "vmexit-cli-"));

  /** @returns the file's path. */
  write(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name);
    writeFileSync(path, content);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}
