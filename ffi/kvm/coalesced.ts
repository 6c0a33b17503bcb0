/** Coalesced MMIO and PIO: writes gathered in a ring instead of exits. include/uapi/linux/kvm.h, Linux v6.1. */
import { bytes, flexible, struct, u32, u64n, type View } from "../struct.ts";

/** KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO. */
export const KvmCoalescedMmioZone = struct("kvm_coalesced_mmio_zone", 16, {
  addr: u64n(0),
  size: u32(8),
  pad: u32(12),
  pio: u32(12), // 1: addr is a port
});
export type KvmCoalescedMmioZone = View<typeof KvmCoalescedMmioZone>;

export const KvmCoalescedMmio = struct("kvm_coalesced_mmio", 24, {
  phys_addr: u64n(0),
  len: u32(8),
  pad: u32(12),
  pio: u32(12),
  data: bytes(16, 8),
});
export type KvmCoalescedMmio = View<typeof KvmCoalescedMmio>;

/** The page at KVM_COALESCED_MMIO_PAGE_OFFSET of each vCPU's mapping, one ring for the VM: taken from `first`, filled at `last`. */
export const KvmCoalescedMmioRing = struct("kvm_coalesced_mmio_ring", 8, {
  first: u32(0),
  last: u32(4),
  coalesced_mmio: flexible(8, KvmCoalescedMmio),
});
export type KvmCoalescedMmioRing = View<typeof KvmCoalescedMmioRing>;
