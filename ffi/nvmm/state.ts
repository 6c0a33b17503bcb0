/**
 * The state of a vCPU: struct nvmm_x64_state of <nvmm_x86.h>, NetBSD 10/11 and DragonFly alike. Offsets in bytes.
 */
import { array, bytes, nested, struct, structs, u8, u16, u32, u64, type View } from "../struct.ts";

/** Indices into `segs`. GDT and IDT use base and limit only. */
export const NVMM_X64_SEG_ES = 0;
export const NVMM_X64_SEG_CS = 1;
export const NVMM_X64_SEG_SS = 2;
export const NVMM_X64_SEG_DS = 3;
export const NVMM_X64_SEG_FS = 4;
export const NVMM_X64_SEG_GS = 5;
export const NVMM_X64_SEG_GDT = 6;
export const NVMM_X64_SEG_IDT = 7;
export const NVMM_X64_SEG_LDT = 8;
export const NVMM_X64_SEG_TR = 9;
export const NVMM_X64_NSEG = 10;

/** Indices into `gprs`: the order in which x86 encodes them, then RIP and RFLAGS. */
export const NVMM_X64_GPR_RAX = 0;
export const NVMM_X64_GPR_RCX = 1;
export const NVMM_X64_GPR_RDX = 2;
export const NVMM_X64_GPR_RBX = 3;
export const NVMM_X64_GPR_RSP = 4;
export const NVMM_X64_GPR_RBP = 5;
export const NVMM_X64_GPR_RSI = 6;
export const NVMM_X64_GPR_RDI = 7;
export const NVMM_X64_GPR_R8 = 8;
export const NVMM_X64_GPR_R9 = 9;
export const NVMM_X64_GPR_R10 = 10;
export const NVMM_X64_GPR_R11 = 11;
export const NVMM_X64_GPR_R12 = 12;
export const NVMM_X64_GPR_R13 = 13;
export const NVMM_X64_GPR_R14 = 14;
export const NVMM_X64_GPR_R15 = 15;
export const NVMM_X64_GPR_RIP = 16;
export const NVMM_X64_GPR_RFLAGS = 17;
export const NVMM_X64_NGPR = 18;

/** Indices into `crs`. */
export const NVMM_X64_CR_CR0 = 0;
export const NVMM_X64_CR_CR2 = 1;
export const NVMM_X64_CR_CR3 = 2;
export const NVMM_X64_CR_CR4 = 3;
export const NVMM_X64_CR_CR8 = 4;
export const NVMM_X64_CR_XCR0 = 5;
export const NVMM_X64_NCR = 6;

/** Indices into `drs`. */
export const NVMM_X64_DR_DR0 = 0;
export const NVMM_X64_DR_DR1 = 1;
export const NVMM_X64_DR_DR2 = 2;
export const NVMM_X64_DR_DR3 = 3;
export const NVMM_X64_DR_DR6 = 4;
export const NVMM_X64_DR_DR7 = 5;
export const NVMM_X64_NDR = 6;

/** Indices into `msrs`. */
export const NVMM_X64_MSR_EFER = 0;
export const NVMM_X64_MSR_STAR = 1;
export const NVMM_X64_MSR_LSTAR = 2;
export const NVMM_X64_MSR_CSTAR = 3;
export const NVMM_X64_MSR_SFMASK = 4;
export const NVMM_X64_MSR_KERNELGSBASE = 5;
export const NVMM_X64_MSR_SYSENTER_CS = 6;
export const NVMM_X64_MSR_SYSENTER_ESP = 7;
export const NVMM_X64_MSR_SYSENTER_EIP = 8;
export const NVMM_X64_MSR_PAT = 9;
export const NVMM_X64_MSR_TSC = 10;
export const NVMM_X64_NMSR = 11;

/** Register groups, for getstate and setstate. */
export const NVMM_X64_STATE_SEGS = 0x01;
export const NVMM_X64_STATE_GPRS = 0x02;
export const NVMM_X64_STATE_CRS = 0x04;
export const NVMM_X64_STATE_DRS = 0x08;
export const NVMM_X64_STATE_MSRS = 0x10;
export const NVMM_X64_STATE_INTR = 0x20;
export const NVMM_X64_STATE_FPU = 0x40;
export const NVMM_X64_STATE_ALL = 0x7f;

/** A C bit field: lowest bit in its storage unit, width. */
export type Bits = readonly [low: number, width: number];

/** Bit fields of `nvmm_x64_state_seg.attrib`. */
export const SEG_ATTRIB = {
  type: [0, 4],
  s: [4, 1],
  dpl: [5, 2],
  p: [7, 1], //    0: unusable on Intel
  avl: [8, 1],
  l: [9, 1],
  def: [10, 1],
  g: [11, 1],
  rsvd: [12, 4],
} as const satisfies Record<string, Bits>;

export const NvmmX64StateSeg = struct("nvmm_x64_state_seg", 16, {
  selector: u16(0),
  attrib: u16(2), // SEG_ATTRIB
  limit: u32(4), //  bytes, whatever g says
  base: u64(8),
});
export type NvmmX64StateSeg = View<typeof NvmmX64StateSeg>;

/** Bit fields of `nvmm_x64_state_intr`, and of the flag word in `nvmm_x86_exit.exitstate`. */
export const INTR = {
  int_shadow: [0, 1],
  int_window_exiting: [1, 1],
  nmi_window_exiting: [2, 1],
  evt_pending: [3, 1], // read-only
  rsvd: [4, 60],
} as const satisfies Record<string, Bits>;

export const INT_SHADOW = 1 << 0;
export const INT_WINDOW_EXITING = 1 << 1;
export const NMI_WINDOW_EXITING = 1 << 2;
export const EVT_PENDING = 1 << 3;

/** The 64 flag bits as two words: all that is in use lies in the first. */
export const NvmmX64StateIntr = struct("nvmm_x64_state_intr", 8, { flags: u32(0), flags_high: u32(4) });
export type NvmmX64StateIntr = View<typeof NvmmX64StateIntr>;

const FpAddr32 = struct("fp_addr.fa_32", 8, { fa_off: u32(0), fa_seg: u16(4), fa_opcode: u16(6) });

/** union fp_addr (DragonFly: union nvmm_x64_state_fpu_addr). */
export const FpAddr = struct("fp_addr", 8, { fa_64: u64(0), fa_32: nested(0, FpAddr32) });

/** struct fpaccfx (DragonFly: nvmm_x64_state_fpu_mmreg). */
export const FpAcc = struct("fpaccfx", 16, { mantissa: u64(0), exp_sign: u16(8) });

/** struct xmmreg (DragonFly: nvmm_x64_state_fpu_xmmreg). */
export const XmmReg = struct("xmmreg", 16, { xmm_bytes: bytes(0, 16) });

/** struct fxsave (DragonFly: nvmm_x64_state_fpu): the FXSAVE image. */
export const Fxsave = struct("fxsave", 512, {
  fx_cw: u16(0),
  fx_sw: u16(2),
  fx_tw: u8(4),
  fx_zero: u8(5),
  fx_opcode: u16(6),
  fx_ip: nested(8, FpAddr),
  fx_dp: nested(16, FpAddr),
  fx_mxcsr: u32(24),
  fx_mxcsr_mask: u32(28), // 0 here zeroes MXCSR when committed
  fx_87_ac: structs(32, 8, FpAcc),
  fx_xmm: structs(160, 16, XmmReg),
  fx_rsvd: bytes(416, 96), // NetBSD names the last 48 fx_kernel
});
export type Fxsave = View<typeof Fxsave>;

export const NvmmX64State = struct("nvmm_x64_state", 1008, {
  segs: structs(0, NVMM_X64_NSEG, NvmmX64StateSeg),
  gprs: array(160, NVMM_X64_NGPR, u64),
  crs: array(304, NVMM_X64_NCR, u64),
  drs: array(352, NVMM_X64_NDR, u64),
  msrs: array(400, NVMM_X64_NMSR, u64),
  intr: nested(488, NvmmX64StateIntr),
  fpu: nested(496, Fxsave),
});
export type NvmmX64State = View<typeof NvmmX64State>;
