import { describe, expect, test } from "bun:test";
import * as errors from "../../src/errors.ts";

const detail = { remedy: "do something else", cause: new Error("below") };
const ALL = [
  new errors.VmmError("Cannot go on", detail),
  new errors.SyscallError("open(/dev/kvm)", { errno: 13, code: "EACCES" }, detail),
  new errors.BackendError("kvm", "Cannot use KVM", detail),
  new errors.CapabilityError("kvm", "KVM_CAP_X86_MSR_FILTER", detail),
  new errors.BusError("pio", "uart", "Cannot map", detail),
  new errors.MemoryError("Cannot access", { gpa: 0x1000, bytes: 4 }, detail),
  new errors.GuestError("a.elf", "Cannot load a.elf", detail),
  new errors.GuestStateError([{ what: "CR0.PG without CR0.PE", rule: "SDM" }], detail),
];

describe("errors of vmexit", () => {
  for (const error of ALL) {
    test(`${error.name} is a VmmError of its own name, ends in its remedy and keeps its cause`, () => {
      expect(error).toBeInstanceOf(errors.VmmError);
      expect(error.name).toBe(error.constructor.name);
      expect(error.message.endsWith(": do something else")).toBe(true);
      expect([error.remedy, error.cause]).toEqual([detail.remedy, detail.cause]);
    });
  }

  test("every class exported is tried here, those with a fixed remedy below", () => {
    const classes = Object.values(errors).filter((value) => value.prototype instanceof Error);
    const tried = new Set<unknown>([
      ...ALL.map((error) => error.constructor),
      errors.DisposedError,
      errors.DeviceError,
    ]);
    expect(classes.filter((one) => !tried.has(one))).toEqual([]);
  });

  test("SyscallError carries call, number and name, and says who refused", () => {
    const error = new errors.SyscallError(
      "nvmm_vcpu_run",
      { errno: 22, code: "EINVAL" },
      { remedy: "r", by: "libnvmm" },
    );
    expect(error).toMatchObject({ call: "nvmm_vcpu_run", errno: 22, code: "EINVAL" });
    expect(error.message).toBe("Cannot complete nvmm_vcpu_run as libnvmm returned EINVAL (22): r");
    expect(ALL[1]?.message).toStartWith("Cannot complete open(/dev/kvm) as the kernel returned EACCES (13)");
  });

  test("DeviceError names device and access, and keeps what was thrown, even when it is no Error", () => {
    const cause = new Error("stuck");
    const error = new errors.DeviceError("uart", "a read of port 0x3f8", cause);
    expect([error.message, error.cause, error.device]).toEqual([
      'Device "uart" threw on a read of port 0x3f8: stuck: the exit stays pending: answer it yourself or run again to read all ones',
      cause,
      "uart",
    ]);
    expect(new errors.DeviceError("uart", "a write to port 1", "text").message).toContain(": text: ");
  });

  test("DisposedError names what was used", () => {
    const error = new errors.DisposedError("vCPU");
    expect([error.what, error.message]).toEqual([
      "vCPU",
      expect.stringContaining("Cannot use the vCPU after it was disposed"),
    ]);
  });

  test("GuestStateError lists every violation with its rule", () => {
    const violations = [
      { what: "a", rule: "b" },
      { what: "c", rule: "d" },
    ];
    const error = new errors.GuestStateError(violations, { remedy: "r" });
    expect([error.message, error.violations]).toEqual(["Cannot enter the guest: a (b); c (d): r", violations]);
  });

  test("an error without a cause has none", () => {
    expect("cause" in new errors.VmmError("x", { remedy: "y" })).toBe(false);
  });

  test("unreachable() names the value that should not be", () => {
    expect(() => errors.unreachable({ kind: "odd" } as never)).toThrow('Unexpected value: {"kind":"odd"}');
  });
});
