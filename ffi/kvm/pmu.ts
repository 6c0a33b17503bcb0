/** Guest performance counters: asm/kvm.h, Linux v6.1; masked events since 6.3. */
import { array, flexible, struct, u32, u64, type View } from "../struct.ts";

/** KVM_SET_PMU_EVENT_FILTER. */
export const KvmPmuEventFilter = struct("kvm_pmu_event_filter", 32, {
  action: u32(0),
  nevents: u32(4),
  fixed_counter_bitmap: u32(8),
  flags: u32(12),
  pad: array(16, 4, u32),
  events: flexible(32, u64),
});
export type KvmPmuEventFilter = View<typeof KvmPmuEventFilter>;
export const KVM_PMU_EVENT_ALLOW = 0;
export const KVM_PMU_EVENT_DENY = 1;
export const KVM_PMU_EVENT_FLAG_MASKED_EVENTS = 1;
