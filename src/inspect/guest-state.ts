import {
  type ControlName,
  type DebugName,
  type DescriptorTable,
  GPR_NAMES,
  type RegisterAccess,
  type Segment,
  type SegmentName,
} from "../registers.ts";

/** The registers that decide whether a processor enters a guest. */
export interface GuestState {
  readonly rip: bigint;
  readonly rflags: bigint;
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly dr6: bigint;
  readonly dr7: bigint;
  readonly segments: Readonly<Record<SegmentName, Segment>>;
  readonly gdt: DescriptorTable;
  readonly idt: DescriptorTable;
}

const SEGMENTS: readonly SegmentName[] = ["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt"];

/** What `guestStateOf()` reads of a vCPU. */
export type GuestStateSource = Pick<
  RegisterAccess,
  "readGpr" | "readControl" | "readDebug" | "readSegment" | "readTable"
>;

/** The state of a vCPU as it stands, from any `RegisterAccess`. */
export function guestStateOf(registers: GuestStateSource): GuestState {
  const control = (name: ControlName) => registers.readControl(name);
  const debug = (name: DebugName) => registers.readDebug(name);
  const segments = Object.fromEntries(SEGMENTS.map((name) => [name, registers.readSegment(name)]));
  return {
    rip: registers.readGpr(GPR_NAMES.indexOf("rip")),
    rflags: registers.readGpr(GPR_NAMES.indexOf("rflags")),
    cr0: control("cr0"),
    cr3: control("cr3"),
    cr4: control("cr4"),
    efer: control("efer"),
    dr6: debug("dr6"),
    dr7: debug("dr7"),
    segments: segments as Record<SegmentName, Segment>,
    gdt: registers.readTable("gdt"),
    idt: registers.readTable("idt"),
  };
}
