import * as caps from "../../../ffi/kvm/caps.ts";
import {
  KVM_API_VERSION,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_VCPU_MMAP_SIZE,
} from "../../../ffi/kvm/ioctls.ts";
import { cString, errno, libc, O_CLOEXEC, O_RDWR } from "../../../ffi/libc.ts";
import type { Capabilities } from "../../backend.ts";
import { BackendError, DisposedError } from "../../errors.ts";
import { failed, ioctl, type Remedies } from "./call.ts";

export const KVM_DEVICE = "/dev/kvm";

const OPEN_REMEDIES: Remedies = {
  ENOENT:
    "load the module (modprobe kvm_intel or kvm_amd) after enabling virtualization in the firmware; in a container pass --device /dev/kvm; in a VM ask for nested virtualization",
  EACCES: 'add your user to the "kvm" group (sudo usermod -aG kvm $USER) and log in again',
  EPERM: "allow the device in the container (--device /dev/kvm) or its device cgroup",
  ENODEV: "the kvm module is loaded without a processor module: modprobe kvm_intel or kvm_amd and read dmesg",
  ENXIO: "the kvm module is loaded without a processor module: modprobe kvm_intel or kvm_amd and read dmesg",
  EBUSY: "another hypervisor holds the processor's virtualization (VirtualBox, VMware): stop it",
  other: "run 'vmexit doctor' to see what this host lacks",
};

const EINTR = 4;
const CREATE_VM_TRIES = 100;

const CREATE_VM_REMEDIES: Remedies = {
  EBUSY: "another hypervisor holds the processor's virtualization (VirtualBox, VMware): stop it",
  EINTR: "a signal came each time the VM was made: find out what sends this process so many",
};

/** The open /dev/kvm: what is asked of the whole host. */
export class KvmSystem implements Disposable {
  #fd: number;
  /** Bytes of a vCPU's kvm_run mapping. */
  readonly runBytes: number;
  #capabilities: Capabilities | undefined;

  /** @param device Path of the device; for tests of a host without it. */
  constructor(device: string = KVM_DEVICE) {
    this.#fd = libc().open(cString(device), O_RDWR | O_CLOEXEC, 0);
    if (this.#fd < 0) throw failed(`open(${device})`, OPEN_REMEDIES);
    try {
      const notKvm = `${device} is not KVM's device: its own is ${KVM_DEVICE}`;
      const remedies: Remedies = { ENOTTY: notKvm, EINVAL: notKvm };
      checkApiVersion(ioctl(this.#fd, KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION", remedies), device);
      this.runBytes = ioctl(this.#fd, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    } catch (error) {
      libc().close(this.#fd);
      throw error;
    }
  }

  get fd(): number {
    if (this.#fd < 0) throw new DisposedError("KVM backend");
    return this.#fd;
  }

  /** What KVM_CHECK_EXTENSION answers on /dev/kvm: 0 for no, else 1 or a number of its own meaning. */
  check(capability: number): number {
    return ioctl(this.fd, KVM_CHECK_EXTENSION, capability, "KVM_CHECK_EXTENSION");
  }

  /** @returns the VM's fd. */
  createVm(): number {
    for (let tries = 1; ; tries++) {
      const vm = libc().ioctl(this.fd, KVM_CREATE_VM, 0);
      if (vm >= 0) return vm;
      const failure = errno();
      // The runtime sends its threads signals: profiler, garbage collector. The kernel undoes what it had made.
      if (failure !== EINTR || tries === CREATE_VM_TRIES)
        throw failed("ioctl(KVM_CREATE_VM)", CREATE_VM_REMEDIES, failure);
    }
  }

  get capabilities(): Capabilities {
    this.#capabilities ??= this.#askCapabilities();
    return this.#capabilities;
  }

  #askCapabilities(): Capabilities {
    const has = (capability: number): boolean => this.check(capability) > 0;
    const all = (): Record<string, number> =>
      Object.fromEntries(Object.entries(caps).map(([name, number]) => [name, this.check(number)]));
    let raw: Record<string, number> | undefined;
    return {
      maxVcpus: this.check(caps.KVM_CAP_MAX_VCPUS) || this.check(caps.KVM_CAP_NR_VCPUS) || 4,
      maxSlots: this.check(caps.KVM_CAP_NR_MEMSLOTS) || 32,
      irqchip: has(caps.KVM_CAP_IRQCHIP),
      pit: has(caps.KVM_CAP_PIT2),
      readOnlyMemory: has(caps.KVM_CAP_READONLY_MEM),
      dirtyLog: true,
      msrExits: has(caps.KVM_CAP_X86_USER_SPACE_MSR),
      msrFilter: has(caps.KVM_CAP_X86_MSR_FILTER),
      singleStep: has(caps.KVM_CAP_SET_GUEST_DEBUG),
      hardwareBreakpoints: has(caps.KVM_CAP_SET_GUEST_DEBUG),
      translate: true,
      instructionCount: false,
      get raw() {
        raw ??= all();
        return raw;
      },
    };
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }
}

/** @throws {BackendError} for any version but 12, which all kernels since 2.6.22 report. */
export function checkApiVersion(version: number, device: string): void {
  if (version === KVM_API_VERSION) return;
  throw new BackendError("kvm", `Cannot use ${device} as it reports API version ${version}, not ${KVM_API_VERSION}`, {
    remedy: "use a kernel of 2.6.22 or newer; the KVM documentation says to refuse any other version",
  });
}
