import { type MsrName, msrIndex } from "./msrs.ts";

/** General-purpose registers in the order x86 encodes them, then RIP and RFLAGS. The index is the wire format between backends and `Registers`. */
export const GPR_NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
  "rip",
  "rflags",
] as const;
export type GprName = (typeof GPR_NAMES)[number];
export const RIP = 16;
export const RFLAGS = 17;
/** RFLAGS.IF: maskable interrupts are taken. */
export const RFLAGS_IF = 1n << 9n;

export const SEGMENT_NAMES = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"] as const;
export type SegmentName = (typeof SEGMENT_NAMES)[number];
export const TABLE_NAMES = ["gdt", "idt"] as const;
export type TableName = (typeof TABLE_NAMES)[number];
export const CONTROL_NAMES = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apicBase", "xcr0"] as const;
export type ControlName = (typeof CONTROL_NAMES)[number];
/** DR0 to DR3 hold addresses, DR6 is status, DR7 control. */
export const DEBUG_NAMES = ["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"] as const;
export type DebugName = (typeof DEBUG_NAMES)[number];

/** A segment register with its hidden part, as the processor caches it (Intel SDM Vol. 3A, "Segment Registers"). */
export interface Segment {
  selector: number;
  base: bigint;
  /** In bytes: the granularity bit is already applied. */
  limit: number;
  /** Descriptor type, bits 0 to 3 of the access byte: e.g. 0xb code execute/read accessed, 3 data read/write accessed. */
  type: number;
  /** 1: code or data; 0: system. */
  s: 0 | 1;
  dpl: 0 | 1 | 2 | 3;
  present: 0 | 1;
  avl: 0 | 1;
  /** 64-bit code. */
  l: 0 | 1;
  /** Default operand size 32 bits (D/B). */
  db: 0 | 1;
  /** Limit counted in 4 KiB pages. */
  g: 0 | 1;
  /** The null-selector mark of VMX: the register must not be used. */
  unusable: 0 | 1;
}

/** GDTR or IDTR. */
export interface DescriptorTable {
  base: bigint;
  limit: number;
}

/** Whether a vCPU executes, waits for an interrupt, or waits to be started. */
export type MpState = "runnable" | "halted" | "uninitialized" | "initReceived" | "sipiReceived";

/** Events in flight: what would be lost if only registers were saved (KVM_GET_VCPU_EVENTS). */
export interface VcpuEvents {
  exception: { injected: boolean; pending: boolean; vector: number; hasErrorCode: boolean; errorCode: number };
  interrupt: { injected: boolean; vector: number; soft: boolean; shadow: number };
  nmi: { injected: boolean; pending: boolean; masked: boolean };
  smi: { smm: boolean; pending: boolean };
}

/**
 * What a backend provides so that `Registers` can be the same everywhere. Reads reflect the guest after the last exit:
 * behind an instruction that asked for nothing (OUT, an MMIO store, HLT), at one that waits for an answer (IN, an MMIO
 * load, RDMSR, WRMSR). Writes take effect at the next run; a backend batches them.
 */
export interface RegisterAccess {
  /** `index` as in `GPR_NAMES`. */
  readGpr(index: number): bigint;
  writeGpr(index: number, value: bigint): void;
  readSegment(name: SegmentName): Segment;
  writeSegment(name: SegmentName, segment: Segment): void;
  readTable(name: TableName): DescriptorTable;
  writeTable(name: TableName, table: DescriptorTable): void;
  readControl(name: ControlName): bigint;
  writeControl(name: ControlName, value: bigint): void;
  readDebug(name: DebugName): bigint;
  writeDebug(name: DebugName, value: bigint): void;
  /** @throws {RangeError} when the engine has no such MSR. */
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
  /** The XSAVE image in standard format: 512 bytes legacy area, 64 bytes header, then components at CPUID.0DH's offsets. A copy. */
  readXsave(): Uint8Array;
  writeXsave(image: Uint8Array): void;
  readEvents(): VcpuEvents;
  writeEvents(events: VcpuEvents): void;
  readMpState(): MpState;
  writeMpState(state: MpState): void;
}

/** Offsets of the legacy area of an XSAVE image (Intel SDM Vol. 1, "Legacy Region of an XSAVE Area"), and of the header. */
const XSAVE = { fcw: 0, fsw: 2, ftw: 4, mxcsr: 24, st: 32, xmm: 160, xstateBv: 512, ymmHigh: 576 } as const;
const XSTATE_X87 = 1n;
const XSTATE_SSE = 2n;
const XSTATE_AVX = 4n;

/** Control and status of the x87 and SSE units. */
export interface FpuControl {
  fcw: number;
  fsw: number;
  /** Abridged tag word: bit i set when physical register i holds a value. */
  ftw: number;
  mxcsr: number;
}

/** Named accessors of `Registers`: `registers.rax`, `registers.cs`, `registers.cr3`, … */
export interface Registers
  extends Record<GprName, bigint>,
    Record<SegmentName, Segment>,
    Record<TableName, DescriptorTable>,
    Record<ControlName, bigint>,
    Record<DebugName, bigint> {}

/**
 * The registers of one vCPU, by the datasheet's names. Reads reflect the last exit: behind an instruction that asked for
 * nothing (OUT, an MMIO store, HLT), at one that waits for an answer (IN, an MMIO load, RDMSR, WRMSR), on every host.
 * Writes take effect at the next run. Segments and tables are copies: assign them back to change them.
 */
export class Registers {
  readonly #access: RegisterAccess;
  readonly #onSystemWrite: (() => void) | undefined;

  /** @param onSystemWrite Called when a segment, a table or a control register is written. */
  constructor(access: RegisterAccess, onSystemWrite?: () => void) {
    this.#access = access;
    this.#onSystemWrite = onSystemWrite;
  }

  static {
    const define = (name: string, get: (self: Registers) => unknown, set: (self: Registers, value: never) => void) =>
      Object.defineProperty(Registers.prototype, name, {
        enumerable: true,
        get(this: Registers) {
          return get(this);
        },
        set(this: Registers, value: never) {
          set(this, value);
        },
      });
    GPR_NAMES.forEach((name, index) => {
      define(
        name,
        (self) => self.#access.readGpr(index),
        (self, value) => self.#access.writeGpr(index, value),
      );
    });
    for (const name of SEGMENT_NAMES) {
      define(
        name,
        (self) => self.#access.readSegment(name),
        (self, value) => {
          self.#access.writeSegment(name, value);
          self.#onSystemWrite?.();
        },
      );
    }
    for (const name of TABLE_NAMES) {
      define(
        name,
        (self) => self.#access.readTable(name),
        (self, value) => {
          self.#access.writeTable(name, value);
          self.#onSystemWrite?.();
        },
      );
    }
    for (const name of CONTROL_NAMES) {
      define(
        name,
        (self) => self.#access.readControl(name),
        (self, value) => {
          self.#access.writeControl(name, value);
          self.#onSystemWrite?.();
        },
      );
    }
    for (const name of DEBUG_NAMES) {
      define(
        name,
        (self) => self.#access.readDebug(name),
        (self, value) => self.#access.writeDebug(name, value),
      );
    }
  }

  /** Assigns several registers at once: `registers.set({ rip: 0x1000n, rflags: 2n })`. */
  set(values: Partial<Record<GprName | ControlName | DebugName, bigint>>): void {
    Object.assign(this, values);
  }

  /** All general-purpose registers, RIP and RFLAGS by name, a copy. */
  gprs(): Record<GprName, bigint> {
    const values = {} as Record<GprName, bigint>;
    for (const name of GPR_NAMES) values[name] = this[name];
    return values;
  }

  /** @throws {RangeError} when the engine has no such MSR. */
  msr(msr: MsrName | number): bigint {
    return this.#access.readMsr(msrIndex(msr));
  }
  setMsr(msr: MsrName | number, value: bigint): void {
    this.#access.writeMsr(msrIndex(msr), value);
  }

  /** XMM0 to XMM15: 16 bytes, a copy. */
  xmm(index: number): Uint8Array {
    const at = XSAVE.xmm + 16 * vectorIndex(index);
    return this.#access.readXsave().slice(at, at + 16);
  }
  setXmm(index: number, value: Uint8Array): void {
    const image = this.#access.readXsave();
    image.set(exactly(value, 16), XSAVE.xmm + 16 * vectorIndex(index));
    this.#writeXsave(image, XSTATE_SSE);
  }

  /** YMM0 to YMM15: 32 bytes, a copy. @throws {RangeError} when the engine gives the guest no AVX state. */
  ymm(index: number): Uint8Array {
    const image = this.#access.readXsave();
    const high = ymmHighAt(image, vectorIndex(index));
    const value = new Uint8Array(32);
    value.set(image.subarray(XSAVE.xmm + 16 * index, XSAVE.xmm + 16 * index + 16));
    if (xstateBv(image) & XSTATE_AVX) value.set(image.subarray(high, high + 16), 16);
    return value;
  }
  setYmm(index: number, value: Uint8Array): void {
    const image = this.#access.readXsave();
    const high = ymmHighAt(image, vectorIndex(index));
    if (!(xstateBv(image) & XSTATE_AVX)) image.fill(0, XSAVE.ymmHigh, XSAVE.ymmHigh + 256);
    image.set(exactly(value, 32).subarray(0, 16), XSAVE.xmm + 16 * index);
    image.set(value.subarray(16), high);
    this.#writeXsave(image, XSTATE_SSE | XSTATE_AVX);
  }

  /** ST(0) to ST(7) as the 10 bytes of the 80-bit format, a copy. */
  st(index: number): Uint8Array {
    const at = XSAVE.st + 16 * stackIndex(index);
    return this.#access.readXsave().slice(at, at + 10);
  }
  setSt(index: number, value: Uint8Array): void {
    const image = this.#access.readXsave();
    image.set(exactly(value, 10), XSAVE.st + 16 * stackIndex(index));
    this.#writeXsave(image, XSTATE_X87);
  }

  get fpu(): FpuControl {
    const view = viewOf(this.#access.readXsave());
    return {
      fcw: view.getUint16(XSAVE.fcw, true),
      fsw: view.getUint16(XSAVE.fsw, true),
      ftw: view.getUint8(XSAVE.ftw),
      mxcsr: view.getUint32(XSAVE.mxcsr, true),
    };
  }
  set fpu(control: FpuControl) {
    const image = this.#access.readXsave();
    const view = viewOf(image);
    view.setUint16(XSAVE.fcw, control.fcw, true);
    view.setUint16(XSAVE.fsw, control.fsw, true);
    view.setUint8(XSAVE.ftw, control.ftw);
    view.setUint32(XSAVE.mxcsr, control.mxcsr, true);
    this.#writeXsave(image, XSTATE_X87 | XSTATE_SSE);
  }

  /** The whole XSAVE image in standard format, a copy. */
  get xsave(): Uint8Array {
    return this.#access.readXsave();
  }
  set xsave(image: Uint8Array) {
    this.#access.writeXsave(image);
  }

  /** Events in flight. */
  get events(): VcpuEvents {
    return this.#access.readEvents();
  }
  set events(events: VcpuEvents) {
    this.#access.writeEvents(events);
  }

  get mpState(): MpState {
    return this.#access.readMpState();
  }
  set mpState(state: MpState) {
    this.#access.writeMpState(state);
  }

  #writeXsave(image: Uint8Array, components: bigint): void {
    const view = viewOf(image);
    view.setBigUint64(XSAVE.xstateBv, view.getBigUint64(XSAVE.xstateBv, true) | components, true);
    this.#access.writeXsave(image);
  }
}

function viewOf(image: Uint8Array): DataView {
  return new DataView(image.buffer, image.byteOffset, image.byteLength);
}

function xstateBv(image: Uint8Array): bigint {
  return viewOf(image).getBigUint64(XSAVE.xstateBv, true);
}

function vectorIndex(index: number): number {
  if (!Number.isInteger(index) || index < 0 || index > 15)
    throw new RangeError(`No vector register ${index}: use 0 to 15`);
  return index;
}

function stackIndex(index: number): number {
  if (!Number.isInteger(index) || index < 0 || index > 7) throw new RangeError(`No ST(${index}): use 0 to 7`);
  return index;
}

function exactly(value: Uint8Array, bytes: number): Uint8Array {
  if (value.length !== bytes) throw new RangeError(`Cannot take ${value.length} bytes as a register: pass ${bytes}`);
  return value;
}

function ymmHighAt(image: Uint8Array, index: number): number {
  if (image.length < XSAVE.ymmHigh + 256) throw new RangeError("No AVX state in this guest: the engine offers none");
  return XSAVE.ymmHigh + 16 * index;
}
