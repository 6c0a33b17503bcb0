import { runAsmCommand } from "../asm/command.ts";
import { GuestError } from "../errors.ts";
import { STATUS } from "../exit-status.ts";
import { Output } from "./output.ts";

/** What each result of the assembler means for the process: 1 is what make expects of wrong source. */
const STATUSES = { 0: STATUS.ok, 1: 1, 2: STATUS.usage } as const;

/** `vmexit asm`: prints and writes what the assembler made. @returns the exit status. */
export async function asm(args: readonly string[]): Promise<number> {
  const { exitCode, stdout, stderr, files } = runAsmCommand(args);
  await print(new Output(1), stdout);
  await print(new Output(2), stderr);
  for (const { path, bytes } of files) await writeFile(path, bytes);
  return STATUSES[exitCode];
}

async function print(output: Output, text: string): Promise<void> {
  output.text(text);
  await output.end();
}

async function writeFile(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await Bun.write(path, bytes, { createPath: false });
  } catch (error) {
    const { code } = error as { code?: string };
    throw new GuestError(path, `Cannot write "${path}" as the system returned ${code}`, {
      remedy: "choose another place with -o",
      cause: error,
    });
  }
}
