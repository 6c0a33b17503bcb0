import {
  INT_SHADOW,
  NVMM_X64_CR_CR0,
  NVMM_X64_CR_CR2,
  NVMM_X64_CR_CR3,
  NVMM_X64_CR_CR4,
  NVMM_X64_CR_CR8,
  NVMM_X64_CR_XCR0,
  NVMM_X64_DR_DR6,
  NVMM_X64_DR_DR7,
  NVMM_X64_MSR_CSTAR,
  NVMM_X64_MSR_EFER,
  NVMM_X64_MSR_KERNELGSBASE,
  NVMM_X64_MSR_LSTAR,
  NVMM_X64_MSR_PAT,
  NVMM_X64_MSR_SFMASK,
  NVMM_X64_MSR_STAR,
  NVMM_X64_MSR_SYSENTER_CS,
  NVMM_X64_MSR_SYSENTER_EIP,
  NVMM_X64_MSR_SYSENTER_ESP,
  NVMM_X64_MSR_TSC,
  NVMM_X64_SEG_CS,
  NVMM_X64_SEG_DS,
  NVMM_X64_SEG_ES,
  NVMM_X64_SEG_FS,
  NVMM_X64_SEG_GDT,
  NVMM_X64_SEG_GS,
  NVMM_X64_SEG_IDT,
  NVMM_X64_SEG_LDT,
  NVMM_X64_SEG_SS,
  NVMM_X64_SEG_TR,
  NVMM_X64_STATE_CRS,
  NVMM_X64_STATE_DRS,
  NVMM_X64_STATE_FPU,
  NVMM_X64_STATE_GPRS,
  NVMM_X64_STATE_INTR,
  NVMM_X64_STATE_MSRS,
  NVMM_X64_STATE_SEGS,
  type NvmmX64StateSeg,
  SEG_ATTRIB,
} from "../../../ffi/nvmm/state.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import { CapabilityError } from "../../errors.ts";
import { MSRS, msrLabel } from "../../msrs.ts";
import type {
  ControlName,
  DebugName,
  DescriptorTable,
  MpState,
  RegisterAccess,
  Segment,
  SegmentName,
  TableName,
  VcpuEvents,
} from "../../registers.ts";
import { RFLAGS, RIP } from "../../registers.ts";
import type { NvmmEvents } from "./events.ts";
import type { NvmmMsrs } from "./policy.ts";
import type { NvmmState } from "./state.ts";

const SEGMENT: Readonly<Record<SegmentName, number>> = {
  cs: NVMM_X64_SEG_CS,
  ds: NVMM_X64_SEG_DS,
  es: NVMM_X64_SEG_ES,
  fs: NVMM_X64_SEG_FS,
  gs: NVMM_X64_SEG_GS,
  ss: NVMM_X64_SEG_SS,
  tr: NVMM_X64_SEG_TR,
  ldt: NVMM_X64_SEG_LDT,
};
const TABLE: Readonly<Record<TableName, number>> = { gdt: NVMM_X64_SEG_GDT, idt: NVMM_X64_SEG_IDT };
const CONTROL: Readonly<Record<Exclude<ControlName, "efer" | "apicBase">, number>> = {
  cr0: NVMM_X64_CR_CR0,
  cr2: NVMM_X64_CR_CR2,
  cr3: NVMM_X64_CR_CR3,
  cr4: NVMM_X64_CR_CR4,
  cr8: NVMM_X64_CR_CR8,
  xcr0: NVMM_X64_CR_XCR0,
};
/** MSRs in the state of NVMM by number. */
const MSR_AT: ReadonlyMap<number, number> = new Map<number, number>([
  [MSRS.EFER, NVMM_X64_MSR_EFER],
  [MSRS.STAR, NVMM_X64_MSR_STAR],
  [MSRS.LSTAR, NVMM_X64_MSR_LSTAR],
  [MSRS.CSTAR, NVMM_X64_MSR_CSTAR],
  [MSRS.SFMASK, NVMM_X64_MSR_SFMASK],
  [MSRS.KERNEL_GS_BASE, NVMM_X64_MSR_KERNELGSBASE],
  [MSRS.SYSENTER_CS, NVMM_X64_MSR_SYSENTER_CS],
  [MSRS.SYSENTER_ESP, NVMM_X64_MSR_SYSENTER_ESP],
  [MSRS.SYSENTER_EIP, NVMM_X64_MSR_SYSENTER_EIP],
  [MSRS.PAT, NVMM_X64_MSR_PAT],
  [MSRS.TSC, NVMM_X64_MSR_TSC],
]);
/** MSRs that are the base of a segment. */
const BASE_OF: ReadonlyMap<number, SegmentName> = new Map([
  [MSRS.FS_BASE, "fs"],
  [MSRS.GS_BASE, "gs"],
]);

/** The FXSAVE image and the header of an XSAVE image in standard format: NVMM has no state beyond SSE. */
const LEGACY_BYTES = 512;
const XSAVE_BYTES = LEGACY_BYTES + 64;
const XSTATE_X87 = 1;
const XSTATE_SSE = 2;
/** Start values (Intel SDM Vol. 1, "Initialization of the x87 FPU", "MXCSR Control and Status Register"). */
const INITIAL_FCW = 0x37f;
const INITIAL_MXCSR = 0x1f80;

/** What the registers need of their vCPU. */
export interface NvmmRegisterOwner {
  /** @throws {DisposedError} */
  readonly state: NvmmState;
  readonly events: NvmmEvents;
  readonly msrs: NvmmMsrs;
  /** Takes the answer of the last exit, whatever it is: what is written comes after it. */
  settleForWrite(): void;
  /** The guest goes on elsewhere. */
  ripWritten(): void;
}

/**
 * The registers of an NVMM vCPU, by group out of the shared page. Writing an MSR commits the group, and with it the TSC as
 * it was read: the guest's clock goes back by the time in between.
 */
export class NvmmRegisters implements RegisterAccess {
  readonly #owner: NvmmRegisterOwner;

  constructor(owner: NvmmRegisterOwner) {
    this.#owner = owner;
  }

  readGpr(index: number): bigint {
    const { state, events } = this.#owner;
    // Every exit carries RFLAGS; the rest of its group may cost a call.
    const carried = index === RFLAGS && (state.valid & NVMM_X64_STATE_GPRS) === 0 ? events.exitRflags : undefined;
    return carried === undefined ? state.readGpr(index) : BigInt(carried);
  }

  writeGpr(index: number, value: bigint): void {
    this.#settled().writeGpr(index, value);
    if (index === RIP) this.#owner.ripWritten();
  }

  readSegment(name: SegmentName): Segment {
    return segmentOf(this.#segs()[SEGMENT[name]] as NvmmX64StateSeg);
  }

  writeSegment(name: SegmentName, segment: Segment): void {
    const { segs } = this.#settled().change(NVMM_X64_STATE_SEGS);
    assignSegment(segs[SEGMENT[name]] as NvmmX64StateSeg, segment);
  }

  readTable(name: TableName): DescriptorTable {
    const { base, limit } = this.#segs()[TABLE[name]] as NvmmX64StateSeg;
    return { base, limit };
  }

  writeTable(name: TableName, table: DescriptorTable): void {
    const { segs } = this.#settled().change(NVMM_X64_STATE_SEGS);
    const view = segs[TABLE[name]] as NvmmX64StateSeg;
    view.base = table.base;
    view.limit = table.limit;
  }

  readControl(name: ControlName): bigint {
    if (name === "efer") return this.readMsr(MSRS.EFER);
    if (name === "apicBase") return this.readMsr(MSRS.APIC_BASE);
    const { state, events } = this.#owner;
    const carried = name === "cr8" && (state.valid & NVMM_X64_STATE_CRS) === 0 ? events.exitCr8 : undefined;
    if (carried !== undefined) return BigInt(carried);
    return this.#owner.state.fetch(NVMM_X64_STATE_CRS).crs[CONTROL[name]] as bigint;
  }

  writeControl(name: ControlName, value: bigint): void {
    if (name === "efer") this.writeMsr(MSRS.EFER, value);
    else if (name === "apicBase") this.writeMsr(MSRS.APIC_BASE, value);
    else this.#settled().change(NVMM_X64_STATE_CRS).crs[CONTROL[name]] = value;
  }

  readDebug(name: DebugName): bigint {
    return this.#owner.state.fetch(NVMM_X64_STATE_DRS).drs[debugIndex(name)] as bigint;
  }

  writeDebug(name: DebugName, value: bigint): void {
    this.#settled().change(NVMM_X64_STATE_DRS).drs[debugIndex(name)] = value;
  }

  readMsr(index: number): bigint {
    const { state, msrs } = this.#owner;
    const at = MSR_AT.get(index);
    if (at !== undefined) return state.fetch(NVMM_X64_STATE_MSRS).msrs[at] as bigint;
    const base = BASE_OF.get(index);
    if (base !== undefined) return this.readSegment(base).base;
    const value = msrs.get(index);
    if (value === undefined) throw new RangeError(`Cannot read MSR ${msrLabel(index)}: NVMM does not have it`);
    return value;
  }

  writeMsr(index: number, value: bigint): void {
    const at = MSR_AT.get(index);
    const base = BASE_OF.get(index);
    if (at !== undefined) this.#settled().change(NVMM_X64_STATE_MSRS).msrs[at] = value;
    else if (base !== undefined) this.writeSegment(base, { ...this.readSegment(base), base: value });
    else if (!this.#owner.msrs.set(index, value)) {
      throw new RangeError(`Cannot set MSR ${msrLabel(index)} to 0x${value.toString(16)}: NVMM does not have it`);
    }
  }

  readXsave(): Uint8Array {
    const image = new Uint8Array(XSAVE_BYTES);
    image.set(bytesOf(this.#owner.state.fetch(NVMM_X64_STATE_FPU).fpu));
    image[LEGACY_BYTES] = XSTATE_X87 | XSTATE_SSE;
    return image;
  }

  writeXsave(image: Uint8Array): void {
    if (image.length !== XSAVE_BYTES) {
      throw new RangeError(`Cannot load an XSAVE image of ${image.length} bytes: NVMM's has ${XSAVE_BYTES}`);
    }
    const components = image[LEGACY_BYTES] as number;
    const { fpu } = this.#settled().change(NVMM_X64_STATE_FPU);
    const mask = fpu.fx_mxcsr_mask;
    const target = bytesOf(fpu);
    target.set(image.subarray(0, LEGACY_BYTES));
    if (fpu.fx_mxcsr_mask === 0) fpu.fx_mxcsr_mask = mask;
    // A component that XSTATE_BV leaves out is in its initial state.
    if ((components & XSTATE_X87) === 0) {
      target.fill(0, 0, 24).fill(0, 32, 160);
      fpu.fx_cw = INITIAL_FCW;
    }
    if ((components & XSTATE_SSE) === 0) {
      target.fill(0, 160, 416);
      fpu.fx_mxcsr = INITIAL_MXCSR;
    }
  }

  readEvents(): VcpuEvents {
    const { events, state } = this.#owner;
    const shadow = (state.fetch(NVMM_X64_STATE_INTR).intr.flags & INT_SHADOW) !== 0 ? 1 : 0;
    const { waiting } = events;
    const exception = waiting.find(({ kind }) => kind === "exception");
    const interrupt = waiting.find(({ kind }) => kind === "interrupt");
    return {
      exception: {
        injected: exception !== undefined,
        pending: false,
        vector: exception?.vector ?? 0,
        hasErrorCode: exception !== undefined && pushesErrorCode(exception.vector),
        errorCode: exception?.error ?? 0,
      },
      interrupt: { injected: interrupt !== undefined, vector: interrupt?.vector ?? 0, soft: false, shadow },
      nmi: { injected: false, pending: waiting.some(({ kind }) => kind === "nmi"), masked: events.nmiBlocked },
      smi: { smm: false, pending: false },
    };
  }

  /** NMI masking and SMM are NVMM's own: only what waits and the interrupt shadow can be set. */
  writeEvents(wanted: VcpuEvents): void {
    const { exception, interrupt, nmi } = wanted;
    this.#settled();
    const { events } = this.#owner;
    events.clear();
    if (exception.injected || exception.pending) events.queueException(exception.vector, exception.errorCode);
    if (interrupt.injected) events.queueInterrupt(interrupt.vector);
    if (nmi.pending || nmi.injected) events.queueNmi();
    if (events.shadow !== (interrupt.shadow !== 0)) events.setShadow(interrupt.shadow !== 0);
  }

  /** NVMM has neither INIT nor SIPI: a vCPU always runs when told to. */
  readMpState(): MpState {
    void this.#owner.state;
    return "runnable";
  }

  writeMpState(state: MpState): void {
    if (state === "runnable") return;
    throw new CapabilityError("nvmm", `MP state "${state}"`, { remedy: "do not run the vCPU until it is to start" });
  }

  #segs(): readonly NvmmX64StateSeg[] {
    return this.#owner.state.fetch(NVMM_X64_STATE_SEGS).segs;
  }

  #settled(): NvmmState {
    this.#owner.settleForWrite();
    return this.#owner.state;
  }
}

/** Vectors that push an error code (Intel SDM Vol. 3A, "Exception and Interrupt Reference"; 21 and 30 by AMD and Intel). */
export function pushesErrorCode(vector: number): boolean {
  return [8, 10, 11, 12, 13, 14, 17, 21, 30].includes(vector);
}

function debugIndex(name: DebugName): number {
  if (name === "dr6") return NVMM_X64_DR_DR6;
  return name === "dr7" ? NVMM_X64_DR_DR7 : Number(name[2]);
}

function bit(attrib: number, [low]: readonly [number, number]): 0 | 1 {
  return ((attrib >> low) & 1) as 0 | 1;
}

function segmentOf(view: NvmmX64StateSeg): Segment {
  const { attrib, selector, base, limit } = view;
  const present = bit(attrib, SEG_ATTRIB.p);
  return {
    selector,
    base,
    limit,
    type: attrib & 15,
    s: bit(attrib, SEG_ATTRIB.s),
    dpl: ((attrib >> SEG_ATTRIB.dpl[0]) & 3) as 0 | 1 | 2 | 3,
    present,
    avl: bit(attrib, SEG_ATTRIB.avl),
    l: bit(attrib, SEG_ATTRIB.l),
    db: bit(attrib, SEG_ATTRIB.def),
    g: bit(attrib, SEG_ATTRIB.g),
    unusable: present === 1 ? 0 : 1,
  };
}

function assignSegment(view: NvmmX64StateSeg, segment: Segment): void {
  const { selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable } = segment;
  view.selector = selector;
  view.base = base;
  view.limit = limit;
  view.attrib =
    (type & 15) |
    (s << SEG_ATTRIB.s[0]) |
    (dpl << SEG_ATTRIB.dpl[0]) |
    // NVMM has one bit for both.
    ((unusable ? 0 : present) << SEG_ATTRIB.p[0]) |
    (avl << SEG_ATTRIB.avl[0]) |
    (l << SEG_ATTRIB.l[0]) |
    (db << SEG_ATTRIB.def[0]) |
    (g << SEG_ATTRIB.g[0]);
}
