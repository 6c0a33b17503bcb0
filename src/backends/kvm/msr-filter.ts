import { addressOf } from "../../../ffi/address.ts";
import { KVM_X86_SET_MSR_FILTER } from "../../../ffi/kvm/ioctls.ts";
import {
  KVM_MSR_FILTER_DEFAULT_ALLOW,
  KVM_MSR_FILTER_MAX_BITMAP_SIZE,
  KVM_MSR_FILTER_MAX_RANGES,
  KVM_MSR_FILTER_READ,
  KVM_MSR_FILTER_WRITE,
  KvmMsrFilter,
} from "../../../ffi/kvm/msrs.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { MsrExitPolicy } from "../../backend.ts";
import { ioctlPtr } from "./call.ts";

const ACCESS = {
  read: KVM_MSR_FILTER_READ,
  write: KVM_MSR_FILTER_WRITE,
  readWrite: KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
} as const;

/**
 * Denies the listed MSRs to the kernel, so that each access becomes an exit.
 *
 * @throws {RangeError} for more than 16 ranges, or one of more than 12,288 MSRs.
 * @see KVM_X86_SET_MSR_FILTER, Documentation/virt/kvm/api.rst, Linux v6.1
 */
export function setMsrFilter(vmFd: number, ranges: NonNullable<MsrExitPolicy["filter"]>): void {
  if (ranges.length > KVM_MSR_FILTER_MAX_RANGES) {
    throw new RangeError(`Cannot filter ${ranges.length} ranges of MSRs: KVM takes ${KVM_MSR_FILTER_MAX_RANGES}`);
  }
  const filter = KvmMsrFilter.alloc();
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  // A 0 bit denies; the bitmaps stay referenced until the call has copied them.
  const bitmaps = ranges.map(({ count }) => new Uint8Array(bitmapBytes(count)));
  for (const [i, { first, count, access }] of ranges.entries()) {
    Object.assign(filter.ranges[i] as object, {
      flags: ACCESS[access],
      nmsrs: count,
      base: first,
      bitmap: addressOf(bitmaps[i] as Uint8Array),
    });
  }
  ioctlPtr(vmFd, KVM_X86_SET_MSR_FILTER, bytesOf(filter), "KVM_X86_SET_MSR_FILTER", {
    EINVAL: "ranges must not overlap, nor touch the x2APIC MSRs 0x800 to 0x8ff",
  });
  bitmaps.length = 0;
}

function bitmapBytes(count: number): number {
  const bytes = Math.ceil(count / 8);
  if (!Number.isInteger(count) || count < 1 || bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE) {
    throw new RangeError(`Cannot filter a range of ${count} MSRs: use 1 to ${KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8}`);
  }
  return bytes;
}
