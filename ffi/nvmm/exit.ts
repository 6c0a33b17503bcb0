/**
 * Exits and events: struct nvmm_x86_exit and struct nvmm_x86_event of <nvmm_x86.h>, NetBSD 10/11 and DragonFly alike.
 * Offsets in bytes.
 */
import { bytes, i8, i32, nested, struct, u8, u16, u32, u64, u64n, type View } from "../struct.ts";

export const NVMM_VCPU_EXIT_NONE = 0x0n;
export const NVMM_VCPU_EXIT_MEMORY = 0x1n;
export const NVMM_VCPU_EXIT_IO = 0x2n;
export const NVMM_VCPU_EXIT_SHUTDOWN = 0x1000n;
export const NVMM_VCPU_EXIT_INT_READY = 0x1001n;
export const NVMM_VCPU_EXIT_NMI_READY = 0x1002n;
export const NVMM_VCPU_EXIT_HALTED = 0x1003n;
export const NVMM_VCPU_EXIT_TPR_CHANGED = 0x1004n;
export const NVMM_VCPU_EXIT_RDMSR = 0x2000n;
export const NVMM_VCPU_EXIT_WRMSR = 0x2001n;
export const NVMM_VCPU_EXIT_MONITOR = 0x2002n;
export const NVMM_VCPU_EXIT_MWAIT = 0x2003n;
export const NVMM_VCPU_EXIT_CPUID = 0x2004n;
/** NetBSD only. */
export const NVMM_VCPU_EXIT_STOPPED = 0xffff_ffff_ffff_fffen;
export const NVMM_VCPU_EXIT_INVALID = 0xffff_ffff_ffff_ffffn;

export const NvmmX86ExitMemory = struct("nvmm_x86_exit_memory", 32, {
  prot: i32(0), // one of NVMM_PROT_READ, WRITE, EXEC
  gpa: u64n(8),
  inst_len: u8(16), // 0 on Intel
  inst_bytes: bytes(17, 15),
});
export type NvmmX86ExitMemory = View<typeof NvmmX86ExitMemory>;

export const NvmmX86ExitIo = struct("nvmm_x86_exit_io", 24, {
  in: u8(0), //           bool
  port: u16(2),
  seg: i8(4), //          segment index, -1 when unknown
  address_size: u8(5), // bytes: 2, 4, 8
  operand_size: u8(6), // bytes: 1, 2, 4
  rep: u8(7), //          bool
  str: u8(8), //          bool
  npc: u64(16), //        RIP behind the instruction
});
export type NvmmX86ExitIo = View<typeof NvmmX86ExitIo>;

export const NvmmX86ExitRdmsr = struct("nvmm_x86_exit_rdmsr", 16, { msr: u32(0), npc: u64(8) });
export const NvmmX86ExitWrmsr = struct("nvmm_x86_exit_wrmsr", 24, { msr: u32(0), val: u64(8), npc: u64(16) });
export const NvmmX86ExitInsn = struct("nvmm_x86_exit_insn", 8, { npc: u64(0) });
/** hwcode: AMD's exit code or Intel's exit reason; all ones for a failed VM entry. */
export const NvmmX86ExitInvalid = struct("nvmm_x86_exit_invalid", 8, { hwcode: u64(0) });

const Union = struct("nvmm_x86_exit.u", 32, {
  mem: nested(0, NvmmX86ExitMemory),
  io: nested(0, NvmmX86ExitIo),
  rdmsr: nested(0, NvmmX86ExitRdmsr),
  wrmsr: nested(0, NvmmX86ExitWrmsr),
  insn: nested(0, NvmmX86ExitInsn),
  inv: nested(0, NvmmX86ExitInvalid),
});

/** Filled only by a run that entered the guest: then bit 1 of rflags is 1, as in every guest. Else all zero. */
const ExitState = struct("nvmm_x86_exit.exitstate", 24, {
  rflags: u64(0),
  cr8: u64(8),
  flags: u32(16), // INTR
  flags_high: u32(20),
});

export const NvmmX86Exit = struct("nvmm_x86_exit", 64, {
  reason: u64(0),
  u: nested(8, Union),
  exitstate: nested(40, ExitState),
});
export type NvmmX86Exit = View<typeof NvmmX86Exit>;

export const NVMM_VCPU_EVENT_EXCP = 0;
export const NVMM_VCPU_EVENT_INTR = 1;

const Excp = struct("nvmm_x86_event.u.excp", 8, { error: u64(0) });
const EventUnion = struct("nvmm_x86_event.u", 8, { excp: nested(0, Excp) });

export const NvmmX86Event = struct("nvmm_x86_event", 16, {
  type: u32(0),
  vector: u8(4), // with type INTR, 2 is an NMI
  u: nested(8, EventUnion),
});
export type NvmmX86Event = View<typeof NvmmX86Event>;
