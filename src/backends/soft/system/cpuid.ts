import type { CpuidEntry } from "../../../backend.ts";
import { CR4 } from "../control-bits.ts";
import type { Cpu } from "../cpu.ts";
import { PHYSICAL_BITS } from "../paging.ts";
import { State } from "../state.ts";
import { implementedFeatures } from "../vector/features.ts";

function text(value: string): number[] {
  const bytes = new TextEncoder().encode(value);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(i * 4, true));
}

/** "VmexitSoft  ": neither Intel nor AMD, since it is neither. */
const VENDOR = text("VmexitSoft  ") as [number, number, number];
const BRAND = text("vmexit software CPU: x86 translated to WebAssembly".slice(0, 47).padEnd(48, "\0"));

function bits(...numbers: number[]): number {
  return numbers.reduce((value, n) => value | (1 << n), 0);
}

/** Bits of one result register that x87 and vector instructions claim. */
function vectorBits(leaf: number, register: "eax" | "ebx" | "ecx" | "edx"): number {
  const mine = implementedFeatures.filter((f) => f.leaf === leaf && f.register === register);
  return mine.reduce((value, f) => value | (1 << f.bit), 0);
}

function entry(leaf: number, eax: number, ebx: number, ecx: number, edx: number, subleaf?: number): CpuidEntry {
  const values = { eax: eax >>> 0, ebx: ebx >>> 0, ecx: ecx >>> 0, edx: edx >>> 0 };
  return subleaf === undefined ? { leaf, ...values } : { leaf, subleaf, ...values };
}

/** Bytes of the XSAVE area with and without the AVX component. */
const AREA = { legacy: 576, avx: 832 } as const;

/**
 * Whether a table offers 5-level paging. The default one does not, though it is there: kernels that can use it do, and
 * would pay for a fifth level. `{ cpuid: { "7.0": { ecx: … | 1 << 16 } } }` offers it.
 */
export function hasFiveLevels(table: readonly CpuidEntry[]): boolean {
  return ((table.find((e) => e.leaf === 7 && (e.subleaf ?? 0) === 0)?.ecx ?? 0) & LA57) !== 0;
}
const LA57 = 1 << 16;

/** What the software CPU implements, and nothing else. */
export function defaultCpuid(): CpuidEntry[] {
  const [b, d, c] = VENDOR;
  const integer1c = bits(
    13, // CMPXCHG16B
    17, // PCID
    22, // MOVBE
    23, // POPCNT
    30, // RDRAND
    31, // hypervisor
  );
  const integer1d = bits(
    2, // DE
    3, // PSE
    4, // TSC
    5, // MSR
    6, // PAE
    8, // CX8
    11, // SEP
    12, // MTRR
    13, // PGE
    15, // CMOV
    16, // PAT
    17, // PSE-36
    19, // CLFSH
  );
  const integer7b = bits(
    0, // FSGSBASE
    3, // BMI1
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
  const umipRdpid = bits(2, 22);
  const lahfLzcntPrefetchw = bits(0, 5, 8);
  const syscallNxPagesRdtscpLong = bits(11, 20, 26, 27, 29);
  return [
    entry(0, 0xd, b, c, d),
    entry(1, 0x0006_06f0, 0x0001_0800, integer1c | vectorBits(1, "ecx"), integer1d | vectorBits(1, "edx")),
    entry(7, 0, integer7b | vectorBits(7, "ebx"), umipRdpid | vectorBits(7, "ecx"), 0, 0),
    entry(0xd, 7, AREA.avx, AREA.avx, 0, 0),
    entry(0xd, vectorBits(0xd, "eax"), 0, 0, 0, 1),
    entry(0xd, AREA.avx - AREA.legacy, AREA.legacy, 0, 0, 2),
    entry(0x8000_0000, 0x8000_0008, b, c, d),
    entry(0x8000_0001, 0x0006_06f0, 0, lahfLzcntPrefetchw, syscallNxPagesRdtscpLong),
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
  if (leaf === 0xd && subleaf === 0 && entry !== undefined)
    ebx = (cpu.get(State.xcr0) & 4) !== 0 ? AREA.avx : AREA.legacy;
  if (leaf === 0x8000_0008 && hasFiveLevels(table)) eax = (eax & ~0xff00) | (57 << 8);
  cpu.setGpr32(0, eax);
  cpu.setGpr32(3, ebx);
  cpu.setGpr32(1, ecx);
  cpu.setGpr32(2, edx);
  return 0;
}
