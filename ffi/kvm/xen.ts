/** Xen HVM guests: include/uapi/linux/kvm.h, Linux v6.1. */
import { array, bytes, i32, nested, ptr, struct, u8, u16, u32, u64, u64n, type View } from "../struct.ts";

const Hcall = struct("kvm_xen_exit.u.hcall", 72, {
  longmode: u32(0),
  cpl: u32(4),
  input: u64(8),
  result: u64(16), // user → kernel
  params: array(24, 6, u64),
});
const ExitU = struct("kvm_xen_exit.u", 72, { hcall: nested(0, Hcall) });

/** kvm_run.xen. */
export const KvmXenExit = struct("kvm_xen_exit", 80, { type: u32(0), u: nested(8, ExitU) });
export type KvmXenExit = View<typeof KvmXenExit>;
export const KVM_EXIT_XEN_HCALL = 1;

/** KVM_XEN_HVM_CONFIG. */
export const KvmXenHvmConfig = struct("kvm_xen_hvm_config", 56, {
  flags: u32(0),
  msr: u32(4),
  blob_addr_32: u64n(8),
  blob_addr_64: u64n(16),
  blob_size_32: u8(24), // pages
  blob_size_64: u8(25),
  pad2: bytes(26, 30),
});
export type KvmXenHvmConfig = View<typeof KvmXenHvmConfig>;
export const KVM_XEN_HVM_CONFIG_HYPERCALL_MSR = 0x01;
export const KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL = 0x02;
export const KVM_XEN_HVM_CONFIG_SHARED_INFO = 0x04;
export const KVM_XEN_HVM_CONFIG_RUNSTATE = 0x08;
export const KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL = 0x10;
export const KVM_XEN_HVM_CONFIG_EVTCHN_SEND = 0x20;
export const KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG = 0x40;
export const KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE = 0x80;
export const KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA = 0x100;

const SharedInfo = struct("kvm_xen_hvm_attr.u.shared_info", 8, { gfn: u64(0), hva: ptr(0) });
const Port = struct("kvm_xen_hvm_attr.u.evtchn.deliver.port", 12, { port: u32(0), vcpu: u32(4), priority: u32(8) });
const Eventfd = struct("kvm_xen_hvm_attr.u.evtchn.deliver.eventfd", 8, { port: u32(0), fd: i32(4) });
const Deliver = struct("kvm_xen_hvm_attr.u.evtchn.deliver", 16, {
  port: nested(0, Port),
  eventfd: nested(0, Eventfd),
  padding: array(0, 4, u32),
});
const Evtchn = struct("kvm_xen_hvm_attr.u.evtchn", 28, {
  send_port: u32(0),
  type: u32(4),
  flags: u32(8),
  deliver: nested(12, Deliver),
});
const HvmU = struct("kvm_xen_hvm_attr.u", 64, {
  long_mode: u8(0),
  vector: u8(0),
  runstate_update_flag: u8(0),
  shared_info: nested(0, SharedInfo),
  evtchn: nested(0, Evtchn),
  xen_version: u32(0),
  pad: array(0, 8, u64),
});

/** KVM_XEN_HVM_GET_ATTR, KVM_XEN_HVM_SET_ATTR. */
export const KvmXenHvmAttr = struct("kvm_xen_hvm_attr", 72, {
  type: u16(0),
  pad: array(2, 3, u16),
  u: nested(8, HvmU),
});
export type KvmXenHvmAttr = View<typeof KvmXenHvmAttr>;
export const KVM_XEN_EVTCHN_DEASSIGN = 1;
export const KVM_XEN_EVTCHN_UPDATE = 2;
export const KVM_XEN_EVTCHN_RESET = 4;
export const KVM_XEN_ATTR_TYPE_LONG_MODE = 0;
export const KVM_XEN_ATTR_TYPE_SHARED_INFO = 1;
export const KVM_XEN_ATTR_TYPE_UPCALL_VECTOR = 2;
export const KVM_XEN_ATTR_TYPE_EVTCHN = 3;
export const KVM_XEN_ATTR_TYPE_XEN_VERSION = 4;
export const KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG = 5;
export const KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA = 6;

const Runstate = struct("kvm_xen_vcpu_attr.u.runstate", 48, {
  state: u64(0),
  state_entry_time: u64(8),
  time_running: u64(16),
  time_runnable: u64(24),
  time_blocked: u64(32),
  time_offline: u64(40),
});
const Timer = struct("kvm_xen_vcpu_attr.u.timer", 16, { port: u32(0), priority: u32(4), expires_ns: u64(8) });
const VcpuU = struct("kvm_xen_vcpu_attr.u", 64, {
  gpa: u64(0),
  hva: ptr(0),
  pad: array(0, 8, u64),
  runstate: nested(0, Runstate),
  vcpu_id: u32(0),
  timer: nested(0, Timer),
  vector: u8(0),
});

/** KVM_XEN_VCPU_GET_ATTR, KVM_XEN_VCPU_SET_ATTR. */
export const KvmXenVcpuAttr = struct("kvm_xen_vcpu_attr", 72, {
  type: u16(0),
  pad: array(2, 3, u16),
  u: nested(8, VcpuU),
});
export type KvmXenVcpuAttr = View<typeof KvmXenVcpuAttr>;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO = 0;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO = 1;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR = 2;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT = 3;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA = 4;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADJUST = 5;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID = 6;
export const KVM_XEN_VCPU_ATTR_TYPE_TIMER = 7;
export const KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR = 8;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA = 9;
