/**
 * What generated code takes for granted. A region is translated for one mode and only entered in it, so none of this is
 * asked at run time. Interned: equal modes are the same object.
 */
export interface Mode {
  /** 1 and up; what the jump cache compares. */
  readonly id: number;
  /** Default operand and address size by CS. */
  readonly bits: 16 | 32 | 64;
  /** Width of the stack pointer by SS.B (64 in 64-bit mode). */
  readonly stackBits: 16 | 32 | 64;
  /** CPL 3: page checks use the user half of the TLB. */
  readonly user: boolean;
  readonly cpl: 0 | 1 | 2 | 3;
  /** Real mode or virtual-8086 mode: segment loads are shifts. */
  readonly real: boolean;
  readonly v86: boolean;
  /** EFER.LMA: long mode, 64-bit or compatibility. */
  readonly long: boolean;
  /** ES, CS, SS, DS have base 0 and no limit that a 32-bit offset can exceed. FS and GS are always checked. */
  readonly flat: boolean;
  readonly csBase: bigint;
  /** Highest instruction pointer, −1 in 64-bit mode. */
  readonly csLimit: number;
  /** CR0.AM and RFLAGS.AC at CPL 3. */
  readonly alignCheck: boolean;
  /** What x87/MMX, SSE and AVX instructions do: run, or raise. */
  readonly x87: Gate;
  readonly mmx: Gate;
  readonly sse: Gate;
  readonly avx: Gate;
  /** CR4.OSXSAVE. */
  readonly osxsave: boolean;
  /** IN and OUT need no look at the TSS. */
  readonly ioAllowed: boolean;
}

export type Gate = "run" | "ud" | "nm";
