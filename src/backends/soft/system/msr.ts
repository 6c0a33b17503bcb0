import { isCanonical } from "../access.ts";
import { CR0, EFER } from "../control-bits.ts";
import type { Cpu } from "../cpu.ts";
import { SegIndex, State } from "../state.ts";

/** Architectural MSRs that are plain storage, with the bits that may be set. */
const STORED = new Map<number, bigint>([
  [0x1b, 0xff_ffff_f900n], // IA32_APIC_BASE, without EXTD: there is no x2APIC
  [0x3a, 0xffn], // IA32_FEATURE_CONTROL
  [0x3b, (1n << 64n) - 1n], // IA32_TSC_ADJUST
  [0x8b, 0n], // IA32_BIOS_SIGN_ID
  [0x174, 0xffff_ffffn], // IA32_SYSENTER_CS
  [0x1a0, 0xffff_ffffn], // IA32_MISC_ENABLE
  [0x1d9, 0xffffn], // IA32_DEBUGCTL
  [0x277, 0x0707_0707_0707_0707n], // IA32_PAT
  [0x2ff, 0xcffn], // IA32_MTRR_DEF_TYPE
  [0xc000_0103, (1n << 64n) - 1n], // IA32_TSC_AUX
  [0xc000_0081, (1n << 64n) - 1n], // IA32_STAR
  [0xc000_0084, 0xffff_ffffn], // IA32_FMASK
]);
/** MSRs that hold a linear address. */
const ADDRESSES = new Set([0x175, 0x176, 0xc000_0082, 0xc000_0083, 0xc000_0102]);

export const MSR = {
  TSC: 0x10,
  APIC_BASE: 0x1b,
  TSC_ADJUST: 0x3b,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  PAT: 0x277,
  EFER: 0xc000_0080,
  STAR: 0xc000_0081,
  LSTAR: 0xc000_0082,
  CSTAR: 0xc000_0083,
  FMASK: 0xc000_0084,
  FS_BASE: 0xc000_0100,
  GS_BASE: 0xc000_0101,
  KERNEL_GS_BASE: 0xc000_0102,
  TSC_AUX: 0xc000_0103,
} as const;

/** The model-specific registers of one vCPU. `undefined` and `false` mean that the access is refused. */
export class Msrs {
  readonly values = new Map<number, bigint>();
  readonly #cpu: Cpu;
  /** Added to the clock for the time-stamp counter. */
  tscOffset = 0n;
  /** Nanoseconds; undefined for one per instruction. */
  hostClock: { readonly now: number } | undefined;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
    this.values.set(MSR.PAT, 0x0007_0406_0007_0406n);
    this.values.set(MSR.APIC_BASE, 0xfee0_0000n | (cpu.id === 0 ? 0x100n : 0n));
  }

  /** The time-stamp counter: one per instruction, or per nanosecond of the host's time. */
  get tsc(): bigint {
    return BigInt.asUintN(64, this.#ticks + this.tscOffset);
  }
  set tsc(value: bigint) {
    this.tscOffset = value - this.#ticks;
  }

  get #ticks(): bigint {
    return BigInt(this.hostClock?.now ?? this.#cpu.instructions);
  }

  read(index: number): bigint | undefined {
    const cpu = this.#cpu;
    switch (index) {
      case MSR.TSC:
        return this.tsc;
      case MSR.EFER:
        return BigInt(cpu.efer);
      case MSR.FS_BASE:
        return cpu.segmentBase(SegIndex.fs);
      case MSR.GS_BASE:
        return cpu.segmentBase(SegIndex.gs);
      case 0xfe:
        return 0x508n; // IA32_MTRRCAP: 8 variable ranges, fixed ranges, WC
    }
    if (STORED.has(index) || ADDRESSES.has(index) || isMtrr(index)) return this.values.get(index) ?? 0n;
    return undefined;
  }

  write(index: number, value: bigint): boolean {
    const cpu = this.#cpu;
    switch (index) {
      case MSR.TSC:
        this.tsc = value;
        return true;
      case MSR.EFER:
        return this.#writeEfer(value);
      case MSR.FS_BASE:
      case MSR.GS_BASE:
        if (!isCanonical(cpu, value)) return false;
        cpu.setSegmentBase(index === MSR.FS_BASE ? SegIndex.fs : SegIndex.gs, value);
        return true;
      case 0x8b:
        return true;
    }
    if (ADDRESSES.has(index)) {
      if (!isCanonical(cpu, value)) return false;
      this.values.set(index, value);
      return true;
    }
    const mask = STORED.get(index);
    if (mask !== undefined) {
      if ((value & ~mask) !== 0n) return false;
      this.values.set(index, value);
      return true;
    }
    if (!isMtrr(index)) return false;
    this.values.set(index, value);
    return true;
  }

  #writeEfer(value: bigint): boolean {
    const cpu = this.#cpu;
    const allowed = BigInt(EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE);
    if ((value & ~allowed) !== 0n) return false;
    const paging = (cpu.cr0 & CR0.PG) !== 0;
    const next = Number(value);
    if (paging && ((cpu.efer ^ next) & EFER.LME) !== 0) return false;
    cpu.set(State.efer, (next & ~EFER.LMA) | (cpu.efer & EFER.LMA));
    cpu.flushTlb();
    cpu.changeMode();
    return true;
  }
}

function isMtrr(index: number): boolean {
  return (
    (index >= 0x200 && index <= 0x20f) ||
    index === 0x250 ||
    index === 0x258 ||
    index === 0x259 ||
    (index >= 0x268 && index <= 0x26f)
  );
}
