/**
 * vCPU state: arch/x86/include/uapi/asm/kvm.h and include/uapi/linux/kvm.h, Linux v6.1 (x86-64). Offsets in bytes.
 */
import { array, bytes, flexible, nested, struct, structs, u8, u16, u32, u64, u64n, type View } from "../struct.ts";

/** KVM_GET_REGS, KVM_SET_REGS, and kvm_sync_regs.regs. */
export const KvmRegs = struct("kvm_regs", 144, {
  rax: u64(0),
  rbx: u64(8),
  rcx: u64(16),
  rdx: u64(24),
  rsi: u64(32),
  rdi: u64(40),
  rsp: u64(48),
  rbp: u64(56),
  r8: u64(64),
  r9: u64(72),
  r10: u64(80),
  r11: u64(88),
  r12: u64(96),
  r13: u64(104),
  r14: u64(112),
  r15: u64(120),
  rip: u64(128),
  rflags: u64(136),
});
export type KvmRegs = View<typeof KvmRegs>;

/** One segment register with its hidden part. */
export const KvmSegment = struct("kvm_segment", 24, {
  base: u64(0),
  limit: u32(8), //    bytes, already scaled by g
  selector: u16(12),
  type: u8(14),
  present: u8(15),
  dpl: u8(16),
  db: u8(17), //       default operand size: 1 = 32 bits
  s: u8(18), //        1 = code or data, 0 = system
  l: u8(19), //        1 = 64-bit code
  g: u8(20),
  avl: u8(21),
  unusable: u8(22),
  padding: u8(23),
});
export type KvmSegment = View<typeof KvmSegment>;

/** GDTR, IDTR. */
export const KvmDtable = struct("kvm_dtable", 16, { base: u64(0), limit: u16(8), padding: array(10, 3, u16) });
export type KvmDtable = View<typeof KvmDtable>;

export const KVM_NR_INTERRUPTS = 256;

/** KVM_GET_SREGS, KVM_SET_SREGS, and kvm_sync_regs.sregs. */
export const KvmSregs = struct("kvm_sregs", 312, {
  cs: nested(0, KvmSegment),
  ds: nested(24, KvmSegment),
  es: nested(48, KvmSegment),
  fs: nested(72, KvmSegment),
  gs: nested(96, KvmSegment),
  ss: nested(120, KvmSegment),
  tr: nested(144, KvmSegment),
  ldt: nested(168, KvmSegment),
  gdt: nested(192, KvmDtable),
  idt: nested(208, KvmDtable),
  cr0: u64(224),
  cr2: u64(232),
  cr3: u64(240),
  cr4: u64(248),
  cr8: u64(256),
  efer: u64(264),
  apic_base: u64(272),
  interrupt_bitmap: array(280, 4, u64), // one bit per vector waiting for injection
});
export type KvmSregs = View<typeof KvmSregs>;

/** KVM_GET_SREGS2, KVM_SET_SREGS2: with the PDPTEs of PAE paging. */
export const KvmSregs2 = struct("kvm_sregs2", 320, {
  cs: nested(0, KvmSegment),
  ds: nested(24, KvmSegment),
  es: nested(48, KvmSegment),
  fs: nested(72, KvmSegment),
  gs: nested(96, KvmSegment),
  ss: nested(120, KvmSegment),
  tr: nested(144, KvmSegment),
  ldt: nested(168, KvmSegment),
  gdt: nested(192, KvmDtable),
  idt: nested(208, KvmDtable),
  cr0: u64(224),
  cr2: u64(232),
  cr3: u64(240),
  cr4: u64(248),
  cr8: u64(256),
  efer: u64(264),
  apic_base: u64(272),
  flags: u64n(280),
  pdptrs: array(288, 4, u64),
});
export type KvmSregs2 = View<typeof KvmSregs2>;
export const KVM_SREGS2_FLAGS_PDPTRS_VALID = 1;

/** KVM_GET_FPU, KVM_SET_FPU: x87 and XMM0-15. */
export const KvmFpu = struct("kvm_fpu", 416, {
  fpr: bytes(0, 128), //  8 × 16: ST0 to ST7, ten bytes each used
  fcw: u16(128),
  fsw: u16(130),
  ftwx: u8(132), //       one bit per register, as FXSAVE writes it
  pad1: u8(133),
  last_opcode: u16(134),
  last_ip: u64(136),
  last_dp: u64(144),
  xmm: bytes(152, 256), // 16 × 16
  mxcsr: u32(408),
  pad2: u32(412),
});
export type KvmFpu = View<typeof KvmFpu>;

/** KVM_GET_XSAVE(2), KVM_SET_XSAVE: the XSAVE area; KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) on the VM gives its true size. */
export const KvmXsave = struct("kvm_xsave", 4096, { region: array(0, 1024, u32), extra: flexible(4096, u32) });
export type KvmXsave = View<typeof KvmXsave>;

export const KvmXcr = struct("kvm_xcr", 16, { xcr: u32(0), reserved: u32(4), value: u64(8) });
export type KvmXcr = View<typeof KvmXcr>;

export const KVM_MAX_XCRS = 16;
/** KVM_GET_XCRS, KVM_SET_XCRS. */
export const KvmXcrs = struct("kvm_xcrs", 392, {
  nr_xcrs: u32(0),
  flags: u32(4),
  xcrs: structs(8, 16, KvmXcr),
  padding: array(264, 16, u64),
});
export type KvmXcrs = View<typeof KvmXcrs>;

/** KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS. */
export const KvmDebugregs = struct("kvm_debugregs", 128, {
  db: array(0, 4, u64), // DR0 to DR3
  dr6: u64(32),
  dr7: u64(40),
  flags: u64n(48),
  reserved: array(56, 9, u64),
});
export type KvmDebugregs = View<typeof KvmDebugregs>;

/** KVM_GET_LAPIC, KVM_SET_LAPIC: the register page, registers 16 bytes apart. */
export const KvmLapicState = struct("kvm_lapic_state", 1024, { regs: bytes(0, 1024) });
export type KvmLapicState = View<typeof KvmLapicState>;
export const KVM_APIC_REG_SIZE = 0x400;

/** KVM_TRANSLATE: linear to physical by the vCPU's page tables. */
export const KvmTranslation = struct("kvm_translation", 24, {
  linear_address: u64(0), //    in
  physical_address: u64n(8), // out, as all below
  valid: u8(16),
  writeable: u8(17),
  usermode: u8(18),
  pad: bytes(19, 5),
});
export type KvmTranslation = View<typeof KvmTranslation>;

/** KVM_GET_ONE_REG, KVM_SET_ONE_REG: x86 has them since Linux 6.18. */
export const KvmOneReg = struct("kvm_one_reg", 16, { id: u64(0), addr: u64n(8) });
export type KvmOneReg = View<typeof KvmOneReg>;

/** KVM_GET_REG_LIST: E2BIG with the needed `n` when too small. */
export const KvmRegList = struct("kvm_reg_list", 8, { n: u64n(0), reg: flexible(8, u64) });
export type KvmRegList = View<typeof KvmRegList>;

// Register ids of ONE_REG: architecture, size, number.
export const KVM_REG_ARCH_MASK = 0xff00000000000000n;
export const KVM_REG_GENERIC = 0n;
export const KVM_REG_X86 = 0x2000000000000000n;
export const KVM_REG_SIZE_SHIFT = 52;
export const KVM_REG_SIZE_MASK = 0x00f0000000000000n;
export const KVM_REG_SIZE_U8 = 0n;
export const KVM_REG_SIZE_U16 = 0x0010000000000000n;
export const KVM_REG_SIZE_U32 = 0x0020000000000000n;
export const KVM_REG_SIZE_U64 = 0x0030000000000000n;
export const KVM_REG_SIZE_U128 = 0x0040000000000000n;
export const KVM_REG_SIZE_U256 = 0x0050000000000000n;
export const KVM_REG_SIZE_U512 = 0x0060000000000000n;
export const KVM_REG_SIZE_U1024 = 0x0070000000000000n;
export const KVM_REG_SIZE_U2048 = 0x0080000000000000n;
export const KVM_X86_REG_TYPE_MSR = 2;
export const KVM_X86_REG_TYPE_KVM = 3;
export const KVM_REG_GUEST_SSP = 0;
