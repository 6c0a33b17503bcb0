/**
 * Configuration and information: <nvmm.h>, <nvmm_x86.h>, <nvmm_ioctl.h>. What both systems share, then what differs: the
 * capability, which DragonFly made 8 bytes longer. Offsets in bytes.
 */
import { array, i32, i64, nested, ptr, struct, u32, u64, u64n, type View } from "../struct.ts";
import type { Bits } from "./state.ts";

export const NVMM_PROT_READ = 1;
export const NVMM_PROT_WRITE = 2;
export const NVMM_PROT_EXEC = 4;
export const NVMM_PROT_USER = 8;
export const NVMM_PROT_ALL = 15;

/** Operations of nvmm_vcpu_configure(). */
export const NVMM_VCPU_CONF_CALLBACKS = 0;
export const NVMM_VCPU_CONF_CPUID = 200;
export const NVMM_VCPU_CONF_TPR = 201;

/** Bits of `arch.vcpu_conf_support`. */
export const NVMM_CAP_ARCH_VCPU_CONF_CPUID = 1;
export const NVMM_CAP_ARCH_VCPU_CONF_TPR = 2;

/** nvmm_ctl(). */
export const NVMM_CTL_MACH_INFO = 0;

/** Most host mappings of one machine. */
export const NVMM_MAX_HMAPPINGS = 32;

export const NvmmCapMd = struct("nvmm_cap_md", 80, {
  mach_conf_support: u64(0),
  vcpu_conf_support: u64n(8), // NVMM_CAP_ARCH_VCPU_CONF_*
  xcr0_mask: u64(16),
  mxcsr_mask: u32(24),
  conf_cpuid_maxops: u32(28),
  rsvd: array(32, 6, u64),
});

export const NvmmCapabilityNetbsd = struct("nvmm_capability", 104, {
  version: u32(0),
  state_size: u32(4),
  max_machines: u32(8),
  max_vcpus: u32(12),
  max_ram: u64n(16),
  arch: nested(24, NvmmCapMd),
});

export const NvmmCapabilityDragonfly = struct("nvmm_capability", 112, {
  version: u32(0),
  state_size: u32(4),
  comm_size: u32(8), // bytes to unmap a comm page with
  max_machines: u32(12),
  max_vcpus: u32(16),
  max_ram: u64n(24),
  arch: nested(32, NvmmCapMd),
});

/** The start of the capability, the same on both systems: read before a layout is chosen. */
export const NvmmCapabilityHead = struct("nvmm_capability", 8, { version: u32(0), state_size: u32(4) });

const CpuidRegisters = struct("nvmm_vcpu_conf_cpuid.u.mask.set", 16, {
  eax: u32(0),
  ebx: u32(4),
  ecx: u32(8),
  edx: u32(12),
});
const CpuidMask = struct("nvmm_vcpu_conf_cpuid.u.mask", 32, {
  set: nested(0, CpuidRegisters),
  del: nested(16, CpuidRegisters),
});
const CpuidUnion = struct("nvmm_vcpu_conf_cpuid.u", 32, { mask: nested(0, CpuidMask) });

/** Bit fields of `nvmm_vcpu_conf_cpuid.flags`. Both 0 remove the leaf's entry. */
export const CPUID_CONF = { mask: [0, 1], exit: [1, 1], rsvd: [2, 30] } as const satisfies Record<string, Bits>;
export const CPUID_CONF_MASK = 1;
export const CPUID_CONF_EXIT = 2;

/** One CPUID leaf; sub-leaves are not told apart. */
export const NvmmVcpuConfCpuid = struct("nvmm_vcpu_conf_cpuid", 40, {
  flags: u32(0), // CPUID_CONF
  leaf: u32(4),
  u: nested(8, CpuidUnion),
});

/** Bit fields of `nvmm_vcpu_conf_tpr.flags`. */
export const TPR_CONF = { exit_changed: [0, 1], rsvd: [1, 31] } as const satisfies Record<string, Bits>;
export const TPR_CONF_EXIT_CHANGED = 1;

export const NvmmVcpuConfTpr = struct("nvmm_vcpu_conf_tpr", 4, { flags: u32(0) });

/** Two C functions, called on the thread that calls an assist. */
export const NvmmAssistCallbacks = struct("nvmm_assist_callbacks", 16, { io: ptr(0), mem: ptr(8) });

export const NvmmCtlMachInfo = struct("nvmm_ctl_mach_info", 32, {
  machid: u32(0), // in
  nvcpus: u32(4),
  nram: u64n(8), //  bytes of all host mappings
  pid: i32(16),
  time: i64(24), //  seconds since 1970
});
export type NvmmCtlMachInfo = View<typeof NvmmCtlMachInfo>;
