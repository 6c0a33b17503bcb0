/**
 * CPUID bits that the x87 and vector instructions here may claim: each one only because every instruction of the feature
 * is in the registry. A test walks iced's tables and fails when one is missing.
 */
export interface CpuidBit {
  readonly name: string;
  readonly leaf: number;
  readonly subleaf?: number;
  readonly register: "eax" | "ebx" | "ecx" | "edx";
  readonly bit: number;
}

function bit(name: string, leaf: number, register: CpuidBit["register"], index: number): CpuidBit {
  return { name, leaf, register, bit: index };
}

/** Names as iced (and the manual) spell the features. */
export const implementedFeatures: readonly CpuidBit[] = [
  bit("FPU", 1, "edx", 0),
  bit("MMX", 1, "edx", 23),
  bit("FXSR", 1, "edx", 24),
  bit("SSE", 1, "edx", 25),
  bit("SSE2", 1, "edx", 26),
  bit("SSE3", 1, "ecx", 0),
  bit("PCLMULQDQ", 1, "ecx", 1),
  bit("SSSE3", 1, "ecx", 9),
  bit("FMA", 1, "ecx", 12),
  bit("SSE4_1", 1, "ecx", 19),
  bit("SSE4_2", 1, "ecx", 20),
  bit("AES", 1, "ecx", 25),
  bit("XSAVE", 1, "ecx", 26),
  bit("AVX", 1, "ecx", 28),
  bit("F16C", 1, "ecx", 29),
  { name: "AVX2", leaf: 7, subleaf: 0, register: "ebx", bit: 5 },
  { name: "VAES", leaf: 7, subleaf: 0, register: "ecx", bit: 9 },
  { name: "VPCLMULQDQ", leaf: 7, subleaf: 0, register: "ecx", bit: 10 },
  { name: "XSAVEOPT", leaf: 0xd, subleaf: 1, register: "eax", bit: 0 },
  { name: "XSAVEC", leaf: 0xd, subleaf: 1, register: "eax", bit: 1 },
];
