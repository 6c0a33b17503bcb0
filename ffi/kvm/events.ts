/**
 * What is pending on a vCPU, and how it is debugged: arch/x86/include/uapi/asm/kvm.h, include/uapi/linux/kvm.h, Linux v6.1.
 */
import { array, bytes, flexible, nested, struct, u8, u32, u64, u64n, type View } from "../struct.ts";

const Exception = struct("kvm_vcpu_events.exception", 8, {
  injected: u8(0),
  nr: u8(1),
  has_error_code: u8(2),
  pending: u8(3),
  error_code: u32(4),
});
const Interrupt = struct("kvm_vcpu_events.interrupt", 4, { injected: u8(0), nr: u8(1), soft: u8(2), shadow: u8(3) });
const Nmi = struct("kvm_vcpu_events.nmi", 4, { injected: u8(0), pending: u8(1), masked: u8(2), pad: u8(3) });
const Smi = struct("kvm_vcpu_events.smi", 4, {
  smm: u8(0),
  pending: u8(1),
  smm_inside_nmi: u8(2),
  latched_init: u8(3),
});
const TripleFault = struct("kvm_vcpu_events.triple_fault", 1, { pending: u8(0) });

/** KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, and kvm_sync_regs.events. */
export const KvmVcpuEvents = struct("kvm_vcpu_events", 64, {
  exception: nested(0, Exception),
  interrupt: nested(8, Interrupt),
  nmi: nested(12, Nmi),
  sipi_vector: u32(16),
  flags: u32(20), // KVM_VCPUEVENT_VALID_*
  smi: nested(24, Smi),
  triple_fault: nested(28, TripleFault),
  reserved: bytes(29, 26),
  exception_has_payload: u8(55),
  exception_payload: u64(56),
});
export type KvmVcpuEvents = View<typeof KvmVcpuEvents>;

export const KVM_VCPUEVENT_VALID_NMI_PENDING = 0x01;
export const KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x02;
export const KVM_VCPUEVENT_VALID_SHADOW = 0x04;
export const KVM_VCPUEVENT_VALID_SMM = 0x08;
export const KVM_VCPUEVENT_VALID_PAYLOAD = 0x10;
export const KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20;
export const KVM_X86_SHADOW_INT_MOV_SS = 0x01;
export const KVM_X86_SHADOW_INT_STI = 0x02;

/** KVM_GET_MP_STATE, KVM_SET_MP_STATE. */
export const KvmMpState = struct("kvm_mp_state", 4, { mp_state: u32(0) });
export type KvmMpState = View<typeof KvmMpState>;
export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3;
export const KVM_MP_STATE_SIPI_RECEIVED = 4;
export const KVM_MP_STATE_STOPPED = 5;
export const KVM_MP_STATE_CHECK_STOP = 6;
export const KVM_MP_STATE_OPERATING = 7;
export const KVM_MP_STATE_LOAD = 8;
export const KVM_MP_STATE_AP_RESET_HOLD = 9;
export const KVM_MP_STATE_SUSPENDED = 10;

/** KVM_INTERRUPT: a vector to inject; EEXIST when one waits, ENXIO with an in-kernel irqchip. */
export const KvmInterrupt = struct("kvm_interrupt", 4, { irq: u32(0) });
export type KvmInterrupt = View<typeof KvmInterrupt>;

/** KVM_SET_SIGNAL_MASK: the mask during KVM_RUN; `len` is the kernel's sigset size, 8. A null pointer removes it. */
export const KvmSignalMask = struct("kvm_signal_mask", 4, { len: u32(0), sigset: flexible(4, u8) });
export type KvmSignalMask = View<typeof KvmSignalMask>;

/** debugreg: DR0 to DR3, then DR6 and DR7 at 6 and 7. */
export const KvmGuestDebugArch = struct("kvm_guest_debug_arch", 64, { debugreg: array(0, 8, u64) });
export type KvmGuestDebugArch = View<typeof KvmGuestDebugArch>;

/** KVM_SET_GUEST_DEBUG. */
export const KvmGuestDebug = struct("kvm_guest_debug", 72, {
  control: u32(0), // KVM_GUESTDBG_*
  pad: u32(4),
  arch: nested(8, KvmGuestDebugArch),
});
export type KvmGuestDebug = View<typeof KvmGuestDebug>;
export const KVM_GUESTDBG_ENABLE = 0x00000001;
export const KVM_GUESTDBG_SINGLESTEP = 0x00000002;
export const KVM_GUESTDBG_USE_SW_BP = 0x00010000;
export const KVM_GUESTDBG_USE_HW_BP = 0x00020000;
export const KVM_GUESTDBG_INJECT_DB = 0x00040000;
export const KVM_GUESTDBG_INJECT_BP = 0x00080000;
export const KVM_GUESTDBG_BLOCKIRQ = 0x00100000;

/** kvm_run.debug.arch. */
export const KvmDebugExitArch = struct("kvm_debug_exit_arch", 32, {
  exception: u32(0), // 1 #DB, 3 #BP
  pad: u32(4),
  pc: u64(8),
  dr6: u64(16),
  dr7: u64(24),
});
export type KvmDebugExitArch = View<typeof KvmDebugExitArch>;

/** KVM_TPR_ACCESS_REPORTING. */
export const KvmTprAccessCtl = struct("kvm_tpr_access_ctl", 40, {
  enabled: u32(0),
  flags: u32(4),
  reserved: array(8, 8, u32),
});
export type KvmTprAccessCtl = View<typeof KvmTprAccessCtl>;

/** KVM_SET_VAPIC_ADDR. */
export const KvmVapicAddr = struct("kvm_vapic_addr", 8, { vapic_addr: u64n(0) });
export type KvmVapicAddr = View<typeof KvmVapicAddr>;

/** KVM_X86_SET_MCE: a machine check to report. */
export const KvmX86Mce = struct("kvm_x86_mce", 64, {
  status: u64(0),
  addr: u64(8),
  misc: u64(16),
  mcg_status: u64(24),
  bank: u8(32),
  pad1: bytes(33, 7),
  pad2: array(40, 3, u64),
});
export type KvmX86Mce = View<typeof KvmX86Mce>;

// Exception vectors, as asm/kvm.h names them.
export const DE_VECTOR = 0;
export const DB_VECTOR = 1;
export const BP_VECTOR = 3;
export const OF_VECTOR = 4;
export const BR_VECTOR = 5;
export const UD_VECTOR = 6;
export const NM_VECTOR = 7;
export const DF_VECTOR = 8;
export const TS_VECTOR = 10;
export const NP_VECTOR = 11;
export const SS_VECTOR = 12;
export const GP_VECTOR = 13;
export const PF_VECTOR = 14;
export const MF_VECTOR = 16;
export const AC_VECTOR = 17;
export const MC_VECTOR = 18;
export const XM_VECTOR = 19;
export const VE_VECTOR = 20;
