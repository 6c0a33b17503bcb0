import type { MsrExitReason } from "../../exit.ts";
import { isCanonical } from "./access.ts";
import { CR0, EFER, EFLAGS } from "./control-bits.ts";
import type { Cpu } from "./cpu.ts";
import { SegIndex, State, Vector } from "./state.ts";
import { asciiAdjust, asciiDivide, asciiMultiply, decimalAdjust } from "./system/ascii.ts";
import { cpuid } from "./system/cpuid.ts";
import { loadLdt, loadSegmentRegister, loadTask } from "./system/descriptors.ts";
import { MSR } from "./system/msr.ts";
import { portIn, portOut, portString } from "./system/ports.ts";
import {
  loadLimit,
  loadMachineStatus,
  loadRights,
  loadTable,
  readControl,
  readDebug,
  readXcr,
  setAlignmentFlag,
  setInterruptFlag,
  verify,
  writeControl,
  writeDebug,
  writeXcr,
} from "./system/registers.ts";
import { FLAT, farCall, farJump, farReturn, iret, loadFlags, loadFlat, Stack, withDpl } from "./system/transfer.ts";

/**
 * Called by generated code through `callSystem` and `endSystem`: the whole state is in memory and RIP is already behind
 * the instruction. 0: the instruction is done. 1: it is not; `cpu.pending` says why and RIP goes back. `LEAVE`: it is done,
 * and the run loop has something to do.
 */
export type SystemHelper = (cpu: Cpu, ...args: number[]) => number;

/** Writes a 16-, 32- or 64-bit general register. */
function setRegister(cpu: Cpu, index: number, bits: number, value: bigint): void {
  const low = BigInt.asUintN(bits, value);
  cpu.setGpr(index, bits === 16 ? (cpu.gpr(index) & ~0xffffn) | low : low);
}

function popSegment(cpu: Cpu, segment: number, selector: number, bytes: number): number {
  const stack = new Stack(cpu);
  stack.skip(bytes);
  const old = cpu.gpr(4);
  // SS may change the width of the stack pointer: move it first, and back when the load faults.
  stack.commit();
  if (loadSegment(cpu, segment, selector & 0xffff) === 0) return 0;
  cpu.setGpr(4, old);
  return 1;
}

function loadSegment(cpu: Cpu, segment: number, selector: number): number {
  const status = loadSegmentRegister(cpu, segment, selector);
  if (status === 0 && segment === SegIndex.ss) cpu.beginShadow({ debug: true });
  return status;
}

function loadFarPointer(cpu: Cpu, segment: number, selector: number, register: number): number {
  const offset = cpu.get64(State.scratch);
  // LSS loads both halves of the stack at once: no shadow.
  if (loadSegmentRegister(cpu, segment, selector) !== 0) return 1;
  setRegister(cpu, register & 0xff, register >> 8, offset);
  return 0;
}

function popFlags(cpu: Cpu, value: number, bytes: number): number {
  if (cpu.v86 && cpu.iopl < 3) return cpu.raise(Vector.GP, 0);
  const stack = new Stack(cpu);
  stack.skip(bytes);
  stack.commit();
  const cpl = cpu.protectedMode ? cpu.cpl : 0;
  // RF and VM come out of POPF cleared or kept, never set.
  loadFlags(cpu, value & ~EFLAGS.RF, bytes as 2 | 4 | 8, cpl, cpu.iopl);
  return 0;
}

/** INT n, INT3, INTO: delivered by the run loop with RIP behind the instruction; what goes wrong faults at it. */
function interrupt(cpu: Cpu, vector: number, privileged = false): number {
  cpu.pending = { kind: "interrupt", vector, next: cpu.rip, privileged };
  return 1;
}

function halt(cpu: Cpu): number {
  cpu.exits.push({ kind: "hlt" });
  return 0;
}

function policy(cpu: Cpu, index: number, access: "read" | "write"): boolean {
  return (
    cpu.msrPolicy?.filter?.some(
      (f) => index >= f.first && index < f.first + f.count && (f.access === access || f.access === "readWrite"),
    ) ?? false
  );
}

function setPair(cpu: Cpu, value: bigint): void {
  cpu.setGpr(0, value & 0xffff_ffffn);
  cpu.setGpr(2, (value >> 32n) & 0xffff_ffffn);
}

function readMsr(cpu: Cpu): number {
  const msr = cpu.gpr32(1) >>> 0;
  const filtered = policy(cpu, msr, "read");
  const value = filtered ? undefined : cpu.msrs.read(msr);
  if (value !== undefined) {
    setPair(cpu, value);
    return 0;
  }
  if (!filtered && !cpu.msrPolicy?.invalid) return cpu.raise(Vector.GP, 0);
  const reason: MsrExitReason = filtered ? "filter" : "unknown";
  const answer = { kind: "rdmsr" as const, msr, reason, value: 0n, error: false };
  return answered(cpu, answer, () => {
    if (!answer.error) setPair(cpu, answer.value);
    return answer.error;
  });
}

function writeMsr(cpu: Cpu): number {
  const msr = cpu.gpr32(1) >>> 0;
  const value = (BigInt(cpu.gpr32(2) >>> 0) << 32n) | BigInt(cpu.gpr32(0) >>> 0);
  const filtered = policy(cpu, msr, "write");
  if (!filtered && cpu.msrs.write(msr, value)) return 0;
  if (!filtered && !cpu.msrPolicy?.invalid) return cpu.raise(Vector.GP, 0);
  const known = cpu.msrs.read(msr) !== undefined;
  const reason: MsrExitReason = filtered ? "filter" : known ? "invalid" : "unknown";
  const answer = { kind: "wrmsr" as const, msr, reason, value, error: false };
  return answered(cpu, answer, () => answer.error);
}

/** Leaves with an exit that the caller answers; `apply` takes the answer and says whether it is #GP. */
function answered(cpu: Cpu, exit: Cpu["exits"][number], apply: () => boolean): number {
  const next = cpu.rip;
  cpu.exits.push(exit);
  cpu.pending = { kind: "exit" };
  cpu.resume = () => {
    if (apply()) {
      cpu.raise(Vector.GP, 0);
      return false;
    }
    cpu.rip = next;
    cpu.retired++;
    return true;
  };
  return 1;
}

function hypercall(cpu: Cpu): number {
  const long = cpu.code64;
  const argument = (i: number) => (long ? cpu.gpr(i) : cpu.gpr(i) & 0xffff_ffffn);
  const exit = {
    kind: "hypercall" as const,
    number: argument(0),
    args: [3, 1, 2, 6].map(argument),
    longMode: long,
    result: 0n,
  };
  return answered(cpu, exit, () => {
    cpu.setGpr(0, long ? BigInt.asUintN(64, exit.result) : exit.result & 0xffff_ffffn);
    return false;
  });
}

function readTsc(cpu: Cpu): number {
  if ((cpu.cr4 & 4) !== 0 && cpu.cpl !== 0) return cpu.raise(Vector.GP, 0);
  setPair(cpu, cpu.msrs.tsc);
  return 0;
}

function readTscp(cpu: Cpu): number {
  if (readTsc(cpu) !== 0) return 1;
  cpu.setGpr(1, (cpu.msrs.read(MSR.TSC_AUX) as bigint) & 0xffff_ffffn);
  return 0;
}

/** RDRAND and RDSEED: SplitMix64, so that the same seed gives the same guest. */
function random(cpu: Cpu, index: number, bits: number): number {
  cpu.random = BigInt.asUintN(64, cpu.random + 0x9e37_79b9_7f4a_7c15n);
  let z = cpu.random;
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn);
  setRegister(cpu, index, bits, z ^ (z >> 31n));
  cpu.arithmeticFlags = 1;
  return 0;
}

function swapGs(cpu: Cpu): number {
  if (!cpu.code64) return cpu.raise(Vector.UD);
  const base = cpu.segmentBase(SegIndex.gs);
  cpu.setSegmentBase(SegIndex.gs, cpu.msrs.read(MSR.KERNEL_GS_BASE) as bigint);
  cpu.msrs.values.set(MSR.KERNEL_GS_BASE, base);
  return 0;
}

function syscall(cpu: Cpu): number {
  if ((cpu.efer & EFER.SCE) === 0 || !cpu.code64) return cpu.raise(Vector.UD);
  const star = cpu.msrs.read(MSR.STAR) as bigint;
  const flags = cpu.eflags & ~EFLAGS.RF;
  cpu.setGpr(1, cpu.rip);
  cpu.setGpr(11, BigInt(flags));
  cpu.eflags = flags & ~Number(cpu.msrs.read(MSR.FMASK) as bigint);
  const selector = Number((star >> 32n) & 0xfffcn);
  cpu.rip = cpu.msrs.read(MSR.LSTAR) as bigint;
  loadFlat(cpu, SegIndex.cs, selector, FLAT.code64);
  loadFlat(cpu, SegIndex.ss, selector + 8, FLAT.data);
  return 0;
}

function sysret(cpu: Cpu, wide: boolean): number {
  if ((cpu.efer & EFER.SCE) === 0 || !cpu.code64) return cpu.raise(Vector.UD);
  const target = cpu.gpr(1);
  if (wide && !isCanonical(cpu, target)) return cpu.raise(Vector.GP, 0);
  const base = Number(((cpu.msrs.read(MSR.STAR) as bigint) >> 48n) & 0xffffn);
  cpu.eflags = (Number(cpu.gpr(11) & 0xffff_ffffn) & 0x3c_7fd7) | 2;
  cpu.rip = wide ? target : target & 0xffff_ffffn;
  loadFlat(cpu, SegIndex.cs, (base + (wide ? 16 : 0)) | 3, withDpl(wide ? FLAT.code64 : FLAT.code32, 3));
  loadFlat(cpu, SegIndex.ss, (base + 8) | 3, withDpl(FLAT.data, 3));
  return 0;
}

function sysenter(cpu: Cpu): number {
  const cs = Number(cpu.msrs.read(MSR.SYSENTER_CS) as bigint);
  if ((cs & 0xfffc) === 0) return cpu.raise(Vector.GP, 0);
  const long = cpu.longMode;
  cpu.eflags &= ~(EFLAGS.VM | EFLAGS.IF | EFLAGS.RF);
  const mask = long ? (1n << 64n) - 1n : 0xffff_ffffn;
  cpu.setGpr(4, (cpu.msrs.read(MSR.SYSENTER_ESP) as bigint) & mask);
  cpu.rip = (cpu.msrs.read(MSR.SYSENTER_EIP) as bigint) & mask;
  loadFlat(cpu, SegIndex.cs, cs & 0xfffc, long ? FLAT.code64 : FLAT.code32);
  loadFlat(cpu, SegIndex.ss, (cs & 0xfffc) + 8, FLAT.data);
  return 0;
}

function sysexit(cpu: Cpu, wide: boolean): number {
  const cs = Number(cpu.msrs.read(MSR.SYSENTER_CS) as bigint);
  if ((cs & 0xfffc) === 0) return cpu.raise(Vector.GP, 0);
  const mask = wide ? (1n << 64n) - 1n : 0xffff_ffffn;
  cpu.rip = cpu.gpr(2) & mask;
  cpu.setGpr(4, cpu.gpr(1) & mask);
  const base = (cs & 0xfffc) + (wide ? 32 : 16);
  loadFlat(cpu, SegIndex.cs, base | 3, withDpl(wide ? FLAT.code64 : FLAT.code32, 3));
  loadFlat(cpu, SegIndex.ss, (base + 8) | 3, withDpl(FLAT.data, 3));
  return 0;
}

/** INVPCID: descriptor types 0 to 3; the whole TLB goes in any case. */
function invpcid(cpu: Cpu, type: number): number {
  const pcid = cpu.get64(State.scratch);
  const address = cpu.get64(State.scratch + 8);
  if (type < 0 || type > 3 || pcid > 0xfffn) return cpu.raise(Vector.GP, 0);
  if (type === 0 && !isCanonical(cpu, address)) return cpu.raise(Vector.GP, 0);
  if (type < 2 && (cpu.cr4 & 0x2_0000) === 0 && pcid !== 0n) return cpu.raise(Vector.GP, 0);
  cpu.flushTlb();
  return 0;
}

function flushTlb(cpu: Cpu): number {
  cpu.flushTlb();
  return 0;
}

/** DIV and IDIV of 128 bits by 64. Operands and results are in the scratch area. */
function divide128(cpu: Cpu, signed: number): number {
  const low = cpu.get64(State.scratch);
  const high = cpu.get64(State.scratch + 8);
  const wide = (high << 64n) | low;
  const raw = cpu.get64(State.scratch + 16);
  const dividend = signed ? BigInt.asIntN(128, wide) : wide;
  const divisor = signed ? BigInt.asIntN(64, raw) : raw;
  const quotient = dividend / divisor;
  const fits = signed ? BigInt.asIntN(64, quotient) === quotient : BigInt.asUintN(64, quotient) === quotient;
  if (!fits) return cpu.raise(Vector.DE);
  cpu.set64(State.scratch, quotient);
  cpu.set64(State.scratch + 8, dividend % divisor);
  return 0;
}

/** Helpers that see the whole state. */
export const systemHelpers: Record<string, SystemHelper> = {
  loadSegment,
  popSegment,
  loadFarPointer,
  popFlags,
  farJump,
  farCall,
  farReturn,
  iret,
  softwareInterrupt: (cpu, vector) =>
    cpu.v86 && cpu.iopl < 3 ? cpu.raise(Vector.GP, 0) : interrupt(cpu, (vector as number) & 0xff),
  breakpoint: (cpu) => interrupt(cpu, Vector.BP),
  overflowInterrupt: (cpu) => ((cpu.arithmeticFlags & 0x800) !== 0 ? interrupt(cpu, Vector.OF) : 0),
  debugTrap: (cpu) => interrupt(cpu, Vector.DB, true),
  halt,
  clearInterrupts: (cpu) => setInterruptFlag(cpu, false),
  setInterrupts: (cpu) => setInterruptFlag(cpu, true),
  portIn,
  portOut,
  portString,
  loadGdt: (cpu, limit) => loadTable(cpu, State.gdtBase, State.gdtLimit, limit as number),
  loadIdt: (cpu, limit) => loadTable(cpu, State.idtBase, State.idtLimit, limit as number),
  loadLdt: (cpu, selector) => loadLdt(cpu, selector as number),
  loadTask: (cpu, selector) => loadTask(cpu, selector as number),
  loadMachineStatus,
  verifyRead: (cpu, selector) => verify(cpu, selector as number, false),
  verifyWrite: (cpu, selector) => verify(cpu, selector as number, true),
  clearTaskSwitched: (cpu) => {
    cpu.set(State.cr0, cpu.cr0 & ~CR0.TS);
    cpu.changeMode();
    return 0;
  },
  loadRights,
  loadLimit,
  flushTlb,
  invpcid,
  nothing: () => 0,
  readMsr,
  writeMsr,
  readTsc,
  readTscp,
  cpuid: (cpu) => cpuid(cpu, cpu.cpuidTable),
  random,
  rdpid: (cpu, index) => {
    cpu.setGpr(index as number, (cpu.msrs.read(MSR.TSC_AUX) as bigint) & 0xffff_ffffn);
    return 0;
  },
  swapGs,
  readXcr,
  writeXcr: (cpu) => writeXcr(cpu, supportedXcr0(cpu)),
  syscall,
  sysret: (cpu) => sysret(cpu, false),
  sysretq: (cpu) => sysret(cpu, true),
  sysenter,
  sysexit: (cpu) => sysexit(cpu, false),
  sysexitq: (cpu) => sysexit(cpu, true),
  clearAc: (cpu) => setAlignmentFlag(cpu, false),
  setAc: (cpu) => setAlignmentFlag(cpu, true),
  hypercall,
  readControl,
  writeControl,
  readDebug,
  writeDebug,
  decimalAdjustAdd: (cpu) => decimalAdjust(cpu, 1),
  decimalAdjustSubtract: (cpu) => decimalAdjust(cpu, -1),
  asciiAdjustAdd: (cpu) => asciiAdjust(cpu, 1),
  asciiAdjustSubtract: (cpu) => asciiAdjust(cpu, -1),
  asciiAdjustMultiply: (cpu, base) => asciiMultiply(cpu, base as number),
  asciiAdjustDivide: (cpu, base) => asciiDivide(cpu, base as number),
} as Record<string, SystemHelper>;

/** What CPUID 0DH says XCR0 may hold. */
export function supportedXcr0(cpu: Cpu): bigint {
  return BigInt(cpu.cpuidTable.find((e) => e.leaf === 0xd && (e.subleaf ?? 0) === 0)?.eax ?? 0);
}

/** Helpers that see only their arguments and the scratch area. */
export const plainHelpers: Record<string, SystemHelper> = { divide128 } as Record<string, SystemHelper>;
