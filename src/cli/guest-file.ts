import { GuestError } from "../errors.ts";

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "check the path",
  ENOTDIR: "check the path: a part of it is a file",
  EACCES: "make the file readable (chmod +r) or run as a user who may read it",
  EPERM: "make the file readable (chmod +r) or run as a user who may read it",
  EISDIR: "give the file itself, not its directory",
  ELOOP: "check the path: its symbolic links lead in a circle",
  ENAMETOOLONG: "check the path",
};

const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "you may not read it",
  EPERM: "you may not read it",
  EISDIR: "it is a directory",
};

/**
 * Reads a guest, and never more than what fits into its memory.
 *
 * @throws {GuestError} for a file that is missing, unreadable, empty, a directory, or too large.
 */
export async function readGuestFile(path: string, memoryBytes: number): Promise<Uint8Array> {
  const bytes = await read(path, memoryBytes);
  if (bytes.length === 0) {
    throw new GuestError(path, `Cannot boot "${path}" as it is empty`, { remedy: "give a file with code in it" });
  }
  if (bytes.length > memoryBytes) {
    const { size } = Bun.file(path);
    const length = Number.isFinite(size) ? `its size of ${size}` : "what it gives";
    throw new GuestError(
      path,
      `Cannot boot "${path}" as ${length} exceeds the guest's ${memoryBytes} bytes of memory`,
      {
        remedy: "give the guest more with --memory",
      },
    );
  }
  return bytes;
}

async function read(path: string, memoryBytes: number): Promise<Uint8Array> {
  try {
    return await Bun.file(path)
      .slice(0, memoryBytes + 1)
      .bytes();
  } catch (error) {
    const code = String((error as { code?: string }).code);
    throw new GuestError(path, `Cannot read "${path}" as ${PROBLEMS[code] ?? `the system returned ${code}`}`, {
      remedy: REMEDIES[code] ?? "check the path and the file system",
      cause: error,
    });
  }
}
