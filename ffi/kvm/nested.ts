/** Nested virtualization state: arch/x86/include/uapi/asm/kvm.h, Linux v6.1. */
import { bytes, nested, struct, u16, u32, u64, u64n, type View } from "../struct.ts";

const Smm = struct("kvm_vmx_nested_state_hdr.smm", 2, { flags: u16(0) });

export const KvmVmxNestedStateHdr = struct("kvm_vmx_nested_state_hdr", 32, {
  vmxon_pa: u64(0), //  all ones when VMX is off
  vmcs12_pa: u64(8),
  smm: nested(16, Smm),
  pad: u16(18),
  flags: u32(20),
  preemption_timer_deadline: u64(24),
});
export type KvmVmxNestedStateHdr = View<typeof KvmVmxNestedStateHdr>;

export const KvmSvmNestedStateHdr = struct("kvm_svm_nested_state_hdr", 8, { vmcb_pa: u64n(0) });
export type KvmSvmNestedStateHdr = View<typeof KvmSvmNestedStateHdr>;

/** What follows the header, by `format`. */
export const KvmVmxNestedStateData = struct("kvm_vmx_nested_state_data", 8192, {
  vmcs12: bytes(0, 4096),
  shadow_vmcs12: bytes(4096, 4096),
});
export type KvmVmxNestedStateData = View<typeof KvmVmxNestedStateData>;
export const KvmSvmNestedStateData = struct("kvm_svm_nested_state_data", 4096, { vmcb12: bytes(0, 4096) });
export type KvmSvmNestedStateData = View<typeof KvmSvmNestedStateData>;

const Hdr = struct("kvm_nested_state.hdr", 120, {
  vmx: nested(0, KvmVmxNestedStateHdr),
  svm: nested(0, KvmSvmNestedStateHdr),
  pad: bytes(0, 120),
});

/** KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE: a header of 128 bytes, then `size - 128` bytes of data. */
export const KvmNestedState = struct("kvm_nested_state", 128, {
  flags: u16(0),
  format: u16(2), // KVM_STATE_NESTED_FORMAT_*
  size: u32(4), //   bytes, all of it
  hdr: nested(8, Hdr),
});
export type KvmNestedState = View<typeof KvmNestedState>;

export const KVM_STATE_NESTED_FORMAT_VMX = 0;
export const KVM_STATE_NESTED_FORMAT_SVM = 1;
export const KVM_STATE_NESTED_GUEST_MODE = 0x001;
export const KVM_STATE_NESTED_RUN_PENDING = 0x002;
export const KVM_STATE_NESTED_EVMCS = 0x004;
export const KVM_STATE_NESTED_MTF_PENDING = 0x008;
export const KVM_STATE_NESTED_GIF_SET = 0x100;
export const KVM_STATE_NESTED_SMM_GUEST_MODE = 1;
export const KVM_STATE_NESTED_SMM_VMXON = 2;
export const KVM_STATE_NESTED_VMX_VMCS_SIZE = 0x1000;
export const KVM_STATE_NESTED_SVM_VMCB_SIZE = 0x1000;
export const KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE = 1;
