import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Names of the tools in `tools` that this machine lacks, as the tail of a test's name: empty when all are there. */
export function lacking(...tools: string[]): string {
  const missing = tools.filter((tool) => Bun.which(tool) === null);
  return missing.length === 0 ? "" : ` [skipped: no ${missing.join(", ")} here]`;
}

/** Runs `commands` in a new folder that holds `files`, and returns the bytes of `result`. */
export function buildFile(files: Record<string, string>, commands: string[][], result: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-boot-"));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    for (const command of commands) {
      const { exitCode, stderr } = Bun.spawnSync(command, { cwd: folder, stderr: "pipe" });
      if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
    }
    return new Uint8Array(readFileSync(join(folder, result)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
