/** Interrupt controllers, lines, routing, eventfds, the PIT and the clock: linux/kvm.h and asm/kvm.h, Linux v6.1. */
import {
  array,
  bytes,
  flexible,
  i32,
  i64,
  nested,
  struct,
  structs,
  u8,
  u16,
  u32,
  u64,
  u64n,
  type View,
} from "../struct.ts";

/** KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS: a GSI's level. `status` comes back in the place of `irq`. */
export const KvmIrqLevel = struct("kvm_irq_level", 8, { irq: u32(0), status: i32(0), level: u32(4) });
export type KvmIrqLevel = View<typeof KvmIrqLevel>;

export const KvmPicState = struct("kvm_pic_state", 16, {
  last_irr: u8(0), // edge detection
  irr: u8(1),
  imr: u8(2),
  isr: u8(3),
  priority_add: u8(4),
  irq_base: u8(5),
  read_reg_select: u8(6),
  poll: u8(7),
  special_mask: u8(8),
  init_state: u8(9),
  auto_eoi: u8(10),
  rotate_on_auto_eoi: u8(11),
  special_fully_nested_mode: u8(12),
  init4: u8(13),
  elcr: u8(14),
  elcr_mask: u8(15),
});
export type KvmPicState = View<typeof KvmPicState>;

export const KVM_IOAPIC_NUM_PINS = 24;
/** `redirtbl` is one 64-bit redirection entry per pin (the header's bit-fields are the same bits). */
export const KvmIoapicState = struct("kvm_ioapic_state", 216, {
  base_address: u64n(0),
  ioregsel: u32(8),
  id: u32(12),
  irr: u32(16),
  pad: u32(20),
  redirtbl: array(24, 24, u64),
});
export type KvmIoapicState = View<typeof KvmIoapicState>;

const Chip = struct("kvm_irqchip.chip", 512, {
  dummy: bytes(0, 512),
  pic: nested(0, KvmPicState),
  ioapic: nested(0, KvmIoapicState),
});

/** KVM_GET_IRQCHIP, KVM_SET_IRQCHIP. */
export const KvmIrqchip = struct("kvm_irqchip", 520, { chip_id: u32(0), pad: u32(4), chip: nested(8, Chip) });
export type KvmIrqchip = View<typeof KvmIrqchip>;
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;
export const KVM_NR_IRQCHIPS = 3;

/** KVM_SIGNAL_MSI: returns how many vCPUs took it. */
export const KvmMsi = struct("kvm_msi", 32, {
  address_lo: u32(0),
  address_hi: u32(4),
  data: u32(8),
  flags: u32(12),
  devid: u32(16),
  pad: bytes(20, 12),
});
export type KvmMsi = View<typeof KvmMsi>;
export const KVM_MSI_VALID_DEVID = 1;

export const KvmIrqRoutingIrqchip = struct("kvm_irq_routing_irqchip", 8, { irqchip: u32(0), pin: u32(4) });
export type KvmIrqRoutingIrqchip = View<typeof KvmIrqRoutingIrqchip>;
export const KvmIrqRoutingMsi = struct("kvm_irq_routing_msi", 16, {
  address_lo: u32(0),
  address_hi: u32(4),
  data: u32(8),
  pad: u32(12),
  devid: u32(12),
});
export type KvmIrqRoutingMsi = View<typeof KvmIrqRoutingMsi>;
export const KvmIrqRoutingHvSint = struct("kvm_irq_routing_hv_sint", 8, { vcpu: u32(0), sint: u32(4) });
export type KvmIrqRoutingHvSint = View<typeof KvmIrqRoutingHvSint>;
/** Also the argument of KVM_XEN_HVM_EVTCHN_SEND. */
export const KvmIrqRoutingXenEvtchn = struct("kvm_irq_routing_xen_evtchn", 12, {
  port: u32(0),
  vcpu: u32(4),
  priority: u32(8),
});
export type KvmIrqRoutingXenEvtchn = View<typeof KvmIrqRoutingXenEvtchn>;
export const KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL = 0xffff_ffff;

const EntryU = struct("kvm_irq_routing_entry.u", 32, {
  irqchip: nested(0, KvmIrqRoutingIrqchip),
  msi: nested(0, KvmIrqRoutingMsi),
  hv_sint: nested(0, KvmIrqRoutingHvSint),
  xen_evtchn: nested(0, KvmIrqRoutingXenEvtchn),
  pad: array(0, 8, u32),
});

/** One GSI's destination; a GSI may have several. */
export const KvmIrqRoutingEntry = struct("kvm_irq_routing_entry", 48, {
  gsi: u32(0),
  type: u32(4), // KVM_IRQ_ROUTING_*
  flags: u32(8),
  pad: u32(12),
  u: nested(16, EntryU),
});
export type KvmIrqRoutingEntry = View<typeof KvmIrqRoutingEntry>;
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;
export const KVM_IRQ_ROUTING_HV_SINT = 4;
export const KVM_IRQ_ROUTING_XEN_EVTCHN = 5;

/** KVM_SET_GSI_ROUTING: replaces the whole table. */
export const KvmIrqRouting = struct("kvm_irq_routing", 8, {
  nr: u32(0),
  flags: u32(4),
  entries: flexible(8, KvmIrqRoutingEntry),
});
export type KvmIrqRouting = View<typeof KvmIrqRouting>;

/** KVM_IRQFD: an eventfd raises a GSI. */
export const KvmIrqfd = struct("kvm_irqfd", 32, {
  fd: u32(0),
  gsi: u32(4),
  flags: u32(8),
  resamplefd: u32(12),
  pad: bytes(16, 16),
});
export type KvmIrqfd = View<typeof KvmIrqfd>;
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;

/** KVM_IOEVENTFD: a guest's write raises an eventfd, without an exit. */
export const KvmIoeventfd = struct("kvm_ioeventfd", 64, {
  datamatch: u64(0),
  addr: u64n(8), // port or GPA
  len: u32(16), //  1, 2, 4, 8, or 0 for any
  fd: i32(20),
  flags: u32(24),
  pad: bytes(28, 36),
});
export type KvmIoeventfd = View<typeof KvmIoeventfd>;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;
export const KVM_IOEVENTFD_VALID_FLAG_MASK = 0x1f;

/** KVM_CREATE_PIT2. */
export const KvmPitConfig = struct("kvm_pit_config", 64, { flags: u32(0), pad: array(4, 15, u32) });
export type KvmPitConfig = View<typeof KvmPitConfig>;
export const KVM_PIT_SPEAKER_DUMMY = 1;

export const KvmPitChannelState = struct("kvm_pit_channel_state", 24, {
  count: u32(0), //         up to 65536
  latched_count: u16(4),
  count_latched: u8(6),
  status_latched: u8(7),
  status: u8(8),
  read_state: u8(9),
  write_state: u8(10),
  write_latch: u8(11),
  rw_mode: u8(12),
  mode: u8(13),
  bcd: u8(14),
  gate: u8(15),
  count_load_time: i64(16), // ns, CLOCK_MONOTONIC of the host
});
export type KvmPitChannelState = View<typeof KvmPitChannelState>;

/** KVM_GET_PIT, KVM_SET_PIT: the older form without flags. */
export const KvmPitState = struct("kvm_pit_state", 72, { channels: structs(0, 3, KvmPitChannelState) });
export type KvmPitState = View<typeof KvmPitState>;

/** KVM_GET_PIT2, KVM_SET_PIT2. */
export const KvmPitState2 = struct("kvm_pit_state2", 112, {
  channels: structs(0, 3, KvmPitChannelState),
  flags: u32(72),
  reserved: array(76, 9, u32),
});
export type KvmPitState2 = View<typeof KvmPitState2>;
export const KVM_PIT_FLAGS_HPET_LEGACY = 1;
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2;

/** KVM_REINJECT_CONTROL: whether the PIT catches up on lost ticks. */
export const KvmReinjectControl = struct("kvm_reinject_control", 32, { pit_reinject: u8(0), reserved: bytes(1, 31) });
export type KvmReinjectControl = View<typeof KvmReinjectControl>;

/** KVM_GET_CLOCK, KVM_SET_CLOCK: kvmclock. */
export const KvmClockData = struct("kvm_clock_data", 48, {
  clock: u64(0), //     ns
  flags: u32(8),
  pad0: u32(12),
  realtime: u64(16), // ns, with KVM_CLOCK_REALTIME
  host_tsc: u64(24), // with KVM_CLOCK_HOST_TSC
  pad: array(32, 4, u32),
});
export type KvmClockData = View<typeof KvmClockData>;
export const KVM_CLOCK_TSC_STABLE = 2;
export const KVM_CLOCK_REALTIME = 4;
export const KVM_CLOCK_HOST_TSC = 8;
