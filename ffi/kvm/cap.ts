/** KVM_ENABLE_CAP, and the arguments some capabilities take: include/uapi/linux/kvm.h, asm/kvm.h, Linux v6.1 and later. */
import { array, bytes, struct, u32, u64, type View } from "../struct.ts";

/** KVM_ENABLE_CAP, on a VM or a vCPU. */
export const KvmEnableCap = struct("kvm_enable_cap", 104, {
  cap: u32(0),
  flags: u32(4),
  args: array(8, 4, u64),
  pad: bytes(40, 64),
});
export type KvmEnableCap = View<typeof KvmEnableCap>;

// KVM_CAP_X86_DISABLE_EXITS
export const KVM_X86_DISABLE_EXITS_MWAIT = 0x01;
export const KVM_X86_DISABLE_EXITS_HLT = 0x02;
export const KVM_X86_DISABLE_EXITS_PAUSE = 0x04;
export const KVM_X86_DISABLE_EXITS_CSTATE = 0x08;
export const KVM_X86_DISABLE_EXITS_APERFMPERF = 0x10;

// KVM_CAP_DISABLE_QUIRKS, KVM_CAP_DISABLE_QUIRKS2
export const KVM_X86_QUIRK_LINT0_REENABLED = 0x01;
export const KVM_X86_QUIRK_CD_NW_CLEARED = 0x02;
export const KVM_X86_QUIRK_LAPIC_MMIO_HOLE = 0x04;
export const KVM_X86_QUIRK_OUT_7E_INC_RIP = 0x08;
export const KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT = 0x10;
export const KVM_X86_QUIRK_FIX_HYPERCALL_INSN = 0x20;
export const KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS = 0x40;
export const KVM_X86_QUIRK_SLOT_ZAP_ALL = 0x80;
export const KVM_X86_QUIRK_STUFF_FEATURE_MSRS = 0x100;
export const KVM_X86_QUIRK_IGNORE_GUEST_PAT = 0x200;

// KVM_CAP_X2APIC_API
export const KVM_X2APIC_API_USE_32BIT_IDS = 1;
export const KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 2;

// KVM_CAP_X86_BUS_LOCK_EXIT
export const KVM_BUS_LOCK_DETECTION_OFF = 1;
export const KVM_BUS_LOCK_DETECTION_EXIT = 2;

// KVM_CAP_PMU_CAPABILITY
export const KVM_PMU_CAP_DISABLE = 1;

// KVM_CAP_X86_NOTIFY_VMEXIT: args[0] is the window in TSC cycles << 32 | these
export const KVM_X86_NOTIFY_VMEXIT_ENABLED = 1;
export const KVM_X86_NOTIFY_VMEXIT_USER = 2;
