import type { Exit } from "../../exit.ts";

/** What is under way in a vCPU whose last exit was answered: an instruction between two MMIO accesses, exits not yet returned. */
export interface InFlight {
  /** The instruction at RIP is to be executed again. */
  readonly restart: boolean;
  /** What that instruction has exchanged with MMIO so far, with the answers. */
  readonly transfers: readonly MmioTransfer[];
  /** Exits that wait to be returned, oldest first. */
  readonly exits: readonly Exit[];
}

/** One MMIO access of the instruction that is being executed again after the caller answered. */
export interface MmioTransfer {
  readonly gpa: number;
  readonly bytes: number;
  readonly write: boolean;
  /** The exit that was made of it: of a read it holds the answer. */
  readonly exit: { readonly data: Uint8Array };
}

/** As JSON, with bigints and bytes marked. */
export function encodeInFlight(state: InFlight): string {
  return JSON.stringify(state, (_, value: unknown) => {
    if (typeof value === "bigint") return { $bigint: value.toString() };
    return value instanceof Uint8Array ? { $bytes: value.toHex() } : value;
  });
}

export function decodeInFlight(text: string): InFlight {
  return JSON.parse(text, (_, value: unknown) => {
    if (typeof value !== "object" || value === null) return value;
    if ("$bigint" in value) return BigInt(value.$bigint as string);
    return "$bytes" in value ? Uint8Array.fromHex(value.$bytes as string) : value;
  }) as InFlight;
}
