import { describe, expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import { createVm } from "../../../../../src/index.ts";

type Register = "eax" | "ebx" | "ecx" | "edx";
/** A bit of CPUID: leaf, register, bit, its name, and 64-bit code that runs in ring 0 where the feature is there. */
type Feature = readonly [leaf: number | "0xd.1", register: Register, bit: number, name: string, code: string];

const CR4 = (bit: number) => `mov rax, cr4\n bts rax, ${bit}\n mov cr4, rax\n mov rbx, cr4\n bt rbx, ${bit}\n jnc bad`;
const MSR = (index: number) => `mov ecx, ${index}\n rdmsr\n wrmsr`;

const FEATURES: readonly Feature[] = [
  [1, "edx", 0, "FPU", "fld1\n fstp st0"],
  [1, "edx", 2, "DE", `${CR4(3)}`],
  [1, "edx", 3, "PSE", CR4(4)],
  [1, "edx", 4, "TSC", "rdtsc"],
  [1, "edx", 5, "MSR", MSR(0x10)],
  [1, "edx", 6, "PAE", CR4(5)],
  [1, "edx", 8, "CX8", "cmpxchg8b [0x5000]"],
  [
    1,
    "edx",
    11,
    "SEP",
    `${MSR(0x174)}\n ${MSR(0x175)}\n mov ecx, 0x174\n mov eax, 8\n wrmsr\n mov ecx, 0x176\n lea rax, [rel on]\n wrmsr\n sysenter\n on:`,
  ],
  [1, "edx", 12, "MTRR", `mov ecx, 0xfe\n rdmsr\n ${MSR(0x2ff)}\n ${MSR(0x200)}\n ${MSR(0x250)}\n ${MSR(0x26f)}`],
  [1, "edx", 13, "PGE", CR4(7)],
  [1, "edx", 15, "CMOV", "cmovz eax, ebx\n fldz\n fcmove st0, st0"],
  [1, "edx", 16, "PAT", MSR(0x277)],
  [1, "edx", 17, "PSE36", "nop"],
  [1, "edx", 19, "CLFSH", "clflush [0x5000]"],
  [1, "edx", 23, "MMX", "paddb mm0, mm1"],
  [1, "edx", 24, "FXSR", "fxsave [0x5000]"],
  [1, "edx", 25, "SSE", "addps xmm0, xmm1"],
  [1, "edx", 26, "SSE2", "addpd xmm0, xmm1"],
  [1, "ecx", 0, "SSE3", "addsubps xmm0, xmm1"],
  [1, "ecx", 1, "PCLMULQDQ", "pclmulqdq xmm0, xmm1, 1"],
  [1, "ecx", 3, "MONITOR", "db 0x0f, 0x01, 0xc8"],
  [1, "ecx", 5, "VMX", "db 0xf3, 0x0f, 0xc7, 0x34, 0x25, 0, 0x50, 0, 0"],
  [1, "ecx", 6, "SMX", "db 0x0f, 0x37"],
  [1, "ecx", 9, "SSSE3", "pshufb xmm0, xmm1"],
  [1, "ecx", 12, "FMA", "vfmadd132ps xmm0, xmm1, xmm2"],
  [1, "ecx", 13, "CX16", "cmpxchg16b [0x5000]"],
  [1, "ecx", 17, "PCID", CR4(17)],
  [1, "ecx", 19, "SSE4.1", "pmulld xmm0, xmm1"],
  [1, "ecx", 20, "SSE4.2", "pcmpgtq xmm0, xmm1\n crc32 eax, bl"],
  [1, "ecx", 21, "x2APIC", "mov ecx, 0x1b\n rdmsr\n or eax, 0xc00\n wrmsr"],
  [1, "ecx", 22, "MOVBE", "movbe eax, [0x5000]"],
  [1, "ecx", 23, "POPCNT", "popcnt eax, ebx"],
  [1, "ecx", 24, "TSC deadline", MSR(0x6e0)],
  [1, "ecx", 25, "AES", "aesenc xmm0, xmm1"],
  [1, "ecx", 26, "XSAVE", "xor eax, eax\n xor edx, edx\n xsave [0x5000]\n xrstor [0x5000]"],
  [1, "ecx", 27, "OSXSAVE", "xor ecx, ecx\n xgetbv"],
  [1, "ecx", 28, "AVX", "vaddps ymm0, ymm1, ymm2"],
  [1, "ecx", 29, "F16C", "vcvtph2ps xmm0, xmm1"],
  [1, "ecx", 30, "RDRAND", "rdrand eax\n jnc bad"],
  [1, "ecx", 31, "hypervisor", "nop"],
  [7, "ebx", 0, "FSGSBASE", `${CR4(16)}\n rdfsbase rax\n wrgsbase rax`],
  [7, "ebx", 2, "SGX", "db 0x0f, 0x01, 0xcf"],
  [7, "ebx", 3, "BMI1", "andn eax, ebx, ecx\n mov ebx, 8\n tzcnt eax, ebx\n cmp eax, 3\n jne bad"],
  [7, "ebx", 4, "HLE and RTM", "db 0xc7, 0xf8, 0, 0, 0, 0"],
  [7, "ebx", 5, "AVX2", "vpaddb ymm0, ymm1, ymm2"],
  [7, "ebx", 7, "SMEP", CR4(20)],
  [7, "ebx", 8, "BMI2", "pdep eax, ebx, ecx\n mulx rax, rbx, rcx"],
  [7, "ebx", 9, "ERMS", "mov edi, 0x5000\n mov ecx, 16\n rep stosb"],
  [
    7,
    "ebx",
    10,
    "INVPCID",
    "xor eax, eax\n mov [0x5000], rax\n mov [0x5008], rax\n mov eax, 2\n invpcid rax, [0x5000]",
  ],
  [7, "ebx", 14, "MPX", CR4(14)],
  [7, "ebx", 16, "AVX-512F", "db 0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2"],
  [7, "ebx", 18, "RDSEED", "rdseed eax\n jnc bad"],
  [7, "ebx", 19, "ADX", "adcx eax, ebx\n adox eax, ebx"],
  [7, "ebx", 20, "SMAP", `stac\n clac\n ${CR4(21)}`],
  [7, "ebx", 23, "CLFLUSHOPT", "clflushopt [0x5000]"],
  [7, "ebx", 24, "CLWB", "clwb [0x5000]"],
  [7, "ebx", 29, "SHA", "db 0x0f, 0x38, 0xc8, 0xc1"],
  [7, "ecx", 2, "UMIP", CR4(11)],
  [7, "ecx", 3, "PKU", CR4(22)],
  [7, "ecx", 5, "WAITPKG", "db 0x66, 0x0f, 0xae, 0xf0"],
  [7, "ecx", 7, "CET", CR4(23)],
  [7, "ecx", 8, "GFNI", "db 0x66, 0x0f, 0x38, 0xcf, 0xc1"],
  [7, "ecx", 9, "VAES", "vaesenc ymm0, ymm1, ymm2"],
  [7, "ecx", 10, "VPCLMULQDQ", "vpclmulqdq ymm0, ymm1, ymm2, 1"],
  [7, "ecx", 16, "LA57", "db 0x0f, 0x0b"],
  [7, "ecx", 22, "RDPID", "rdpid rax"],
  [7, "ecx", 27, "MOVDIRI", "db 0x0f, 0x38, 0xf9, 0x04, 0x25, 0, 0x50, 0, 0"],
  [7, "ecx", 28, "MOVDIR64B", "mov eax, 0x5000\n db 0x66, 0x0f, 0x38, 0xf8, 0x00"],
  [7, "edx", 14, "SERIALIZE", "db 0x0f, 0x01, 0xe8"],
  ["0xd.1", "eax", 0, "XSAVEOPT", "xor eax, eax\n xor edx, edx\n xsaveopt [0x5000]"],
  ["0xd.1", "eax", 1, "XSAVEC", "xor eax, eax\n xor edx, edx\n xsavec [0x5000]"],
  ["0xd.1", "eax", 2, "XGETBV with ECX 1", "mov ecx, 1\n xgetbv"],
  ["0xd.1", "eax", 3, "XSAVES", `xor eax, eax\n xor edx, edx\n db 0x0f, 0xc7, 0x2c, 0x25, 0, 0x50, 0, 0`],
  ["0xd.1", "eax", 3, "IA32_XSS", MSR(0xda0)],
  [0x80000001, "ecx", 0, "LAHF", "lahf\n sahf"],
  [0x80000001, "ecx", 2, "SVM", "db 0x0f, 0x01, 0xd8"],
  [0x80000001, "ecx", 4, "CR8 by LOCK MOV CR0", "db 0xf0, 0x0f, 0x20, 0xc0"],
  [0x80000001, "ecx", 5, "LZCNT", "mov ebx, 1\n lzcnt eax, ebx\n cmp eax, 31\n jne bad"],
  [0x80000001, "ecx", 6, "SSE4A", "db 0x66, 0x0f, 0x79, 0xc1"],
  [0x80000001, "ecx", 8, "PREFETCHW", "prefetchw [0x5000]"],
  [0x80000001, "ecx", 11, "XOP", "db 0x8f, 0xe9, 0x78, 0x80, 0xc0"],
  [0x80000001, "ecx", 16, "FMA4", "db 0xc4, 0xe3, 0xf9, 0x68, 0xc1, 0x20"],
  [0x80000001, "ecx", 21, "TBM", "db 0x8f, 0xe9, 0x78, 0x01, 0xc8"],
  [0x80000001, "ecx", 29, "MONITORX", "db 0x0f, 0x01, 0xfa"],
  [
    0x80000001,
    "edx",
    11,
    "SYSCALL",
    "mov ecx, 0xc0000080\n rdmsr\n or eax, 1\n wrmsr\n mov ecx, 0xc0000081\n xor eax, eax\n mov edx, 8\n wrmsr\n inc ecx\n xor edx, edx\n lea rax, [rel on]\n wrmsr\n syscall\n on:",
  ],
  [0x80000001, "edx", 20, "NX", "mov ecx, 0xc0000080\n rdmsr\n or eax, 0x800\n wrmsr"],
  [0x80000001, "edx", 26, "1 GiB pages", "nop"],
  [0x80000001, "edx", 27, "RDTSCP", "rdtscp"],
  [0x80000001, "edx", 29, "long mode", "swapgs"],
  [0x80000001, "edx", 31, "3DNow!", "db 0x0f, 0x0f, 0xc1, 0x9e"],
  [0x80000008, "ebx", 0, "CLZERO", "mov eax, 0x5000\n db 0x0f, 0x01, 0xfc"],
  [0x80000008, "ebx", 4, "RDPRU", "xor ecx, ecx\n db 0x0f, 0x01, 0xfd"],
];

/** Bits that say something else than that code runs. */
const OTHER_BITS: readonly (readonly [number, Register, number])[] = [
  // CLFLUSH line size; APIC id and count; invariant TSC; address widths; virtual 8086 mode needs other code than this.
  [1, "ebx", 0xffffffff],
  [0x80000007, "edx", 1 << 8],
  [0x80000008, "eax", 0xffff],
];
const IDENTITY: ReadonlySet<number> = new Set([0, 0xd, 0x80000000, 0x80000002, 0x80000003, 0x80000004]);

function cpuid(): { value(leaf: Feature[0], register: Register): number; leaves: readonly number[] } {
  using vm = createVm({ backend: "soft", memoryBytes: 0x10000 });
  using vcpu = vm.createVcpu();
  const table = vcpu.cpuid();
  return {
    value(leaf, register) {
      const [number, subleaf] = leaf === "0xd.1" ? [0xd, 1] : [leaf, 0];
      return table.find((entry) => entry.leaf === number && (entry.subleaf ?? 0) === subleaf)?.[register] ?? 0;
    },
    leaves: table.map(({ leaf }) => leaf),
  };
}

/** Runs `code` in ring 0 of 64-bit mode with everything enabled: "runs", or the vector of the exception it raises. */
function outcome(code: string): string {
  const program = assemble(`bits 64\n org 0x1000\n ${code}\n good: hlt\n bad: ud2`);
  using vm = createVm({ backend: "soft", memoryBytes: 0x20000 });
  using vcpu = vm.createVcpu();
  vm.memory.write(0x1000, program.bytes);
  for (let vector = 0; vector < 32; vector++) vm.memory.write(0x7000 + vector * 16, Uint8Array.of(0xf4));
  vcpu.enterMode("long64", {
    entry: 0x1000,
    handlers: Object.fromEntries(Array.from({ length: 32 }, (_, vector) => [vector, 0x7000 + vector * 16])),
  });
  // OSFXSR, OSXMMEXCPT, OSXSAVE.
  vcpu.registers.cr4 |= 0x4_0600n;
  vcpu.registers.xcr0 = 7n;
  const exit = vcpu.run({ maxInstructions: 1000 });
  const rip = Number(vcpu.registers.rip) - 1;
  if (exit.kind !== "hlt") return exit.kind;
  return rip >= 0x7000 ? `exception ${(rip - 0x7000) / 16}` : "runs";
}

describe("CPUID of the software CPU", () => {
  const { value, leaves } = cpuid();
  for (const [leaf, register, bit, name, code] of FEATURES) {
    const claimed = name === "OSXSAVE" || ((value(leaf, register) >>> bit) & 1) === 1;
    test(`${claimed ? "claims" : "does not claim"} ${name}, and its code ${claimed ? "runs" : "raises #UD or #GP"}`, () => {
      const result = outcome(code);
      if (claimed) expect(result).toBe("runs");
      else expect(["exception 6", "exception 13"]).toContain(result);
    });
  }

  test("claims nothing that this test does not know", () => {
    const unknown: string[] = [];
    for (const leaf of [...new Set(leaves)].filter((one) => !IDENTITY.has(one))) {
      for (const register of ["eax", "ebx", "ecx", "edx"] as const) {
        if (leaf === 1 && register === "eax") continue; // family, model, stepping
        if (leaf === 0x80000001 && register === "eax") continue;
        const known = [
          ...FEATURES.filter((f) => f[0] === leaf && f[1] === register).map((f) => 1 << f[2]),
          ...OTHER_BITS.filter((o) => o[0] === leaf && o[1] === register).map((o) => o[2]),
        ].reduce((all, mask) => all | mask, 0);
        const rest = value(leaf, register) & ~known;
        if (rest !== 0) unknown.push(`${leaf.toString(16)} ${register} ${(rest >>> 0).toString(16)}`);
      }
    }
    expect(unknown).toEqual([]);
  });
});
