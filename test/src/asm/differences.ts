/** Where the assembler means to differ from NASM 2.16.01, and why. */
export interface Difference {
  /** Matches `bits text`, as in `64 rdpid rax`. */
  readonly match: RegExp;
  readonly reason: string;
}

/** Instructions that both assemble, to different bytes, or that only NASM assembles. */
export const INSTRUCTION_DIFFERENCES: readonly Difference[] = [
  {
    match: /^\d\d v\w*(ph|sh|phx|ph2\w+|sh2\w+|2ph\w*|2sh)\b/,
    reason: "NASM's AVX512-FP16 table has wrong opcodes and scales disp8 by 4; Intel's SDM and GNU as agree with us",
  },
  { match: /^\d\d vmovw\b/, reason: "NASM scales the disp8 of AVX512-FP16's VMOVW wrongly; GNU as agrees with us" },
  { match: /^\d\d vcvtneps2bf16\b/, reason: "NASM writes the 66 prefix field instead of F3; GNU as agrees with us" },
  { match: /^\d\d vcvtuqq2ph\b/, reason: "NASM encodes the broadcast forms with the wrong vector length" },
  {
    match: /^64 vcvtusi2ss\b/,
    reason: "NASM uses opcode map 5 for the rounding forms with a 64-bit source; GNU as agrees with us",
  },
  { match: /^\d\d ptwrite\b/, reason: "NASM leaves the F3 prefix out, which makes it XSAVE; GNU as agrees with us" },
  {
    match: /^16 (rdssp|incssp|wrss|wruss|rdshr|wrshr)/,
    reason: "NASM adds an operand-size prefix, which makes WRSSD another instruction",
  },
  { match: /^\d\d vmgexit\b/, reason: "NASM emits 0F 01 C1, which is VMCALL; AMD's manual has 0F 01 D9" },
  { match: /^64 invpcid\b/, reason: "NASM adds a REX.W prefix that changes nothing" },
  { match: /^64 vextractps\b/, reason: "NASM takes the longer EVEX form for a 64-bit destination" },
  {
    match: /^32 pop cs\b/,
    reason: "0F as POP CS exists on the 8086 only; in 32-bit code it is reached with an operand-size prefix",
  },
  {
    match: /^64 k(not|mov|ortest)\b/,
    reason: "iced has Knights Corner's mask instructions under these names, NASM the AVX-512 ones of another width",
  },
  {
    match: /^\d\d (movdir64b|enqcmds?)\b/,
    reason: "the register has the size of the address; NASM emits a mismatched pair, we refuse it",
  },
];

/** Where GNU as and we differ on lines that NASM refuses or gets wrong. */
export const GNU_DIFFERENCES: readonly Difference[] = [
  {
    match: /\[(bx|bp|si|di|[er]?\w\w?[^\]]*)\]/,
    reason: "GNU as writes the address-size prefix before the operand-size prefix, NASM after it",
  },
  {
    match: /^16 bnd(cl|cu|cn|mk) \w+, dword \[0x/,
    reason: "GNU as refuses 16-bit addresses for MPX and switches to 32-bit ones",
  },
  { match: /^16 encodekey/, reason: "GNU as adds an operand-size prefix that changes nothing" },
  { match: /strict/, reason: "GNU as has no strict and takes the short form" },
  {
    match: /^64 v?(pinsr[bw]|pextrw|pmovmskb)\b/,
    reason: "GNU as drops REX.W where only the low bits of the register count",
  },
];

/** Directives and expressions that mean something else here. The programs of programs.ts stay clear of them. */
export const DIRECTIVE_DIFFERENCES: readonly string[] = [
  "a <=> b is -1, 0 or 1 as documented; NASM 2.16.01 yields 1 or 0",
  "-'a' negates the character; NASM drops the sign of a lone string",
  "floating-point numbers beyond the largest become infinity; NASM makes a NaN of some; quadruple precision is exact to the last bit",
  "a macro may be used in its own argument: f(f(1))",
  "global, extern and common are errors: a flat binary has no use for them",
  "any arithmetic on addresses is allowed, as the layout is known: label >> 16, label & 0xff",
  "%include and incbin look beside the file that names them before the include paths",
  "sizes that depend on each other in a circle may settle at another fixpoint",
  "ymm16-31, zmm16-31 and 64-bit registers are refused outside 64-bit code; NASM encodes some of them",
];
