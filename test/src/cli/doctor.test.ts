import { expect, test } from "bun:test";
import { type HostView, hostChecks } from "../../../src/cli/doctor.ts";
import { skipped, vmexit, whyNoKvm } from "./vmexit-process.ts";

const GOOD: HostView = {
  bunVersion: "1.4.5",
  platform: "linux",
  arch: "x64",
  system: "Linux 6.12",
  cpuinfo: "model name\t: Some CPU\nflags\t\t: fpu vme svm\n",
  isContainer: false,
  user: "ada",
  kvm: { exists: true, isDevice: true, isAccessible: true },
};

function remedies(host: Partial<HostView>): string[] {
  return hostChecks({ ...GOOD, ...host }).flatMap(({ result, remedy = "" }) => (result === "ok" ? [] : [remedy]));
}

const NO_KVM = { exists: false, isDevice: false, isAccessible: false };

test("hostChecks() finds nothing to do on a host that has everything", () => {
  expect(remedies({})).toEqual([]);
});

test("hostChecks() names the command that updates an old Bun", () => {
  expect(remedies({ bunVersion: "1.3.9" })).toEqual(["run: bun upgrade"]);
});

test("hostChecks() names the module that fits the processor when /dev/kvm is missing", () => {
  expect(remedies({ kvm: NO_KVM })[0]).toContain("sudo modprobe kvm_amd");
  expect(remedies({ kvm: NO_KVM, cpuinfo: GOOD.cpuinfo.replace("svm", "vmx") })[0]).toContain(
    "sudo modprobe kvm_intel",
  );
});

test("hostChecks() names the container flag when /dev/kvm is missing in a container", () => {
  expect(remedies({ kvm: NO_KVM, isContainer: true })).toEqual([
    "start the container with --device /dev/kvm (Docker, Podman); the host must have it",
  ]);
});

test("hostChecks() names the group and the udev rule when the user may not open /dev/kvm", () => {
  const [remedy] = remedies({ kvm: { ...GOOD.kvm, isAccessible: false } });
  expect(remedy).toContain("sudo usermod -aG kvm ada");
  expect(remedy).toContain('KERNEL=="kvm", GROUP="kvm", MODE="0660"');
});

test("hostChecks() tells a regular file at /dev/kvm from the device", () => {
  expect(remedies({ kvm: { ...GOOD.kvm, isDevice: false } })[0]).toContain("reload the kvm module");
});

test("hostChecks() sends the owner of a machine to the firmware, and of a VM to its host, for virtualization flags", () => {
  const without = "model name\t: Some CPU\nflags\t\t: fpu vme\n";
  expect(remedies({ cpuinfo: without })[0]).toContain("firmware (BIOS/UEFI)");
  expect(remedies({ cpuinfo: without.replace("vme", "hypervisor") })[0]).toContain("nested virtualization");
});

test("hostChecks() asks for no /dev/kvm where the system is not Linux", () => {
  const names = hostChecks({ ...GOOD, platform: "netbsd", cpuinfo: "", kvm: NO_KVM }).map(({ name }) => name);
  expect(names).toEqual(["Bun", "System", "Processor"]);
});

test.skipIf(whyNoKvm !== undefined)(
  `vmexit doctor runs a trial guest on KVM and gives status 0${skipped}`,
  async () => {
    const { status, stdout } = await vmexit(["doctor"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ok {3}Backend kvm: .*API version 12.*\nok {5}trial guest: ran to its HLT/m);
  },
);

test(`vmexit doctor --json agrees with its status`, async () => {
  const { status, stdout } = await vmexit(["doctor", "--json"]);
  const report = JSON.parse(stdout) as { status: number; working: string[]; checks: { name: string }[] };
  expect(report.status).toBe(status);
  expect(status).toBe(report.working.length > 0 ? 0 : 69);
  expect(report.checks.map(({ name }) => name)).toContain("Backend kvm");
});

test("vmexit doctor refuses an argument", async () => {
  expect((await vmexit(["doctor", "now"])).status).toBe(64);
});
