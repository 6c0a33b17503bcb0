import { readFileSync } from "node:fs";
import type { Host } from "../../src/index.ts";
import { contract } from "./contract.ts";
import { engine } from "./engine.ts";

contract(engine("kvm", exceptions));

/** KVM inside QEMU's TCG runs on a processor that never raises #DB for breakpoints; any other host has to. */
function exceptions(host: Host): Record<string, string> {
  if (!insideQemu() || breakpointExits(host)) return {};
  return { "hardware breakpoint": "the emulated processor under this KVM, QEMU's TCG, raises no breakpoints" };
}

function insideQemu(): boolean {
  try {
    return readFileSync("/sys/class/dmi/id/sys_vendor", "utf8").trim() === "QEMU";
  } catch {
    return false;
  }
}

function breakpointExits(host: Host): boolean {
  using vm = host.createVm({ memoryBytes: 0x2000 });
  using vcpu = vm.createVcpu();
  vm.memory.write(0x1000, Uint8Array.of(0x90, 0xf4)); // NOP, HLT
  vcpu.enterMode("real16", { entry: 0x1000 });
  vcpu.debug({ breakpoints: [{ address: 0x1001n, on: "execute" }] });
  return vcpu.run({ timeoutMs: 1000 }).kind === "debug";
}
