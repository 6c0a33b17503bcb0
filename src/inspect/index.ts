/** What people look through: page walks, state checks, disassembly, traces, statistics, crash screens. */
export { type CrashReport, crashScreen } from "./crash.ts";
export { type CrashReason, type CrashScene, explainOutcome } from "./crash-reason.ts";
export { type DisassembledInstruction, type DisassembleOptions, disassemble } from "./disassemble.ts";
export { ExitRing, type RecordedExit } from "./exit-ring.ts";
export { formatExit } from "./format.ts";
export { type GuestState, guestStateOf } from "./guest-state.ts";
export { explainHardwareReason, type HardwareEngine } from "./hardware-reason.ts";
export type { StateAuthority, StateViolation } from "./state-violation.ts";
export { type ExitCount, ExitStats, formatStats } from "./stats.ts";
export { type TraceOptions, Tracer } from "./trace.ts";
export { type ValidateOptions, validateState } from "./validate.ts";
export {
  describeStop,
  formatWalk,
  type PagingState,
  pagingFormat,
  pagingStateOf,
  type Walk,
  type WalkAccess,
  type WalkStep,
  type WalkStop,
  walkPages,
} from "./walk.ts";
