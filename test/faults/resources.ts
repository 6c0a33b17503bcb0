import { readdirSync, readFileSync } from "node:fs";

/** Open file descriptors of this process. */
export function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Mappings of vCPUs' kvm_run pages. */
export function vcpuMappings(): number {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes("kvm-vcpu")).length;
}

/** Resident memory, MiB. */
export function residentMib(): number {
  const [, pages = "0"] = readFileSync("/proc/self/statm", "utf8").split(" ");
  return (Number(pages) * 4096) / 2 ** 20;
}
