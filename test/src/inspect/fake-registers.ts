import {
  type ControlName,
  type DescriptorTable,
  GPR_NAMES,
  type GprName,
  type RegisterAccess,
  type Segment,
  type SegmentName,
} from "../../../src/registers.ts";

/** What a test says of a vCPU; the rest is zero. */
export interface FakeState {
  readonly gprs?: Partial<Record<GprName, bigint>>;
  readonly controls?: Partial<Record<ControlName, bigint>>;
  readonly segments?: Partial<Record<SegmentName, Partial<Segment>>>;
  readonly idt?: DescriptorTable;
}

const SEGMENT: Segment = {
  selector: 0,
  base: 0n,
  limit: 0xffff,
  type: 3,
  s: 1,
  dpl: 0,
  present: 1,
  avl: 0,
  l: 0,
  db: 0,
  g: 0,
  unusable: 0,
};

/** Registers that hold what a test says: real mode unless it says otherwise. */
export function fakeRegisters(state: FakeState): RegisterAccess {
  const unexpected = (): never => {
    throw new Error("Not part of what is inspected");
  };
  return {
    readGpr: (index) => state.gprs?.[GPR_NAMES[index]!] ?? (GPR_NAMES[index] === "rflags" ? 2n : 0n),
    readSegment: (name) => ({ ...SEGMENT, ...(name === "cs" ? { type: 0xb } : {}), ...state.segments?.[name] }),
    readTable: (name) => (name === "idt" ? (state.idt ?? { base: 0n, limit: 0x3ff }) : { base: 0n, limit: 0 }),
    readControl: (name) => state.controls?.[name] ?? 0n,
    readDebug: (name) => (name === "dr6" ? 0xffff0ff0n : name === "dr7" ? 0x400n : 0n),
    writeGpr: unexpected,
    writeSegment: unexpected,
    writeTable: unexpected,
    writeControl: unexpected,
    writeDebug: unexpected,
    readMsr: unexpected,
    writeMsr: unexpected,
    readXsave: unexpected,
    writeXsave: unexpected,
    readEvents: unexpected,
    writeEvents: unexpected,
    readMpState: unexpected,
    writeMpState: unexpected,
  };
}
