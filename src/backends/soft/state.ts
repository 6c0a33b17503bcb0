/**
 * Where one software vCPU keeps its state inside the VM's WebAssembly.Memory: offsets in bytes from the vCPU's state
 * base. Little-endian, naturally aligned. Generated code and the TypeScript helpers read and write the same bytes.
 */
export const State = {
  /** 16 × i64, in the order x86 encodes them. Generated code holds them in locals between exits. */
  gpr: 0x000,
  /** i64. */
  rip: 0x080,
  /** i32: RFLAGS without CF, PF, AF, ZF, SF and OF, which the lazy flags below carry. */
  eflags: 0x088,
  /** Lazy arithmetic flags: i32 kind (`flags/kinds.ts`), then three i64 operands: a, b, result. */
  flagKind: 0x08c,
  flagA: 0x090,
  flagB: 0x098,
  flagR: 0x0a0,
  /** Where CF comes from when the kind is INC or DEC: the same four fields. */
  carryKind: 0x0a8,
  carryA: 0x0b0,
  carryB: 0x0b8,
  carryR: 0x0c0,
  /** i32: guest instructions left in this slice. */
  budget: 0x0c8,
  /** i32: number of the fault site when a region leaves at an instruction. */
  site: 0x0cc,
  /** i32: what the instruction that left asks for (`Leave`). */
  leave: 0x0d0,
  /** i32 vector, i32 error code of an exception raised by generated code. */
  vector: 0x0d4,
  errorCode: 0x0d8,
  /** i32: what `Jump.mode` must hold: mode and epoch. */
  jumpTag: 0x0e0,
  /** i32: bytes of the instruction that calls a system helper. */
  length: 0x0e4,
  /** i32: the translated region that left. */
  region: 0x0dc,

  /** ES, CS, SS, DS, FS, GS, LDTR, TR: 64 bytes each, fields in `Seg`. */
  segments: 0x100,
  gdtBase: 0x300,
  gdtLimit: 0x308,
  idtBase: 0x310,
  idtLimit: 0x318,
  /** i64 each. */
  cr0: 0x340,
  cr2: 0x348,
  cr3: 0x350,
  cr4: 0x358,
  cr8: 0x360,
  efer: 0x368,
  xcr0: 0x370,
  /** i64 each: DR0 to DR3, DR6, DR7. */
  dr: 0x380,

  /**
   * x87 and MMX: eight *physical* registers of 16 bytes: 64-bit significand, then 16-bit sign and exponent, then zeros.
   * ST(i) is physical register (top + i) & 7; MMi is the significand of physical register i.
   */
  x87: 0x400,
  /** i32 each. `fsw` without TOP, which `top` carries; `ftw` is the abridged tag word: bit i set when physical register i is not empty. */
  fcw: 0x480,
  fsw: 0x484,
  ftw: 0x488,
  top: 0x48c,
  /** i32: last opcode, 11 bits. */
  fop: 0x490,
  fipSelector: 0x494,
  fdpSelector: 0x498,
  /** i32. */
  mxcsr: 0x49c,
  /** i64 each. */
  fip: 0x4a0,
  fdp: 0x4a8,

  /** 32 × 64 bytes: XMMi is the first 16, YMMi the first 32 bytes. */
  vector0: 0x800,
  /** Stride of a vector register. */
  vectorBytes: 64,

  /** 512 bytes: values of slow loads and stores, arguments and results of helpers. */
  scratch: 0x1000,
  /** 4096 bytes: constants that x87 and vector code may place at start-up. */
  constants: 0x2000,

  /**
   * Software TLB: four tables of 2048 entries, fields in `Tlb`: pages that the supervisor may read, that it may write
   * (without translated code on them), and the same for the user.
   */
  tlb: 0x10000,
  /** Jump cache: 2048 entries, fields in `Jump`. */
  jumps: 0x30000,
  /** Bytes per vCPU. */
  size: 0x40000,
} as const;

/** One segment register, in bytes from its slot. */
export const Seg = {
  /** i64. */
  base: 0,
  /** i64: highest offset that may be read (written) without asking the slow path; −1 to ask it always. */
  readLimit: 8,
  writeLimit: 16,
  /** i32: limit in bytes. */
  limit: 24,
  /** i32: access byte in bits 0–7, AVL L D/B G in bits 8–11, unusable in bit 16. */
  attributes: 28,
  /** i32. */
  selector: 32,
  size: 64,
} as const;

/** Index of a segment register in `State.segments`, as x86 encodes them. */
export const SegIndex = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5, ldt: 6, tr: 7 } as const;
export type SegIndex = (typeof SegIndex)[keyof typeof SegIndex];

/** One TLB entry. A tag is the linear page address, or −1 (odd, so never a page) for none. */
export const Tlb = {
  /** i64. */
  tag: 0,
  /** i32: add to the low 32 bits of the linear address for the WebAssembly address. */
  addend: 8,
  entries: 2048,
  size: 16,
} as const;

/** Offset of a TLB table. */
export function tlbTable(user: boolean, write: boolean): number {
  return State.tlb + ((user ? 2 : 0) + (write ? 1 : 0)) * Tlb.entries * Tlb.size;
}

/** One jump-cache entry. */
export const Jump = {
  /** i64: linear instruction address. */
  linear: 0,
  /** i32: number of the execution mode, 0 for none. */
  mode: 8,
  /** i32: index into the function table. */
  func: 12,
  /** i32: entry of that function. */
  entry: 16,
  entries: 2048,
  size: 32,
} as const;

/** Why a region came back to the run loop. */
export const Leave = {
  /** RIP is where to go on. */
  jump: 0,
  /** The slice's instructions are used up, at a block's start. */
  budget: 1,
  /** The instruction at the site must be executed again on its own: MMIO, a write to translated code. */
  retry: 2,
  /** The instruction at the site raised `vector`. */
  raise: 3,
  /** A helper changed the mode or has an exit ready; RIP is where to go on. */
  helper: 4,
} as const;
export type Leave = (typeof Leave)[keyof typeof Leave];

/** Exception vectors (Intel SDM Vol. 3A, "Exception and Interrupt Vectors"). */
export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  XM: 19,
} as const;
export type Vector = (typeof Vector)[keyof typeof Vector];
