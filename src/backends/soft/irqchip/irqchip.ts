import type { Cpu } from "../cpu.ts";
import type { HostClock } from "../host-clock.ts";
import { VirtualClock } from "./clock.ts";
import { type InterruptSink, VcpuInterrupts } from "./interrupts.ts";
import { IOAPIC_BASE, IOAPIC_BYTES, IOAPIC_PINS, IoApic } from "./ioapic.ts";
import type { InterruptCommand, LocalApic } from "./lapic.ts";
import { DELIVERY, decodeMsi, type InterruptMessage } from "./message.ts";
import { isPicPort, PicPair } from "./pic.ts";
import { isPitPort, Pit8254 } from "./pit.ts";

/** GSIs that are lines of the PIC too. */
const PIC_LINES = 16;
const TIMER_GSI = 0;

/**
 * The interrupt controllers of one VM, as KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2 give them: the PICs, an I/O APIC, a
 * local APIC for each vCPU, a PIT. GSI n is pin n of the I/O APIC and, below 16, IRQ n of the PIC: KVM's default
 * routing (virt/kvm, "KVM_SET_GSI_ROUTING" in Documentation/virt/kvm/api.rst, Linux v6.1).
 */
export class Irqchip {
  readonly clock: VirtualClock | HostClock;
  readonly pic = new PicPair();
  readonly ioapic = new IoApic((message) => this.deliver(message));
  readonly pit: Pit8254 | undefined;
  #units: readonly VcpuInterrupts[] = [];

  /** @param options.hostClock Time that passes by itself, instead of with instructions. */
  constructor(options: { pit: boolean; hostClock?: HostClock | undefined }) {
    this.clock = options.hostClock ?? new VirtualClock();
    this.pit = options.pit ? new Pit8254({ now: () => this.clock.now, pulse: () => this.#timerPulse() }) : undefined;
  }

  attach(cpu: Cpu, sink: InterruptSink): VcpuInterrupts {
    this.clock.add(cpu);
    const unit = new VcpuInterrupts(this, cpu, sink);
    this.#units = [...this.#units, unit];
    return unit;
  }

  detach(cpu: Cpu): void {
    this.clock.remove(cpu);
    this.#units = this.#units.filter((unit) => unit.id !== cpu.id);
  }

  /** The local APIC of a vCPU. */
  lapic(id: number): LocalApic | undefined {
    return this.#units.find((unit) => unit.id === id)?.lapic;
  }

  /** A GSI that leads nowhere is dropped, as by KVM. */
  setIrqLine(gsi: number, level: boolean): void {
    this.tick();
    this.#setLine(gsi, level);
  }

  /** True when a local APIC took it. */
  signalMsi(message: { address: number; data: number }): boolean {
    this.tick();
    return this.deliver(decodeMsi(message.address, message.data)) > 0;
  }

  /** Makes happen what is due by now. */
  tick(): void {
    this.pit?.tick();
    for (const unit of this.#units) unit.lapic.timer.tick();
  }

  /**
   * When a timer can next interrupt a vCPU, in nanoseconds of the clock.
   *
   * @param maskable False when RFLAGS.IF holds off all but NMIs.
   */
  nextTimer(unit: VcpuInterrupts, maskable: boolean): number | undefined {
    const own = maskable && unit.lapic.timerOpen ? unit.lapic.timer.due : undefined;
    const pit = this.pit?.due;
    if (pit === undefined || !this.#pitReaches(unit, maskable)) return own;
    return own === undefined ? pit : Math.min(own, pit);
  }

  /** Whether another vCPU would run if it were its turn. */
  othersRun(unit: VcpuInterrupts): boolean {
    for (const other of this.#units) if (other !== unit && !other.asleep) return true;
    return false;
  }

  deliver(message: InterruptMessage): number {
    return this.#deliverTo(
      this.#units.filter((unit) => unit.lapic.matches(message.destination, message.logical)),
      message,
    );
  }

  /** An interrupt command of a local APIC. */
  command(sender: VcpuInterrupts, command: InterruptCommand): void {
    if (command.deassert) return;
    const units = this.#units;
    switch (command.shorthand) {
      case 0:
        this.deliver(command);
        return;
      case 1:
        this.#deliverTo([sender], command);
        return;
      case 2:
        this.#deliverTo(units, command);
        return;
      default:
        this.#deliverTo(
          units.filter((unit) => unit !== sender),
          command,
        );
    }
  }

  /** Whether a port is answered here instead of exiting. */
  ownsPort(port: number): boolean {
    return isPicPort(port) || (this.pit !== undefined && isPitPort(port));
  }

  /** One access; of more than a byte the PIC takes nothing and the PIT the low byte, as on KVM. */
  readPort(port: number, data: Uint8Array): void {
    data.fill(0);
    if (!isPicPort(port)) data[0] = this.pit?.read(port) ?? 0xff;
    else if (data.length === 1) data[0] = this.pic.readPort(port) ?? 0xff;
  }

  writePort(port: number, data: Uint8Array): void {
    const value = data[0] as number;
    if (!isPicPort(port)) this.pit?.write(port, value);
    else if (data.length === 1) this.pic.writePort(port, value);
  }

  ownsIoApic(gpa: number): boolean {
    return gpa >= IOAPIC_BASE && gpa < IOAPIC_BASE + IOAPIC_BYTES;
  }

  readIoApic(gpa: number, data: Uint8Array): void {
    const value = this.ioapic.read(gpa - IOAPIC_BASE);
    for (let i = 0; i < data.length; i++) data[i] = i < 4 ? value >>> (i * 8) : 0;
  }

  writeIoApic(gpa: number, data: Uint8Array): void {
    let value = 0;
    for (let i = 0; i < Math.min(data.length, 4); i++) value |= (data[i] as number) << (i * 8);
    this.ioapic.write(gpa - IOAPIC_BASE, value >>> 0);
  }

  #setLine(gsi: number, level: boolean): void {
    if (gsi < PIC_LINES) this.pic.setIrq(gsi, level);
    if (gsi < IOAPIC_PINS) this.ioapic.setPin(gsi, level);
  }

  /** The PIT drives GSI 0, and is the NMI watchdog of whoever has LINT0 as NMI. */
  #timerPulse(): void {
    this.#setLine(TIMER_GSI, true);
    this.#setLine(TIMER_GSI, false);
    for (const unit of this.#units) if (unit.lapic.lint0IsNmi) unit.nmi();
  }

  #pitReaches(unit: VcpuInterrupts, maskable: boolean): boolean {
    if (unit.lapic.lint0IsNmi || this.ioapic.isNmi(TIMER_GSI)) return true;
    return maskable && ((this.pic.master.open(TIMER_GSI) && unit.lapic.acceptsPic) || this.ioapic.open(TIMER_GSI));
  }

  #deliverTo(targets: readonly VcpuInterrupts[], message: InterruptMessage): number {
    if (targets.length === 0) return -1;
    const { vector, level } = message;
    switch (message.delivery) {
      case DELIVERY.fixed:
        return targets.filter((unit) => unit.lapic.accept(vector, level)).length;
      case DELIVERY.lowest: {
        const [first, ...others] = targets.filter((unit) => unit.lapic.active);
        if (first === undefined) return -1;
        const chosen = others.reduce((a, b) => (b.lapic.priority < a.lapic.priority ? b : a), first);
        return chosen.lapic.accept(vector, level) ? 1 : 0;
      }
      case DELIVERY.nmi:
        for (const unit of targets) unit.nmi();
        return targets.length;
      case DELIVERY.init:
        for (const unit of targets) unit.init();
        return targets.length;
      case DELIVERY.startup:
        for (const unit of targets) unit.startup(vector);
        return targets.length;
      default:
        // SMI and ExtINT messages lead nowhere, as on KVM.
        return 0;
    }
  }
}
