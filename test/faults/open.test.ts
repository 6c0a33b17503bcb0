import { describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openKvm } from "../../src/backends/kvm/backend.ts";
import { KvmSystem } from "../../src/backends/kvm/system.ts";
import { BackendError } from "../../src/errors.ts";
import { openBackend } from "../../src/host.ts";
import { noKvm } from "../src/backends/kvm/guest.ts";
import { LibcTap } from "../src/backends/kvm/libc-tap.ts";
import { openFds } from "./resources.ts";

const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  ENXIO: 6,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  ENODEV: 19,
  ENFILE: 23,
  EMFILE: 24,
};
const onLinux = process.platform === "linux";
const notLinux = onLinux ? "" : ` (skipped: no Linux but ${process.platform})`;
const notRoot = notLinux || (process.getuid?.() === 0 ? "" : " (skipped: only root can become another user)");
/** nobody, on Debian and most others. */
const OTHER_UID = 65534;

/** Runs `use` with the path of a file that exists while it does. */
function withFile<T>(use: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-faults-"));
  try {
    const path = join(folder, "device");
    writeFileSync(path, "no device");
    return use(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("a host without a usable /dev/kvm", () => {
  test.skipIf(!onLinux)(`a missing device says how to get one, and leaks nothing${notLinux}`, () => {
    const before = openFds();
    expect(() => new KvmSystem("/dev/kvm-that-is-not-there")).toThrow(
      expect.objectContaining({
        name: "SyscallError",
        call: "open(/dev/kvm-that-is-not-there)",
        errno: 2,
        code: "ENOENT",
        remedy: expect.stringMatching(/modprobe.*--device \/dev\/kvm.*nested virtualization/),
      }),
    );
    expect(openFds()).toBe(before);
  });

  test.skipIf(!onLinux)(`a path with a NUL in it is refused before the kernel sees it${notLinux}`, () => {
    expect(() => new KvmSystem("/dev/kvm\0/etc/passwd")).toThrow(TypeError);
  });

  test.skipIf(!onLinux)(`a file that is no device says that it is not KVM's, and leaks nothing${notLinux}`, () => {
    const before = openFds();
    withFile((path) => {
      expect(() => new KvmSystem(path)).toThrow(
        expect.objectContaining({ code: "ENOTTY", remedy: expect.stringContaining("not KVM's device") }),
      );
    });
    expect(openFds()).toBe(before);
  });

  test.skipIf(!onLinux)(`a folder in its place is refused by open${notLinux}`, () => {
    expect(() => new KvmSystem("/tmp")).toThrow(expect.objectContaining({ call: "open(/tmp)", code: "EISDIR" }));
  });

  test.skipIf(notRoot !== "")(`a device the user may not open names the group to join${notRoot}`, () => {
    const system = JSON.stringify(join(import.meta.dir, "../../src/backends/kvm/system.ts"));
    const child = withFile((path) => {
      chmodSync(path, 0o000);
      chmodSync(join(path, ".."), 0o755);
      // Everything is loaded before root is given up: the project's folder may be root's alone.
      const script = `
        const { KvmSystem } = await import(${system});
        try { new KvmSystem("/dev/null/warm-up") } catch (error) { void error.message }
        process.setuid(${OTHER_UID});
        try { new KvmSystem(${JSON.stringify(path)}) } catch ({ name, code, errno, remedy }) {
          console.log(JSON.stringify({ name, code, errno, remedy }));
        }`;
      return Bun.spawnSync([process.execPath, "-e", script]);
    });
    expect(JSON.parse(child.stdout.toString() || child.stderr.toString())).toEqual({
      name: "SyscallError",
      code: "EACCES",
      errno: 13,
      remedy: expect.stringMatching(/"kvm" group.*usermod -aG kvm/),
    });
  });

  for (const [code, remedy] of [
    ["EACCES", /"kvm" group/],
    ["EPERM", /container/],
    ["ENODEV", /kvm_intel or kvm_amd/],
    ["ENXIO", /kvm_intel or kvm_amd/],
    ["EBUSY", /VirtualBox, VMware/],
    ["EMFILE", /ulimit -n/],
  ] as const) {
    test.skipIf(!onLinux)(`open() returning ${code} says what to do${notLinux}`, () => {
      using _tap = new LibcTap((name) => (name === "open" ? ERRNO[code] : undefined));
      expect(() => openKvm()).toThrow(
        expect.objectContaining({ call: "open(/dev/kvm)", code, remedy: expect.stringMatching(remedy) }),
      );
    });
  }
});

describe.skipIf(noKvm !== "")(`a /dev/kvm that refuses${noKvm}`, () => {
  for (const [code, remedy] of [
    ["EBUSY", /another hypervisor.*VirtualBox, VMware/],
    ["ENOMEM", /free memory/],
    ["ENFILE", /out of files/],
  ] as const) {
    test(`KVM_CREATE_VM returning ${code} says what to do, and the backend makes the next VM`, () => {
      using host = openBackend("kvm");
      const before = openFds();
      {
        using _tap = new LibcTap((name) => (name === "KVM_CREATE_VM" ? ERRNO[code] : undefined));
        expect(() => host.createVm()).toThrow(
          expect.objectContaining({ call: "ioctl(KVM_CREATE_VM)", code, remedy: expect.stringMatching(remedy) }),
        );
      }
      expect(openFds()).toBe(before);
      host.createVm()[Symbol.dispose]();
    });
  }

  test("KVM_CREATE_VM that signals interrupt is tried again, and given up by name when that never ends", () => {
    using host = openBackend("kvm");
    let left = 3;
    using _tap = new LibcTap((name) => (name === "KVM_CREATE_VM" && left-- > 0 ? ERRNO.EINTR : undefined));
    host.createVm()[Symbol.dispose]();
    expect(left).toBe(-1);
    left = Number.POSITIVE_INFINITY;
    expect(() => host.createVm()).toThrow(expect.objectContaining({ call: "ioctl(KVM_CREATE_VM)", code: "EINTR" }));
  });

  test("another API version is refused by name, and the device is closed", () => {
    const before = openFds();
    using tap = new LibcTap();
    tap.answer = (name) => (name === "KVM_GET_API_VERSION" ? 11 : undefined);
    expect(() => openKvm()).toThrow(BackendError);
    expect(() => openKvm()).toThrow("reports API version 11, not 12");
    expect(openFds()).toBe(before);
  });
});
