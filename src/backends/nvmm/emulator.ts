import type { MemoryResult } from "./assist.ts";
import type { NvmmState } from "./state.ts";

export interface EmulatedInstruction {
  readonly state: NvmmState;
  /** Bytes from RIP on. */
  readonly code: Uint8Array;
  /** Answers to its first loads. */
  readonly answers: readonly Uint8Array[];
  /** Guest memory from a linear address to the end of its page; undefined where nothing backs it. */
  hostMemory(gva: bigint): Uint8Array | undefined;
  translate(gva: bigint): number | undefined;
}

export function emulate(_instruction: EmulatedInstruction): MemoryResult {
  return { done: undefined, errno: 19 };
}
