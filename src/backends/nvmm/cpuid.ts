import { CPUID_CONF_EXIT, CPUID_CONF_MASK, NVMM_VCPU_CONF_CPUID, NvmmVcpuConfCpuid } from "../../../ffi/nvmm/config.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { CpuidEntry } from "../../backend.ts";
import { CapabilityError } from "../../errors.ts";
import { failed } from "./call.ts";
import type { NvmmSystem } from "./system.ts";

type Register = "eax" | "ebx" | "ecx" | "edx";
const REGISTERS: readonly Register[] = ["eax", "ebx", "ecx", "edx"];

const LEAF_FEATURES = 1;
/** MCE, MCA, MTRR in EDX of leaf 1: NVMM hides them, kernels expect them, and the MSRs behind them are answered here. */
const SHOWN_FEATURES = (1 << 7) | (1 << 12) | (1 << 14);
/** Bits that NVMM or the guest itself determines: the APIC id in EBX, OSXSAVE in ECX. */
const DYNAMIC: Readonly<Partial<Record<Register, number>>> = { ebx: 0xff000000, ecx: 1 << 27 };

/** Bits to set and to clear in one leaf's answer. */
interface LeafMask {
  set: Record<Register, number>;
  del: Record<Register, number>;
}

function emptyMask(): LeafMask {
  return { set: { eax: 0, ebx: 0, ecx: 0, edx: 0 }, del: { eax: 0, ebx: 0, ecx: 0, edx: 0 } };
}

/** What CPUID answers in the guests of a vCPU, and how NVMM is brought to it. */
export interface CpuidPlan {
  readonly masks: ReadonlyMap<number, LeafMask>;
  readonly exits: readonly number[];
  /** The table as the guest of vCPU `id` sees it. */
  table(id: number): readonly CpuidEntry[];
  /** The leaf of a CPUID exit, by the answer NVMM put into EAX, EBX, ECX, EDX. */
  identify(exits: readonly number[], values: readonly number[]): { leaf: number; subleaf: number };
  /** Whether these registers are NVMM's answer to one of the leaves. */
  isAnswer(exits: readonly number[], values: readonly number[]): boolean;
}

/** The plan for NVMM's own table with what is always shown. */
export function defaultPlan(supported: () => readonly CpuidEntry[], exits: readonly number[] = []): CpuidPlan {
  const shown = emptyMask();
  shown.set.edx = SHOWN_FEATURES;
  return makePlan(new Map([[LEAF_FEATURES, shown]]), supported, exits);
}

/**
 * The plan for a whole table, as differences from what NVMM supports: NVMM sets and clears bits by leaf.
 *
 * @throws {CapabilityError} when sub-leaves of one leaf need different changes, or more leaves change than NVMM takes.
 */
export function planFor(
  wanted: readonly CpuidEntry[],
  supported: readonly CpuidEntry[],
  options: { maxLeaves: number; exits: readonly number[] },
): CpuidPlan {
  const masks = new Map<number, LeafMask>();
  const leaves = new Set([...supported, ...wanted].map(({ leaf }) => leaf));
  for (const leaf of leaves) {
    const mask = maskOf(leaf, wanted, supported);
    if (mask !== undefined) masks.set(leaf, mask);
  }
  const count = new Set([...masks.keys(), ...options.exits]).size;
  if (count > options.maxLeaves) {
    throw new CapabilityError("nvmm", `changes to ${count} CPUID leaves`, {
      remedy: `NVMM takes ${options.maxLeaves}: change fewer`,
    });
  }
  return makePlan(masks, () => wanted, options.exits);
}

function makePlan(
  masks: ReadonlyMap<number, LeafMask>,
  entries: () => readonly CpuidEntry[],
  exits: readonly number[],
): CpuidPlan {
  const answering = (leaves: readonly number[], values: readonly number[]): CpuidEntry | undefined =>
    entries().find(
      (entry) => leaves.includes(entry.leaf) && REGISTERS.every((name, i) => same(entry, name, values[i] ?? 0)),
    );
  return {
    masks,
    exits,
    table: (id) =>
      entries().map((entry) =>
        entry.leaf === LEAF_FEATURES ? { ...entry, ebx: ((entry.ebx & 0x00ffffff) | (id << 24)) >>> 0 } : entry,
      ),
    identify: (leaves, values) => {
      const [only] = leaves;
      const found = leaves.length === 1 ? undefined : answering(leaves, values);
      return { leaf: found?.leaf ?? only ?? 0, subleaf: found?.subleaf ?? 0 };
    },
    isAnswer: (leaves, values) => answering(leaves, values) !== undefined,
  };
}

function same(entry: CpuidEntry, name: Register, value: number): boolean {
  const ignored = entry.leaf === LEAF_FEATURES ? (DYNAMIC[name] ?? 0) : 0;
  return ((entry[name] ^ value) & ~ignored) === 0;
}

function maskOf(leaf: number, wanted: readonly CpuidEntry[], supported: readonly CpuidEntry[]): LeafMask | undefined {
  const key = (entry: CpuidEntry) => entry.subleaf ?? 0;
  const want = new Map(wanted.filter((entry) => entry.leaf === leaf).map((entry) => [key(entry), entry]));
  const have = new Map(supported.filter((entry) => entry.leaf === leaf).map((entry) => [key(entry), entry]));
  const subleaves = [...new Set([...want.keys(), ...have.keys()])];
  const mask = emptyMask();
  for (const name of REGISTERS) {
    const dynamic = leaf === LEAF_FEATURES ? (DYNAMIC[name] ?? 0) : 0;
    for (const subleaf of subleaves) {
      const to = want.get(subleaf)?.[name] ?? 0;
      const from = have.get(subleaf)?.[name] ?? 0;
      mask.set[name] |= to & ~from & ~dynamic;
      mask.del[name] |= from & ~to & ~dynamic;
    }
    for (const subleaf of subleaves) {
      const to = want.get(subleaf)?.[name] ?? 0;
      const from = have.get(subleaf)?.[name] ?? 0;
      const made = (from & ~mask.del[name]) | mask.set[name];
      if ((made ^ to) & ~dynamic || mask.set[name] & mask.del[name]) {
        throw new CapabilityError("nvmm", `changes to single sub-leaves of CPUID leaf 0x${leaf.toString(16)}`, {
          remedy: "NVMM changes all sub-leaves of a leaf alike: make the change in each, or leave the leaf out",
        });
      }
    }
  }
  if (leaf === LEAF_FEATURES) mask.set.edx |= SHOWN_FEATURES & ~mask.del.edx;
  return REGISTERS.some((name) => mask.set[name] | mask.del[name]) ? mask : undefined;
}

/** Hands the plan to NVMM. */
export function configureCpuid(system: NvmmSystem, at: { machine: number; vcpu: number }, plan: CpuidPlan): void {
  for (const leaf of new Set([...plan.masks.keys(), ...plan.exits])) {
    const conf = NvmmVcpuConfCpuid.alloc();
    conf.leaf = leaf;
    const mask = plan.masks.get(leaf);
    if (plan.exits.includes(leaf)) {
      conf.flags = CPUID_CONF_EXIT; // mask and exit exclude each other
    } else if (mask !== undefined) {
      conf.flags = CPUID_CONF_MASK;
      for (const name of REGISTERS) {
        conf.u.mask.set[name] = mask.set[name] >>> 0;
        conf.u.mask.del[name] = mask.del[name] >>> 0;
      }
    }
    const { nvmm_vcpu_configure: configure } = system.functions;
    if (configure(at.machine, at.vcpu, NVMM_VCPU_CONF_CPUID, bytesOf(conf)) !== 0) {
      throw failed(system, "nvmm_vcpu_configure(NVMM_VCPU_CONF_CPUID)", {
        ENOBUFS: "NVMM takes no more CPUID leaves: change fewer",
        EINVAL: "NVMM refuses this CPUID change",
      });
    }
  }
}
