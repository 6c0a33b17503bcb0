/** Binary statistics of KVM_GET_STATS_FD: a file of header, id, descriptors and data. include/uapi/linux/kvm.h, Linux v6.1. */
import { flexible, i16, struct, u8, u16, u32, type View } from "../struct.ts";

/** The first bytes of the file; offsets are from its start. */
export const KvmStatsHeader = struct("kvm_stats_header", 24, {
  flags: u32(0),
  name_size: u32(4), // bytes of each descriptor's name, NUL-padded
  num_desc: u32(8),
  id_offset: u32(12),
  desc_offset: u32(16),
  data_offset: u32(20),
});
export type KvmStatsHeader = View<typeof KvmStatsHeader>;

export const KvmStatsDesc = struct("kvm_stats_desc", 16, {
  flags: u32(0), //     KVM_STATS_TYPE_* | UNIT_* | BASE_*
  exponent: i16(4), //  the value is data × base^exponent units
  size: u16(6), //      u64 values
  offset: u32(8), //    from data_offset
  bucket_size: u32(12),
  name: flexible(16, u8),
});
export type KvmStatsDesc = View<typeof KvmStatsDesc>;

export const KVM_STATS_TYPE_SHIFT = 0;
export const KVM_STATS_TYPE_MASK = 0x00f;
export const KVM_STATS_TYPE_CUMULATIVE = 0x000;
export const KVM_STATS_TYPE_INSTANT = 0x001;
export const KVM_STATS_TYPE_PEAK = 0x002;
export const KVM_STATS_TYPE_LINEAR_HIST = 0x003;
export const KVM_STATS_TYPE_LOG_HIST = 0x004;
export const KVM_STATS_UNIT_SHIFT = 4;
export const KVM_STATS_UNIT_MASK = 0x0f0;
export const KVM_STATS_UNIT_NONE = 0x000;
export const KVM_STATS_UNIT_BYTES = 0x010;
export const KVM_STATS_UNIT_SECONDS = 0x020;
export const KVM_STATS_UNIT_CYCLES = 0x030;
export const KVM_STATS_UNIT_BOOLEAN = 0x040;
export const KVM_STATS_BASE_SHIFT = 8;
export const KVM_STATS_BASE_MASK = 0xf00;
export const KVM_STATS_BASE_POW10 = 0x000;
export const KVM_STATS_BASE_POW2 = 0x100;
