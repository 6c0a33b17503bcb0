/** Assembles every guest of this folder: `bun run guests`. */
import { readdirSync, readFileSync } from "node:fs";
import { assemble } from "../src/asm/index.ts";

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
 * @throws {AsmError} that shows each line that is wrong.
 */
export function assembleGuest(name: string): Uint8Array {
  const file = guestPath(name, "asm");
  return assemble(readFileSync(file, "utf8"), { file }).bytes;
}

if (import.meta.main) {
  for (const name of guestNames()) {
    const binary = assembleGuest(name);
    await Bun.write(guestPath(name, "bin"), binary);
    console.log(`${name}.bin: ${binary.length} bytes`);
  }
}
