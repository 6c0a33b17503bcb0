/** What <linux/kvm.h> has and ffi/kvm/ leaves out, with the reason. */

export interface Exclusion {
  readonly pattern: RegExp;
  readonly reason: string;
}

export const EXCLUDED_CONSTANTS: readonly Exclusion[] = [
  { pattern: /^KVM_(\w+_)?S390_|_S390$|^KVM_S390/, reason: "s390" },
  { pattern: /^KVM_PV_/, reason: "s390 protected virtualization" },
  { pattern: /^KVM_(\w+_)?PPC_|^KVM_REG_PPC|_SPAPR_|_PAPR_|^KVM_MMU_FSL|^KVM_ALLOCATE_RMA/, reason: "ppc" },
  { pattern: /^KVM_CAP_(IRQ_MPIC|IRQ_XICS|SW_TLB)$|^KVM_DIRTY_TLB$/, reason: "ppc" },
  { pattern: /^KVM_DEV_TYPE_(FSL_MPIC|XICS|XIVE)/, reason: "ppc interrupt controllers" },
  { pattern: /^KVM_DEV_TYPE_(ARM|FLIC|RISCV|LOONGARCH)/, reason: "arm, s390, riscv, loongarch devices" },
  { pattern: /^KVM_DEV_TYPE_MAX$|^KVM_SEV_NR_MAX$|^KVM_TDX_CMD_NR_MAX$/, reason: "counts of an enum, not values" },
  { pattern: /^KVM_(\w+_)?ARM(64)?_|^KVM_REG_ARM(64)?$|^KVM_CAP_PTP_KVM$|^KVM_CAP_COUNTER_OFFSET$/, reason: "arm" },
  { pattern: /^KVM_(\w+_)?MIPS_|^KVM_REG_MIPS$/, reason: "mips" },
  { pattern: /^KVM_(\w+_)?(RISCV|LOONGARCH)_|^KVM_REG_(RISCV|LOONGARCH|IA64)$/, reason: "riscv, loongarch, ia64" },
  { pattern: /^KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY$/, reason: "s390 channel I/O" },
  { pattern: /^kvm_ioeventfd_flag_nr_/, reason: "bit numbers behind KVM_IOEVENTFD_FLAG_*" },
  { pattern: /^KVM_TRC_|^KVM_TRACE_/, reason: "tracing, removed in Linux 2.6.30" },
  { pattern: /^KVM_(SET_MEMORY_REGION|SET_MEMORY_ALIAS)$/, reason: "EINVAL since Linux 2.6.36" },
  { pattern: /^KVM_DEBUG_GUEST$/, reason: "replaced by KVM_SET_GUEST_DEBUG in Linux 2.6.30" },
  {
    pattern: /^KVM_(DE)?ASSIGN_|^KVM_DEV_(ASSIGN|IRQ)_|^KVM_MAX_MSIX_PER_DEV$/,
    reason: "device assignment, removed in Linux 4.12",
  },
  { pattern: /^KVM_COALESCED_MMIO_MAX$/, reason: "needs the kernel's PAGE_SIZE" },
  { pattern: /^KVM_STATS_(TYPE|UNIT|BASE)_MAX$/, reason: "names the last of a list" },
  { pattern: /_VALID_MASK$|^KVM_X86_DISABLE_VALID_EXITS$/, reason: "the union of values that differ by version" },
];

export const EXCLUDED_STRUCTS: readonly Exclusion[] = [
  { pattern: /^kvm_s390_|^kvm_pv_|^kvm_irq_routing_s390_adapter$/, reason: "s390" },
  { pattern: /^kvm_ppc_|^kvm_config_tlb$|^kvm_dirty_tlb$|^kvm_vfio_spapr_tce$/, reason: "ppc" },
  { pattern: /^kvm_arm_/, reason: "arm" },
  {
    pattern: /^kvm_(user_trace_setup|breakpoint|debug_guest|memory_region|memory_alias)$/,
    reason: "removed interfaces",
  },
  { pattern: /^kvm_assigned_/, reason: "device assignment, removed in Linux 4.12" },
  { pattern: /^kvm_sev_(init|snp_\w+)$|^kvm_tdx_/, reason: "SEV-SNP and TDX launches, later than Linux 6.1" },
];

/** By `tag.member`. */
export const EXCLUDED_MEMBERS: readonly Exclusion[] = [
  { pattern: /\.(pad|padding|reserve|reserved)\d*$/, reason: "padding" },
  {
    pattern:
      /^kvm_run\.(s390_\w+|icptcode|ipa|ipb|trans_exc_code|pgm_code|subchannel_\w+|io_int_\w+|dequeued|addr|ar|fc|sel1|sel2)$/,
    reason: "s390 exits",
  },
  { pattern: /^kvm_run\.(dcr|dcrn|osi|gprs|papr_hcall|epr)$/, reason: "ppc exits" },
  { pattern: /^kvm_run\.(arm_\w+|esr|esr_iss|fault_ipa|gva)$/, reason: "arm exits" },
  {
    pattern: /^kvm_run\.(riscv_\w+|extension_id|function_id|csr_num|new_value|write_mask|ret_value|iocsr_io)$/,
    reason: "riscv and loongarch exits",
  },
  { pattern: /\.__empty_/, reason: "the header's stand-in before a flexible array member" },
  { pattern: /^kvm_irq_routing_entry\.adapter$/, reason: "s390" },
  {
    pattern:
      /^kvm_ioapic_state\.(bits|fields|vector|delivery_mode|dest_mode|delivery_status|polarity|remote_irr|trig_mode|mask|dest_id)$/,
    reason: "bit-fields of what redirtbl gives as one u64",
  },
  { pattern: /^kvm_nested_state\.(data|vmx|svm)$/, reason: "zero-length: what follows the header, declared apart" },
];

export function excludedBy(list: readonly Exclusion[], name: string): string | undefined {
  return list.find(({ pattern }) => pattern.test(name))?.reason;
}
