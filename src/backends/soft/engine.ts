import type { CpuidEntry } from "../../backend.ts";
import { registerCore, SYSTEM_ENDS } from "./instructions.ts";
import { defaultCpuid } from "./system/cpuid.ts";
import type { Registry } from "./translate/context.ts";
import { Translator } from "./translate/region.ts";
import { createRegistry } from "./translate/registry.ts";

/** What all VMs of the process share: the instructions and the translator. */
export interface SoftEngine {
  readonly registry: Registry;
  readonly translator: Translator;
  /** Loads the emitters that are loaded on demand. */
  readonly loadMore: () => boolean;
  readonly cpuid: readonly CpuidEntry[];
}

let shared: SoftEngine | undefined;
let complete = false;

/**
 * Adds x87, MMX, SSE and AVX, forty modules that most boots never need: they load when the first such instruction is
 * reached. False when they are there already.
 */
export function loadVectorUnits(registry: Registry): boolean {
  if (complete) return false;
  complete = true;
  const { registerVector } = require("./vector/register.ts") as typeof import("./vector/register.ts");
  const { registerX87 } = require("./x87/register.ts") as typeof import("./x87/register.ts");
  registerVector(registry);
  registerX87(registry);
  return true;
}

export function softEngine(): SoftEngine {
  if (shared !== undefined) return shared;
  const registry = createRegistry();
  registerCore(registry);
  shared = {
    registry,
    translator: new Translator(registry, SYSTEM_ENDS, () => complete),
    loadMore: () => loadVectorUnits(registry),
    cpuid: defaultCpuid(),
  };
  return shared;
}
