import { assemble } from "../asm/assemble.ts";
import { AsmError, formatDiagnostic } from "../asm/diagnostics.ts";
import type { Program } from "../asm/program.ts";
import type { GuestSymbol } from "../boot/guest-plan.ts";
import { DEFAULT_ENTRY, MODE_BITS } from "../boot/mode.ts";
import { GuestError } from "../errors.ts";
import type { BootPlan } from "./boot-plan.ts";
import { UsageError } from "./usage-error.ts";

/** What a source file gave, in place of a guest file's bytes. */
export interface AssembledSource {
  readonly bytes: Uint8Array;
  /** Where a flat binary goes; undefined for a format that says so itself. */
  readonly loadAddress: number | undefined;
  readonly symbols: readonly GuestSymbol[];
  /** `hello.asm:14`, for an address. */
  readonly sourceLine: (address: bigint) => string | undefined;
}

/**
 * Assembles a guest: `vmexit boot hello.asm`. The source begins in the width of the mode, and goes where its ORG says,
 * else to the load address.
 *
 * @throws {GuestError} with every mistake in the source.
 * @throws {UsageError} when ORG and --load-address disagree.
 */
export function assembleGuest(source: Uint8Array, plan: BootPlan): AssembledSource {
  const program = assembled(new TextDecoder().decode(source), plan);
  const { origin, bytes } = program;
  if (plan.loadAddress !== undefined && plan.loadAddress !== origin) {
    throw new UsageError(
      `Cannot load "${plan.guest}" at ${hex(plan.loadAddress)} as its org says ${hex(origin)}`,
      "leave --load-address out, or change the org",
      "--load-address",
    );
  }
  // Left to the loader, which knows a boot sector when it sees one.
  const isBootSector = bytes.length === 512 && bytes[510] === 0x55 && bytes[511] === 0xaa;
  const isFlat = plan.format === undefined ? !isBootSector : plan.format === "flat";
  return {
    bytes,
    loadAddress: isFlat ? origin : undefined,
    symbols: labelsOf(program),
    sourceLine: (address) => {
      const range = program.sourceMap.at(address);
      return range && `${range.file.slice(range.file.lastIndexOf("/") + 1)}:${range.line}`;
    },
  };
}

const hex = (address: number) => `0x${address.toString(16)}`;

function assembled(source: string, { guest: file, mode = "real16", loadAddress = DEFAULT_ENTRY }: BootPlan): Program {
  try {
    return assemble(source, { file, bits: MODE_BITS[mode], origin: loadAddress });
  } catch (error) {
    if (!(error instanceof AsmError)) throw error;
    const mistakes = error.diagnostics.map(formatDiagnostic).join("\n");
    throw new GuestError(file, `Cannot assemble "${file}"`, { remedy: `correct this\n${mistakes}`, cause: error });
  }
}

/** The symbols that lie in the program: an EQU may have any value. */
function labelsOf({ symbols, origin, memoryBytes }: Program): GuestSymbol[] {
  return [...symbols]
    .filter(([, address]) => address >= BigInt(origin) && address < BigInt(origin + memoryBytes))
    .map(([name, address]): GuestSymbol => ({ name, address, bytes: 0, kind: "label" }))
    .sort((a, b) => Number(a.address - b.address));
}
