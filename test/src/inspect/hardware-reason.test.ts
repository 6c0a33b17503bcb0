import { expect, test } from "bun:test";
import { explainHardwareReason } from "../../../src/inspect/hardware-reason.ts";

test("explainHardwareReason() names the entry failures of VMX", () => {
  expect(explainHardwareReason("vmx", 0x80000021n)).toBe(
    "VM-entry failure, basic exit reason 33: invalid guest state: a check on the guest-state area failed",
  );
  expect(explainHardwareReason(undefined, 0x80000022n)).toContain("MSR loading");
  expect(explainHardwareReason("vmx", 0x80000029n)).toContain("machine check");
  expect(explainHardwareReason("vmx", 0x80000030n)).toContain("basic exit reason 48");
});

test("explainHardwareReason() names VM-instruction errors", () => {
  expect(explainHardwareReason("vmx", 7n)).toBe("VM-instruction error 7: VM entry with invalid control fields");
  expect(explainHardwareReason("vmx", 99n)).toContain("no manual names");
});

test("explainHardwareReason() knows SVM's -1 in 64 and 32 bits", () => {
  expect(explainHardwareReason("svm", 0xffff_ffff_ffff_ffffn)).toContain("VMEXIT_INVALID");
  expect(explainHardwareReason(undefined, 0xffff_ffffn)).toContain("VMEXIT_INVALID");
  expect(explainHardwareReason("svm", 0x400n)).toContain("0x400");
  expect(explainHardwareReason(undefined, 0n)).toBe("the engine gave no reason");
});
