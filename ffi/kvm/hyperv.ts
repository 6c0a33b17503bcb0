/** Hyper-V enlightenments: include/uapi/linux/kvm.h, Linux v6.1. */
import { array, i32, nested, struct, u32, u64, u64n, type View } from "../struct.ts";

const Synic = struct("kvm_hyperv_exit.u.synic", 32, {
  msr: u32(0),
  pad2: u32(4),
  control: u64(8),
  evt_page: u64n(16),
  msg_page: u64n(24),
});
const Hcall = struct("kvm_hyperv_exit.u.hcall", 32, { input: u64(0), result: u64(8), params: array(16, 2, u64) });
const Syndbg = struct("kvm_hyperv_exit.u.syndbg", 48, {
  msr: u32(0),
  pad2: u32(4),
  control: u64(8),
  status: u64(16),
  send_page: u64n(24),
  recv_page: u64n(32),
  pending_page: u64n(40),
});
const U = struct("kvm_hyperv_exit.u", 48, {
  synic: nested(0, Synic),
  hcall: nested(0, Hcall),
  syndbg: nested(0, Syndbg),
});

/** kvm_run.hyperv. */
export const KvmHypervExit = struct("kvm_hyperv_exit", 56, { type: u32(0), pad1: u32(4), u: nested(8, U) });
export type KvmHypervExit = View<typeof KvmHypervExit>;
export const KVM_EXIT_HYPERV_SYNIC = 1;
export const KVM_EXIT_HYPERV_HCALL = 2;
export const KVM_EXIT_HYPERV_SYNDBG = 3;

/** KVM_HYPERV_EVENTFD: an eventfd for a guest's signal-event hypercall. */
export const KvmHypervEventfd = struct("kvm_hyperv_eventfd", 24, {
  conn_id: u32(0),
  fd: i32(4),
  flags: u32(8),
  padding: array(12, 3, u32),
});
export type KvmHypervEventfd = View<typeof KvmHypervEventfd>;
export const KVM_HYPERV_CONN_ID_MASK = 0x00ffffff;
export const KVM_HYPERV_EVENTFD_DEASSIGN = 1;
