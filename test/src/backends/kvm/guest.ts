import type { Program } from "../../../../src/asm/index.ts";
import { type KvmBackend, openKvm } from "../../../../src/backends/kvm/backend.ts";
import type { KvmVcpu } from "../../../../src/backends/kvm/vcpu.ts";
import type { KvmVm } from "../../../../src/backends/kvm/vm.ts";
import type { Mode, ModeOptions } from "../../../../src/boot/index.ts";
import { VmmError } from "../../../../src/errors.ts";
import { copyExit, type Exit } from "../../../../src/exit.ts";
import type { Vcpu } from "../../../../src/vcpu.ts";
import { Vm, type VmOptions } from "../../../../src/vm.ts";

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
  /** Called before the vCPU is made, e.g. to enable a capability. */
  readonly prepare?: (vm: KvmVm) => void;
}

/** A VM on KVM with `program` at 0x1000, and everything below it within reach. */
export function kvmGuest(program: Program | readonly number[], options: KvmGuestOptions = {}): KvmGuest {
  const { mode = "real16", modeOptions = {}, prepare, ...vmOptions } = options;
  const backend = openKvm();
  let engine: KvmVm | undefined;
  let kvmVcpu: KvmVcpu | undefined;
  // The public Vcpu hides its engine: it is caught where the VM makes it.
  const spy: typeof backend = Object.create(backend, {
    capabilities: { get: () => backend.capabilities },
    createVm: {
      value: (vmRequest: Parameters<KvmBackend["createVm"]>[0]) => {
        const made = backend.createVm(vmRequest);
        engine = made;
        const createVcpu = made.createVcpu.bind(made);
        made.createVcpu = (...args) => {
          kvmVcpu = createVcpu(...args);
          return kvmVcpu;
        };
        return made;
      },
    },
  });
  const vm = new Vm(spy, { memoryBytes: 0x20000, ...vmOptions }, backend);
  try {
    prepare?.(engine as KvmVm);
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, "bytes" in program ? program.bytes : Uint8Array.from(program));
    vcpu.enterMode(mode, { entry: 0x1000, ...modeOptions });
    return {
      backend,
      vm,
      vcpu,
      kvmVm: engine as KvmVm,
      kvmVcpu: kvmVcpu as KvmVcpu,
      next: () => copyExit(vcpu.run({ timeoutMs: 5000 })),
      [Symbol.dispose]: () => vm[Symbol.dispose](),
    };
  } catch (error) {
    vm[Symbol.dispose]();
    throw error;
  }
}
