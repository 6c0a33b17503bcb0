/** Machines, vCPUs and what an assist hands to its callbacks: <nvmm.h> of libnvmm. Offsets in bytes. */
import { nested, ptr, struct, u8, u16, u32, u64n, type View } from "../struct.ts";
import { NvmmAssistCallbacks } from "./config.ts";
import { NvmmX86Event } from "./exit.ts";
import { NvmmX64State } from "./state.ts";

export const NvmmMachine = struct("nvmm_machine", 24, {
  machid: u32(0),
  pages: ptr(8), // struct nvmm_comm_page **, by vCPU id
  areas: ptr(16), // the library's own
});
export type NvmmMachine = View<typeof NvmmMachine>;

/** state, event and stop point into the comm page, exit to memory of the library: never change them. */
const VCPU = {
  cpuid: u32(0),
  cbs: nested(8, NvmmAssistCallbacks),
  state: ptr(24),
  event: ptr(32),
  exit: ptr(40),
};
export const NvmmVcpuNetbsd = struct("nvmm_vcpu", 56, { ...VCPU, stop: ptr(48) });
export const NvmmVcpuDragonfly = struct("nvmm_vcpu", 48, VCPU);
export type NvmmVcpu = View<typeof NvmmVcpuDragonfly>;

/** The page shared with the kernel. */
const COMM_PAGE = {
  state_wanted: u64n(0),
  state_cached: u64n(8),
  state_commit: u64n(16),
  state: nested(32, NvmmX64State),
  event_commit: u8(1040), // bool
  event: nested(1048, NvmmX86Event),
};
export const NvmmCommPageNetbsd = struct("nvmm_comm_page", 1072, { ...COMM_PAGE, stop: u32(1064) });
export const NvmmCommPageDragonfly = struct("nvmm_comm_page", 1072, COMM_PAGE);

/** One port access. `data` is memory of the library, good only while the callback runs. */
export const NvmmIo = struct("nvmm_io", 40, {
  mach: ptr(0),
  vcpu: ptr(8),
  port: u16(16),
  in: u8(18), //    bool
  size: u64n(24),
  data: ptr(32),
});

/** One memory access. */
export const NvmmMem = struct("nvmm_mem", 48, {
  mach: ptr(0),
  vcpu: ptr(8),
  gpa: u64n(16),
  write: u8(24), // bool
  size: u64n(32),
  data: ptr(40),
});
