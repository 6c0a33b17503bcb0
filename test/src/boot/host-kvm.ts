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

const hardware = existsSync("/sys/module/kvm_intel") || existsSync("/sys/module/kvm_amd");

/** As `noKvm`, for what a KVM without VMX and SVM (kvm_pvm) cannot: task switches, gates, 32-bit and PAE paging. */
export const noHardware = noKvm || (hardware ? "" : " [skipped: this KVM is software, without VMX or SVM]");

export function withKvm<T>(use: (kvm: KvmBackend) => T): T {
  using kvm = openKvm();
  return use(kvm);
}
