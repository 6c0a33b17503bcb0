import {
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_VCPUEVENT_VALID_NMI_PENDING,
  KVM_VCPUEVENT_VALID_PAYLOAD,
  KVM_VCPUEVENT_VALID_SHADOW,
  KVM_VCPUEVENT_VALID_SMM,
  KvmMpState,
  KvmVcpuEvents,
} from "../../../ffi/kvm/events.ts";
import * as ioctls from "../../../ffi/kvm/ioctls.ts";
import { KvmMsrs } from "../../../ffi/kvm/msrs.ts";
import {
  KvmDebugregs,
  type KvmDtable,
  type KvmRegs,
  type KvmSegment,
  type KvmSregs,
  KvmXcrs,
} from "../../../ffi/kvm/regs.ts";
import { KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, type KvmRun } from "../../../ffi/kvm/run.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import { msrLabel } from "../../msrs.ts";
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
import { ioctlPtr } from "./call.ts";

/** Where kvm_regs keeps each register of `GPR_NAMES`, in 64-bit words. */
const GPR_WORD = [0, 2, 3, 1, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17] as const;

const MP_STATES: readonly (readonly [number, MpState])[] = [
  [KVM_MP_STATE_RUNNABLE, "runnable"],
  [KVM_MP_STATE_HALTED, "halted"],
  [KVM_MP_STATE_UNINITIALIZED, "uninitialized"],
  [KVM_MP_STATE_INIT_RECEIVED, "initReceived"],
  [KVM_MP_STATE_SIPI_RECEIVED, "sipiReceived"],
];

/** MSRs that are also part of kvm_sregs: a change of one must not be undone by a batched write of the other. */
const SREGS_REMEDY = {
  EINVAL:
    "the state breaks a rule of the processor: check CR0, CR4, EFER and the segments against each other (validateState names it)",
};

/** After this many exits without a read, KVM is told to stop storing a group at every exit. */
const UNREAD_EXITS = 16;

/** One register group of kvm_run's sync area. */
interface Group {
  readonly bit: number;
  /** The sync area holds the vCPU's present state, or what will be. */
  valid: boolean;
  /** Changed here; to be loaded at the next run. */
  dirty: boolean;
  /** Exits since the last read. */
  unread: number;
}

/** What the registers need of their vCPU. */
export interface RegisterOwner {
  /** The vCPU's fd. @throws {DisposedError} */
  readonly fd: number;
  /** Finishes an OUT or MMIO store, so that what is read is the state behind it, on every host. */
  settleForRead(): void;
  /** Takes the answer of the last exit, whatever it is: what is written comes after it. */
  settleForWrite(): void;
}

/**
 * The registers of a KVM vCPU. General and special registers live in kvm_run's sync area: KVM stores a group there at
 * each exit for as long as somebody reads it, and loads what was changed at the next entry, so that neither costs a
 * system call. Hosts without KVM_CAP_SYNC_REGS get the same through KVM_GET_REGS and KVM_SET_REGS.
 *
 * @see "6. Capabilities that can be enabled on vCPUs", KVM_CAP_SYNC_REGS, Documentation/virt/kvm/api.rst, Linux v6.1
 */
export class KvmRegisters implements RegisterAccess {
  readonly #owner: RegisterOwner;
  readonly #run: KvmRun;
  readonly #sync: boolean;
  readonly #regs: KvmRegs;
  readonly #words: BigUint64Array;
  readonly #regBytes: Uint8Array;
  readonly #sregs: KvmSregs;
  readonly #sregBytes: Uint8Array;
  /** Special registers as handed to KVM_RUN, which writes over the sync area even when it refuses them. */
  readonly #handedOver: Uint8Array;
  readonly #xsaveBytes: number;
  readonly #gprGroup: Group = { bit: KVM_SYNC_X86_REGS, valid: false, dirty: false, unread: 0 };
  readonly #sregGroup: Group = { bit: KVM_SYNC_X86_SREGS, valid: false, dirty: false, unread: 0 };
  #debug: KvmDebugregs | undefined;
  #debugDirty = false;
  /** Nothing was read or written lately: a run has nothing to hand over or to forget. */
  #idle = true;

  /** @param xsaveBytes Size of the XSAVE image: KVM_CAP_XSAVE2 of the VM, or 4096. */
  constructor(owner: RegisterOwner, run: KvmRun, host: { syncRegs: number; xsaveBytes: number }) {
    this.#owner = owner;
    this.#run = run;
    this.#sync =
      (host.syncRegs & (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS)) === (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
    this.#xsaveBytes = host.xsaveBytes;
    this.#regs = run.s.regs.regs;
    this.#regBytes = bytesOf(this.#regs);
    this.#words = new BigUint64Array(this.#regBytes.buffer, this.#regBytes.byteOffset, GPR_WORD.length);
    this.#sregs = run.s.regs.sregs;
    this.#sregBytes = bytesOf(this.#sregs);
    this.#handedOver = new Uint8Array(this.#sregBytes.length);
  }

  /** Called before KVM_RUN: hands over what was written. */
  flush(): void {
    if (this.#idle) return;
    if (this.#debugDirty) this.#flushDebug();
    if (this.#sregGroup.dirty) {
      this.#handedOver.set(this.#sregBytes);
      this.#flushGroup(this.#sregGroup, ioctls.KVM_SET_SREGS, this.#sregBytes, "KVM_SET_SREGS");
    }
    if (this.#gprGroup.dirty) this.#flushGroup(this.#gprGroup, ioctls.KVM_SET_REGS, this.#regBytes, "KVM_SET_REGS");
  }

  /** As `flush()`, by system calls: for a call other than KVM_RUN that must see the registers. */
  flushNow(): void {
    if (this.#debugDirty) this.#flushDebug();
    this.#flushSregs();
    if (!this.#gprGroup.dirty) return;
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_REGS, this.#regBytes, "KVM_SET_REGS");
    this.#gprGroup.dirty = false;
  }

  /** RIP as KVM has it, before any pending exit is completed. */
  ripNow(): bigint {
    this.#fetchGprs();
    return this.#regs.rip;
  }

  /** Called after KVM_RUN: what the sync area holds now. */
  exited(): void {
    if (this.#idle) return;
    this.#exitedGroup(this.#gprGroup);
    this.#exitedGroup(this.#sregGroup);
    this.#debug = undefined;
    this.#idle = !this.#gprGroup.valid && !this.#sregGroup.valid;
  }

  /** Called when KVM_RUN failed: special registers it did not take stay as written, to be seen, mended and handed over anew. */
  refused(): void {
    const refused = (this.#run.kvm_dirty_regs & this.#sregGroup.bit) !== 0;
    this.#run.kvm_dirty_regs = 0;
    this.exited();
    if (!refused) return;
    this.#idle = false;
    this.#sregBytes.set(this.#handedOver);
    this.#sregGroup.valid = true;
    this.#sregGroup.dirty = true;
  }

  readGpr(index: number): bigint {
    this.#owner.settleForRead();
    this.#fetchGprs();
    return this.#words[GPR_WORD[index] as number] as bigint;
  }

  writeGpr(index: number, value: bigint): void {
    this.#owner.settleForWrite();
    this.#fetchGprs();
    this.#words[GPR_WORD[index] as number] = value;
    this.#gprGroup.dirty = true;
  }

  readSegment(name: SegmentName): Segment {
    return segmentOf(this.#sregsForRead()[name]);
  }

  writeSegment(name: SegmentName, segment: Segment): void {
    assignSegment(this.#sregsForWrite()[name], segment);
  }

  readTable(name: TableName): DescriptorTable {
    const { base, limit } = this.#sregsForRead()[name];
    return { base, limit };
  }

  writeTable(name: TableName, table: DescriptorTable): void {
    const target: KvmDtable = this.#sregsForWrite()[name];
    target.base = table.base;
    target.limit = table.limit;
  }

  readControl(name: ControlName): bigint {
    if (name === "xcr0") return this.#readXcr0();
    const sregs = this.#sregsForRead();
    return name === "apicBase" ? sregs.apic_base : sregs[name];
  }

  writeControl(name: ControlName, value: bigint): void {
    if (name === "xcr0") this.#writeXcr0(value);
    else if (name === "apicBase") this.#sregsForWrite().apic_base = value;
    else this.#sregsForWrite()[name] = value;
  }

  readDebug(name: DebugName): bigint {
    const debug = this.#fetchDebug();
    if (name === "dr6" || name === "dr7") return debug[name];
    return debug.db[Number(name[2])] as bigint;
  }

  writeDebug(name: DebugName, value: bigint): void {
    this.#owner.settleForWrite();
    const debug = this.#fetchDebug();
    if (name === "dr6" || name === "dr7") debug[name] = value;
    else debug.db[Number(name[2])] = value;
    this.#debugDirty = true;
  }

  readMsr(index: number): bigint {
    this.#owner.settleForRead();
    this.#flushSregs();
    const msrs = oneMsr(index, 0n);
    const done = ioctlPtr(this.#owner.fd, ioctls.KVM_GET_MSRS, bytesOf(msrs), "KVM_GET_MSRS");
    if (done !== 1) throw new RangeError(`Cannot read MSR ${msrLabel(index)}: this KVM does not have it`);
    return msrs.entries[0]?.data as bigint;
  }

  writeMsr(index: number, value: bigint): void {
    this.#owner.settleForWrite();
    // EFER, FS.base and others are in kvm_sregs too: what waits there goes first, and is read anew afterwards.
    this.#flushSregs();
    const msrs = oneMsr(index, value);
    const done = ioctlPtr(this.#owner.fd, ioctls.KVM_SET_MSRS, bytesOf(msrs), "KVM_SET_MSRS");
    if (done !== 1) {
      throw new RangeError(
        `Cannot set MSR ${msrLabel(index)} to 0x${value.toString(16)}: this KVM refuses MSR or value`,
      );
    }
    this.#sregGroup.valid = false;
  }

  readXsave(): Uint8Array {
    this.#owner.settleForRead();
    const image = new Uint8Array(this.#xsaveBytes);
    if (image.length > 4096) ioctlPtr(this.#owner.fd, ioctls.KVM_GET_XSAVE2, image, "KVM_GET_XSAVE2");
    else ioctlPtr(this.#owner.fd, ioctls.KVM_GET_XSAVE, image, "KVM_GET_XSAVE");
    return image;
  }

  writeXsave(image: Uint8Array): void {
    if (image.length !== this.#xsaveBytes) {
      throw new RangeError(`Cannot load an XSAVE image of ${image.length} bytes: this host's has ${this.#xsaveBytes}`);
    }
    this.#owner.settleForWrite();
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_XSAVE, image, "KVM_SET_XSAVE", {
      EINVAL: "the image sets reserved bits of MXCSR, XSTATE_BV or its header: start from a read one",
    });
  }

  readEvents(): VcpuEvents {
    this.#owner.settleForRead();
    return eventsOf(this.#getEvents());
  }

  writeEvents(events: VcpuEvents): void {
    this.#owner.settleForWrite();
    const view = this.#getEvents();
    assignEvents(view, events);
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_VCPU_EVENTS, bytesOf(view), "KVM_SET_VCPU_EVENTS");
  }

  readMpState(): MpState {
    const view = KvmMpState.alloc();
    ioctlPtr(this.#owner.fd, ioctls.KVM_GET_MP_STATE, bytesOf(view), "KVM_GET_MP_STATE");
    return MP_STATES.find(([number]) => number === view.mp_state)?.[1] ?? "runnable";
  }

  writeMpState(state: MpState): void {
    const number = MP_STATES.find(([, name]) => name === state)?.[0];
    if (number === undefined) throw new RangeError(`Unknown MP state "${state}"`);
    this.#owner.settleForWrite();
    const view = KvmMpState.alloc();
    view.mp_state = number;
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_MP_STATE, bytesOf(view), "KVM_SET_MP_STATE", {
      EINVAL: 'without an in-kernel irqchip a vCPU is always runnable: create the VM with { irqchip: "full" }',
    });
  }

  /** Whether something written waits for the next run. */
  get dirty(): boolean {
    return this.#gprGroup.dirty || this.#sregGroup.dirty || this.#debugDirty;
  }

  /** Forgets what was read and written: something else set the vCPU's state. */
  forget(): void {
    this.#gprGroup.valid = false;
    this.#gprGroup.dirty = false;
    this.#sregGroup.valid = false;
    this.#sregGroup.dirty = false;
    this.#debug = undefined;
    this.#debugDirty = false;
    this.#run.kvm_dirty_regs = 0;
  }

  #fetchGprs(): void {
    this.#fetch(this.#gprGroup, ioctls.KVM_GET_REGS, this.#regBytes, "KVM_GET_REGS");
  }

  #sregsForRead(): KvmSregs {
    this.#owner.settleForRead();
    this.#fetch(this.#sregGroup, ioctls.KVM_GET_SREGS, this.#sregBytes, "KVM_GET_SREGS");
    return this.#sregs;
  }

  #sregsForWrite(): KvmSregs {
    this.#owner.settleForWrite();
    this.#fetch(this.#sregGroup, ioctls.KVM_GET_SREGS, this.#sregBytes, "KVM_GET_SREGS");
    this.#sregGroup.dirty = true;
    return this.#sregs;
  }

  #fetch(group: Group, request: number, bytes: Uint8Array, name: string): void {
    group.unread = 0;
    this.#idle = false;
    if (group.valid) {
      // The sync area stays readable after dispose only as an empty view: ask the owner, which refuses by name.
      void this.#owner.fd;
      return;
    }
    ioctlPtr(this.#owner.fd, request, bytes, name);
    group.valid = true;
    if (this.#sync) this.#run.kvm_valid_regs |= group.bit;
  }

  #flushGroup(group: Group, request: number, bytes: Uint8Array, name: string): void {
    if (this.#sync) this.#run.kvm_dirty_regs |= group.bit;
    else ioctlPtr(this.#owner.fd, request, bytes, name, SREGS_REMEDY);
    group.dirty = false;
  }

  /** Loads special registers now, by ioctl: an MSR access must see them. */
  #flushSregs(): void {
    if (!this.#sregGroup.dirty) return;
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_SREGS, this.#sregBytes, "KVM_SET_SREGS", SREGS_REMEDY);
    this.#sregGroup.dirty = false;
  }

  #exitedGroup(group: Group): void {
    group.valid = (this.#run.kvm_valid_regs & group.bit) !== 0;
    if (group.valid && ++group.unread > UNREAD_EXITS) this.#run.kvm_valid_regs &= ~group.bit;
  }

  #fetchDebug(): KvmDebugregs {
    this.#idle = false;
    if (this.#debug === undefined) {
      this.#owner.settleForRead();
      const debug = KvmDebugregs.alloc();
      ioctlPtr(this.#owner.fd, ioctls.KVM_GET_DEBUGREGS, bytesOf(debug), "KVM_GET_DEBUGREGS");
      this.#debug = debug;
    }
    return this.#debug;
  }

  #flushDebug(): void {
    const debug = this.#debug as KvmDebugregs;
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_DEBUGREGS, bytesOf(debug), "KVM_SET_DEBUGREGS", {
      EINVAL: "bits 32 to 63 of DR6 and DR7 must be 0",
    });
    this.#debugDirty = false;
  }

  #readXcr0(): bigint {
    this.#owner.settleForRead();
    const xcrs = KvmXcrs.alloc();
    ioctlPtr(this.#owner.fd, ioctls.KVM_GET_XCRS, bytesOf(xcrs), "KVM_GET_XCRS");
    return xcrs.xcrs[0]?.value as bigint;
  }

  #writeXcr0(value: bigint): void {
    this.#owner.settleForWrite();
    const xcrs = KvmXcrs.alloc();
    xcrs.nr_xcrs = 1;
    Object.assign(xcrs.xcrs[0] as object, { xcr: 0, value });
    ioctlPtr(this.#owner.fd, ioctls.KVM_SET_XCRS, bytesOf(xcrs), "KVM_SET_XCRS", {
      EINVAL: "XCR0 must have bit 0 set and only components that CPUID leaf 0xd names",
    });
  }

  #getEvents(): KvmVcpuEvents {
    const view = KvmVcpuEvents.alloc();
    ioctlPtr(this.#owner.fd, ioctls.KVM_GET_VCPU_EVENTS, bytesOf(view), "KVM_GET_VCPU_EVENTS");
    return view;
  }
}

function oneMsr(index: number, data: bigint): KvmMsrs {
  const msrs = KvmMsrs.alloc(1);
  msrs.nmsrs = 1;
  Object.assign(msrs.entries[0] as object, { index, data });
  return msrs;
}

function segmentOf(view: KvmSegment): Segment {
  const { selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable } = view;
  return { selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable } as Segment;
}

function assignSegment(view: KvmSegment, segment: Segment): void {
  view.selector = segment.selector;
  view.base = segment.base;
  view.limit = segment.limit;
  view.type = segment.type;
  view.s = segment.s;
  view.dpl = segment.dpl;
  view.present = segment.present;
  view.avl = segment.avl;
  view.l = segment.l;
  view.db = segment.db;
  view.g = segment.g;
  view.unusable = segment.unusable;
}

function eventsOf(view: KvmVcpuEvents): VcpuEvents {
  const { exception, interrupt, nmi, smi } = view;
  return {
    exception: {
      injected: exception.injected !== 0,
      pending: exception.pending !== 0,
      vector: exception.nr,
      hasErrorCode: exception.has_error_code !== 0,
      errorCode: exception.error_code,
    },
    interrupt: {
      injected: interrupt.injected !== 0,
      vector: interrupt.nr,
      soft: interrupt.soft !== 0,
      shadow: interrupt.shadow,
    },
    nmi: { injected: nmi.injected !== 0, pending: nmi.pending !== 0, masked: nmi.masked !== 0 },
    smi: { smm: smi.smm !== 0, pending: smi.pending !== 0 },
  };
}

function assignEvents(view: KvmVcpuEvents, events: VcpuEvents): void {
  const { exception, interrupt, nmi, smi } = events;
  // KVM drops a pending exception, unless KVM_CAP_EXCEPTION_PAYLOAD is on: without it, it reports one as injected too.
  const knowsPending = (view.flags & KVM_VCPUEVENT_VALID_PAYLOAD) !== 0;
  Object.assign(view.exception, {
    injected: Number(exception.injected || (exception.pending && !knowsPending)),
    pending: Number(exception.pending),
    nr: exception.vector,
    has_error_code: Number(exception.hasErrorCode),
    error_code: exception.errorCode,
  });
  Object.assign(view.interrupt, {
    injected: Number(interrupt.injected),
    nr: interrupt.vector,
    soft: Number(interrupt.soft),
    shadow: interrupt.shadow,
  });
  Object.assign(view.nmi, { injected: Number(nmi.injected), pending: Number(nmi.pending), masked: Number(nmi.masked) });
  Object.assign(view.smi, { smm: Number(smi.smm), pending: Number(smi.pending) });
  view.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  if (smi.smm || smi.pending) view.flags |= KVM_VCPUEVENT_VALID_SMM;
}
