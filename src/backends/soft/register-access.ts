import {
  type ControlName,
  type DebugName,
  type DescriptorTable,
  type MpState,
  type RegisterAccess,
  RFLAGS,
  RIP,
  type Segment,
  type SegmentName,
  type TableName,
  type VcpuEvents,
} from "../../registers.ts";
import { EFER } from "./control-bits.ts";
import type { Cpu } from "./cpu.ts";
import type { Processor } from "./processor.ts";
import { Seg, SegIndex, State } from "./state.ts";
import { setSegmentFields } from "./system/descriptors.ts";
import { MSR } from "./system/msr.ts";
import { getDebugRegister, setDebugRegister } from "./system/registers.ts";
import { readXsaveImage, writeXsaveImage } from "./xsave.ts";

const SEGMENT_INDEX: Record<SegmentName, number> = {
  es: SegIndex.es,
  cs: SegIndex.cs,
  ss: SegIndex.ss,
  ds: SegIndex.ds,
  fs: SegIndex.fs,
  gs: SegIndex.gs,
  ldt: SegIndex.ldt,
  tr: SegIndex.tr,
};
const CONTROL_OFFSET: Partial<Record<ControlName, number>> = {
  cr0: State.cr0,
  cr2: State.cr2,
  cr3: State.cr3,
  cr4: State.cr4,
  cr8: State.cr8,
  efer: State.efer,
  xcr0: State.xcr0,
};

/** KVM_X86_SHADOW_INT_MOV_SS and KVM_X86_SHADOW_INT_STI. */
const SHADOW = { movSs: 1, sti: 2 } as const;

/** The registers of a software vCPU: the state itself, so nothing is batched. */
export class SoftRegisters implements RegisterAccess {
  readonly #cpu: Cpu;
  readonly #processor: Processor;
  readonly #check: () => void;
  #mpState: MpState = "runnable";

  constructor(cpu: Cpu, processor: Processor, check: () => void) {
    this.#cpu = cpu;
    this.#processor = processor;
    this.#check = check;
  }

  readGpr(index: number): bigint {
    this.#check();
    if (index === RIP) return this.#cpu.rip;
    if (index === RFLAGS) return BigInt(this.#cpu.eflags >>> 0);
    return this.#cpu.gpr(index);
  }

  writeGpr(index: number, value: bigint): void {
    this.#check();
    if (index === RIP) {
      if (value !== this.#cpu.rip) this.#processor.abandon();
      this.#cpu.rip = value;
    } else if (index === RFLAGS) this.#cpu.eflags = Number(value & 0xffff_ffffn);
    else this.#cpu.setGpr(index, value);
  }

  readSegment(name: SegmentName): Segment {
    this.#check();
    const cpu = this.#cpu;
    const index = SEGMENT_INDEX[name];
    const a = cpu.attributes(index);
    const bit = (n: number) => ((a >> n) & 1) as 0 | 1;
    return {
      selector: cpu.selector(index),
      base: cpu.segmentBase(index),
      limit: cpu.segment(index, Seg.limit) >>> 0,
      type: a & 0xf,
      s: bit(4),
      dpl: ((a >> 5) & 3) as 0 | 1 | 2 | 3,
      present: bit(7),
      avl: bit(8),
      l: bit(9),
      db: bit(10),
      g: bit(11),
      unusable: bit(16),
    };
  }

  writeSegment(name: SegmentName, s: Segment): void {
    this.#check();
    const attributes =
      (s.type & 0xf) |
      (s.s << 4) |
      (s.dpl << 5) |
      (s.present << 7) |
      (s.avl << 8) |
      (s.l << 9) |
      (s.db << 10) |
      (s.g << 11) |
      (s.unusable << 16);
    setSegmentFields(this.#cpu, SEGMENT_INDEX[name], {
      selector: s.selector,
      base: s.base,
      limit: s.limit,
      attributes,
    });
  }

  readTable(name: TableName): DescriptorTable {
    this.#check();
    const cpu = this.#cpu;
    return name === "gdt"
      ? { base: cpu.get64(State.gdtBase), limit: cpu.get(State.gdtLimit) & 0xffff }
      : { base: cpu.get64(State.idtBase), limit: cpu.get(State.idtLimit) & 0xffff };
  }

  writeTable(name: TableName, table: DescriptorTable): void {
    this.#check();
    this.#cpu.set64(name === "gdt" ? State.gdtBase : State.idtBase, table.base);
    this.#cpu.set(name === "gdt" ? State.gdtLimit : State.idtLimit, table.limit & 0xffff);
  }

  readControl(name: ControlName): bigint {
    this.#check();
    const offset = CONTROL_OFFSET[name];
    return offset === undefined ? (this.#cpu.msrs.read(MSR.APIC_BASE) as bigint) : this.#cpu.get64(offset);
  }

  writeControl(name: ControlName, value: bigint): void {
    this.#check();
    const cpu = this.#cpu;
    const offset = CONTROL_OFFSET[name];
    if (offset === undefined) cpu.msrs.values.set(MSR.APIC_BASE, value);
    else cpu.set64(offset, value);
    cpu.flushTlb();
    cpu.changeMode();
  }

  readDebug(name: DebugName): bigint {
    this.#check();
    return getDebugRegister(this.#cpu, Number(name[2]));
  }

  writeDebug(name: DebugName, value: bigint): void {
    this.#check();
    setDebugRegister(this.#cpu, Number(name[2]), value);
  }

  readMsr(index: number): bigint {
    this.#check();
    const value = this.#cpu.msrs.read(index);
    if (value === undefined) throw new RangeError(`Unknown MSR 0x${index.toString(16)} on the soft backend`);
    return value;
  }

  writeMsr(index: number, value: bigint): void {
    this.#check();
    if (index === MSR.EFER) {
      this.writeControl("efer", value & BigInt(EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE));
      return;
    }
    if (this.#cpu.msrs.write(index, value)) return;
    const known = this.#cpu.msrs.read(index) !== undefined;
    throw new RangeError(
      known
        ? `Refused value 0x${value.toString(16)} for MSR 0x${index.toString(16)}`
        : `Unknown MSR 0x${index.toString(16)} on the soft backend`,
    );
  }

  readXsave(): Uint8Array {
    this.#check();
    return readXsaveImage(this.#cpu);
  }

  writeXsave(image: Uint8Array): void {
    this.#check();
    writeXsaveImage(this.#cpu, image);
  }

  readEvents(): VcpuEvents {
    this.#check();
    const { queuedException, queuedInterrupt, queuedNmi } = this.#processor;
    return {
      exception: {
        injected: queuedException !== undefined,
        pending: false,
        vector: queuedException?.vector ?? 0,
        hasErrorCode: queuedException?.errorCode !== undefined,
        errorCode: queuedException?.errorCode ?? 0,
      },
      interrupt: {
        injected: queuedInterrupt !== undefined,
        vector: queuedInterrupt ?? 0,
        soft: false,
        shadow: this.#cpu.inShadow ? (this.#cpu.debugHeld ? SHADOW.movSs : SHADOW.sti) : 0,
      },
      nmi: { injected: false, pending: queuedNmi, masked: this.#cpu.nmiBlocked },
      smi: { smm: false, pending: false },
    };
  }

  writeEvents(events: VcpuEvents): void {
    this.#check();
    const { exception, interrupt, nmi } = events;
    const processor = this.#processor;
    const raised = exception.injected || exception.pending;
    processor.queuedException = raised
      ? { vector: exception.vector, errorCode: exception.hasErrorCode ? exception.errorCode : undefined }
      : undefined;
    processor.queuedInterrupt = interrupt.injected ? interrupt.vector : undefined;
    processor.queuedNmi = nmi.pending || nmi.injected;
    const cpu = this.#cpu;
    cpu.nmiBlocked = nmi.masked;
    const debug = (interrupt.shadow & SHADOW.movSs) !== 0;
    cpu.shadow = interrupt.shadow === 0 ? undefined : { rip: cpu.rip, instructions: cpu.instructions, debug };
  }

  readMpState(): MpState {
    this.#check();
    return this.#mpState;
  }

  writeMpState(state: MpState): void {
    this.#check();
    this.#mpState = state;
  }
}
