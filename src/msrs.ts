/**
 * Architectural MSRs by name (Intel SDM Vol. 4, "Architectural MSRs"; AMD APM Vol. 2, "MSR Cross-Reference"; the
 * KVM_* ones: Documentation/virt/kvm/x86/msr.rst, Linux v6.1).
 */
export const MSRS = {
  TSC: 0x10,
  PLATFORM_ID: 0x17,
  APIC_BASE: 0x1b,
  FEATURE_CONTROL: 0x3a,
  TSC_ADJUST: 0x3b,
  SPEC_CTRL: 0x48,
  PRED_CMD: 0x49,
  BIOS_SIGN_ID: 0x8b,
  SMI_COUNT: 0x34,
  MPERF: 0xe7,
  APERF: 0xe8,
  MTRRCAP: 0xfe,
  ARCH_CAPABILITIES: 0x10a,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  MCG_CAP: 0x179,
  MCG_STATUS: 0x17a,
  MCG_CTL: 0x17b,
  PERF_STATUS: 0x198,
  PERF_CTL: 0x199,
  MISC_ENABLE: 0x1a0,
  DEBUGCTL: 0x1d9,
  LASTBRANCHFROMIP: 0x1db,
  LASTBRANCHTOIP: 0x1dc,
  LASTINTFROMIP: 0x1dd,
  LASTINTTOIP: 0x1de,
  PAT: 0x277,
  MTRR_DEF_TYPE: 0x2ff,
  TSC_DEADLINE: 0x6e0,
  XSS: 0xda0,
  KVM_WALL_CLOCK_NEW: 0x4b564d00,
  KVM_SYSTEM_TIME_NEW: 0x4b564d01,
  KVM_ASYNC_PF_EN: 0x4b564d02,
  KVM_STEAL_TIME: 0x4b564d03,
  KVM_PV_EOI_EN: 0x4b564d04,
  KVM_POLL_CONTROL: 0x4b564d05,
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  SFMASK: 0xc0000084,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
  SYSCFG: 0xc0010010,
  HWCR: 0xc0010015,
  PATCH_LEVEL: 0xc001008b,
  VM_CR: 0xc0010114,
  VM_HSAVE_PA: 0xc0010117,
  OSVW_ID_LENGTH: 0xc0010140,
  OSVW_STATUS: 0xc0010141,
} as const;

export type MsrName = keyof typeof MSRS;

/** The index behind a name or an index. */
export function msrIndex(msr: MsrName | number): number {
  if (typeof msr === "number") return msr;
  const index: number | undefined = Object.hasOwn(MSRS, msr) ? MSRS[msr] : undefined;
  if (index === undefined) throw new RangeError(`Unknown MSR "${msr}": use a name of MSRS or its number`);
  return index;
}

/** `EFER (0xc0000080)`, or the number alone where it has no name here. */
export function msrLabel(index: number): string {
  const name = Object.entries(MSRS).find(([, number]) => number === index)?.[0];
  const number = `0x${index.toString(16)}`;
  return name === undefined ? number : `${name} (${number})`;
}
