/** CPUID tables: arch/x86/include/uapi/asm/kvm.h, Linux v6.1. */
import { array, flexible, struct, u32, type View } from "../struct.ts";

export const KvmCpuidEntry2 = struct("kvm_cpuid_entry2", 40, {
  function: u32(0), // leaf
  index: u32(4), //    subleaf, significant by flags
  flags: u32(8), //    KVM_CPUID_FLAG_*
  eax: u32(12),
  ebx: u32(16),
  ecx: u32(20),
  edx: u32(24),
  padding: array(28, 3, u32),
});
export type KvmCpuidEntry2 = View<typeof KvmCpuidEntry2>;

/** KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID, KVM_SET_CPUID2, KVM_GET_CPUID2: E2BIG when nent is too small. */
export const KvmCpuid2 = struct("kvm_cpuid2", 8, {
  nent: u32(0),
  padding: u32(4),
  entries: flexible(8, KvmCpuidEntry2),
});
export type KvmCpuid2 = View<typeof KvmCpuid2>;

/** As the kernel spells it. */
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
export const KVM_CPUID_FLAG_STATEFUL_FUNC = 2;
export const KVM_CPUID_FLAG_STATE_READ_NEXT = 4;

/** KVM_SET_CPUID, the older form without subleaves. */
export const KvmCpuidEntry = struct("kvm_cpuid_entry", 24, {
  function: u32(0),
  eax: u32(4),
  ebx: u32(8),
  ecx: u32(12),
  edx: u32(16),
  padding: u32(20),
});
export type KvmCpuidEntry = View<typeof KvmCpuidEntry>;
export const KvmCpuid = struct("kvm_cpuid", 8, { nent: u32(0), padding: u32(4), entries: flexible(8, KvmCpuidEntry) });
export type KvmCpuid = View<typeof KvmCpuid>;
