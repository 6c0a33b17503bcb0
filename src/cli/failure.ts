import {
  BackendError,
  CapabilityError,
  DeviceError,
  GuestError,
  MemoryError,
  SyscallError,
  VmmError,
} from "../errors.ts";
import { STATUS } from "../exit-status.ts";
import { UsageError } from "./usage-error.ts";

/** The documented status for an error that reached the top. */
export function statusOfError(error: unknown): number {
  if (error instanceof UsageError) return STATUS.usage;
  if (error instanceof GuestError || error instanceof MemoryError) return STATUS.guest;
  if (error instanceof BackendError || error instanceof CapabilityError) return STATUS.noBackend;
  // KVM_RUN and what belongs to it fail with a guest under way; every other call while the machine is built.
  if (error instanceof SyscallError) return error.call.includes("KVM_RUN") ? STATUS.engine : STATUS.noBackend;
  return STATUS.engine;
}

/** What to print of it. A reader needs the stack only for what is our own mistake. */
export function describeError(error: unknown): string {
  if (error instanceof DeviceError) return `vmexit: ${error.message}`;
  if (error instanceof VmmError) return `vmexit: ${error.message}`;
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `vmexit: internal error, please report it: ${stack}`;
}

/** The same as one JSON object. */
export function errorObject(error: unknown): Record<string, unknown> {
  const known = error instanceof VmmError ? { remedy: error.remedy } : {};
  const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
  return { status: statusOfError(error), error: { name, message, ...known } };
}
