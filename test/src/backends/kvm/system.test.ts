import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { checkApiVersion, KvmSystem } from "../../../../src/backends/kvm/system.ts";
import { BackendError, DisposedError } from "../../../../src/errors.ts";
import { noKvm } from "./guest.ts";
import { LibcTap } from "./libc-tap.ts";

test("checkApiVersion() takes 12 and refuses every other number, naming device and both versions", () => {
  checkApiVersion(12, "/dev/kvm");
  for (const version of [0, 11, 13, 100]) {
    expect(() => checkApiVersion(version, "/dev/other")).toThrow(BackendError);
    expect(() => checkApiVersion(version, "/dev/other")).toThrow(
      `/dev/other as it reports API version ${version}, not 12`,
    );
  }
});

test("KvmSystem says of a device that is no KVM that it is none, and closes it", () => {
  const before = readdirSync("/proc/self/fd").length;
  expect(() => new KvmSystem("/dev/null")).toThrow(
    expect.objectContaining({
      name: "SyscallError",
      call: "ioctl(KVM_GET_API_VERSION)",
      code: "ENOTTY",
      remedy: "/dev/null is not KVM's device: its own is /dev/kvm",
    }),
  );
  expect(readdirSync("/proc/self/fd").length).toBe(before);
});

describe.skipIf(noKvm !== "")(`KvmSystem${noKvm}`, () => {
  test("asks for each capability once, and for the raw list only when somebody looks", () => {
    using tap = new LibcTap();
    using system = new KvmSystem();
    expect(tap.calls).toEqual(["open", "KVM_GET_API_VERSION", "KVM_GET_VCPU_MMAP_SIZE"]);
    const { capabilities } = system;
    const asked = tap.count("KVM_CHECK_EXTENSION");
    expect(asked).toBeLessThan(15);
    expect(system.capabilities).toBe(capabilities);
    expect(tap.count("KVM_CHECK_EXTENSION")).toBe(asked);
    expect(Object.keys(capabilities.raw).length).toBeGreaterThan(100);
    expect(capabilities.raw.KVM_CAP_USER_MEMORY).toBe(1);
    expect(capabilities.raw).toBe(capabilities.raw);
  });

  test("runBytes reaches beyond kvm_run to the page of PIO data", () => {
    using system = new KvmSystem();
    expect(system.runBytes).toBeGreaterThanOrEqual(2 * 4096);
    expect(system.runBytes % 4096).toBe(0);
  });

  test("every call after dispose is refused as DisposedError, and the fd is closed once", () => {
    const system = new KvmSystem();
    const open = readdirSync("/proc/self/fd").length;
    using tap = new LibcTap();
    system[Symbol.dispose]();
    system[Symbol.dispose]();
    expect(tap.calls).toEqual(["close"]);
    expect(readdirSync("/proc/self/fd").length).toBe(open - 1);
    expect(() => system.check(0)).toThrow(DisposedError);
    expect(() => system.createVm()).toThrow(DisposedError);
    expect(() => system.capabilities).toThrow(DisposedError);
  });
});
