/** Where things lie, for the host's worker and for the guest alike: linear addresses and offsets in bytes. */

/** Base of the segments with a base, so that offsets of 16 bits reach code and data. */
export const BASE = 0x2000_0000;
/** One page, filled with HLT: wherever an instruction ends or jumps, the next one is #GP(0). */
export const CODE = BASE + 0x1000;
/** Where the instruction under test lies. */
export const SLOT = CODE + 0x800;
export const SLOT_BYTES = 64;
export const HLT = 0xf4;
/** Two pages of data that may be written, between pages that are not mapped. */
export const DATA = BASE + 0x4000;
export const DATA_BYTES = 0x2000;
/** A page that may be read only. */
export const READ_ONLY = BASE + 0x8000;

/** One case, as the host's worker takes and returns it. */
export const Record = {
  /** 16 × u64, in the order x86 encodes them. */
  gpr: 0,
  rip: 0x80,
  rflags: 0x88,
  /** u32 each, of the exception that ended the case; CR2 as u64. */
  vector: 0x90,
  error: 0x94,
  cr2: 0x98,
  /** u16 each: ES, CS, SS, DS, FS, GS, as x86 numbers them. */
  selectors: 0xa0,
  fsBase: 0xb0,
  gsBase: 0xb8,
  /** u32 each: whether the FPU image counts; where in the pool the data begins; offset in the data and length of the patch. */
  fpu: 0xd0,
  pool: 0xd4,
  patchAt: 0xd8,
  patchBytes: 0xdc,
  /** Bytes that every outcome has. */
  integerBytes: 0xc0,
  /** XSAVE image in the standard format: x87, SSE, AVX; then the word that Linux wants behind it. */
  image: 0x100,
  imageBytes: 832,
  magic2: 0x440,
  patch: 0x480,
  patchMost: 0x400,
  /** `SLOT_BYTES`, filled up with HLT. In an outcome: nothing. */
  code: 0x880,
  size: 0x8c0,
} as const;

/** The file that the test and the worker share. */
export const Shared = {
  count: 0,
  done: 4,
  /** i64: what modify_ldt() answered. */
  ldtResult: 8,
  ldtCount: 16,
  /** Twelve bytes: the signature of a hypervisor, CPUID leaf 4000_0000h. */
  hypervisor: 20,
  /** struct user_desc, 16 bytes each. */
  ldt: 0x40,
  pool: 0x1000,
  poolBytes: 4 * DATA_BYTES,
  inputs: 0x1000 + 4 * DATA_BYTES,
  most: 1024,
} as const;
export const OUTPUTS: number = Shared.inputs + Shared.most * Record.size;
export const OUTPUT_DATA: number = OUTPUTS + Shared.most * Record.size;
export const SHARED_BYTES: number = OUTPUT_DATA + Shared.most * DATA_BYTES;
