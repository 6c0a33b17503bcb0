import { describe, expect, test } from "bun:test";
import { failed, ioctl, ioctlPtr } from "../../../../src/backends/kvm/call.ts";
import { SyscallError } from "../../../../src/errors.ts";
import { setErrno } from "./libc-tap.ts";

const EBADF = 9;
const ENOMEM = 12;
const EDOM = 33;
const onLinux = process.platform === "linux";

describe.skipIf(!onLinux)(`failed()${onLinux ? "" : " (skipped: no Linux)"}`, () => {
  test("reads errno, and prefers the call's own remedy, then the general one, then the call's other", () => {
    setErrno(ENOMEM);
    expect(failed("ioctl(KVM_RUN)", { ENOMEM: "own" })).toMatchObject({ errno: 12, code: "ENOMEM", remedy: "own" });
    setErrno(ENOMEM);
    expect(failed("ioctl(KVM_RUN)", { other: "other" }).remedy).toContain("free memory");
    setErrno(EDOM);
    expect(failed("ioctl(KVM_RUN)", { other: "other" }).remedy).toBe("other");
    setErrno(EDOM);
    expect(failed("ioctl(KVM_RUN)").remedy).toContain("api.rst");
  });

  test("takes a number that was read before", () => {
    setErrno(ENOMEM);
    expect(failed("ioctl(KVM_RUN)", {}, EBADF)).toMatchObject({ errno: 9, code: "EBADF" });
  });

  test("ioctl() and ioctlPtr() name the request they were given", () => {
    expect(() => ioctl(-1, 0xae00, 0, "KVM_GET_API_VERSION")).toThrow(SyscallError);
    expect(() => ioctl(-1, 0xae00, 0, "KVM_GET_API_VERSION")).toThrow(
      "ioctl(KVM_GET_API_VERSION) as the kernel returned EBADF (9)",
    );
    expect(() => ioctlPtr(-1, 0xae00, new Uint8Array(8), "KVM_X", { EBADF: "closed" })).toThrow(
      /ioctl\(KVM_X\).*closed/,
    );
  });
});
