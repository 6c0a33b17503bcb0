import { existsSync } from "node:fs";
import { type KvmBackend, openKvm } from "../../../src/backends/kvm/backend.ts";
import { VmmError } from "../../../src/errors.ts";

/** Opens the host's KVM once to learn whether, and why not. */
function probe(): string {
  if (process.platform !== "linux") return ` [skipped: no KVM on ${process.platform}]`;
  try {
    openKvm()[Symbol.dispose]();
    return "";
  } catch (error) {
    if (error instanceof VmmError) return ` [skipped: ${error.message}]`;
    throw error;
  }
}

/** The tail of a test's name that says why KVM cannot run it; empty when it can. */
export const noKvm = probe();

/** Whether KVM stands on VMX or SVM. Software KVMs (kvm_pvm) shut down a guest that turns on 32-bit or PAE paging. */
const hardware = existsSync("/sys/module/kvm_intel") || existsSync("/sys/module/kvm_amd");
export const noLegacyPaging =
  noKvm || (hardware ? "" : " [skipped: this KVM is software and has no 32-bit or PAE paging]");

export function withKvm<T>(use: (kvm: KvmBackend) => T): T {
  using kvm = openKvm();
  return use(kvm);
}
