import { GuestError } from "../errors.ts";
import { applyMode } from "./enter-mode.ts";
import { findFree, type GuestPlan, hex, placeGuest } from "./guest-plan.ts";
import { DEFAULT_TABLES_GPA, type ModeOptions, type ModeRegisters, type ModeSetup } from "./mode.ts";
import { modeSetup } from "./mode-setup.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

const IDENTITY = { gva: 0, gpa: 0, bytes: 0x1_0000_0000 };

/** `options` with what the plan says filled in; the caller's own wishes win. */
function withPlan(plan: GuestPlan, options: ModeOptions): ModeOptions {
  const ring = options.ring ?? (plan.mode === "long64-ring3" ? 3 : 0);
  const user = ring === 3;
  const map =
    plan.map.length > 0 ? [{ ...IDENTITY, user }, ...plan.map.map((mapping) => ({ ...mapping, user }))] : undefined;
  return {
    entry: plan.entry,
    ...(plan.stack === undefined ? {} : { stack: plan.stack }),
    ...(plan.realSegment === undefined ? {} : { realSegment: plan.realSegment }),
    ...(map ? { map } : {}),
    ...options,
    gprs: { ...plan.gprs, ...options.gprs },
  };
}

/** Kept free below the tables: the default stacks grow down from there. */
const STACK_ROOM = 0x2000;

/** Moves the tables behind the guest when they, or the stack below them, would lie on it. */
function setupBeside(plan: GuestPlan, memory: PhysicalMemory, options: ModeOptions): ModeSetup {
  const setup = modeSetup(plan.mode, options);
  const last = setup.tables.at(-1);
  if (!last || setup.mode === "real16" || setup.mode === "unreal16") return setup;
  const start = options.tablesGpa ?? DEFAULT_TABLES_GPA;
  const bytes = last.gpa + last.bytes.length - start;
  if (options.tablesGpa === undefined) {
    const range = { from: start - STACK_ROOM, to: Math.min(memory.end, 0xfff0_0000) };
    const free = findFree(STACK_ROOM + bytes, plan.segments, range);
    if (free !== undefined && free !== range.from)
      return modeSetup(plan.mode, { ...options, tablesGpa: free + STACK_ROOM });
  }
  if (!overlaps(plan, start, bytes)) return setup;
  throw new GuestError(
    plan.file,
    `Cannot put the tables of ${plan.mode} (${hex(bytes)} bytes) at ${hex(start)} as "${plan.file}" lies there`,
    { remedy: "give the guest more memory, or choose another tablesGpa", field: "tablesGpa" },
  );
}

function overlaps(plan: GuestPlan, start: number, bytes: number): boolean {
  return plan.segments.some((segment) => segment.gpa < start + bytes && start < segment.gpa + segment.bytes);
}

/**
 * Puts a loaded guest into memory and a vCPU into the state it starts in. Tables go to 0x8000, or behind the guest's
 * segments when those are in the way.
 *
 * @param options As for `enterMode()`; they win over the plan. A `tablesGpa` that the guest overlaps is refused.
 * @throws {GuestError} when memory does not hold it; nothing is written then.
 */
export function bootGuest(
  registers: ModeRegisters,
  memory: PhysicalMemory,
  plan: GuestPlan,
  options: ModeOptions = {},
): ModeSetup {
  const setup = setupBeside(plan, memory, withPlan(plan, options));
  for (const { what, gpa, bytes } of setup.tables) {
    if (memory.has(gpa, bytes.length)) continue;
    throw new GuestError(plan.file, `Cannot put the ${what} at ${hex(gpa)} as no memory backs it`, {
      remedy: "give the guest more memory, or choose another tablesGpa",
      field: "tablesGpa",
    });
  }
  placeGuest(plan, memory);
  applyMode(registers, memory, setup);
  return setup;
}
