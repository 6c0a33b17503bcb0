import type { Program } from "../../../../src/asm/index.ts";
import { type KvmBackend, openKvm } from "../../../../src/backends/kvm/backend.ts";
import type { KvmVcpu } from "../../../../src/backends/kvm/vcpu.ts";
import type { KvmVm } from "../../../../src/backends/kvm/vm.ts";
import type { Mode, ModeOptions } from "../../../../src/boot/index.ts";
import { VmmError } from "../../../../src/errors.ts";
import { copyExit, type Exit } from "../../../../src/exit.ts";
import type { Vcpu } from "../../../../src/vcpu.ts";
import { type VcpuOptions, Vm, type VmOptions } from "../../../../src/vm.ts";

/** Opens the host's KVM once to learn whether, and why not. */
function probe(): string {
  if (process.platform !== "linux") return ` (skipped: no KVM on ${process.platform})`;
  try {
    openKvm()[Symbol.dispose]();
    return "";
  } catch (error) {
    if (error instanceof VmmError) return ` (skipped: ${error.message})`;
    throw error;
  }
}

/** The tail of a test's name that says why KVM cannot run it; empty when it can. */
export const noKvm = probe();

export interface KvmGuest extends Disposable {
  readonly backend: KvmBackend;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  /** The engine's own objects behind `vm` and `vcpu`. */
  readonly kvmVm: KvmVm;
  readonly kvmVcpu: KvmVcpu;
  /** Runs to the next exit that no device answers, at most 5 s; the exit is a copy. */
  next(): Exit;
}

export interface KvmGuestOptions extends VmOptions {
  readonly mode?: Mode;
  readonly modeOptions?: ModeOptions;
  readonly vcpu?: VcpuOptions;
  /** Called before the vCPU is made, e.g. to enable a capability. */
  readonly prepare?: (vm: KvmVm) => void;
}

/** A VM on KVM with `program` at 0x1000, and everything below it within reach. */
export function kvmGuest(program: Program | readonly number[], options: KvmGuestOptions = {}): KvmGuest {
  const { mode = "real16", modeOptions = {}, vcpu: vcpuOptions, prepare, ...vmOptions } = options;
  const backend = openKvm();
  const vm = new Vm(backend, { memoryBytes: 0x20000, ...vmOptions }, backend);
  const kvmVm = vm.engine as KvmVm;
  let kvmVcpu: KvmVcpu | undefined;
  // The public Vcpu hides its engine: it is caught where the VM makes it.
  const createVcpu = kvmVm.createVcpu.bind(kvmVm);
  kvmVm.createVcpu = (...args) => {
    kvmVcpu = createVcpu(...args);
    return kvmVcpu;
  };
  try {
    prepare?.(kvmVm);
    const vcpu = vm.createVcpu(0, vcpuOptions);
    vm.memory.write(0x1000, "bytes" in program ? program.bytes : Uint8Array.from(program));
    vcpu.enterMode(mode, { entry: 0x1000, ...modeOptions });
    return {
      backend,
      vm,
      vcpu,
      kvmVm,
      kvmVcpu: kvmVcpu as KvmVcpu,
      next: () => copyExit(vcpu.run({ timeoutMs: 5000 })),
      [Symbol.dispose]: () => vm[Symbol.dispose](),
    };
  } catch (error) {
    vm[Symbol.dispose]();
    throw error;
  }
}
