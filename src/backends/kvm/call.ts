import { errno, errnoName, libc, type PointerArgument } from "../../../ffi/libc.ts";
import { SyscallError } from "../../errors.ts";

/** What to do about an errno of one call, by name; `other` for the rest. */
export type Remedies = Readonly<Record<string, string>>;

const GENERAL: Remedies = {
  EBADF: "this object was disposed, or its fd closed by something else",
  EIO: "the VM belongs to another process: create VM and vCPUs in the process that runs them",
  EMFILE: "raise the limit of open files (ulimit -n) or dispose VMs that are done",
  ENFILE: "the whole host is out of files: dispose VMs that are done",
  ENOMEM: "free memory on the host, or give the guest less",
  ENOSPC: "the host's KVM has no room for more: dispose VMs that are done",
  ENOTTY: "this kernel's KVM has no such call: use a newer kernel, or do without",
};

/** The error of the call that just failed. Reads errno unless given it: call it before anything else. */
export function failed(call: string, remedies: Remedies = {}, number: number = errno()): SyscallError {
  const code = errnoName(number);
  const remedy =
    remedies[code] ?? GENERAL[code] ?? remedies.other ?? "see the call's section in KVM's api.rst for this errno";
  return new SyscallError(call, { errno: number, code }, { remedy });
}

/** One ioctl whose argument is a number. @throws {SyscallError} when it fails. */
export function ioctl(fd: number, request: number, argument: number, name: string, remedies?: Remedies): number {
  const result = libc().ioctl(fd, request, argument);
  if (result < 0) throw failed(`ioctl(${name})`, remedies);
  return result;
}

/** One ioctl whose argument is memory. @throws {SyscallError} when it fails. */
export function ioctlPtr(
  fd: number,
  request: number,
  argument: PointerArgument,
  name: string,
  remedies?: Remedies,
): number {
  const result = libc().ioctlPtr(fd, request, argument);
  if (result < 0) throw failed(`ioctl(${name})`, remedies);
  return result;
}
