/**
 * KVM's ioctl requests for x86, one per line, grouped by the fd that takes them: include/uapi/linux/kvm.h, Linux v6.1, and
 * what later versions added. The argument is a number where _IO says so, else the address of the struct named.
 *
 * Written out instead of computed from the structs' sizes: a script that runs a guest then loads only the structs it
 * touches, and the C compiler's numbers are compared either way.
 */
export const KVMIO = 0xae;

// On /dev/kvm
export const KVM_GET_API_VERSION = 0x0000_ae00; // _IO(0x00)
export const KVM_CREATE_VM = 0x0000_ae01; // _IO(0x01); returns an fd
export const KVM_GET_MSR_INDEX_LIST = 0xc004_ae02; // _IOWR(0x02, KvmMsrList)
export const KVM_CHECK_EXTENSION = 0x0000_ae03; // _IO(0x03); also on a VM
export const KVM_GET_VCPU_MMAP_SIZE = 0x0000_ae04; // _IO(0x04); returns bytes
export const KVM_GET_SUPPORTED_CPUID = 0xc008_ae05; // _IOWR(0x05, KvmCpuid2)
export const KVM_GET_EMULATED_CPUID = 0xc008_ae09; // _IOWR(0x09, KvmCpuid2)
export const KVM_GET_MSR_FEATURE_INDEX_LIST = 0xc004_ae0a; // _IOWR(0x0a, KvmMsrList)

// On a VM
export const KVM_CREATE_VCPU = 0x0000_ae41; // _IO(0x41); returns an fd
export const KVM_GET_DIRTY_LOG = 0x4010_ae42; // _IOW(0x42, KvmDirtyLog)
export const KVM_SET_NR_MMU_PAGES = 0x0000_ae44; // _IO(0x44)
export const KVM_GET_NR_MMU_PAGES = 0x0000_ae45; // _IO(0x45)
export const KVM_SET_USER_MEMORY_REGION = 0x4020_ae46; // _IOW(0x46, KvmUserspaceMemoryRegion)
export const KVM_SET_TSS_ADDR = 0x0000_ae47; // _IO(0x47)
export const KVM_SET_IDENTITY_MAP_ADDR = 0x4008_ae48; // _IOW(0x48, U64)
export const KVM_SET_USER_MEMORY_REGION2 = 0x40a0_ae49; // _IOW(0x49, KvmUserspaceMemoryRegion2)
export const KVM_CREATE_IRQCHIP = 0x0000_ae60; // _IO(0x60)
export const KVM_IRQ_LINE = 0x4008_ae61; // _IOW(0x61, KvmIrqLevel)
export const KVM_GET_IRQCHIP = 0xc208_ae62; // _IOWR(0x62, KvmIrqchip)
export const KVM_SET_IRQCHIP = 0x8208_ae63; // _IOR(0x63, KvmIrqchip)
export const KVM_CREATE_PIT = 0x0000_ae64; // _IO(0x64)
export const KVM_GET_PIT = 0xc048_ae65; // _IOWR(0x65, KvmPitState)
export const KVM_SET_PIT = 0x8048_ae66; // _IOR(0x66, KvmPitState)
export const KVM_IRQ_LINE_STATUS = 0xc008_ae67; // _IOWR(0x67, KvmIrqLevel)
export const KVM_REGISTER_COALESCED_MMIO = 0x4010_ae67; // _IOW(0x67, KvmCoalescedMmioZone)
export const KVM_UNREGISTER_COALESCED_MMIO = 0x4010_ae68; // _IOW(0x68, KvmCoalescedMmioZone)
export const KVM_SET_GSI_ROUTING = 0x4008_ae6a; // _IOW(0x6a, KvmIrqRouting)
export const KVM_REINJECT_CONTROL = 0x0000_ae71; // _IO(0x71); argument: kvm_reinject_control, for all that _IO says
export const KVM_IRQFD = 0x4020_ae76; // _IOW(0x76, KvmIrqfd)
export const KVM_CREATE_PIT2 = 0x4040_ae77; // _IOW(0x77, KvmPitConfig)
export const KVM_SET_BOOT_CPU_ID = 0x0000_ae78; // _IO(0x78)
export const KVM_IOEVENTFD = 0x4040_ae79; // _IOW(0x79, KvmIoeventfd)
export const KVM_XEN_HVM_CONFIG = 0x4038_ae7a; // _IOW(0x7a, KvmXenHvmConfig)
export const KVM_SET_CLOCK = 0x4030_ae7b; // _IOW(0x7b, KvmClockData)
export const KVM_GET_CLOCK = 0x8030_ae7c; // _IOR(0x7c, KvmClockData)
export const KVM_GET_PIT2 = 0x8070_ae9f; // _IOR(0x9f, KvmPitState2)
export const KVM_SET_PIT2 = 0x4070_aea0; // _IOW(0xa0, KvmPitState2)
export const KVM_SIGNAL_MSI = 0x4020_aea5; // _IOW(0xa5, KvmMsi)
export const KVM_SET_PMU_EVENT_FILTER = 0x4020_aeb2; // _IOW(0xb2, KvmPmuEventFilter)
export const KVM_MEMORY_ENCRYPT_OP = 0xc008_aeba; // _IOWR(0xba, ULONG); argument: kvm_sev_cmd, or a TDX command
export const KVM_MEMORY_ENCRYPT_REG_REGION = 0x8010_aebb; // _IOR(0xbb, KvmEncRegion)
export const KVM_MEMORY_ENCRYPT_UNREG_REGION = 0x8010_aebc; // _IOR(0xbc, KvmEncRegion)
export const KVM_HYPERV_EVENTFD = 0x4018_aebd; // _IOW(0xbd, KvmHypervEventfd)
export const KVM_CLEAR_DIRTY_LOG = 0xc018_aec0; // _IOWR(0xc0, KvmClearDirtyLog)
export const KVM_X86_SET_MSR_FILTER = 0x4188_aec6; // _IOW(0xc6, KvmMsrFilter)
export const KVM_RESET_DIRTY_RINGS = 0x0000_aec7; // _IO(0xc7); returns how many entries
export const KVM_XEN_HVM_GET_ATTR = 0xc048_aec8; // _IOWR(0xc8, KvmXenHvmAttr)
export const KVM_XEN_HVM_SET_ATTR = 0x4048_aec9; // _IOW(0xc9, KvmXenHvmAttr)
export const KVM_XEN_HVM_EVTCHN_SEND = 0x400c_aed0; // _IOW(0xd0, KvmIrqRoutingXenEvtchn)
export const KVM_SET_MEMORY_ATTRIBUTES = 0x4020_aed2; // _IOW(0xd2, KvmMemoryAttributes)
export const KVM_CREATE_GUEST_MEMFD = 0xc040_aed4; // _IOWR(0xd4, KvmCreateGuestMemfd); returns an fd
export const KVM_CREATE_DEVICE = 0xc00c_aee0; // _IOWR(0xe0, KvmCreateDevice)

// On a vCPU
export const KVM_RUN = 0x0000_ae80; // _IO(0x80)
export const KVM_GET_REGS = 0x8090_ae81; // _IOR(0x81, KvmRegs)
export const KVM_SET_REGS = 0x4090_ae82; // _IOW(0x82, KvmRegs)
export const KVM_GET_SREGS = 0x8138_ae83; // _IOR(0x83, KvmSregs)
export const KVM_SET_SREGS = 0x4138_ae84; // _IOW(0x84, KvmSregs)
export const KVM_TRANSLATE = 0xc018_ae85; // _IOWR(0x85, KvmTranslation)
export const KVM_INTERRUPT = 0x4004_ae86; // _IOW(0x86, KvmInterrupt)
export const KVM_GET_MSRS = 0xc008_ae88; // _IOWR(0x88, KvmMsrs); also on /dev/kvm, for feature MSRs
export const KVM_SET_MSRS = 0x4008_ae89; // _IOW(0x89, KvmMsrs)
export const KVM_SET_CPUID = 0x4008_ae8a; // _IOW(0x8a, KvmCpuid)
export const KVM_SET_SIGNAL_MASK = 0x4004_ae8b; // _IOW(0x8b, KvmSignalMask)
export const KVM_GET_FPU = 0x81a0_ae8c; // _IOR(0x8c, KvmFpu)
export const KVM_SET_FPU = 0x41a0_ae8d; // _IOW(0x8d, KvmFpu)
export const KVM_GET_LAPIC = 0x8400_ae8e; // _IOR(0x8e, KvmLapicState)
export const KVM_SET_LAPIC = 0x4400_ae8f; // _IOW(0x8f, KvmLapicState)
export const KVM_SET_CPUID2 = 0x4008_ae90; // _IOW(0x90, KvmCpuid2)
export const KVM_GET_CPUID2 = 0xc008_ae91; // _IOWR(0x91, KvmCpuid2)
export const KVM_TPR_ACCESS_REPORTING = 0xc028_ae92; // _IOWR(0x92, KvmTprAccessCtl)
export const KVM_SET_VAPIC_ADDR = 0x4008_ae93; // _IOW(0x93, KvmVapicAddr)
export const KVM_GET_MP_STATE = 0x8004_ae98; // _IOR(0x98, KvmMpState)
export const KVM_SET_MP_STATE = 0x4004_ae99; // _IOW(0x99, KvmMpState)
export const KVM_NMI = 0x0000_ae9a; // _IO(0x9a)
export const KVM_SET_GUEST_DEBUG = 0x4048_ae9b; // _IOW(0x9b, KvmGuestDebug)
export const KVM_X86_SETUP_MCE = 0x4008_ae9c; // _IOW(0x9c, U64)
export const KVM_X86_GET_MCE_CAP_SUPPORTED = 0x8008_ae9d; // _IOR(0x9d, U64); on /dev/kvm
export const KVM_X86_SET_MCE = 0x4040_ae9e; // _IOW(0x9e, KvmX86Mce)
export const KVM_GET_VCPU_EVENTS = 0x8040_ae9f; // _IOR(0x9f, KvmVcpuEvents)
export const KVM_SET_VCPU_EVENTS = 0x4040_aea0; // _IOW(0xa0, KvmVcpuEvents)
export const KVM_GET_DEBUGREGS = 0x8080_aea1; // _IOR(0xa1, KvmDebugregs)
export const KVM_SET_DEBUGREGS = 0x4080_aea2; // _IOW(0xa2, KvmDebugregs)
export const KVM_SET_TSC_KHZ = 0x0000_aea2; // _IO(0xa2); also on a VM
export const KVM_GET_TSC_KHZ = 0x0000_aea3; // _IO(0xa3); also on a VM
export const KVM_ENABLE_CAP = 0x4068_aea3; // _IOW(0xa3, KvmEnableCap); also on a VM
export const KVM_GET_XSAVE = 0x9000_aea4; // _IOR(0xa4, KvmXsave)
export const KVM_SET_XSAVE = 0x5000_aea5; // _IOW(0xa5, KvmXsave)
export const KVM_GET_XCRS = 0x8188_aea6; // _IOR(0xa6, KvmXcrs)
export const KVM_SET_XCRS = 0x4188_aea7; // _IOW(0xa7, KvmXcrs)
export const KVM_GET_ONE_REG = 0x4010_aeab; // _IOW(0xab, KvmOneReg)
export const KVM_SET_ONE_REG = 0x4010_aeac; // _IOW(0xac, KvmOneReg)
export const KVM_KVMCLOCK_CTRL = 0x0000_aead; // _IO(0xad)
export const KVM_GET_REG_LIST = 0xc008_aeb0; // _IOWR(0xb0, KvmRegList)
export const KVM_SMI = 0x0000_aeb7; // _IO(0xb7)
export const KVM_GET_NESTED_STATE = 0xc080_aebe; // _IOWR(0xbe, KvmNestedState)
export const KVM_SET_NESTED_STATE = 0x4080_aebf; // _IOW(0xbf, KvmNestedState)
export const KVM_GET_SUPPORTED_HV_CPUID = 0xc008_aec1; // _IOWR(0xc1, KvmCpuid2); also on /dev/kvm
export const KVM_XEN_VCPU_GET_ATTR = 0xc048_aeca; // _IOWR(0xca, KvmXenVcpuAttr)
export const KVM_XEN_VCPU_SET_ATTR = 0x4048_aecb; // _IOW(0xcb, KvmXenVcpuAttr)
export const KVM_GET_SREGS2 = 0x8140_aecc; // _IOR(0xcc, KvmSregs2)
export const KVM_SET_SREGS2 = 0x4140_aecd; // _IOW(0xcd, KvmSregs2)
export const KVM_GET_STATS_FD = 0x0000_aece; // _IO(0xce); also on a VM; returns an fd
export const KVM_GET_XSAVE2 = 0x9000_aecf; // _IOR(0xcf, KvmXsave)
export const KVM_PRE_FAULT_MEMORY = 0xc040_aed5; // _IOWR(0xd5, KvmPreFaultMemory)

// On a device; the attributes also on a vCPU, a VM and /dev/kvm
export const KVM_SET_DEVICE_ATTR = 0x4018_aee1; // _IOW(0xe1, KvmDeviceAttr)
export const KVM_GET_DEVICE_ATTR = 0x4018_aee2; // _IOW(0xe2, KvmDeviceAttr)
export const KVM_HAS_DEVICE_ATTR = 0x4018_aee3; // _IOW(0xe3, KvmDeviceAttr)

// KVM_CREATE_VM's argument, by KVM_CAP_VM_TYPES.
export const KVM_X86_DEFAULT_VM = 0;
export const KVM_X86_SW_PROTECTED_VM = 1;
export const KVM_X86_SEV_VM = 2;
export const KVM_X86_SEV_ES_VM = 3;
export const KVM_X86_SNP_VM = 4;
export const KVM_X86_TDX_VM = 5;

/** What KVM_GET_API_VERSION has returned since Linux 2.6.22. */
export const KVM_API_VERSION = 12;
