import type { Vector } from "../state.ts";

/** Why generated code leaves at an instruction. */
export type SiteReason =
  | "helper"
  | "budget"
  | "unknown"
  | { readonly vector: Vector; readonly errorCode: number | undefined };

/** One place where a region can leave, with what the run loop needs to make the state exact. */
export interface Site {
  readonly rip: bigint;
  /** Flag kind known while translating, or −1 when the state already has it. */
  readonly flagKind: number;
  /** Instructions of the block that were not executed, to be given back to the budget. */
  readonly unexecuted: number;
  readonly reason: SiteReason;
}

/** Values of `State.site` that are no site. */
export const SITE_JUMP = -1;
export const SITE_SYSTEM = -2;
