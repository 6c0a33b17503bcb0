import type { Opcode } from "./forms.ts";

/** Why a form is not compared with the host. */
export interface Exclusion {
  readonly reason: string;
  readonly matches: (opcode: Opcode, bits: 16 | 32 | 64, host: ReadonlySet<string>) => boolean;
}

const words = (...names: string[]) => {
  const set = new Set(names);
  return ({ word }: Opcode) => set.has(word);
};

/** The processor's maker, which `hostFlags` has among the flags. */
const AMD = "AuthenticAMD";

/** The first that matches counts. */
export const EXCLUSIONS: readonly Exclusion[] = [
  {
    reason: "two instructions: WAIT and the form without it",
    matches: ({ word, name }) =>
      /^F(stcw|stsw|stenv|save|init|clex|eni|disi|setpm)(_|$)/i.test(`${word}_`) && !/^Fn/.test(name),
  },
  { reason: "reads a clock", matches: words("Rdtsc", "Rdtscp", "Rdpmc") },
  { reason: "reads random numbers", matches: words("Rdrand", "Rdseed") },
  { reason: "tells processors apart: CPUID, XCR0, processor number", matches: words("Cpuid", "Xgetbv", "Rdpid") },
  {
    reason: "UMIP: Linux answers in the processor's place",
    matches: words("Sgdt", "Sidt", "Sldt", "Smsw", "Str"),
  },
  {
    reason: "another processor's: 8086, 386, 486, Knights Corner",
    matches: ({ name }) => /^Popw_CS$|_tr(_|$)|486|_KNC_/.test(name),
  },
  {
    reason: "near branches with 66h in 64-bit mode: AMD truncates RIP, Intel ignores the prefix",
    matches: ({ name, kinds }, bits) =>
      bits === 64 &&
      (kinds.some((k) => k.startsWith("br16")) || /^(Retnw|(Call|Jmp)_rm16|Loop\w*_16|Jr?e?cxz_rel8_16)/.test(name)),
  },
  {
    reason: "0F 0D with a register: #UD on AMD, a NOP on Intel; with memory it is decoded as PREFETCHW",
    matches: ({ name }) => name.endsWith("_0F0D"),
  },
  {
    reason: "far pointers with 64-bit offsets: AMD ignores REX.W",
    matches: ({ name, encoding }, _bits, host) => encoding === 0 && name.endsWith("_m1664") && host.has(AMD),
  },
  {
    reason: "MOVSXD of 16 bits: Intel reads 16 bits, AMD 32",
    matches: ({ name }) => name === "Movsxd_r16_rm16",
  },
  { reason: "enters Linux", matches: words("Syscall", "Sysenter") },
  { reason: "asks the hypervisor", matches: words("Vmcall", "Vmmcall") },
];

/** Linux's flag for features that not every x86-64 processor has, by iced's name; `.256` where the YMM form has one of its own. */
export const HOST_NEEDS: Readonly<Record<string, string>> = {
  ADX: "adx",
  AES: "aes",
  AVX: "avx",
  AVX2: "avx2",
  BMI1: "bmi1",
  BMI2: "bmi2",
  CMPXCHG16B: "cx16",
  F16C: "f16c",
  FMA: "fma",
  FSGSBASE: "fsgsbase",
  LZCNT: "abm",
  MOVBE: "movbe",
  PCLMULQDQ: "pclmulqdq",
  POPCNT: "popcnt",
  SSE3: "pni",
  SSE4_1: "sse4_1",
  SSE4_2: "sse4_2",
  SSSE3: "ssse3",
  VAES: "vaes",
  VPCLMULQDQ: "vpclmulqdq",
  "AES.256": "vaes",
  "PCLMULQDQ.256": "vpclmulqdq",
  XSAVE: "xsave",
  XSAVEC: "xsavec",
  XSAVEOPT: "xsaveopt",
};
