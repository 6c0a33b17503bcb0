import type { ExitOf } from "./exit.ts";

/** Why a whole VM stopped running. */
export type Outcome =
  /** Every vCPU executed HLT and nothing can wake it. */
  | { kind: "halted" }
  /** The guest asked for power-off. */
  | { kind: "poweredOff" }
  /** The guest asked for a reset. */
  | { kind: "reset" }
  /** The guest wrote to the debug-exit device; `status` is `(value << 1) | 1` as QEMU's. */
  | { kind: "debugExit"; status: number }
  /** A triple fault, or an engine's own shutdown condition. */
  | { kind: "tripleFault" }
  /** The engine could not run the guest, or told that it crashed. */
  | { kind: "failed"; exit: ExitOf<"failEntry" | "internalError" | "unknown" | "memoryFault" | "systemEvent"> }
  | { kind: "timeout" }
  | { kind: "maxExits" }
  | { kind: "maxInstructions" }
  /** The caller's AbortSignal, or `vm.stop()` without a reason of the guest's. */
  | { kind: "aborted" };
