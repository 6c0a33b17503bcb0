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

export type SegmentName = "cs" | "ds" | "es" | "fs" | "gs" | "ss" | "tr" | "ldt";
export type TableName = "gdt" | "idt";
export type ControlName = "cr0" | "cr2" | "cr3" | "cr4" | "cr8" | "efer" | "apicBase" | "xcr0";
/** DR0 to DR3 hold addresses, DR6 is status, DR7 control. */
export type DebugName = "dr0" | "dr1" | "dr2" | "dr3" | "dr6" | "dr7";

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
