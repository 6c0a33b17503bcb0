import { KvmMpState, KvmVcpuEvents } from "../../../ffi/kvm/events.ts";
import * as ioctls from "../../../ffi/kvm/ioctls.ts";
import { KvmMsrEntry, KvmMsrs } from "../../../ffi/kvm/msrs.ts";
import { KvmDebugregs, KvmLapicState, KvmRegs, KvmSregs, KvmXcrs } from "../../../ffi/kvm/regs.ts";
import { libc } from "../../../ffi/libc.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { VcpuState } from "../../backend.ts";
import { MSRS, msrLabel } from "../../msrs.ts";
import { ioctlPtr } from "./call.ts";

/**
 * One kind of state, in the order it has to be restored: XCR0 before XSAVE, which is checked against it; special before
 * general registers; the local APIC after its base in SREGS; events last, since they refer to all the rest.
 *
 * @see "KVM_SET_VCPU_EVENTS" and following, Documentation/virt/kvm/api.rst, Linux v6.1
 */
interface Part {
  readonly name: string;
  readonly get: readonly [request: number, name: string];
  readonly set: readonly [request: number, name: string];
  bytes(host: StateHost): number;
  readonly irqchipOnly?: boolean;
}

export interface StateHost {
  readonly xsaveBytes: number;
  readonly irqchip: boolean;
}

const PARTS: readonly Part[] = [
  {
    name: "sregs",
    get: [ioctls.KVM_GET_SREGS, "KVM_GET_SREGS"],
    set: [ioctls.KVM_SET_SREGS, "KVM_SET_SREGS"],
    bytes: () => KvmSregs.size,
  },
  {
    name: "xcrs",
    get: [ioctls.KVM_GET_XCRS, "KVM_GET_XCRS"],
    set: [ioctls.KVM_SET_XCRS, "KVM_SET_XCRS"],
    bytes: () => KvmXcrs.size,
  },
  {
    name: "xsave",
    get: [ioctls.KVM_GET_XSAVE, "KVM_GET_XSAVE"],
    set: [ioctls.KVM_SET_XSAVE, "KVM_SET_XSAVE"],
    bytes: ({ xsaveBytes }) => xsaveBytes,
  },
  {
    name: "regs",
    get: [ioctls.KVM_GET_REGS, "KVM_GET_REGS"],
    set: [ioctls.KVM_SET_REGS, "KVM_SET_REGS"],
    bytes: () => KvmRegs.size,
  },
  {
    name: "debugregs",
    get: [ioctls.KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"],
    set: [ioctls.KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS"],
    bytes: () => KvmDebugregs.size,
  },
  {
    name: "lapic",
    get: [ioctls.KVM_GET_LAPIC, "KVM_GET_LAPIC"],
    set: [ioctls.KVM_SET_LAPIC, "KVM_SET_LAPIC"],
    bytes: () => KvmLapicState.size,
    irqchipOnly: true,
  },
  {
    name: "mpState",
    get: [ioctls.KVM_GET_MP_STATE, "KVM_GET_MP_STATE"],
    set: [ioctls.KVM_SET_MP_STATE, "KVM_SET_MP_STATE"],
    bytes: () => KvmMpState.size,
    irqchipOnly: true,
  },
  {
    name: "events",
    get: [ioctls.KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"],
    set: [ioctls.KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"],
    bytes: () => KvmVcpuEvents.size,
  },
];

/** MSRs that hold guest state; those the host lacks are passed over. TSC goes last: it keeps counting. */
const SAVED_MSRS: readonly number[] = [
  MSRS.SYSENTER_CS,
  MSRS.SYSENTER_ESP,
  MSRS.SYSENTER_EIP,
  MSRS.STAR,
  MSRS.LSTAR,
  MSRS.CSTAR,
  MSRS.SFMASK,
  MSRS.KERNEL_GS_BASE,
  MSRS.PAT,
  MSRS.TSC_AUX,
  MSRS.MISC_ENABLE,
  MSRS.MTRR_DEF_TYPE,
  MSRS.XSS,
  MSRS.SPEC_CTRL,
  MSRS.TSC_ADJUST,
  MSRS.TSC,
];

export function saveVcpu(fd: number, host: StateHost): VcpuState {
  const parts: Record<string, Uint8Array> = {};
  for (const part of PARTS) {
    if (part.irqchipOnly && !host.irqchip) continue;
    const bytes = new Uint8Array(part.bytes(host));
    const wide = part.name === "xsave" && bytes.length > 4096;
    ioctlPtr(fd, wide ? ioctls.KVM_GET_XSAVE2 : part.get[0], bytes, wide ? "KVM_GET_XSAVE2" : part.get[1]);
    parts[part.name] = bytes;
  }
  parts.msrs = saveMsrs(fd);
  return { backend: "kvm", parts };
}

/**
 * @throws {TypeError} for state of another host, whose parts have other sizes; nothing is changed then.
 * @throws {RangeError} for an MSR that this host does not take.
 */
export function restoreVcpu(fd: number, state: VcpuState, host: StateHost): void {
  for (const part of PARTS) {
    const bytes = state.parts[part.name];
    if (bytes === undefined ? !part.irqchipOnly : bytes.length !== part.bytes(host)) {
      throw new TypeError(
        `Cannot restore a vCPU whose "${part.name}" has ${bytes?.length ?? 0} bytes: this host's has ${part.bytes(host)}`,
      );
    }
  }
  for (const part of PARTS) {
    const bytes = state.parts[part.name];
    if (bytes !== undefined && (host.irqchip || !part.irqchipOnly)) ioctlPtr(fd, part.set[0], bytes, part.set[1]);
    if (part.name === "regs" && state.parts.msrs !== undefined) restoreMsrs(fd, state.parts.msrs);
  }
}

function saveMsrs(fd: number): Uint8Array {
  const one = KvmMsrs.alloc(1);
  const found: [number, bigint][] = [];
  for (const index of SAVED_MSRS) {
    one.nmsrs = 1;
    Object.assign(one.entries[0] as object, { index, data: 0n });
    if (libc().ioctlPtr(fd, ioctls.KVM_GET_MSRS, bytesOf(one)) === 1)
      found.push([index, one.entries[0]?.data as bigint]);
  }
  const all = KvmMsrs.alloc(found.length);
  all.nmsrs = found.length;
  for (const [i, [index, data]] of found.entries()) Object.assign(all.entries[i] as object, { index, data });
  return bytesOf(all);
}

/** One by one: KVM_SET_MSRS stops at the first it refuses, and hosts refuse some whose 0 they let read. */
function restoreMsrs(fd: number, image: Uint8Array): void {
  const one = KvmMsrs.alloc(1);
  const { nmsrs } = KvmMsrs.view(image);
  for (let i = 0; i < nmsrs; i++) {
    const { index, data } = KvmMsrEntry.view(image, KvmMsrs.size + i * KvmMsrEntry.size);
    one.nmsrs = 1;
    Object.assign(one.entries[0] as object, { index, data });
    if (ioctlPtr(fd, ioctls.KVM_SET_MSRS, bytesOf(one), "KVM_SET_MSRS") === 1) continue;
    ioctlPtr(fd, ioctls.KVM_GET_MSRS, bytesOf(one), "KVM_GET_MSRS");
    if (one.entries[0]?.data === data) continue;
    throw new RangeError(
      `Cannot restore MSR ${msrLabel(index)} to 0x${data.toString(16)}: this KVM refuses MSR or value`,
    );
  }
}
