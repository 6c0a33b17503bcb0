/**
 * KVM's ioctl requests for x86, one per line, grouped by the fd that takes them: include/uapi/linux/kvm.h, Linux v6.1, and
 * what later versions added. The argument is a number where _IO says so, else the address of the struct named.
 */
import { KvmEnableCap } from "./cap.ts";
import { KvmCoalescedMmioZone } from "./coalesced.ts";
import { KvmCpuid, KvmCpuid2 } from "./cpuid.ts";
import { KvmCreateDevice, KvmDeviceAttr } from "./device.ts";
import * as events from "./events.ts";
import { KvmHypervEventfd } from "./hyperv.ts";
import * as irq from "./irq.ts";
import * as memory from "./memory.ts";
import { KvmMsrFilter, KvmMsrList, KvmMsrs } from "./msrs.ts";
import { KvmNestedState } from "./nested.ts";
import { KvmPmuEventFilter } from "./pmu.ts";
import * as regs from "./regs.ts";
import { KvmXenHvmAttr, KvmXenHvmConfig, KvmXenVcpuAttr } from "./xen.ts";

export const KVMIO = 0xae;

interface Sized {
  readonly size: number;
}
const U64: Sized = { size: 8 };
/** unsigned long, x86-64. */
const ULONG: Sized = { size: 8 };

// <asm-generic/ioctl.h>: direction << 30 | size << 16 | type << 8 | number
const request = (direction: number, number: number, size: number) =>
  ((direction << 30) | (size << 16) | (KVMIO << 8) | number) >>> 0;
const _IO = (number: number) => request(0, number, 0);
const _IOW = (number: number, { size }: Sized) => request(1, number, size);
const _IOR = (number: number, { size }: Sized) => request(2, number, size);
const _IOWR = (number: number, { size }: Sized) => request(3, number, size);

// On /dev/kvm
export const KVM_GET_API_VERSION = _IO(0x00);
export const KVM_CREATE_VM = _IO(0x01); // returns an fd
export const KVM_GET_MSR_INDEX_LIST = _IOWR(0x02, KvmMsrList);
export const KVM_CHECK_EXTENSION = _IO(0x03); // also on a VM
export const KVM_GET_VCPU_MMAP_SIZE = _IO(0x04); // returns bytes
export const KVM_GET_SUPPORTED_CPUID = _IOWR(0x05, KvmCpuid2);
export const KVM_GET_EMULATED_CPUID = _IOWR(0x09, KvmCpuid2);
export const KVM_GET_MSR_FEATURE_INDEX_LIST = _IOWR(0x0a, KvmMsrList);

// On a VM
export const KVM_CREATE_VCPU = _IO(0x41); // returns an fd
export const KVM_GET_DIRTY_LOG = _IOW(0x42, memory.KvmDirtyLog);
export const KVM_SET_NR_MMU_PAGES = _IO(0x44);
export const KVM_GET_NR_MMU_PAGES = _IO(0x45);
export const KVM_SET_USER_MEMORY_REGION = _IOW(0x46, memory.KvmUserspaceMemoryRegion);
export const KVM_SET_TSS_ADDR = _IO(0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = _IOW(0x48, U64);
export const KVM_SET_USER_MEMORY_REGION2 = _IOW(0x49, memory.KvmUserspaceMemoryRegion2);
export const KVM_CREATE_IRQCHIP = _IO(0x60);
export const KVM_IRQ_LINE = _IOW(0x61, irq.KvmIrqLevel);
export const KVM_GET_IRQCHIP = _IOWR(0x62, irq.KvmIrqchip);
export const KVM_SET_IRQCHIP = _IOR(0x63, irq.KvmIrqchip);
export const KVM_CREATE_PIT = _IO(0x64);
export const KVM_GET_PIT = _IOWR(0x65, irq.KvmPitState);
export const KVM_SET_PIT = _IOR(0x66, irq.KvmPitState);
export const KVM_IRQ_LINE_STATUS = _IOWR(0x67, irq.KvmIrqLevel);
export const KVM_REGISTER_COALESCED_MMIO = _IOW(0x67, KvmCoalescedMmioZone);
export const KVM_UNREGISTER_COALESCED_MMIO = _IOW(0x68, KvmCoalescedMmioZone);
export const KVM_SET_GSI_ROUTING = _IOW(0x6a, irq.KvmIrqRouting);
export const KVM_REINJECT_CONTROL = _IO(0x71); // argument: kvm_reinject_control, for all that _IO says
export const KVM_IRQFD = _IOW(0x76, irq.KvmIrqfd);
export const KVM_CREATE_PIT2 = _IOW(0x77, irq.KvmPitConfig);
export const KVM_SET_BOOT_CPU_ID = _IO(0x78);
export const KVM_IOEVENTFD = _IOW(0x79, irq.KvmIoeventfd);
export const KVM_XEN_HVM_CONFIG = _IOW(0x7a, KvmXenHvmConfig);
export const KVM_SET_CLOCK = _IOW(0x7b, irq.KvmClockData);
export const KVM_GET_CLOCK = _IOR(0x7c, irq.KvmClockData);
export const KVM_GET_PIT2 = _IOR(0x9f, irq.KvmPitState2);
export const KVM_SET_PIT2 = _IOW(0xa0, irq.KvmPitState2);
export const KVM_SIGNAL_MSI = _IOW(0xa5, irq.KvmMsi);
export const KVM_SET_PMU_EVENT_FILTER = _IOW(0xb2, KvmPmuEventFilter);
export const KVM_MEMORY_ENCRYPT_OP = _IOWR(0xba, ULONG); // argument: kvm_sev_cmd, or a TDX command
export const KVM_MEMORY_ENCRYPT_REG_REGION = _IOR(0xbb, memory.KvmEncRegion);
export const KVM_MEMORY_ENCRYPT_UNREG_REGION = _IOR(0xbc, memory.KvmEncRegion);
export const KVM_HYPERV_EVENTFD = _IOW(0xbd, KvmHypervEventfd);
export const KVM_CLEAR_DIRTY_LOG = _IOWR(0xc0, memory.KvmClearDirtyLog);
export const KVM_X86_SET_MSR_FILTER = _IOW(0xc6, KvmMsrFilter);
export const KVM_RESET_DIRTY_RINGS = _IO(0xc7); // returns how many entries
export const KVM_XEN_HVM_GET_ATTR = _IOWR(0xc8, KvmXenHvmAttr);
export const KVM_XEN_HVM_SET_ATTR = _IOW(0xc9, KvmXenHvmAttr);
export const KVM_XEN_HVM_EVTCHN_SEND = _IOW(0xd0, irq.KvmIrqRoutingXenEvtchn);
export const KVM_SET_MEMORY_ATTRIBUTES = _IOW(0xd2, memory.KvmMemoryAttributes);
export const KVM_CREATE_GUEST_MEMFD = _IOWR(0xd4, memory.KvmCreateGuestMemfd); // returns an fd
export const KVM_CREATE_DEVICE = _IOWR(0xe0, KvmCreateDevice);

// On a vCPU
export const KVM_RUN = _IO(0x80);
export const KVM_GET_REGS = _IOR(0x81, regs.KvmRegs);
export const KVM_SET_REGS = _IOW(0x82, regs.KvmRegs);
export const KVM_GET_SREGS = _IOR(0x83, regs.KvmSregs);
export const KVM_SET_SREGS = _IOW(0x84, regs.KvmSregs);
export const KVM_TRANSLATE = _IOWR(0x85, regs.KvmTranslation);
export const KVM_INTERRUPT = _IOW(0x86, events.KvmInterrupt);
export const KVM_GET_MSRS = _IOWR(0x88, KvmMsrs); // also on /dev/kvm, for feature MSRs
export const KVM_SET_MSRS = _IOW(0x89, KvmMsrs);
export const KVM_SET_CPUID = _IOW(0x8a, KvmCpuid);
export const KVM_SET_SIGNAL_MASK = _IOW(0x8b, events.KvmSignalMask);
export const KVM_GET_FPU = _IOR(0x8c, regs.KvmFpu);
export const KVM_SET_FPU = _IOW(0x8d, regs.KvmFpu);
export const KVM_GET_LAPIC = _IOR(0x8e, regs.KvmLapicState);
export const KVM_SET_LAPIC = _IOW(0x8f, regs.KvmLapicState);
export const KVM_SET_CPUID2 = _IOW(0x90, KvmCpuid2);
export const KVM_GET_CPUID2 = _IOWR(0x91, KvmCpuid2);
export const KVM_TPR_ACCESS_REPORTING = _IOWR(0x92, events.KvmTprAccessCtl);
export const KVM_SET_VAPIC_ADDR = _IOW(0x93, events.KvmVapicAddr);
export const KVM_GET_MP_STATE = _IOR(0x98, events.KvmMpState);
export const KVM_SET_MP_STATE = _IOW(0x99, events.KvmMpState);
export const KVM_NMI = _IO(0x9a);
export const KVM_SET_GUEST_DEBUG = _IOW(0x9b, events.KvmGuestDebug);
export const KVM_X86_SETUP_MCE = _IOW(0x9c, U64);
export const KVM_X86_GET_MCE_CAP_SUPPORTED = _IOR(0x9d, U64); // on /dev/kvm
export const KVM_X86_SET_MCE = _IOW(0x9e, events.KvmX86Mce);
export const KVM_GET_VCPU_EVENTS = _IOR(0x9f, events.KvmVcpuEvents);
export const KVM_SET_VCPU_EVENTS = _IOW(0xa0, events.KvmVcpuEvents);
export const KVM_GET_DEBUGREGS = _IOR(0xa1, regs.KvmDebugregs);
export const KVM_SET_DEBUGREGS = _IOW(0xa2, regs.KvmDebugregs);
export const KVM_SET_TSC_KHZ = _IO(0xa2); // also on a VM
export const KVM_GET_TSC_KHZ = _IO(0xa3); // also on a VM
export const KVM_ENABLE_CAP = _IOW(0xa3, KvmEnableCap); // also on a VM
export const KVM_GET_XSAVE = _IOR(0xa4, regs.KvmXsave);
export const KVM_SET_XSAVE = _IOW(0xa5, regs.KvmXsave);
export const KVM_GET_XCRS = _IOR(0xa6, regs.KvmXcrs);
export const KVM_SET_XCRS = _IOW(0xa7, regs.KvmXcrs);
export const KVM_GET_ONE_REG = _IOW(0xab, regs.KvmOneReg);
export const KVM_SET_ONE_REG = _IOW(0xac, regs.KvmOneReg);
export const KVM_KVMCLOCK_CTRL = _IO(0xad);
export const KVM_GET_REG_LIST = _IOWR(0xb0, regs.KvmRegList);
export const KVM_SMI = _IO(0xb7);
export const KVM_GET_NESTED_STATE = _IOWR(0xbe, KvmNestedState);
export const KVM_SET_NESTED_STATE = _IOW(0xbf, KvmNestedState);
export const KVM_GET_SUPPORTED_HV_CPUID = _IOWR(0xc1, KvmCpuid2); // also on /dev/kvm
export const KVM_XEN_VCPU_GET_ATTR = _IOWR(0xca, KvmXenVcpuAttr);
export const KVM_XEN_VCPU_SET_ATTR = _IOW(0xcb, KvmXenVcpuAttr);
export const KVM_GET_SREGS2 = _IOR(0xcc, regs.KvmSregs2);
export const KVM_SET_SREGS2 = _IOW(0xcd, regs.KvmSregs2);
export const KVM_GET_STATS_FD = _IO(0xce); // also on a VM; returns an fd
export const KVM_GET_XSAVE2 = _IOR(0xcf, regs.KvmXsave);
export const KVM_PRE_FAULT_MEMORY = _IOWR(0xd5, memory.KvmPreFaultMemory);

// On a device; the attributes also on a vCPU, a VM and /dev/kvm
export const KVM_SET_DEVICE_ATTR = _IOW(0xe1, KvmDeviceAttr);
export const KVM_GET_DEVICE_ATTR = _IOW(0xe2, KvmDeviceAttr);
export const KVM_HAS_DEVICE_ATTR = _IOW(0xe3, KvmDeviceAttr);

// KVM_CREATE_VM's argument, by KVM_CAP_VM_TYPES.
export const KVM_X86_DEFAULT_VM = 0;
export const KVM_X86_SW_PROTECTED_VM = 1;
export const KVM_X86_SEV_VM = 2;
export const KVM_X86_SEV_ES_VM = 3;
export const KVM_X86_SNP_VM = 4;
export const KVM_X86_TDX_VM = 5;

/** What KVM_GET_API_VERSION has returned since Linux 2.6.22. */
export const KVM_API_VERSION = 12;
