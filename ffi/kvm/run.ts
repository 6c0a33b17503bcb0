/**
 * struct kvm_run, the page shared between a vCPU and its VMM: include/uapi/linux/kvm.h, Linux v6.1 (x86-64), and what later
 * versions put into its union. Offsets in bytes.
 */
import { array, bytes, nested, struct, u8, u16, u32, u64, u64n, type View } from "../struct.ts";
import { KvmDebugExitArch, KvmVcpuEvents } from "./events.ts";
import { KvmHypervExit } from "./hyperv.ts";
import { KvmRegs, KvmSregs } from "./regs.ts";
import { KvmXenExit } from "./xen.ts";

const Hw = struct("kvm_run.hw", 8, { hardware_exit_reason: u64(0) });
const FailEntry = struct("kvm_run.fail_entry", 16, { hardware_entry_failure_reason: u64(0), cpu: u32(8) });
const Ex = struct("kvm_run.ex", 8, { exception: u32(0), error_code: u32(4) });
const Io = struct("kvm_run.io", 16, {
  direction: u8(0), //    KVM_EXIT_IO_IN or KVM_EXIT_IO_OUT
  size: u8(1), //         bytes per access: 1, 2 or 4
  port: u16(2),
  count: u32(4), //       accesses, not bytes: above 1 for string I/O
  data_offset: u64n(8), // bytes from the start of kvm_run
});
const Debug = struct("kvm_run.debug", 32, { arch: nested(0, KvmDebugExitArch) });
const Mmio = struct("kvm_run.mmio", 24, { phys_addr: u64n(0), data: bytes(8, 8), len: u32(16), is_write: u8(20) });
const Hypercall = struct("kvm_run.hypercall", 72, {
  nr: u64(0),
  args: array(8, 6, u64),
  ret: u64(56), //      user → kernel
  longmode: u32(64),
  flags: u64n(64), //   since Linux 6.4, in one union with longmode: KVM_EXIT_HYPERCALL_LONG_MODE
});
const TprAccess = struct("kvm_run.tpr_access", 16, { rip: u64(0), is_write: u32(8), pad: u32(12) });
const Internal = struct("kvm_run.internal", 136, { suberror: u32(0), ndata: u32(4), data: array(8, 16, u64) });
const EmulationFailure = struct("kvm_run.emulation_failure", 32, {
  suberror: u32(0),
  ndata: u32(4), // above 0 where `flags` is valid
  flags: u64n(8),
  insn_size: u8(16),
  insn_bytes: bytes(17, 15),
});
const SystemEvent = struct("kvm_run.system_event", 136, {
  type: u32(0),
  ndata: u32(4),
  flags: u64(8),
  data: array(8, 16, u64), // one union with flags; ndata of them, with KVM_CAP_SYSTEM_EVENT_DATA
});
const Eoi = struct("kvm_run.eoi", 1, { vector: u8(0) });
const Msr = struct("kvm_run.msr", 24, {
  error: u8(0), //   user → kernel: 1 raises #GP
  pad: bytes(1, 7),
  reason: u32(8), // KVM_MSR_EXIT_REASON_*
  index: u32(12),
  data: u64(16), //  kernel ↔ user
});
const Notify = struct("kvm_run.notify", 4, { flags: u32(0) });
const TdxUnknown = struct("kvm_run.tdx.unknown", 48, { ret: u64(0), data: array(8, 5, u64) });
const TdxGetQuote = struct("kvm_run.tdx.get_quote", 24, { ret: u64(0), gpa: u64n(8), size: u64n(16) });
const TdxInfo = struct("kvm_run.tdx.get_tdvmcall_info", 48, {
  ret: u64(0),
  leaf: u64(8),
  r11: u64(16),
  r12: u64(24),
  r13: u64(32),
  r14: u64(40),
});
const TdxNotify = struct("kvm_run.tdx.setup_event_notify", 16, { ret: u64(0), vector: u64(8) });
const Tdx = struct("kvm_run.tdx", 64, {
  flags: u64(0),
  nr: u64(8),
  unknown: nested(16, TdxUnknown),
  get_quote: nested(16, TdxGetQuote),
  get_tdvmcall_info: nested(16, TdxInfo),
  setup_event_notify: nested(16, TdxNotify),
});
const MemoryFault = struct("kvm_run.memory_fault", 24, { flags: u64n(0), gpa: u64n(8), size: u64n(16) });

/** Register classes shared through kvm_run; which ones, by kvm_valid_regs and kvm_dirty_regs. */
export const KvmSyncRegs = struct("kvm_sync_regs", 520, {
  regs: nested(0, KvmRegs),
  sregs: nested(144, KvmSregs),
  events: nested(456, KvmVcpuEvents),
});
export type KvmSyncRegs = View<typeof KvmSyncRegs>;

const S = struct("kvm_run.s", 2048, { regs: nested(0, KvmSyncRegs), padding: bytes(0, 2048) });

/** The members from `hw` to `tdx` are one union, valid by exit_reason. */
export const KvmRun = struct("kvm_run", 2352, {
  request_interrupt_window: u8(0), // in
  immediate_exit: u8(1), //           in: 1 makes KVM_RUN finish pending I/O and return EINTR
  padding1: bytes(2, 6),
  exit_reason: u32(8), //             KVM_EXIT_*
  ready_for_interrupt_injection: u8(12),
  if_flag: u8(13),
  flags: u16(14), //                  KVM_RUN_X86_*
  cr8: u64(16),
  apic_base: u64(24),
  hw: nested(32, Hw), //                              KVM_EXIT_UNKNOWN
  fail_entry: nested(32, FailEntry), //               KVM_EXIT_FAIL_ENTRY
  ex: nested(32, Ex), //                              KVM_EXIT_EXCEPTION
  io: nested(32, Io), //                              KVM_EXIT_IO
  debug: nested(32, Debug), //                        KVM_EXIT_DEBUG
  mmio: nested(32, Mmio), //                          KVM_EXIT_MMIO
  hypercall: nested(32, Hypercall), //                KVM_EXIT_HYPERCALL
  tpr_access: nested(32, TprAccess), //               KVM_EXIT_TPR_ACCESS
  internal: nested(32, Internal), //                  KVM_EXIT_INTERNAL_ERROR
  emulation_failure: nested(32, EmulationFailure), // the same, sub-error KVM_INTERNAL_ERROR_EMULATION
  system_event: nested(32, SystemEvent), //           KVM_EXIT_SYSTEM_EVENT
  eoi: nested(32, Eoi), //                            KVM_EXIT_IOAPIC_EOI
  hyperv: nested(32, KvmHypervExit), //               KVM_EXIT_HYPERV
  msr: nested(32, Msr), //                            KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR
  xen: nested(32, KvmXenExit), //                     KVM_EXIT_XEN
  notify: nested(32, Notify), //                      KVM_EXIT_NOTIFY
  memory_fault: nested(32, MemoryFault), //           KVM_EXIT_MEMORY_FAULT; with KVM_RUN failing by EFAULT or EHWPOISON
  tdx: nested(32, Tdx), //                            KVM_EXIT_TDX
  padding: bytes(32, 256),
  kvm_valid_regs: u64n(288), //       in: KVM_SYNC_X86_* to store at each exit
  kvm_dirty_regs: u64n(296), //       in: KVM_SYNC_X86_* to load at the next entry
  s: nested(304, S),
});
export type KvmRun = View<typeof KvmRun>;

export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_EXCEPTION = 1;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HYPERCALL = 3;
export const KVM_EXIT_DEBUG = 4;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_SET_TPR = 11;
export const KVM_EXIT_TPR_ACCESS = 12;
export const KVM_EXIT_DCR = 15; // another architecture's, as OSI, WATCHDOG and EPR: names for an unexpected number
export const KVM_EXIT_NMI = 16;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_OSI = 18;
export const KVM_EXIT_WATCHDOG = 21;
export const KVM_EXIT_EPR = 23;
export const KVM_EXIT_SYSTEM_EVENT = 24;
export const KVM_EXIT_IOAPIC_EOI = 26;
export const KVM_EXIT_HYPERV = 27;
export const KVM_EXIT_X86_RDMSR = 29;
export const KVM_EXIT_X86_WRMSR = 30;
export const KVM_EXIT_DIRTY_RING_FULL = 31;
export const KVM_EXIT_AP_RESET_HOLD = 32;
export const KVM_EXIT_X86_BUS_LOCK = 33;
export const KVM_EXIT_XEN = 34;
export const KVM_EXIT_NOTIFY = 37;
export const KVM_EXIT_MEMORY_FAULT = 39;
export const KVM_EXIT_TDX = 40;

export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;

export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1;

export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;
export const KVM_SYSTEM_EVENT_WAKEUP = 4;
export const KVM_SYSTEM_EVENT_SUSPEND = 5;
export const KVM_SYSTEM_EVENT_SEV_TERM = 6;
export const KVM_SYSTEM_EVENT_TDX_FATAL = 7;

export const KVM_MSR_EXIT_REASON_INVAL = 1;
export const KVM_MSR_EXIT_REASON_UNKNOWN = 2;
export const KVM_MSR_EXIT_REASON_FILTER = 4;

export const KVM_EXIT_HYPERCALL_LONG_MODE = 1;
export const KVM_NOTIFY_CONTEXT_INVALID = 1;
export const KVM_MEMORY_EXIT_FLAG_PRIVATE = 8;

export const KVM_RUN_X86_SMM = 1;
export const KVM_RUN_X86_BUS_LOCK = 2;
export const KVM_RUN_X86_GUEST_MODE = 4;

export const KVM_SYNC_X86_REGS = 1;
export const KVM_SYNC_X86_SREGS = 2;
export const KVM_SYNC_X86_EVENTS = 4;
export const KVM_SYNC_X86_VALID_FIELDS = 7;
export const SYNC_REGS_SIZE_BYTES = 2048;

/** Pages from the start of the vCPU's mapping. */
export const KVM_PIO_PAGE_OFFSET = 1;
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 2;
export const KVM_DIRTY_LOG_PAGE_OFFSET = 64;
