/** Device fds and attributes: include/uapi/linux/kvm.h, Linux v6.1. */
import { struct, u32, u64, u64n, type View } from "../struct.ts";

/** KVM_CREATE_DEVICE. */
export const KvmCreateDevice = struct("kvm_create_device", 12, { type: u32(0), fd: u32(4), flags: u32(8) });
export type KvmCreateDevice = View<typeof KvmCreateDevice>;
export const KVM_CREATE_DEVICE_TEST = 1;
export const KVM_DEV_TYPE_VFIO = 4;

/** KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR: on a device, a vCPU, a VM or /dev/kvm itself. */
export const KvmDeviceAttr = struct("kvm_device_attr", 24, {
  flags: u32(0),
  group: u32(4),
  attr: u64(8),
  addr: u64n(16),
});
export type KvmDeviceAttr = View<typeof KvmDeviceAttr>;

// vCPU: the TSC offset, an u64 at addr.
export const KVM_VCPU_TSC_CTRL = 0;
export const KVM_VCPU_TSC_OFFSET = 0;
// /dev/kvm: XSAVE components a guest may have, an u64 at addr.
export const KVM_X86_GRP_SYSTEM = 0;
export const KVM_X86_XCOMP_GUEST_SUPP = 0;
// /dev/kvm: VMSA features of SEV-ES, an u64 at addr.
export const KVM_X86_GRP_SEV = 1;
export const KVM_X86_SEV_VMSA_FEATURES = 0;

export const KVM_DEV_VFIO_GROUP = 1;
export const KVM_DEV_VFIO_GROUP_ADD = 1;
export const KVM_DEV_VFIO_GROUP_DEL = 2;
