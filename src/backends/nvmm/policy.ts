import type { MsrExitPolicy } from "../../backend.ts";
import { CapabilityError } from "../../errors.ts";
import type { MsrExitReason } from "../../exit.ts";
import { MSRS } from "../../msrs.ts";

/** What NVMM leaves to user space and the common interface has no word for. Change it before vCPUs are created. */
export interface NvmmPolicy {
  /** An MSR that neither NVMM, nor the table below, nor the script answers: #GP, or reads 0 and ignores writes. */
  unknownMsrs: "fault" | "ignore";
  /** MONITOR and MWAIT: #UD, as without the feature, or exits. */
  monitor: "fault" | "exit";
  /** Report `nmiWindow` when an injected NMI has ended. */
  nmiWindows: boolean;
  /** Report `setTpr` when the guest lowers CR8 (Intel hosts). */
  tprExits: boolean;
  /** CPUID leaves that exit. */
  cpuidExits: readonly number[];
  /** Who executes an instruction that touches unbacked memory: libnvmm's assist, or vmexit's own emulator. */
  mmio: "assist" | "emulator";
}

export const DEFAULT_POLICY: NvmmPolicy = {
  unknownMsrs: "fault",
  monitor: "fault",
  nmiWindows: false,
  tprExits: false,
  cpuidExits: [],
  mmio: "assist",
};

/** How an MSR behaves that NVMM does not know and guests expect. */
interface DefaultMsr {
  readonly initial: (vcpuId: number) => bigint;
  /** What WRMSR does. */
  readonly write: "keep" | "ignore" | "fault";
}

/** Base of the local APIC, enabled; bit 8 marks the bootstrap processor (Intel SDM Vol. 3A, "Local APIC Status and Location"). */
const APIC_BASE_ENABLED = 0xfee00800n;
const APIC_BASE_BSP = 0x100n;

/** MSRs that make an unmodified kernel's start-up pass: no MTRRs, no machine-check banks. */
export const DEFAULT_MSRS: ReadonlyMap<number, DefaultMsr> = new Map([
  [MSRS.APIC_BASE, { initial: (id: number) => APIC_BASE_ENABLED | (id === 0 ? APIC_BASE_BSP : 0n), write: "keep" }],
  [MSRS.MTRRCAP, { initial: () => 0n, write: "fault" }],
  [MSRS.MTRR_DEF_TYPE, { initial: () => 0n, write: "ignore" }],
  [MSRS.MCG_CAP, { initial: () => 0n, write: "fault" }],
  [MSRS.MCG_STATUS, { initial: () => 0n, write: "ignore" }],
] as const satisfies readonly (readonly [number, DefaultMsr])[]);

/** @throws {CapabilityError} for a filter: what NVMM's kernel part answers itself never reaches user space. */
export function checkMsrExits(exits: MsrExitPolicy | undefined): void {
  if (exits?.filter === undefined) return;
  throw new CapabilityError("nvmm", "MSR filter", { remedy: "use { invalid: true } alone" });
}

/** What becomes of an MSR access. */
export type MsrVerdict = { do: "exit"; reason: MsrExitReason } | { do: "answer"; value: bigint } | { do: "fault" };

/** The MSRs of one vCPU that live here. */
export class NvmmMsrs {
  readonly #exits: boolean;
  readonly #policy: NvmmPolicy;
  readonly #values = new Map<number, bigint>();

  constructor(vcpuId: number, policy: NvmmPolicy, exits: MsrExitPolicy | undefined) {
    this.#policy = policy;
    this.#exits = exits?.invalid ?? false;
    for (const [index, { initial }] of DEFAULT_MSRS) this.#values.set(index, initial(vcpuId));
  }

  /** The value of an MSR of the table, undefined for others. */
  get(index: number): bigint | undefined {
    return this.#values.get(index);
  }

  /** Sets an MSR of the table. False for others. */
  set(index: number, value: bigint): boolean {
    if (!this.#values.has(index)) return false;
    this.#values.set(index, value);
    return true;
  }

  onRead(index: number): MsrVerdict {
    const value = this.#values.get(index);
    return value === undefined ? this.#unknown() : { do: "answer", value };
  }

  onWrite(index: number, value: bigint): MsrVerdict {
    const known = DEFAULT_MSRS.get(index);
    if (known === undefined) return this.#unknown();
    if (known.write === "fault") return this.#exits ? { do: "exit", reason: "invalid" } : { do: "fault" };
    if (known.write === "keep") this.#values.set(index, value);
    return { do: "answer", value };
  }

  #unknown(): MsrVerdict {
    if (this.#exits) return { do: "exit", reason: "unknown" };
    return this.#policy.unknownMsrs === "ignore" ? { do: "answer", value: 0n } : { do: "fault" };
  }

  /** For save and restore. */
  entries(): [number, bigint][] {
    return [...this.#values];
  }
}
