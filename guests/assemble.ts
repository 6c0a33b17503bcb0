/** Assembles every guest of this folder: `bun run guests`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

const FOLDER = import.meta.dir;

/** Names of the guests, without extension, in order. */
export function guestNames(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith(".asm"))
    .map((file) => file.slice(0, -".asm".length))
    .sort();
}

/** Path of a guest's source or of its flat binary. */
export function guestPath(name: string, extension: "asm" | "bin"): string {
  return `${FOLDER}/${name}.${extension}`;
}

/**
 * The flat binary of a guest's source.
 *
 * @throws {Error} with NASM's own message when the source has an error or a warning.
 */
export function assembleGuest(name: string): Uint8Array {
  const folder = mkdtempSync(`${tmpdir()}/vmexit-guest-`);
  try {
    // NASM opens its output by name, and a pipe has none everywhere.
    const output = `${folder}/${name}.bin`;
    const nasm = Bun.spawnSync(["nasm", "-w+all", "-Werror", "-f", "bin", "-o", output, guestPath(name, "asm")]);
    if (!nasm.success) throw new Error(`Cannot assemble ${name}.asm: ${nasm.stderr.toString().trim()}`);
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  for (const name of guestNames()) {
    const binary = assembleGuest(name);
    await Bun.write(guestPath(name, "bin"), binary);
    console.log(`${name}.bin: ${binary.length} bytes`);
  }
}
