import { describe, expect, test } from "bun:test";
import { BackendError } from "../../src/errors.ts";
import { BACKEND_NAMES, type BackendChoice, createVm, Host, openBackend } from "../../src/host.ts";
import { noKvm } from "./backends/kvm/guest.ts";
import { LibcTap } from "./backends/kvm/libc-tap.ts";
import { FakeBackend } from "./fake-backend.ts";

const ENOENT = 2;

describe("openBackend()", () => {
  test("refuses a name that is none, naming those there are", () => {
    for (const name of ["xen", "", "KVM", "toString"]) {
      expect(() => openBackend(name as BackendChoice)).toThrow(RangeError);
      for (const known of BACKEND_NAMES) expect(() => openBackend(name as BackendChoice)).toThrow(known);
    }
  });

  test.skipIf(noKvm !== "")(
    `a backend asked for by name fails with its own error, and is never replaced${noKvm}`,
    () => {
      using _tap = new LibcTap((name) => (name === "open" ? ENOENT : undefined));
      expect(() => openBackend("kvm")).toThrow(expect.objectContaining({ name: "SyscallError", code: "ENOENT" }));
    },
  );

  test.skipIf(noKvm !== "")(
    `auto takes the first that works, and says why the others were passed over${noKvm}`,
    () => {
      using tap = new LibcTap((name) => (name === "open" ? ENOENT : undefined));
      try {
        using host = openBackend("auto");
        expect(host.name).not.toBe("kvm");
        expect(host.refusals[0]).toMatchObject({ backend: "kvm", error: { code: "ENOENT" } });
      } catch (error) {
        expect(error).toBeInstanceOf(BackendError);
        expect(error).toMatchObject({ backend: "auto", cause: { code: "ENOENT" } });
        expect((error as Error).message).toContain("kvm: Cannot complete open(/dev/kvm)");
      }
      tap.inject = undefined;
      using host = openBackend();
      expect([host.name, host.refusals]).toEqual(["kvm", []]);
    },
    20_000,
  );
});

describe("createVm()", () => {
  test.skipIf(noKvm !== "")(`closes the backend it opened when the VM cannot be made${noKvm}`, () => {
    using tap = new LibcTap();
    expect(() => createVm({ backend: "kvm", memoryBytes: 1 })).toThrow(RangeError);
    expect(tap.count("open")).toBe(1);
    // The VM's fd and the backend's.
    expect(tap.count("close")).toBe(tap.count("open") + tap.count("KVM_CREATE_VM"));
  });
});

test("Host hands everything on to its engine, and disposes it", () => {
  const backend = new FakeBackend();
  const host = new Host(backend);
  expect([host.name, host.description, host.capabilities]).toEqual(["soft", "a script of exits", backend.capabilities]);
  expect(host.supportedCpuid()).toEqual(backend.supportedCpuid());
  host.createVm({ memoryBytes: 0 })[Symbol.dispose]();
  host[Symbol.dispose]();
  expect([backend.vms.length, backend.disposals, host.refusals]).toEqual([1, 1, []]);
});
