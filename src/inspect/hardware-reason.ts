/** The processor's virtualization, which decides how a hardware entry failure reads. */
export type HardwareEngine = "vmx" | "svm";

/**
 * Basic exit reasons that go with bit 31, "VM-entry failure".
 * @see Intel SDM Vol. 3D, "VMX Basic Exit Reasons"
 */
const ENTRY_FAILURES: Readonly<Record<number, string>> = {
  33: "invalid guest state: a check on the guest-state area failed",
  34: "MSR loading: an entry of the VM-entry MSR-load area was refused",
  41: "machine check during VM entry",
};

/**
 * VM-instruction errors: VMLAUNCH or VMRESUME failed before looking at the guest.
 * @see Intel SDM Vol. 3C, "VM Instruction Error Numbers"
 */
const VMX_INSTRUCTION_ERRORS: Readonly<Record<number, string>> = {
  1: "VMCALL executed in VMX root operation",
  2: "VMCLEAR with invalid physical address",
  3: "VMCLEAR with VMXON pointer",
  4: "VMLAUNCH with non-clear VMCS",
  5: "VMRESUME with non-launched VMCS",
  6: "VMRESUME after VMXOFF",
  7: "VM entry with invalid control fields",
  8: "VM entry with invalid host-state fields",
  9: "VMPTRLD with invalid physical address",
  10: "VMPTRLD with VMXON pointer",
  11: "VMPTRLD with incorrect VMCS revision identifier",
  12: "VMREAD or VMWRITE with unsupported VMCS component",
  13: "VMWRITE to read-only VMCS component",
  15: "VMXON executed in VMX root operation",
  16: "VM entry with invalid executive-VMCS pointer",
  17: "VM entry with non-launched executive VMCS",
  18: "VM entry with executive-VMCS pointer not VMXON pointer",
  19: "VMCALL with non-clear VMCS",
  20: "VMCALL with invalid VM-exit control fields",
  22: "VMCALL with incorrect MSEG revision identifier",
  23: "VMXOFF under dual-monitor treatment of SMIs and SMM",
  24: "VMCALL with invalid SMM-monitor features",
  25: "VM entry with invalid VM-execution control fields in executive VMCS",
  26: "VM entry with events blocked by MOV SS",
  28: "invalid operand to INVEPT or INVVPID",
};

const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;
const ALL_ONES_32 = 0xffff_ffffn;
const ENTRY_FAILURE_BIT = 0x8000_0000n;

function explainVmx(reason: bigint): string {
  if (reason & ENTRY_FAILURE_BIT) {
    const basic = Number(reason & 0xffffn);
    return `VM-entry failure, basic exit reason ${basic}: ${ENTRY_FAILURES[basic] ?? "not one that entry failures use"}`;
  }
  const known = VMX_INSTRUCTION_ERRORS[Number(reason)];
  return known
    ? `VM-instruction error ${reason}: ${known}`
    : `VMX code 0x${reason.toString(16)}, which no manual names`;
}

/**
 * What a hardware entry failure code means. The two vendors' codes do not overlap, so the engine matters only for codes
 * that neither defines.
 *
 * @param engine What the host's processor has; undefined when not known.
 * @param reason `hardware_entry_failure_reason` of KVM_EXIT_FAIL_ENTRY.
 * @returns One line: the code in the manual's words.
 * @see Intel SDM Vol. 3C, "VM-Entry Failures During or After Loading Guest State"; AMD APM Vol. 2, "SVM Intercept Codes"
 */
export function explainHardwareReason(engine: HardwareEngine | undefined, reason: bigint): string {
  const invalid = reason === ALL_ONES_64 || (reason === ALL_ONES_32 && engine !== "vmx");
  if (invalid) {
    return "VMEXIT_INVALID (-1): VMRUN found the guest state illegal (AMD APM Vol. 2, Canonicalization and Consistency Checks)";
  }
  if (reason === 0n) return "the engine gave no reason";
  if (engine === "svm") return `SVM exit code 0x${reason.toString(16)}, which is not one that entry failures use`;
  return explainVmx(reason);
}
