import { KVM_CREATE_PIT2, KVM_IRQ_LINE, KVM_SIGNAL_MSI } from "../../../ffi/kvm/ioctls.ts";
import { KVM_PIT_SPEAKER_DUMMY, KvmIrqLevel, KvmMsi, KvmPitConfig } from "../../../ffi/kvm/irq.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import { ioctlPtr } from "./call.ts";

export function setIrqLine(vmFd: number, gsi: number, level: boolean): void {
  const line = KvmIrqLevel.alloc();
  line.irq = gsi;
  line.level = level ? 1 : 0;
  ioctlPtr(vmFd, KVM_IRQ_LINE, bytesOf(line), "KVM_IRQ_LINE");
}

/** @returns false when the guest blocks the message. */
export function signalMsi(vmFd: number, message: { address: number; data: number }): boolean {
  const msi = KvmMsi.alloc();
  msi.address_lo = message.address >>> 0;
  msi.address_hi = Math.floor(message.address / 2 ** 32);
  msi.data = message.data;
  return ioctlPtr(vmFd, KVM_SIGNAL_MSI, bytesOf(msi), "KVM_SIGNAL_MSI") > 0;
}

/** With port 0x61 in the kernel too: its gate and output bits are the PIT's, and guests calibrate by them. */
export function createPit(vmFd: number): void {
  const config = KvmPitConfig.alloc();
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  ioctlPtr(vmFd, KVM_CREATE_PIT2, bytesOf(config), "KVM_CREATE_PIT2");
}
