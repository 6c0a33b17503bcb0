import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KvmCpuid2, KvmCpuidEntry2 } from "../../../ffi/kvm/cpuid.ts";
import { KVM_GET_CPUID2, KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2 } from "../../../ffi/kvm/ioctls.ts";
import { libc } from "../../../ffi/libc.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { CpuidEntry } from "../../backend.ts";
import { failed, ioctlPtr } from "./call.ts";

/** Kernels answer some 30 to 60 entries; KVM_MAX_CPUID_ENTRIES is 256. */
const MAX_ENTRIES = 256;
/** Bits 24 to 31 of EBX: the initial APIC id. */
const LEAF_FEATURES = 1;
/** EDX: the x2APIC id. */
const LEAVES_TOPOLOGY: readonly number[] = [0xb, 0x1f];
/** EAX: the extended APIC id. */
const LEAF_AMD_TOPOLOGY = 0x8000001e;

/** What KVM supports on this host, as bytes of a kvm_cpuid2 ready for KVM_SET_CPUID2. */
export function supportedTable(systemFd: number): KvmCpuid2 {
  const table = KvmCpuid2.alloc(MAX_ENTRIES);
  table.nent = MAX_ENTRIES;
  ioctlPtr(systemFd, KVM_GET_SUPPORTED_CPUID, bytesOf(table), "KVM_GET_SUPPORTED_CPUID");
  return table;
}

export function entriesOf(table: KvmCpuid2): CpuidEntry[] {
  return table.entries.slice(0, table.nent).map((entry) => {
    const { function: leaf, index, flags, eax, ebx, ecx, edx } = entry;
    const subleaf = (flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0 ? { subleaf: index } : {};
    return { leaf, ...subleaf, eax, ebx, ecx, edx };
  });
}

export function tableOf(entries: readonly CpuidEntry[]): KvmCpuid2 {
  if (entries.length > MAX_ENTRIES) {
    throw new RangeError(`Cannot give a guest ${entries.length} CPUID entries: KVM takes ${MAX_ENTRIES}`);
  }
  const table = KvmCpuid2.alloc(entries.length);
  table.nent = entries.length;
  for (const [i, { leaf, subleaf, eax, ebx, ecx, edx }] of entries.entries()) {
    const flags = subleaf === undefined ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    Object.assign(table.entries[i] as object, { function: leaf, index: subleaf ?? 0, flags, eax, ebx, ecx, edx });
  }
  return table;
}

/** Places in a kvm_cpuid2 in 32-bit words: a view of each entry would cost a new vCPU more than its ioctls. */
const WORD = {
  head: KvmCpuid2.size / 4,
  entry: KvmCpuidEntry2.size / 4,
  leaf: KvmCpuidEntry2.fields.function.offset / 4,
  eax: KvmCpuidEntry2.fields.eax.offset / 4,
  ebx: KvmCpuidEntry2.fields.ebx.offset / 4,
  edx: KvmCpuidEntry2.fields.edx.offset / 4,
} as const;

/** Puts the vCPU's id where CPUID tells the APIC id; KVM leaves the host's there. */
export function setApicId(table: KvmCpuid2, id: number): void {
  const bytes = bytesOf(table);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const end = WORD.head + table.nent * WORD.entry;
  for (let at = WORD.head; at < end; at += WORD.entry) {
    const leaf = words[at + WORD.leaf] as number;
    if (leaf === LEAF_FEATURES) words[at + WORD.ebx] = ((words[at + WORD.ebx] as number) & 0x00ffffff) | (id << 24);
    else if (LEAVES_TOPOLOGY.includes(leaf)) words[at + WORD.edx] = id;
    else if (leaf === LEAF_AMD_TOPOLOGY) words[at + WORD.eax] = id;
  }
}

export function setCpuid(vcpuFd: number, table: KvmCpuid2): void {
  ioctlPtr(vcpuFd, KVM_SET_CPUID2, bytesOf(table), "KVM_SET_CPUID2", {
    EINVAL:
      "an entry contradicts the processor (address widths, XSAVE components): compare it with backend.supportedCpuid()",
  });
}

export function getCpuid(vcpuFd: number): CpuidEntry[] {
  const table = KvmCpuid2.alloc(MAX_ENTRIES);
  table.nent = MAX_ENTRIES;
  if (libc().ioctlPtr(vcpuFd, KVM_GET_CPUID2, bytesOf(table)) < 0) throw failed("ioctl(KVM_GET_CPUID2)");
  return entriesOf(table);
}
