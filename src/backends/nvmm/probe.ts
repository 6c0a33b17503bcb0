import type { CpuidEntry } from "../../backend.ts";
import type { Segment } from "../../registers.ts";
import { DEFAULT_POLICY } from "./policy.ts";
import type { NvmmSystem } from "./system.ts";
import type { NvmmVcpu } from "./vcpu.ts";
import { NvmmVm } from "./vm.ts";

/** CPUID; HLT, at GPA 0x1000. */
const PROGRAM = Uint8Array.of(0x0f, 0xa2, 0xf4);
const PROGRAM_AT = 0x1000n;
const PROBE_BYTES = 0x2000;

/** Leaves with sub-leaves: whether one more follows `entry`, given the first. */
const SUBLEAVES: ReadonlyMap<number, (entry: CpuidEntry, index: number, first: CpuidEntry) => boolean> = new Map([
  [0x4, (entry) => (entry.eax & 31) !== 0],
  [0x7, (_entry, index, first) => index < first.eax],
  [0xb, (entry) => ((entry.ecx >> 8) & 0xff) !== 0],
  [0xd, (_entry, index) => index < LAST_XSAVE_COMPONENT],
  [0x1f, (entry) => ((entry.ecx >> 8) & 0xff) !== 0],
  [0x8000001d, (entry) => (entry.eax & 31) !== 0],
]);
/** NVMM gives guests x87 and SSE; the next component shows that there is no more. */
const LAST_XSAVE_COMPONENT = 2;
/** No processor has more in a range; a wild answer must not make this long. */
const MOST_LEAVES = 64;
const MOST_SUBLEAVES = 8;

/** NVMM has no call for it: a guest of two instructions asks the processor leaf by leaf. */
export function probeCpuid(system: NvmmSystem): readonly CpuidEntry[] {
  using vm = new NvmmVm(system, {}, { policy: DEFAULT_POLICY, supported: () => [] });
  using memory = vm.allocate(PROBE_BYTES);
  memory.bytes.set(PROGRAM, Number(PROGRAM_AT));
  vm.mapSlot(0, { gpa: 0, memory, offset: 0, bytes: PROBE_BYTES, readOnly: false, logDirty: false });
  using vcpu = vm.createVcpu(0);
  flatten(vcpu);
  const entries: CpuidEntry[] = [];
  for (const first of [0, 0x40000000, 0x80000000]) {
    const head = ask(vcpu, first);
    // A range that is not there answers with leaves of another one.
    const last = Math.floor(head.eax / 0x10000000) === first / 0x10000000 ? head.eax : first;
    for (let leaf = first; leaf <= Math.min(last, first + MOST_LEAVES); leaf++) entries.push(...askLeaf(vcpu, leaf));
  }
  return entries;
}

function askLeaf(vcpu: NvmmVcpu, leaf: number): CpuidEntry[] {
  const more = SUBLEAVES.get(leaf);
  if (more === undefined) return [ask(vcpu, leaf)];
  const entries: CpuidEntry[] = [];
  for (let subleaf = 0; subleaf < MOST_SUBLEAVES; subleaf++) {
    const entry = { ...ask(vcpu, leaf, subleaf), subleaf };
    entries.push(entry);
    if (!more(entry, subleaf, entries[0] as CpuidEntry)) break;
  }
  return entries;
}

function ask(vcpu: NvmmVcpu, leaf: number, subleaf = 0): CpuidEntry {
  const { registers } = vcpu;
  registers.writeGpr(0, BigInt(leaf));
  registers.writeGpr(1, BigInt(subleaf));
  registers.writeGpr(16, PROGRAM_AT);
  const exit = vcpu.run();
  if (exit.kind !== "hlt") throw new TypeError(`Cannot ask CPUID: the probe ended with "${exit.kind}"`);
  const [eax = 0, ecx = 0, edx = 0, ebx = 0] = [0, 1, 2, 3].map((index) => Number(registers.readGpr(index)) >>> 0);
  return { leaf, eax, ebx, ecx, edx };
}

/** Real mode with code segment base 0. */
function flatten({ registers }: NvmmVcpu): void {
  const cs: Segment = { ...registers.readSegment("cs"), selector: 0, base: 0n };
  registers.writeSegment("cs", cs);
}
