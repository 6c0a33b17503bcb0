/** Memory slots, dirty logging, the dirty ring, guest_memfd: include/uapi/linux/kvm.h, Linux v6.1 and what came later. */
import { array, ptr, struct, u32, u64, u64n, type View } from "../struct.ts";

/** KVM_SET_USER_MEMORY_REGION. Size 0 deletes the slot. */
export const KvmUserspaceMemoryRegion = struct("kvm_userspace_memory_region", 32, {
  slot: u32(0), //             bits 16 and up: address space (SMM)
  flags: u32(4), //            KVM_MEM_*
  guest_phys_addr: u64n(8),
  memory_size: u64n(16), //    bytes
  userspace_addr: ptr(24),
});
export type KvmUserspaceMemoryRegion = View<typeof KvmUserspaceMemoryRegion>;

/** KVM_SET_USER_MEMORY_REGION2 (Linux 6.8): with private memory from a guest_memfd. */
export const KvmUserspaceMemoryRegion2 = struct("kvm_userspace_memory_region2", 160, {
  slot: u32(0),
  flags: u32(4),
  guest_phys_addr: u64n(8),
  memory_size: u64n(16),
  userspace_addr: ptr(24),
  guest_memfd_offset: u64n(32),
  guest_memfd: u32(40),
  pad1: u32(44),
  pad2: array(48, 14, u64),
});
export type KvmUserspaceMemoryRegion2 = View<typeof KvmUserspaceMemoryRegion2>;

export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
export const KVM_MEM_GUEST_MEMFD = 4;

/** KVM_GET_DIRTY_LOG: one bit per page of the slot, rounded up to 64. */
export const KvmDirtyLog = struct("kvm_dirty_log", 16, {
  slot: u32(0),
  padding1: u32(4),
  dirty_bitmap: ptr(8),
  padding2: u64(8),
});
export type KvmDirtyLog = View<typeof KvmDirtyLog>;

/** KVM_CLEAR_DIRTY_LOG: pages set in the bitmap are write-protected again. */
export const KvmClearDirtyLog = struct("kvm_clear_dirty_log", 24, {
  slot: u32(0),
  num_pages: u32(4), //   a multiple of 64, or up to the end of the slot
  first_page: u64n(8), // a multiple of 64
  dirty_bitmap: ptr(16),
  padding2: u64(16),
});
export type KvmClearDirtyLog = View<typeof KvmClearDirtyLog>;
export const KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1;
export const KVM_DIRTY_LOG_INITIALLY_SET = 2;

/** One element of a vCPU's dirty ring, mapped at KVM_DIRTY_LOG_PAGE_OFFSET of its fd. */
export const KvmDirtyGfn = struct("kvm_dirty_gfn", 16, {
  flags: u32(0), //  KVM_DIRTY_GFN_F_*; the VMM writes RESET when it has taken the entry
  slot: u32(4),
  offset: u64n(8), // pages from the start of the slot
});
export type KvmDirtyGfn = View<typeof KvmDirtyGfn>;
export const KVM_DIRTY_GFN_F_DIRTY = 1;
export const KVM_DIRTY_GFN_F_RESET = 2;
export const KVM_DIRTY_GFN_F_MASK = 3;

/** KVM_SET_MEMORY_ATTRIBUTES (Linux 6.8). */
export const KvmMemoryAttributes = struct("kvm_memory_attributes", 32, {
  address: u64n(0),
  size: u64n(8),
  attributes: u64n(16),
  flags: u64n(24),
});
export type KvmMemoryAttributes = View<typeof KvmMemoryAttributes>;
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 8;

/** KVM_CREATE_GUEST_MEMFD (Linux 6.8). */
export const KvmCreateGuestMemfd = struct("kvm_create_guest_memfd", 64, {
  size: u64n(0),
  flags: u64n(8),
  reserved: array(16, 6, u64),
});
export type KvmCreateGuestMemfd = View<typeof KvmCreateGuestMemfd>;
export const GUEST_MEMFD_FLAG_MMAP = 1;
export const GUEST_MEMFD_FLAG_INIT_SHARED = 2;

/** KVM_PRE_FAULT_MEMORY (Linux 6.11): gpa and size come back advanced by what was done. */
export const KvmPreFaultMemory = struct("kvm_pre_fault_memory", 64, {
  gpa: u64n(0),
  size: u64n(8),
  flags: u64n(16),
  padding: array(24, 5, u64),
});
export type KvmPreFaultMemory = View<typeof KvmPreFaultMemory>;

/** KVM_MEMORY_ENCRYPT_REG_REGION, KVM_MEMORY_ENCRYPT_UNREG_REGION. */
export const KvmEncRegion = struct("kvm_enc_region", 16, { addr: ptr(0), size: u64n(8) });
export type KvmEncRegion = View<typeof KvmEncRegion>;
