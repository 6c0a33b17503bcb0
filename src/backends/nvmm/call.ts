import type { NvmmLibrary } from "../../../ffi/nvmm/library.ts";
import type { NvmmSystemLayout } from "../../../ffi/nvmm/systems.ts";
import { SyscallError } from "../../errors.ts";

/** What to do about an errno of one call, by name; `other` for the rest. */
export type Remedies = Readonly<Record<string, string>>;

const GENERAL: Remedies = {
  EBADF: "open the backend before anything else",
  EFAULT: "report this: an address given to libnvmm was not mapped",
  ENOENT: "the machine or vCPU is gone: create a new one",
  ENOMEM: "free memory on the host, or give the guest less",
  EPERM: "the machine belongs to another user: run as its owner",
};

/** Error numbers of a system by number. */
export function errnoNameOf(layout: NvmmSystemLayout, number: number): string {
  return Object.entries(layout.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
}

/** The error of the library call that just failed. Reads errno: call it before anything else. */
export function failed(
  host: { library: NvmmLibrary; layout: NvmmSystemLayout },
  call: string,
  remedies: Remedies = {},
): SyscallError {
  const errno = host.library.errno();
  const code = errnoNameOf(host.layout, errno);
  const remedy = remedies[code] ?? GENERAL[code] ?? remedies.other ?? "see libnvmm(3) for this errno";
  return new SyscallError(call, { errno, code }, { remedy, by: "libnvmm" });
}
