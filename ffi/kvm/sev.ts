/**
 * AMD SEV and SEV-ES commands of KVM_MEMORY_ENCRYPT_OP: include/uapi/linux/kvm.h, Linux v6.1. The gaps are padding, to be 0.
 */
import { bytes, ptr, struct, u32, type View } from "../struct.ts";

export const KvmSevCmd = struct("kvm_sev_cmd", 24, {
  id: u32(0), //     KVM_SEV_*
  data: ptr(8), //   the struct of the command
  error: u32(16), // out: the firmware's status
  sev_fd: u32(20), // /dev/sev
});
export type KvmSevCmd = View<typeof KvmSevCmd>;

export const KVM_SEV_INIT = 0;
export const KVM_SEV_ES_INIT = 1;
export const KVM_SEV_LAUNCH_START = 2;
export const KVM_SEV_LAUNCH_UPDATE_DATA = 3;
export const KVM_SEV_LAUNCH_UPDATE_VMSA = 4;
export const KVM_SEV_LAUNCH_SECRET = 5;
export const KVM_SEV_LAUNCH_MEASURE = 6;
export const KVM_SEV_LAUNCH_FINISH = 7;
export const KVM_SEV_SEND_START = 8;
export const KVM_SEV_SEND_UPDATE_DATA = 9;
export const KVM_SEV_SEND_UPDATE_VMSA = 10;
export const KVM_SEV_SEND_FINISH = 11;
export const KVM_SEV_RECEIVE_START = 12;
export const KVM_SEV_RECEIVE_UPDATE_DATA = 13;
export const KVM_SEV_RECEIVE_UPDATE_VMSA = 14;
export const KVM_SEV_RECEIVE_FINISH = 15;
export const KVM_SEV_GUEST_STATUS = 16;
export const KVM_SEV_DBG_DECRYPT = 17;
export const KVM_SEV_DBG_ENCRYPT = 18;
export const KVM_SEV_CERT_EXPORT = 19;
export const KVM_SEV_GET_ATTESTATION_REPORT = 20;
export const KVM_SEV_SEND_CANCEL = 21;

export const KvmSevLaunchStart = struct("kvm_sev_launch_start", 40, {
  handle: u32(0),
  policy: u32(4),
  dh_uaddr: ptr(8),
  dh_len: u32(16),
  session_uaddr: ptr(24),
  session_len: u32(32),
});
export const KvmSevLaunchUpdateData = struct("kvm_sev_launch_update_data", 16, { uaddr: ptr(0), len: u32(8) });
export const KvmSevLaunchSecret = struct("kvm_sev_launch_secret", 48, {
  hdr_uaddr: ptr(0),
  hdr_len: u32(8),
  guest_uaddr: ptr(16),
  guest_len: u32(24),
  trans_uaddr: ptr(32),
  trans_len: u32(40),
});
export const KvmSevLaunchMeasure = struct("kvm_sev_launch_measure", 16, { uaddr: ptr(0), len: u32(8) });
export const KvmSevGuestStatus = struct("kvm_sev_guest_status", 12, { handle: u32(0), policy: u32(4), state: u32(8) });
export const KvmSevDbg = struct("kvm_sev_dbg", 24, { src_uaddr: ptr(0), dst_uaddr: ptr(8), len: u32(16) });
export const KvmSevAttestationReport = struct("kvm_sev_attestation_report", 32, {
  mnonce: bytes(0, 16),
  uaddr: ptr(16),
  len: u32(24),
});
export const KvmSevSendStart = struct("kvm_sev_send_start", 72, {
  policy: u32(0),
  pdh_cert_uaddr: ptr(8),
  pdh_cert_len: u32(16),
  plat_certs_uaddr: ptr(24),
  plat_certs_len: u32(32),
  amd_certs_uaddr: ptr(40),
  amd_certs_len: u32(48),
  session_uaddr: ptr(56),
  session_len: u32(64),
});
export const KvmSevSendUpdateData = struct("kvm_sev_send_update_data", 48, {
  hdr_uaddr: ptr(0),
  hdr_len: u32(8),
  guest_uaddr: ptr(16),
  guest_len: u32(24),
  trans_uaddr: ptr(32),
  trans_len: u32(40),
});
export const KvmSevReceiveStart = struct("kvm_sev_receive_start", 40, {
  handle: u32(0),
  policy: u32(4),
  pdh_uaddr: ptr(8),
  pdh_len: u32(16),
  session_uaddr: ptr(24),
  session_len: u32(32),
});
export const KvmSevReceiveUpdateData = struct("kvm_sev_receive_update_data", 48, {
  hdr_uaddr: ptr(0),
  hdr_len: u32(8),
  guest_uaddr: ptr(16),
  guest_len: u32(24),
  trans_uaddr: ptr(32),
  trans_len: u32(40),
});
