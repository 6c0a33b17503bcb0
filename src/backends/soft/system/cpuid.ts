import { Mnemonic } from "iced-x86";
import type { CpuidEntry } from "../../../backend.ts";
import { type Cpu, CR4 } from "../cpu.ts";
import { PHYSICAL_BITS } from "../paging.ts";
import { State } from "../state.ts";
import type { Registry } from "../translate/context.ts";

/** Whether the registry knows what a feature promises, asked by one instruction that stands for it. */
const REPRESENTATIVE = {
  x87: Mnemonic.Fadd,
  mmx: Mnemonic.Paddb,
  sse: Mnemonic.Addps,
  sse2: Mnemonic.Addpd,
  sse3: Mnemonic.Addsubpd,
  ssse3: Mnemonic.Pshufb,
  sse41: Mnemonic.Pmulld,
  sse42: Mnemonic.Pcmpistri,
  aes: Mnemonic.Aesenc,
  pclmul: Mnemonic.Pclmulqdq,
  avx: Mnemonic.Vaddps,
  avx2: Mnemonic.Vpermd,
  fma: Mnemonic.Vfmadd213ps,
  f16c: Mnemonic.Vcvtph2ps,
  fxsr: Mnemonic.Fxsave,
  xsave: Mnemonic.Xsave,
} as const;

function text(value: string): number[] {
  const bytes = new TextEncoder().encode(value);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(i * 4, true));
}

/** "VmexitSoft  ": neither Intel nor AMD, since it is neither. */
const VENDOR = text("VmexitSoft  ") as [number, number, number];
const BRAND = text("vmexit software CPU: x86 translated to WebAssembly".slice(0, 47).padEnd(48, "\0"));

function bits(...numbers: (number | false)[]): number {
  let value = 0;
  for (const n of numbers) if (n !== false) value |= 1 << n;
  return value;
}

/** What the software CPU implements, and nothing else. */
export function defaultCpuid(registry: Registry): CpuidEntry[] {
  const has = (feature: keyof typeof REPRESENTATIVE) => registry.mnemonics.has(REPRESENTATIVE[feature]);
  const xsave = has("xsave");
  const avx = xsave && has("avx");
  const entry = (leaf: number, eax: number, ebx: number, ecx: number, edx: number, subleaf?: number): CpuidEntry => ({
    leaf,
    ...(subleaf === undefined ? {} : { subleaf }),
    eax: eax >>> 0,
    ebx: ebx >>> 0,
    ecx: ecx >>> 0,
    edx: edx >>> 0,
  });
  const [b, d, c] = VENDOR;
  const leaf1c = bits(
    has("sse3") && 0,
    has("pclmul") && 1,
    has("ssse3") && 9,
    avx && has("fma") && 12,
    13, // CMPXCHG16B
    17, // PCID
    has("sse41") && 19,
    has("sse42") && 20,
    22, // MOVBE
    23, // POPCNT
    has("aes") && 25,
    xsave && 26,
    avx && 28,
    avx && has("f16c") && 29,
    30, // RDRAND
    31, // hypervisor
  );
  const leaf1d = bits(
    has("x87") && 0,
    2, // DE
    3, // PSE
    4, // TSC
    5, // MSR
    6, // PAE
    8, // CX8
    11, // SEP
    13, // PGE
    15, // CMOV
    16, // PAT
    17, // PSE-36
    19, // CLFSH
    has("mmx") && 23, // MMX
    has("fxsr") && 24, // FXSR
    has("sse") && 25,
    has("sse2") && 26,
  );
  const leaf7b = bits(
    0, // FSGSBASE
    3, // BMI1
    avx && has("avx2") && 5,
    7, // SMEP
    8, // BMI2
    9, // ERMS
    10, // INVPCID
    18, // RDSEED
    19, // ADX
    20, // SMAP
    23, // CLFLUSHOPT
    24, // CLWB
  );
  return [
    entry(0, 0xd, b, c, d),
    entry(1, 0x0006_06f0, 0x0001_0800, leaf1c, leaf1d),
    entry(7, 0, leaf7b, bits(2, 22), 0, 0),
    entry(0xd, xsave ? (avx ? 7 : 3) : 0, xsave ? (avx ? 832 : 576) : 0, xsave ? (avx ? 832 : 576) : 0, 0, 0),
    entry(0xd, 0, 0, 0, 0, 1),
    ...(avx ? [entry(0xd, 256, 576, 0, 0, 2)] : []),
    entry(0x8000_0000, 0x8000_0008, b, c, d),
    entry(0x8000_0001, 0x0006_06f0, 0, bits(0, 5, 8), bits(11, 20, 26, 27, 29)),
    ...[0, 4, 8].map((at, i) =>
      entry(0x8000_0002 + i, BRAND[at] ?? 0, BRAND[at + 1] ?? 0, BRAND[at + 2] ?? 0, BRAND[at + 3] ?? 0),
    ),
    entry(0x8000_0007, 0, 0, 0, bits(8)),
    entry(0x8000_0008, PHYSICAL_BITS | (48 << 8), 0, 0, 0),
  ];
}

/** CPUID, with the bits that follow the state: OSXSAVE, the APIC id, the size of the XSAVE area. */
export function cpuid(cpu: Cpu, table: readonly CpuidEntry[]): number {
  const leaf = cpu.gpr32(0) >>> 0;
  const subleaf = cpu.gpr32(1) >>> 0;
  const same = table.filter((e) => e.leaf === leaf);
  const entry = same.find((e) => e.subleaf === undefined || e.subleaf === subleaf);
  let { eax, ebx, ecx, edx } = entry ?? { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  if (leaf === 1) {
    ebx = (ebx & 0x00ff_ffff) | (cpu.id << 24);
    ecx = (cpu.cr4 & CR4.OSXSAVE) !== 0 ? ecx | (1 << 27) : ecx & ~(1 << 27);
  }
  if (leaf === 0xd && subleaf === 0 && entry !== undefined) ebx = (cpu.get(State.xcr0) & 4) !== 0 ? 832 : 576;
  cpu.setGpr32(0, eax);
  cpu.setGpr32(3, ebx);
  cpu.setGpr32(1, ecx);
  cpu.setGpr32(2, edx);
  return 0;
}
