import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { Complaint } from "../diagnostics.ts";
import type { Place } from "../source.ts";

/** Finds and reads the files that a source names. */
export class SourceFiles {
  readonly #includePaths: readonly string[];
  readonly #maxBytes: number;
  readonly #cache = new Map<string, Uint8Array>();

  constructor(includePaths: readonly string[], maxBytes: number) {
    this.#includePaths = includePaths;
    this.#maxBytes = maxBytes;
  }

  /** The path under which a file named in `from` is found: beside that file, then on the include paths, then as given. */
  resolve(name: string, from: string): string | undefined {
    if (name.includes("\0")) return undefined;
    const tried = isAbsolute(name)
      ? [name]
      : [join(dirname(from), name), ...this.#includePaths.map((path) => join(path, name)), name];
    return tried.find((path) => existsSync(path));
  }

  /**
   * Reads a file.
   *
   * @throws {Complaint} when there is none, or it cannot be read.
   */
  read(name: string, from: string, place: Place): { path: string; bytes: Uint8Array } {
    const path = this.resolve(name, from);
    if (path === undefined) {
      throw new Complaint(
        `File "${name}" is not found`,
        place,
        "paths count from the file that names them, then from the include paths",
      );
    }
    const cached = this.#cache.get(path);
    if (cached) return { path, bytes: cached };
    try {
      const { size } = statSync(path);
      if (size > this.#maxBytes)
        throw new Complaint(`File "${name}" has ${size} bytes, more than the ${this.#maxBytes} allowed`, place);
      const bytes = new Uint8Array(readFileSync(path));
      this.#cache.set(path, bytes);
      return { path, bytes };
    } catch (error) {
      if (error instanceof Complaint) throw error;
      throw new Complaint(`File "${name}" cannot be read`, place, error instanceof Error ? error.message : "");
    }
  }
}
