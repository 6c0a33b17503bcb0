import { GPR_NAMES, type GprName } from "../registers.ts";
import type { Mode, ModeOptions, ModeSetup } from "./mode.ts";
import { type ModeParts, type ModePlan, planMode } from "./mode-plan.ts";
import { realMode } from "./real-mode.ts";

/** RFLAGS: bit 1 is always 1. */
const RFLAGS_FIXED = 2n;
const RFLAGS_IOPL3 = 0x3000n;

function partsOf(plan: ModePlan): ModeParts {
  if (plan.real) return realMode(plan);
  // Descriptor and page-table builders take longer to load than a real-mode guest to boot.
  const { protectedMode } = require("./protected-mode.ts") as typeof import("./protected-mode.ts");
  return protectedMode(plan);
}

function gprsOf(plan: ModePlan, parts: ModeParts): Record<GprName, bigint> {
  const all = Object.fromEntries(GPR_NAMES.map((name) => [name, 0n])) as Record<GprName, bigint>;
  return {
    ...all,
    rsp: BigInt(plan.options.stack ?? parts.stack),
    rip: plan.entry - parts.codeBase,
    rflags: RFLAGS_FIXED | (plan.ring === 3 ? RFLAGS_IOPL3 : 0n),
    ...plan.options.gprs,
  };
}

/**
 * Works out all that `mode` sets, without a guest: to look at, to print, to apply with `applyMode()`.
 *
 * @throws {RangeError} for options that contradict the mode or each other.
 */
export function modeSetup(mode: Mode, options: ModeOptions = {}): ModeSetup {
  const plan = planMode(mode, options);
  const parts = partsOf(plan);
  const { segments, descriptorTables, controls, tables } = parts;
  const { bits, ring, paging } = plan;
  const setup = { mode, bits, ring, paging, gprs: gprsOf(plan, parts), segments, descriptorTables, controls, tables };
  return {
    ...setup,
    get rows() {
      const { modeRows } = require("./mode-rows.ts") as typeof import("./mode-rows.ts");
      return modeRows(setup);
    },
  };
}
