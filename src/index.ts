/** The public surface of vmexit. */
export type {
  Backend,
  BackendName,
  BackendVcpu,
  BackendVm,
  Capabilities,
  CpuidEntry,
  DebugRequest,
  FaultRecord,
  GuestClock,
  HostMemory,
  MemoryOptions,
  MsrExitPolicy,
  VcpuState,
} from "./backend.ts";
export type { KvmVcpu } from "./backends/kvm/vcpu.ts";
export type { KvmVm } from "./backends/kvm/vm.ts";
export type { NvmmReport } from "./backends/nvmm/doctor.ts";
export type { NvmmVcpu } from "./backends/nvmm/vcpu.ts";
export type { NvmmVm } from "./backends/nvmm/vm.ts";
export { Bus, type MapOptions, type Mapping } from "./bus.ts";
export { type CpuidOverrides, type CpuidValues, overrideCpuid } from "./cpuid.ts";
export type { Device, IrqLine } from "./device.ts";
export {
  BackendError,
  BusError,
  CapabilityError,
  DeviceError,
  DisposedError,
  GuestError,
  GuestStateError,
  MemoryError,
  SyscallError,
  unreachable,
  VmmError,
} from "./errors.ts";
export {
  copyExit,
  type Exit,
  type ExitKind,
  type ExitOf,
  type InterruptedBy,
  type MsrExitReason,
  type PioSize,
} from "./exit.ts";
export {
  BACKEND_NAMES,
  type BackendChoice,
  type CreateVmOptions,
  createVm,
  Host,
  inspectNvmm,
  openBackend,
  type Refusal,
} from "./host.ts";
export type { RunLimits } from "./limits.ts";
export {
  type AliasOptions,
  GuestMemory,
  type MemorySlot,
  PAGE_BYTES,
  type PageRange,
  type SlotOptions,
} from "./memory.ts";
export { MSRS, type MsrName, msrIndex, msrLabel } from "./msrs.ts";
export type { Outcome } from "./outcome.ts";
export {
  type DescriptorTable,
  type FpuControl,
  GPR_NAMES,
  type GprName,
  type MpState,
  Registers,
  RFLAGS_IF,
  type Segment,
  type SegmentName,
  type VcpuEvents,
} from "./registers.ts";
export type { RunOptions, RunResult, SliceOptions } from "./run.ts";
export { type ExitObserver, type Loadable, Vcpu } from "./vcpu.ts";
export { type VcpuOptions, Vm, type VmOptions } from "./vm.ts";
