import { isCanonical } from "../access.ts";
import { CR0, CR4, EFER, EFLAGS } from "../control-bits.ts";
import type { Cpu } from "../cpu.ts";
import { PHYSICAL_BITS } from "../paging.ts";
import { SegIndex, State, Vector } from "../state.ts";
import { hasFiveLevels } from "./cpuid.ts";
import { ATTRIBUTE, isCode, isSystem, limitOf, peekDescriptor, typeOf, visible } from "./descriptors.ts";

const CR0_DEFINED = 0xe005_003f;
const CR4_DEFINED =
  CR4.TSD |
  CR4.DE |
  CR4.PSE |
  CR4.PAE |
  CR4.MCE |
  CR4.PGE |
  CR4.PCE |
  CR4.OSFXSR |
  CR4.OSXMMEXCPT |
  CR4.UMIP |
  CR4.FSGSBASE |
  CR4.PCIDE |
  CR4.OSXSAVE |
  CR4.SMEP |
  CR4.SMAP;

const CONTROL_OFFSET: Record<number, number> = {
  0: State.cr0,
  2: State.cr2,
  3: State.cr3,
  4: State.cr4,
  8: State.cr8,
};

export function readControl(cpu: Cpu, number: number, register: number): number {
  const value = cpu.get64(CONTROL_OFFSET[number] as number);
  cpu.setGpr(register, cpu.code64 ? value : value & 0xffff_ffffn);
  return 0;
}

export function writeControl(cpu: Cpu, number: number, register: number): number {
  const value = cpu.code64 ? cpu.gpr(register) : cpu.gpr(register) & 0xffff_ffffn;
  switch (number) {
    case 0:
      return writeCr0(cpu, value);
    case 2:
      cpu.set64(State.cr2, value);
      return 0;
    case 3:
      if (cpu.code64 && (value & 0x7fff_ff00_0000_0000n) !== 0n) return cpu.raise(Vector.GP, 0);
      if (pagesByPae(cpu.cr0, cpu.cr4, cpu.efer) && !goodPdptes(cpu, value)) return cpu.raise(Vector.GP, 0);
      cpu.set64(State.cr3, value & ~(1n << 63n));
      cpu.flushTlb();
      return 0;
    case 4:
      return writeCr4(cpu, value);
    default:
      if (value > 15n) return cpu.raise(Vector.GP, 0);
      cpu.set64(State.cr8, value);
      return 0;
  }
}

function writeCr0(cpu: Cpu, wide: bigint): number {
  if (wide > 0xffff_ffffn) return cpu.raise(Vector.GP, 0);
  const value = (Number(wide) & CR0_DEFINED) | CR0.ET;
  const on = (bit: number) => (value & bit) !== 0;
  if ((on(CR0.PG) && !on(CR0.PE)) || (on(0x2000_0000) && !on(0x4000_0000))) return cpu.raise(Vector.GP, 0);
  const wasPaging = (cpu.cr0 & CR0.PG) !== 0;
  if (on(CR0.PG) && !wasPaging && (cpu.efer & EFER.LME) !== 0) {
    if ((cpu.cr4 & CR4.PAE) === 0 || (cpu.attributes(SegIndex.cs) & ATTRIBUTE.l) !== 0) return cpu.raise(Vector.GP, 0);
    cpu.set(State.efer, cpu.efer | EFER.LMA);
  }
  if (on(CR0.PG) && !wasPaging && pagesByPae(value, cpu.cr4, cpu.efer) && !goodPdptes(cpu, cpu.get64(State.cr3))) {
    return cpu.raise(Vector.GP, 0);
  }
  if (!on(CR0.PG) && wasPaging) {
    if (cpu.code64) return cpu.raise(Vector.GP, 0);
    cpu.set(State.efer, cpu.efer & ~EFER.LMA);
  }
  cpu.set64(State.cr0, BigInt(value >>> 0));
  cpu.flushTlb();
  cpu.changeMode();
  return 0;
}

function writeCr4(cpu: Cpu, wide: bigint): number {
  if (wide > 0xffff_ffffn) return cpu.raise(Vector.GP, 0);
  const value = Number(wide);
  if ((value & ~(CR4_DEFINED | (hasFiveLevels(cpu.cpuidTable) ? CR4.LA57 : 0))) !== 0) return cpu.raise(Vector.GP, 0);
  if (cpu.longMode && ((value ^ cpu.cr4) & CR4.LA57) !== 0) return cpu.raise(Vector.GP, 0);
  if (cpu.longMode && (value & CR4.PAE) === 0) return cpu.raise(Vector.GP, 0);
  const pcid = (value & CR4.PCIDE) !== 0 && (cpu.cr4 & CR4.PCIDE) === 0;
  if (pcid && (!cpu.longMode || (cpu.get64(State.cr3) & 0xfffn) !== 0n)) return cpu.raise(Vector.GP, 0);
  if (pagesByPae(cpu.cr0, value, cpu.efer) && !goodPdptes(cpu, cpu.get64(State.cr3))) return cpu.raise(Vector.GP, 0);
  cpu.set64(State.cr4, BigInt(value));
  cpu.flushTlb();
  cpu.changeMode();
  return 0;
}

function pagesByPae(cr0: number, cr4: number, efer: number): boolean {
  return (cr0 & CR0.PG) !== 0 && (cr4 & CR4.PAE) !== 0 && (efer & EFER.LMA) === 0;
}

/** The four directory-pointer entries are looked at when they are loaded (Intel SDM Vol. 3A, "PDPTE Registers"). */
function goodPdptes(cpu: Cpu, cr3: bigint): boolean {
  const table = Number(cr3 & 0xffff_ffe0n);
  const slot = cpu.ram.find(table);
  if (slot === undefined) return true;
  const at = (slot.host + (table - slot.gpa)) >>> 2;
  const beyond = ~((1 << (PHYSICAL_BITS - 32)) - 1);
  for (let i = 0; i < 4; i++) {
    const low = cpu.ram.words[at + i * 2] as number;
    const high = cpu.ram.words[at + i * 2 + 1] as number;
    if ((low & 1) !== 0 && ((low & 0x1e6) !== 0 || (high & beyond) !== 0)) return false;
  }
  return true;
}

/** LMSW: the low four bits, of which PE can only be set. */
export function loadMachineStatus(cpu: Cpu, value: number): number {
  const low = (cpu.cr0 & ~0xe) | (value & 0xf);
  return writeCr0(cpu, BigInt(low >>> 0));
}

/** DR4 and DR5 are DR6 and DR7 unless CR4.DE says they are not there. */
function debugIndex(cpu: Cpu, number: number): number | undefined {
  if (number !== 4 && number !== 5) return number;
  if ((cpu.cr4 & CR4.DE) === 0) return number + 2;
  cpu.raise(Vector.UD);
  return undefined;
}

/** DR7.GD traps accesses to debug registers. */
function guarded(cpu: Cpu): boolean {
  if ((cpu.get(State.dr + 5 * 8) & 0x2000) === 0) return false;
  cpu.set64(State.dr + 4 * 8, cpu.get64(State.dr + 4 * 8) | 0x2000n);
  cpu.raise(Vector.DB);
  return true;
}

function debugOffset(index: number): number {
  return State.dr + (index < 4 ? index : index - 2) * 8;
}

export function readDebug(cpu: Cpu, number: number, register: number): number {
  const index = debugIndex(cpu, number);
  if (index === undefined || guarded(cpu)) return 1;
  const value = cpu.get64(debugOffset(index));
  cpu.setGpr(register, cpu.code64 ? value : value & 0xffff_ffffn);
  return 0;
}

export function writeDebug(cpu: Cpu, number: number, register: number): number {
  const index = debugIndex(cpu, number);
  if (index === undefined || guarded(cpu)) return 1;
  const value = cpu.code64 ? cpu.gpr(register) : cpu.gpr(register) & 0xffff_ffffn;
  if (index >= 6 && value > 0xffff_ffffn) return cpu.raise(Vector.GP, 0);
  setDebugRegister(cpu, index, value);
  return 0;
}

/** Writes a debug register with its fixed bits. */
export function setDebugRegister(cpu: Cpu, index: number, value: bigint): void {
  let fixed = value;
  if (index === 6) fixed = (value & 0xe00fn) | 0xffff_0ff0n;
  if (index === 7) fixed = (value & 0xffff_23ffn) | 0x400n;
  cpu.set64(debugOffset(index), fixed);
  cpu.debugChanged();
}

export function getDebugRegister(cpu: Cpu, index: number): bigint {
  return cpu.get64(debugOffset(index));
}

export function loadTable(cpu: Cpu, base: number, limit: number, bytes: number): number {
  const value = cpu.get64(State.scratch);
  if (cpu.code64 && !isCanonical(cpu, value)) return cpu.raise(Vector.GP, 0);
  cpu.set64(base, value);
  cpu.set(limit, bytes & 0xffff);
  return 0;
}

/** CLI and STI, by CPL and IOPL. */
export function setInterruptFlag(cpu: Cpu, on: boolean): number {
  const level = cpu.v86 ? 3 : cpu.cpl;
  if (cpu.protectedMode && level > cpu.iopl) return cpu.raise(Vector.GP, 0);
  const flags = cpu.get(State.eflags);
  if (on && (flags & EFLAGS.IF) === 0) cpu.beginShadow({ debug: false });
  cpu.set(State.eflags, on ? flags | EFLAGS.IF : flags & ~EFLAGS.IF);
  return 0;
}

export function setAlignmentFlag(cpu: Cpu, on: boolean): number {
  const flags = cpu.get(State.eflags);
  cpu.set(State.eflags, on ? flags | EFLAGS.AC : flags & ~EFLAGS.AC);
  // Under SMAP the TLB holds no user pages for the supervisor, so nothing is flushed.
  cpu.changeMode();
  return 0;
}

function setZero(cpu: Cpu, on: boolean): 0 {
  const flags = cpu.arithmeticFlags;
  cpu.arithmeticFlags = on ? flags | 0x40 : flags & ~0x40;
  return 0;
}

export function verify(cpu: Cpu, selector: number, write: boolean): number {
  const d = peekDescriptor(cpu, selector & 0xffff);
  if (d === "fault") return 1;
  if (d === undefined || isSystem(d) || !visible(cpu, selector, d)) return setZero(cpu, false);
  const good = write ? !isCode(d) && (d.high & 0x200) !== 0 : !isCode(d) || (d.high & 0x200) !== 0;
  return setZero(cpu, good);
}

const LAR_TYPES = [1, 2, 3, 4, 5, 9, 0xb, 0xc];
const LAR_TYPES_LONG = [2, 9, 0xb, 0xc];
const LSL_TYPES = [1, 2, 3, 9, 0xb];
const LSL_TYPES_LONG = [2, 9, 0xb];

export function loadRights(cpu: Cpu, selector: number, register: number, bits: number): number {
  return query(cpu, selector, register, bits, cpu.longMode ? LAR_TYPES_LONG : LAR_TYPES, (d) => d.high & 0x00f0_ff00);
}

export function loadLimit(cpu: Cpu, selector: number, register: number, bits: number): number {
  return query(cpu, selector, register, bits, cpu.longMode ? LSL_TYPES_LONG : LSL_TYPES, limitOf);
}

function query(
  cpu: Cpu,
  selector: number,
  register: number,
  bits: number,
  types: readonly number[],
  value: (d: { low: number; high: number }) => number,
): number {
  const d = peekDescriptor(cpu, selector & 0xffff);
  if (d === "fault") return 1;
  if (d === undefined || (isSystem(d) && !types.includes(typeOf(d))) || !visible(cpu, selector, d)) {
    return setZero(cpu, false);
  }
  const result = BigInt(value(d) >>> 0);
  const old = cpu.gpr(register);
  cpu.setGpr(register, bits === 16 ? (old & ~0xffffn) | (result & 0xffffn) : result);
  return setZero(cpu, true);
}

/** XSETBV. */
export function writeXcr(cpu: Cpu, supported: bigint): number {
  if ((cpu.cr4 & CR4.OSXSAVE) === 0) return cpu.raise(Vector.UD);
  const value = (BigInt(cpu.gpr32(2) >>> 0) << 32n) | BigInt(cpu.gpr32(0) >>> 0);
  if (cpu.gpr32(1) !== 0 || (value & 1n) === 0n || (value & ~supported) !== 0n) return cpu.raise(Vector.GP, 0);
  if ((value & 6n) === 4n) return cpu.raise(Vector.GP, 0);
  cpu.set64(State.xcr0, value);
  cpu.changeMode();
  return 0;
}

export function readXcr(cpu: Cpu): number {
  if ((cpu.cr4 & CR4.OSXSAVE) === 0) return cpu.raise(Vector.UD);
  if (cpu.gpr32(1) !== 0) return cpu.raise(Vector.GP, 0);
  cpu.setGpr32(0, cpu.get(State.xcr0));
  cpu.setGpr32(2, 0);
  return 0;
}
