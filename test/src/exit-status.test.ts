import { expect, test } from "bun:test";
import { describeError, errorObject, statusOfError } from "../../src/cli/failure.ts";
import { UsageError } from "../../src/cli/usage-error.ts";
import { BackendError, CapabilityError, DeviceError, GuestError, SyscallError } from "../../src/errors.ts";
import { statusOf } from "../../src/exit-status.ts";

const remedy = "do it";

test("statusOf() gives 70 when the engine could not run the guest", () => {
  expect(statusOf({ kind: "failed", exit: { kind: "unknown", reason: 99 } })).toBe(70);
});

test("statusOf() hands on what the guest chose", () => {
  expect(statusOf({ kind: "debugExit", status: 85 })).toBe(85);
});

test("statusOfError() tells wrong usage, bad guests, missing backends and engine failures apart", () => {
  const failure = { errno: 13, code: "EACCES" };
  const errors = [
    new UsageError("Cannot", remedy),
    new GuestError("g", "Cannot", { remedy }),
    new BackendError("auto", "Cannot", { remedy }),
    new CapabilityError("kvm", "PIT", { remedy }),
    new SyscallError("open(/dev/kvm)", failure, { remedy }),
    new SyscallError("ioctl(KVM_RUN)", failure, { remedy }),
    new DeviceError("uart", "a read of port 0x3f8", new Error("no")),
    new TypeError("undefined is not a function"),
  ];
  expect(errors.map(statusOfError)).toEqual([64, 66, 69, 69, 69, 70, 70, 70]);
});

test("describeError() shows a stack for nothing but our own mistakes", () => {
  expect(describeError(new UsageError("Cannot read", remedy))).toBe("vmexit: Cannot read: do it");
  expect(describeError(new TypeError("x is undefined"))).toContain("exit-status.test.ts");
});

test("errorObject() holds the status, the class, the message and the remedy", () => {
  expect(errorObject(new GuestError("g", "Cannot read", { remedy }))).toEqual({
    status: 66,
    error: { name: "GuestError", message: "Cannot read: do it", remedy },
  });
});
