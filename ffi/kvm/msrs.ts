/** MSRs by index: lists, get and set, the access filter. arch/x86/include/uapi/asm/kvm.h, Linux v6.1. */
import { flexible, ptr, struct, structs, u32, u64, type View } from "../struct.ts";

export const KvmMsrEntry = struct("kvm_msr_entry", 16, { index: u32(0), reserved: u32(4), data: u64(8) });
export type KvmMsrEntry = View<typeof KvmMsrEntry>;

/** KVM_GET_MSRS, KVM_SET_MSRS: the call returns how many entries, from the first, it did. */
export const KvmMsrs = struct("kvm_msrs", 8, { nmsrs: u32(0), pad: u32(4), entries: flexible(8, KvmMsrEntry) });
export type KvmMsrs = View<typeof KvmMsrs>;

/** KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST: E2BIG with the needed `nmsrs` when too small. */
export const KvmMsrList = struct("kvm_msr_list", 4, { nmsrs: u32(0), indices: flexible(4, u32) });
export type KvmMsrList = View<typeof KvmMsrList>;

export const KvmMsrFilterRange = struct("kvm_msr_filter_range", 24, {
  flags: u32(0), //   KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE: which accesses the bitmap decides
  nmsrs: u32(4),
  base: u32(8),
  bitmap: ptr(16), // a 1 bit allows, a 0 bit denies
});
export type KvmMsrFilterRange = View<typeof KvmMsrFilterRange>;

/** KVM_X86_SET_MSR_FILTER. All sizes 0 and default allow removes the filter. */
export const KvmMsrFilter = struct("kvm_msr_filter", 392, {
  flags: u32(0), // KVM_MSR_FILTER_DEFAULT_*
  ranges: structs(8, 16, KvmMsrFilterRange),
});
export type KvmMsrFilter = View<typeof KvmMsrFilter>;
export const KVM_MSR_FILTER_READ = 1;
export const KVM_MSR_FILTER_WRITE = 2;
export const KVM_MSR_FILTER_DEFAULT_ALLOW = 0;
export const KVM_MSR_FILTER_DEFAULT_DENY = 1;
export const KVM_MSR_FILTER_MAX_RANGES = 16;
/** Bytes. */
export const KVM_MSR_FILTER_MAX_BITMAP_SIZE = 0x600;
