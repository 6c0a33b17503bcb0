import { CR0, CR4, EFER, RFLAG } from "../boot/control-bits.ts";
import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { GuestState } from "./guest-state.ts";
import {
  bitList,
  broken,
  hex,
  isCanonical,
  RULES,
  type StateAuthority,
  type StateViolation,
} from "./state-violation.ts";
import { segmentViolations } from "./validate-segments.ts";

export type { StateAuthority, StateViolation } from "./state-violation.ts";

/**
 * Whether a processor would enter a guest in the state it is in, and if not, which bit breaks which rule.
 *
 * @see Intel SDM Vol. 3C, "Checks on the Guest State Area"; AMD APM Vol. 2, "Canonicalization and Consistency Checks"
 */

export interface ValidateOptions {
  /** Judge by the rules of these only. Default: all, so that a state without violations enters everywhere. */
  readonly enforcedBy?: readonly StateAuthority[];
  /** MAXPHYADDR, CPUID.80000008H:EAX[7:0]. Default 52. */
  readonly physicalBits?: number;
  /** Guest memory, to check the PDPTEs that PAE paging loads. */
  readonly memory?: Pick<PhysicalMemory, "has" | "read">;
}

const ALL: readonly StateAuthority[] = ["intel", "amd", "kvm"];
const HARDWARE: readonly StateAuthority[] = ["intel", "amd"];

const union = (names: Readonly<Record<string, bigint>>) => Object.values(names).reduce((all, bit) => all | bit, 0n);
const CR4_KNOWN = union(CR4);
const EFER_KNOWN = union(EFER);
const RFLAGS_RESERVED = ~union(RFLAG) & 0xffff_ffff_ffff_ffffn;

function* controlViolations(state: GuestState, physicalBits: number): Generator<StateViolation> {
  const { cr0, cr3, cr4, efer } = state;
  if (cr0 >> 32n)
    yield broken(`CR0 = ${hex(cr0)} has ${bitList((cr0 >> 32n) << 32n)} set, which must be 0`, RULES.amd, ALL);
  if (cr0 & CR0.PG && !(cr0 & CR0.PE)) yield broken("CR0.PG is 1 and CR0.PE is 0", RULES.control, ALL);
  if (cr0 & CR0.NW && !(cr0 & CR0.CD)) yield broken("CR0.NW is 1 and CR0.CD is 0", RULES.amd, ["amd", "kvm"]);
  const cr3Reserved = (cr3 >> BigInt(physicalBits)) << BigInt(physicalBits);
  if (cr3Reserved) {
    const what = `CR3 = ${hex(cr3)} has ${bitList(cr3Reserved)} set, above the ${physicalBits} physical address bits`;
    yield broken(what, RULES.control, efer & EFER.LMA ? ALL : HARDWARE);
  }
  const cr4Unknown = cr4 & ~CR4_KNOWN;
  if (cr4Unknown) yield broken(`CR4 = ${hex(cr4)} has reserved ${bitList(cr4Unknown)} set`, RULES.control, ALL);
  if (cr4 & CR4.CET && !(cr0 & CR0.WP)) yield broken("CR4.CET is 1 and CR0.WP is 0", RULES.control, ALL);
  if (cr4 & CR4.PCIDE && !(efer & EFER.LMA)) {
    yield broken("CR4.PCIDE is 1 outside long mode (EFER.LMA is 0)", RULES.control, HARDWARE);
  }
  const eferUnknown = efer & ~EFER_KNOWN;
  if (eferUnknown)
    yield broken(`EFER = ${hex(efer)} has reserved ${bitList(eferUnknown)} set`, RULES.control, HARDWARE);
}

function* longModeViolations(state: GuestState): Generator<StateViolation> {
  const { cr0, cr4, efer, segments } = state;
  const paging = (cr0 & CR0.PG) !== 0n;
  const lme = (efer & EFER.LME) !== 0n;
  const lma = (efer & EFER.LMA) !== 0n;
  if (lme && paging && !(cr4 & CR4.PAE)) {
    yield broken("EFER.LME and CR0.PG are 1 and CR4.PAE is 0: long mode needs PAE", RULES.control, ALL);
  }
  if (lma && !paging) yield broken("EFER.LMA is 1 and CR0.PG is 0", RULES.control, ["intel", "kvm"]);
  if (lma && !lme) yield broken("EFER.LMA is 1 and EFER.LME is 0", RULES.control, ["intel", "kvm"]);
  if (!lma && lme && paging) {
    yield broken("EFER.LMA is 0 while EFER.LME and CR0.PG are 1", RULES.control, ["intel", "kvm"]);
  }
  if (!lma && segments.cs.l && !segments.cs.unusable) {
    yield broken("CS.L is 1 while EFER.LMA is 0: no 64-bit code outside long mode", RULES.kvmSregs, ["kvm"]);
  }
}

function* debugViolations({ dr6, dr7 }: GuestState): Generator<StateViolation> {
  for (const [name, value] of [
    ["DR6", dr6],
    ["DR7", dr7],
  ] as const) {
    const high = (value >> 32n) << 32n;
    if (high) yield broken(`${name} = ${hex(value)} has ${bitList(high)} set, which must be 0`, RULES.amd, ALL);
  }
}

function* tableViolations(state: GuestState): Generator<StateViolation> {
  for (const name of ["gdt", "idt"] as const) {
    const { base, limit } = state[name];
    const register = `${name.toUpperCase()}R`;
    if (!isCanonical(base, state))
      yield broken(`${register} base ${hex(base)} is not canonical`, RULES.table, ["intel"]);
    if (limit > 0xffff || limit < 0)
      yield broken(`${register} limit ${hex(limit)} is above 0xffff`, RULES.table, ["intel"]);
  }
}

function* flagsViolations(state: GuestState): Generator<StateViolation> {
  const { rip, rflags, cr0, efer, segments } = state;
  const long = (efer & EFER.LMA) !== 0n;
  if (long && segments.cs.l) {
    if (!isCanonical(rip, state)) yield broken(`RIP = ${hex(rip)} is not canonical`, RULES.flags, ["intel"]);
  } else if (rip >> 32n) {
    yield broken(`RIP = ${hex(rip)} is above 4 GiB while the code is not 64-bit`, RULES.flags, ["intel"]);
  }
  // KVM sets bit 1 by itself; the processor has no way to clear it.
  if (!(rflags & RFLAG.fixed))
    yield broken(`RFLAGS = ${hex(rflags)} has bit 1 clear, which must be 1`, RULES.flags, ["intel"]);
  const reserved = rflags & RFLAGS_RESERVED;
  if (reserved) yield broken(`RFLAGS = ${hex(rflags)} has reserved ${bitList(reserved)} set`, RULES.flags, ["intel"]);
  if (rflags & RFLAG.VM && long) yield broken("RFLAGS.VM is 1 in long mode", RULES.flags, ["intel"]);
  if (rflags & RFLAG.VM && !(cr0 & CR0.PE)) yield broken("RFLAGS.VM is 1 and CR0.PE is 0", RULES.flags, ["intel"]);
}

/** PAE paging loads its four PDPTEs on entry. Bits 2:1, 8:5 and those above the physical address must be 0. */
function* pdpteViolations(
  state: GuestState,
  physicalBits: number,
  memory: Pick<PhysicalMemory, "has" | "read">,
): Generator<StateViolation> {
  const { cr0, cr3, cr4, efer } = state;
  if (!(cr0 & CR0.PG) || !(cr4 & CR4.PAE) || efer & EFER.LMA) return;
  const table = Number(cr3 & 0xffff_ffe0n);
  if (!memory.has(table, 32)) {
    yield broken(`CR3 = ${hex(cr3)} points to PDPTEs that no memory backs`, RULES.pdpte, ["intel", "amd"]);
    return;
  }
  const data = memory.read(table, 32);
  const view = new DataView(data.buffer, data.byteOffset, 32);
  for (let index = 0; index < 4; index++) {
    const entry = view.getBigUint64(index * 8, true);
    const reserved = entry & (0x1e6n | ((0xffff_ffff_ffff_ffffn >> BigInt(physicalBits)) << BigInt(physicalBits)));
    if (entry & 1n && reserved) {
      yield broken(`PDPTE ${index} = ${hex(entry)} has reserved ${bitList(reserved)} set`, RULES.pdpte, [
        "intel",
        "amd",
      ]);
    }
  }
}

/**
 * Every rule that `state` breaks, in the order of the manual; empty when any processor would enter it.
 *
 * Assumes what every VMX processor of the last decade has: unrestricted guests, so that real mode and protected mode
 * without paging run as they are.
 */
export function validateState(state: GuestState, options: ValidateOptions = {}): StateViolation[] {
  const physicalBits = options.physicalBits ?? 52;
  const wanted = options.enforcedBy ?? ALL;
  const found = [
    ...controlViolations(state, physicalBits),
    ...longModeViolations(state),
    ...debugViolations(state),
    ...segmentViolations(state),
    ...tableViolations(state),
    ...flagsViolations(state),
    ...(options.memory ? pdpteViolations(state, physicalBits, options.memory) : []),
  ];
  return found.filter(({ enforcedBy }) => enforcedBy.some((authority) => wanted.includes(authority)));
}
