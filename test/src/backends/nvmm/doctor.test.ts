import { expect, test } from "bun:test";
import { inspectNvmm, type NvmmHostView } from "../../../../src/backends/nvmm/doctor.ts";
import { peerLibrary } from "../../../peers/libnvmm/build.ts";
import { missing, openRig, skipped } from "./peers.ts";

const DEVICE = { exists: true, isDevice: true, isReadable: true, group: "nvmm", mode: 0o660 };
const NETBSD: NvmmHostView = { platform: "netbsd", device: DEVICE, module: true, library: undefined };

function results(view: NvmmHostView): Record<string, string> {
  return Object.fromEntries(inspectNvmm(view).checks.map(({ name, result }) => [name, result]));
}

test("inspectNvmm() on a system without NVMM skips, and says so", () => {
  const { checks, capability } = inspectNvmm({ ...NETBSD, platform: "linux", module: undefined });
  expect(checks.map(({ result }) => result)).toEqual(["skip", "skip", "skip"]);
  expect(checks[0]?.found).toContain("not of linux");
  expect(capability).toBeUndefined();
});

test("inspectNvmm() names module and device that fail, each with its remedy", () => {
  expect(results({ ...NETBSD, module: false })).toMatchObject({ "nvmm module": "fail", "/dev/nvmm": "ok" });
  const closed = inspectNvmm({ ...NETBSD, device: { ...DEVICE, isReadable: false } }).checks;
  expect(closed.find(({ name }) => name === "/dev/nvmm")).toEqual({
    name: "/dev/nvmm",
    result: "fail",
    found: "closed to this user (group nvmm, mode 0660)",
    remedy: 'add your user to the group "nvmm" and log in again',
  });
  expect(results({ ...NETBSD, device: { ...DEVICE, exists: false } })["/dev/nvmm"]).toBe("fail");
  expect(results({ ...NETBSD, device: { ...DEVICE, isDevice: false } })["/dev/nvmm"]).toBe("fail");
  const loads = (platform: string) =>
    inspectNvmm({ ...NETBSD, platform, module: false }).checks.find(({ name }) => name === "nvmm module")?.remedy;
  expect([loads("netbsd"), loads("dragonfly")]).toEqual([
    expect.stringContaining("modload nvmm"),
    expect.stringContaining("kldload nvmm"),
  ]);
});

test("inspectNvmm() reports a libnvmm that cannot be opened as a failed check", () => {
  const before = process.env.VMEXIT_LIBNVMM;
  process.env.VMEXIT_LIBNVMM = "/nonexistent/libnvmm.so";
  try {
    const { checks } = inspectNvmm({ ...NETBSD, library: ["/nonexistent/libnvmm.so"] });
    expect(checks.at(-1)).toMatchObject({ name: "libnvmm", result: "fail", remedy: expect.any(String) });
  } finally {
    if (before === undefined) delete process.env.VMEXIT_LIBNVMM;
    else process.env.VMEXIT_LIBNVMM = before;
  }
});

test.skipIf(missing !== undefined)(`inspectNvmm() tells version, limits and machines${skipped}`, () => {
  const before = process.env.VMEXIT_LIBNVMM;
  process.env.VMEXIT_LIBNVMM = peerLibrary("netbsd", "doctor");
  try {
    const { backend } = openRig("netbsd", "doctor");
    using _ = backend.createVm();
    const { checks, capability, machines } = inspectNvmm();
    expect(checks.find(({ name }) => name === "NVMM version")?.found).toBe(
      "NetBSD, kernel version 2, state of 1008 bytes",
    );
    expect(checks.find(({ name }) => name === "NVMM limits")?.found).toContain("128 machines, 256 vCPUs each, 128 GiB");
    expect(capability).toMatchObject({ version: 2, state_size: 1008, conf_cpuid_maxops: 32 });
    expect(machines).toEqual([expect.objectContaining({ id: 0, vcpus: 0, pid: process.pid })]);
  } finally {
    if (before === undefined) delete process.env.VMEXIT_LIBNVMM;
    else process.env.VMEXIT_LIBNVMM = before;
  }
});
