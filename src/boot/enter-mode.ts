import { GuestError } from "../errors.ts";
import { type ControlName, GPR_NAMES, type SegmentName, type TableName } from "../registers.ts";
import type { Mode, ModeOptions, ModeRegisters, ModeSetup } from "./mode.ts";
import { modeSetup } from "./mode-setup.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

const hex = (value: number) => `0x${value.toString(16)}`;

/**
 * Writes a set-up into a guest: its tables into memory, then every register it names. The FPU, debug registers, MSRs
 * other than EFER, and the APIC stay as they are.
 *
 * @throws {GuestError} when no memory backs a table; nothing is written then.
 */
export function applyMode(registers: ModeRegisters, memory: PhysicalMemory, setup: ModeSetup): void {
  for (const { what, gpa, bytes } of setup.tables) {
    if (memory.has(gpa, bytes.length)) continue;
    throw new GuestError(
      setup.mode,
      `Cannot put the ${what} (${hex(bytes.length)} bytes) at ${hex(gpa)} as memory ends at ${hex(memory.end)}`,
      { remedy: "give the guest more memory, or place the tables elsewhere with tablesGpa", field: "tablesGpa" },
    );
  }
  for (const { gpa, bytes } of setup.tables) memory.write(gpa, bytes);
  for (const [name, value] of Object.entries(setup.controls)) registers.writeControl(name as ControlName, value);
  for (const [name, table] of Object.entries(setup.descriptorTables)) registers.writeTable(name as TableName, table);
  for (const [name, segment] of Object.entries(setup.segments)) registers.writeSegment(name as SegmentName, segment);
  GPR_NAMES.forEach((name, index) => {
    registers.writeGpr(index, setup.gprs[name]);
  });
}

/**
 * Puts a vCPU into `mode`, ready to run at `options.entry`: segments, control registers, EFER, and (unless
 * `tables: "none"`) GDT, IDT, TSS and page tables in guest memory from `options.tablesGpa` (0x8000), in the order of
 * `TABLES_LAYOUT`. With the defaults all of it ends at 0x10000, so 64 KiB of memory are enough for every mode.
 *
 * @returns What was set, with a reason for each register in `rows`.
 * @throws {RangeError} for options that contradict the mode.
 * @throws {GuestError} when memory does not reach the tables.
 */
export function enterMode(
  registers: ModeRegisters,
  memory: PhysicalMemory,
  mode: Mode,
  options: ModeOptions = {},
): ModeSetup {
  const setup = modeSetup(mode, options);
  applyMode(registers, memory, setup);
  return setup;
}
