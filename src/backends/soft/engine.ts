import type { CpuidEntry } from "../../backend.ts";
import { registerCore, SYSTEM_ENDS } from "./instructions.ts";
import { defaultCpuid } from "./system/cpuid.ts";
import type { Registry } from "./translate/context.ts";
import { Translator } from "./translate/region.ts";
import { createRegistry } from "./translate/registry.ts";
import { registerVector } from "./vector/register.ts";
import { registerX87 } from "./x87/register.ts";

/** What all VMs of the process share: the instructions and the translator. */
export interface SoftEngine {
  readonly registry: Registry;
  readonly translator: Translator;
  readonly cpuid: readonly CpuidEntry[];
}

let shared: SoftEngine | undefined;

export function softEngine(): SoftEngine {
  if (shared !== undefined) return shared;
  const registry = createRegistry();
  registerCore(registry);
  registerVector(registry);
  registerX87(registry);
  shared = {
    registry,
    translator: new Translator(registry, SYSTEM_ENDS),
    cpuid: defaultCpuid(),
  };
  return shared;
}
