/** What differs between the systems that have NVMM, picked by what the kernel reports. */
import type { View } from "../struct.ts";
import { NvmmCapabilityDragonfly, NvmmCapabilityNetbsd } from "./config.ts";
import { NvmmCommPageDragonfly, NvmmCommPageNetbsd, NvmmVcpuDragonfly, NvmmVcpuNetbsd } from "./objects.ts";
import { NvmmX64State } from "./state.ts";

/** Members of the capability that both systems have. */
export type NvmmCapability = View<typeof NvmmCapabilityNetbsd> | View<typeof NvmmCapabilityDragonfly>;

export interface NvmmSystemLayout {
  readonly name: "NetBSD" | "DragonFly";
  /** `version` of the capability. */
  readonly kernelVersion: number;
  readonly capability: typeof NvmmCapabilityNetbsd | typeof NvmmCapabilityDragonfly;
  readonly vcpu: typeof NvmmVcpuNetbsd | typeof NvmmVcpuDragonfly;
  readonly commPage: typeof NvmmCommPageNetbsd | typeof NvmmCommPageDragonfly;
  /** int *errno_location(void), as its C library calls it. */
  readonly errnoSymbol: "__errno" | "__errno_location";
  /** Error numbers by name; NVMM's own and those of open(2). */
  readonly errno: Readonly<Record<string, number>>;
  /** nvmm_vcpu_stop() and the STOPPED exit. */
  readonly hasStop: boolean;
  /** nvmm_gpa_unmap() of a range that ends at max_ram makes libnvmm abort. */
  readonly unmapsUpToMaxRam: boolean;
  /** A wish to return may replace the reason of an exit by NONE or STOPPED. */
  readonly replacesReasons: boolean;
  /** Names of the library, tried in this order. */
  readonly libraries: readonly string[];
}

/** Numbers that 4.4BSD gave all its descendants. */
const BSD_ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  ENXIO: 6,
  EBADF: 9,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  EAGAIN: 35,
  EOPNOTSUPP: 45,
  ENOBUFS: 55,
  EPROGMISMATCH: 75,
  ENOSYS: 78,
} as const;

/** NetBSD 10 and 11. */
export const NETBSD: NvmmSystemLayout = {
  name: "NetBSD",
  kernelVersion: 2,
  capability: NvmmCapabilityNetbsd,
  vcpu: NvmmVcpuNetbsd,
  commPage: NvmmCommPageNetbsd,
  errnoSymbol: "__errno",
  errno: { ...BSD_ERRNO, ENOTSUP: 86 },
  hasStop: true,
  unmapsUpToMaxRam: false,
  replacesReasons: true,
  libraries: ["libnvmm.so", "libnvmm.so.0"],
};

/** DragonFly since kernel version 3. */
export const DRAGONFLY: NvmmSystemLayout = {
  name: "DragonFly",
  kernelVersion: 3,
  capability: NvmmCapabilityDragonfly,
  vcpu: NvmmVcpuDragonfly,
  commPage: NvmmCommPageDragonfly,
  errnoSymbol: "__errno_location",
  errno: { ...BSD_ERRNO, ENOTSUP: 45 },
  hasStop: false,
  unmapsUpToMaxRam: true,
  replacesReasons: false,
  libraries: ["libnvmm.so", "libnvmm.so.3"],
};

export const SYSTEMS: readonly NvmmSystemLayout[] = [NETBSD, DRAGONFLY];

/** The layout for what the kernel reports; undefined for versions this code does not know. */
export function layoutFor(head: { version: number; state_size: number }): NvmmSystemLayout | undefined {
  if (head.state_size !== NvmmX64State.size) return undefined;
  return SYSTEMS.find((system) => system.kernelVersion === head.version);
}
