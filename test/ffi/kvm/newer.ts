/**
 * Declarations later than Linux 6.1, with the version that brought them and the value in that version's
 * include/uapi/linux/kvm.h or arch/x86/include/uapi/asm/kvm.h. An installed header that has them is believed instead.
 */
interface Newer {
  readonly since: string;
  readonly values: Readonly<Record<string, bigint>>;
}

/** Offset and size in bytes of each member. */
function layout(tag: string, members: readonly [name: string, offset: number, size: number][]): Record<string, bigint> {
  return Object.fromEntries(
    members.flatMap(([name, offset, size]) => [
      [`offsetof ${tag}.${name}`, BigInt(offset)],
      [`sizeof ${tag}.${name}`, BigInt(size)],
    ]),
  );
}

export const NEWER: readonly Newer[] = [
  {
    since: "6.2",
    values: {
      KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: 225n,
      KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG: 0x40n,
      KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG: 5n,
      ...layout("kvm_xen_hvm_attr", [["u.runstate_update_flag", 8, 1]]),
    },
  },
  {
    since: "6.3",
    values: { KVM_CAP_PMU_EVENT_MASKED_EVENTS: 226n, KVM_PMU_EVENT_FLAG_MASKED_EVENTS: 1n },
  },
  {
    since: "6.4",
    values: { KVM_EXIT_HYPERCALL_LONG_MODE: 1n, ...layout("kvm_run", [["hypercall.flags", 96, 8]]) },
  },
  {
    since: "6.8",
    values: {
      KVM_CAP_USER_MEMORY2: 231n,
      KVM_CAP_MEMORY_FAULT_INFO: 232n,
      KVM_CAP_MEMORY_ATTRIBUTES: 233n,
      KVM_CAP_GUEST_MEMFD: 234n,
      KVM_CAP_VM_TYPES: 235n,
      KVM_EXIT_MEMORY_FAULT: 39n,
      KVM_MEMORY_EXIT_FLAG_PRIVATE: 8n,
      KVM_MEM_GUEST_MEMFD: 4n,
      KVM_MEMORY_ATTRIBUTE_PRIVATE: 8n,
      KVM_X86_DEFAULT_VM: 0n,
      KVM_X86_SW_PROTECTED_VM: 1n,
      KVM_SET_USER_MEMORY_REGION2: 0x40a0ae49n,
      KVM_SET_MEMORY_ATTRIBUTES: 0x4020aed2n,
      KVM_CREATE_GUEST_MEMFD: 0xc040aed4n,
      KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE: 0x80n,
      ...layout("kvm_run", [
        ["memory_fault", 32, 24],
        ["memory_fault.flags", 32, 8],
        ["memory_fault.gpa", 40, 8],
        ["memory_fault.size", 48, 8],
      ]),
      "sizeof kvm_userspace_memory_region2": 160n,
      ...layout("kvm_userspace_memory_region2", [
        ["slot", 0, 4],
        ["flags", 4, 4],
        ["guest_phys_addr", 8, 8],
        ["memory_size", 16, 8],
        ["userspace_addr", 24, 8],
        ["guest_memfd_offset", 32, 8],
        ["guest_memfd", 40, 4],
        ["pad1", 44, 4],
        ["pad2", 48, 112],
      ]),
      "sizeof kvm_memory_attributes": 32n,
      ...layout("kvm_memory_attributes", [
        ["address", 0, 8],
        ["size", 8, 8],
        ["attributes", 16, 8],
        ["flags", 24, 8],
      ]),
      "sizeof kvm_create_guest_memfd": 64n,
      ...layout("kvm_create_guest_memfd", [
        ["size", 0, 8],
        ["flags", 8, 8],
        ["reserved", 16, 48],
      ]),
    },
  },
  {
    since: "6.9",
    values: {
      KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA: 0x100n,
      KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA: 6n,
      KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA: 9n,
      ...layout("kvm_xen_hvm_attr", [["u.shared_info.hva", 8, 8]]),
      ...layout("kvm_xen_vcpu_attr", [["u.hva", 8, 8]]),
    },
  },
  {
    since: "6.10",
    values: {
      KVM_X86_SEV_VM: 2n,
      KVM_X86_SEV_ES_VM: 3n,
      KVM_X86_GRP_SYSTEM: 0n,
      KVM_X86_GRP_SEV: 1n,
      KVM_X86_SEV_VMSA_FEATURES: 0n,
    },
  },
  {
    since: "6.11",
    values: {
      KVM_CAP_PRE_FAULT_MEMORY: 236n,
      KVM_CAP_X86_APIC_BUS_CYCLES_NS: 237n,
      KVM_CAP_X86_GUEST_MODE: 238n,
      KVM_RUN_X86_GUEST_MODE: 4n,
      KVM_X86_SNP_VM: 4n,
      KVM_PRE_FAULT_MEMORY: 0xc040aed5n,
      "sizeof kvm_pre_fault_memory": 64n,
      ...layout("kvm_pre_fault_memory", [
        ["gpa", 0, 8],
        ["size", 8, 8],
        ["flags", 16, 8],
        ["padding", 24, 40],
      ]),
    },
  },
  { since: "6.12", values: { KVM_X86_QUIRK_SLOT_ZAP_ALL: 0x80n } },
  { since: "6.14", values: { KVM_X86_QUIRK_STUFF_FEATURE_MSRS: 0x100n } },
  {
    since: "6.16",
    values: {
      KVM_X86_QUIRK_IGNORE_GUEST_PAT: 0x200n,
      KVM_X86_TDX_VM: 5n,
      KVM_EXIT_TDX: 40n,
      KVM_SYSTEM_EVENT_TDX_FATAL: 7n,
      ...layout("kvm_run", [
        ["tdx", 32, 64],
        ["tdx.flags", 32, 8],
        ["tdx.nr", 40, 8],
        ["tdx.unknown", 48, 48],
        ["tdx.unknown.ret", 48, 8],
        ["tdx.unknown.data", 56, 40],
        ["tdx.get_quote", 48, 24],
        ["tdx.get_quote.ret", 48, 8],
        ["tdx.get_quote.gpa", 56, 8],
        ["tdx.get_quote.size", 64, 8],
        ["tdx.get_tdvmcall_info", 48, 48],
        ["tdx.get_tdvmcall_info.ret", 48, 8],
        ["tdx.get_tdvmcall_info.leaf", 56, 8],
        ["tdx.get_tdvmcall_info.r11", 64, 8],
        ["tdx.get_tdvmcall_info.r12", 72, 8],
        ["tdx.get_tdvmcall_info.r13", 80, 8],
        ["tdx.get_tdvmcall_info.r14", 88, 8],
        ["tdx.setup_event_notify", 48, 16],
        ["tdx.setup_event_notify.ret", 48, 8],
        ["tdx.setup_event_notify.vector", 56, 8],
      ]),
    },
  },
  { since: "6.17", values: { KVM_X86_DISABLE_EXITS_APERFMPERF: 0x10n } },
  {
    since: "6.18",
    values: {
      KVM_CAP_GUEST_MEMFD_FLAGS: 244n,
      GUEST_MEMFD_FLAG_MMAP: 1n,
      GUEST_MEMFD_FLAG_INIT_SHARED: 2n,
      KVM_X86_REG_TYPE_MSR: 2n,
      KVM_X86_REG_TYPE_KVM: 3n,
      KVM_REG_GUEST_SSP: 0n,
    },
  },
];

/** Each later value by its query. */
export const NEWER_VALUES: ReadonlyMap<string, bigint> = new Map(NEWER.flatMap(({ values }) => Object.entries(values)));
