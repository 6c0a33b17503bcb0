import { CR4 } from "../boot/control-bits.ts";
import type { GuestState } from "./guest-state.ts";

/** Who enforces a rule. `kvm`: KVM_SET_SREGS or KVM_SET_REGS refuse it on any processor. */
export type StateAuthority = "intel" | "amd" | "kvm";

/** A rule that a state breaks. `GuestStateError` takes a list of them. */
export interface StateViolation {
  /** The offending bits and their values, e.g. `CS.L and CS.D are both 1`. */
  readonly what: string;
  /** Where it is written, by manual and section title. */
  readonly rule: string;
  readonly enforcedBy: readonly StateAuthority[];
}

/** The sections that state the rules. */
export const RULES = {
  control: "Intel SDM Vol. 3C, Checks on Guest Control Registers, Debug Registers, and MSRs",
  segment: "Intel SDM Vol. 3C, Checks on Guest Segment Registers",
  table: "Intel SDM Vol. 3C, Checks on Guest Descriptor-Table Registers",
  flags: "Intel SDM Vol. 3C, Checks on Guest RIP, RFLAGS, and SSP",
  pdpte: "Intel SDM Vol. 3C, Checks on Guest Page-Directory-Pointer-Table Entries",
  amd: "AMD APM Vol. 2, Canonicalization and Consistency Checks",
  kvmSregs: "KVM_SET_SREGS, Documentation/virt/kvm/api.rst: the state must be one a processor can be in",
} as const;

export const hex = (value: number | bigint) => `0x${value.toString(16)}`;

/** Builds a violation. */
export function broken(what: string, rule: string, enforcedBy: readonly StateAuthority[]): StateViolation {
  return { what, rule, enforcedBy };
}

/** Numbers of the bits set in `value`, as `bit 3` or `bits 3, 5`; long runs as `63:52`. */
export function bitList(value: bigint): string {
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (value >> BigInt(bit)) & 1n);
  const runs: string[] = [];
  for (let at = 0; at < bits.length; ) {
    let end = at;
    while (bits[end + 1] === bits[end]! + 1) end++;
    runs.push(end > at ? `${bits[end]}:${bits[at]}` : `${bits[at]}`);
    at = end + 1;
  }
  return `${bits.length === 1 ? "bit" : "bits"} ${runs.join(", ")}`;
}

export function isCanonical(address: bigint, state: Pick<GuestState, "cr4">): boolean {
  const bits = state.cr4 & CR4.LA57 ? 57 : 48;
  return BigInt.asUintN(64, BigInt.asIntN(bits, address)) === BigInt.asUintN(64, address);
}
