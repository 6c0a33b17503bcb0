import { LapicTimer, type LapicTimerState } from "./lapic-timer.ts";
import { DELIVERY, type InterruptMessage } from "./message.ts";
import { VectorSet } from "./vector-set.ts";

/** Registers of the local APIC, offsets in bytes (Intel SDM Vol. 3A, "Local APIC Register Address Map"). */
export const APIC = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  PPR: 0xa0,
  EOI: 0xb0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  LVT_CMCI: 0x2f0,
  ICR: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_THERMAL: 0x330,
  LVT_PERFORMANCE: 0x340,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  TIMER_INITIAL: 0x380,
  TIMER_CURRENT: 0x390,
  TIMER_DIVIDE: 0x3e0,
} as const;

const SVR_ENABLED = 0x100;
const LVT_MASKED = 0x1_0000;
const LVT_PERIODIC = 0x2_0000;
/** Version 0x14 with six LVT entries. */
const VERSION = 0x5_0014;
/** Bits of each LVT entry that can be written: vector, delivery status and mask; then what the entry has beside them. */
const LVT_COMMON = 0x1_10ff;
const LVT_BITS = new Map<number, number>([
  [APIC.LVT_TIMER, LVT_COMMON | LVT_PERIODIC],
  [APIC.LVT_THERMAL, LVT_COMMON | 0x700],
  [APIC.LVT_PERFORMANCE, LVT_COMMON | 0x700],
  [APIC.LVT_LINT0, LVT_COMMON | 0xe700],
  [APIC.LVT_LINT1, LVT_COMMON | 0xe700],
  [APIC.LVT_ERROR, LVT_COMMON],
]);

/** An interrupt command as the local APIC sends it. `shorthand` 0: to the destination; 1: itself; 2: all; 3: all others. */
export interface InterruptCommand extends InterruptMessage {
  readonly shorthand: number;
  /** INIT with level 0, which only synchronised arbitration ids: nothing happens. */
  readonly deassert: boolean;
}

/** What a local APIC needs of its processor and its VM. */
export interface LapicHost {
  readonly id: number;
  /** Nanoseconds. */
  readonly now: () => number;
  /** CR8: bits 7 to 4 of the task priority. */
  taskPriorityClass: number;
  /** IA32_APIC_BASE.EN. */
  readonly enabled: boolean;
  readonly bootstrap: boolean;
  send(command: InterruptCommand): void;
  /** The end of a level-triggered interrupt. */
  endOfInterrupt(vector: number): void;
}

export interface LapicState {
  registers: [offset: number, value: number][];
  IRR: number[];
  ISR: number[];
  TMR: number[];
  taskPriorityLow: number;
  timer: LapicTimerState;
}

/** A local APIC in xAPIC mode (Intel SDM Vol. 3A, "Advanced Programmable Interrupt Controller"). */
export class LocalApic {
  readonly #host: LapicHost;
  readonly #registers = new Map<number, number>();
  readonly #irr = new VectorSet();
  readonly #isr = new VectorSet();
  readonly #tmr = new VectorSet();
  readonly timer: LapicTimer;
  /** Low four bits of the task priority, which CR8 does not have; void when CR8 was written since. */
  #low = { value: 0, of: 0 };

  constructor(host: LapicHost) {
    this.#host = host;
    this.timer = new LapicTimer(host.now, () => this.#timerExpired());
    this.reset();
    this.#set(APIC.ID, host.id << 24);
  }

  /** After RESET and INIT; the id stays. The boot processor's LINT0 is open to the PIC, as KVM leaves it. */
  reset(): void {
    const id = this.#get(APIC.ID);
    this.#registers.clear();
    this.#set(APIC.ID, id);
    this.#set(APIC.DFR, 0xffff_ffff);
    this.#set(APIC.SVR, 0xff);
    for (const offset of LVT_BITS.keys()) this.#set(offset, LVT_MASKED);
    if (this.#host.bootstrap) this.#set(APIC.LVT_LINT0, DELIVERY.extInt << 8);
    for (const set of [this.#irr, this.#isr, this.#tmr]) set.clear();
    this.#setTpr(0);
    this.timer.reset();
  }

  get id(): number {
    return this.#get(APIC.ID) >>> 24;
  }

  /** Enabled in IA32_APIC_BASE and in the spurious-interrupt register. */
  get active(): boolean {
    return (this.#get(APIC.SVR) & SVR_ENABLED) !== 0 && this.#host.enabled;
  }

  /** Whether INTR of the PIC comes through: LINT0 as ExtINT, or no APIC between at all. */
  get acceptsPic(): boolean {
    if (!this.#host.enabled) return true;
    const lint0 = this.#get(APIC.LVT_LINT0);
    return (lint0 & LVT_MASKED) === 0 && ((lint0 >> 8) & 7) === DELIVERY.extInt;
  }

  /** Whether the timer's interrupt can reach this processor. */
  get timerOpen(): boolean {
    return (this.#get(APIC.LVT_TIMER) & LVT_MASKED) === 0 && this.active;
  }

  /** Whether LINT0 is an NMI: the PIT's watchdog. */
  get lint0IsNmi(): boolean {
    const lint0 = this.#get(APIC.LVT_LINT0);
    return (lint0 & LVT_MASKED) === 0 && ((lint0 >> 8) & 7) === DELIVERY.nmi && this.#host.enabled;
  }

  /** The vector that may interrupt now, or −1. */
  get pending(): number {
    const vector = this.#irr.highest;
    return vector >= 0 && this.active && (vector & 0xf0) > (this.priority & 0xf0) ? vector : -1;
  }

  /** Takes the vector that is pending into service. */
  acknowledge(): number {
    const vector = this.pending;
    this.#irr.delete(vector);
    this.#isr.add(vector);
    return vector;
  }

  /** PPR. */
  get priority(): number {
    const served = Math.max(this.#isr.highest, 0) & 0xf0;
    const tpr = this.#tpr;
    return (tpr & 0xf0) >= served ? tpr : served;
  }

  /** Takes a fixed interrupt, once where the vector waits already. False when this APIC is off. */
  accept(vector: number, level: boolean): boolean {
    if (!this.active) return false;
    if (level) this.#tmr.add(vector);
    else this.#tmr.delete(vector);
    this.#irr.add(vector);
    return true;
  }

  /** Whether a message's destination means this APIC. */
  matches(destination: number, logical: boolean): boolean {
    if (!logical) return destination === 0xff || destination === this.id;
    if (destination === 0xff) return true;
    const ldr = this.#get(APIC.LDR) >>> 24;
    if (this.#get(APIC.DFR) >>> 28 === 0xf) return (ldr & destination) !== 0;
    return ldr >> 4 === destination >> 4 && (ldr & destination & 0xf) !== 0;
  }

  /** @param offset Bytes from the base, a multiple of 16. */
  read(offset: number): number {
    switch (offset) {
      case APIC.VERSION:
        return VERSION;
      case APIC.TPR:
        return this.#tpr;
      case APIC.PPR:
        return this.priority;
      case APIC.TIMER_INITIAL:
        return this.timer.initialCount;
      case APIC.TIMER_CURRENT:
        return this.timer.currentCount;
      case APIC.TIMER_DIVIDE:
        return this.timer.divideConfiguration;
    }
    for (const [start, set] of [
      [APIC.ISR, this.#isr],
      [APIC.TMR, this.#tmr],
      [APIC.IRR, this.#irr],
    ] as const) {
      if (offset >= start && offset < start + 0x80) return set.words[(offset - start) >> 4] as number;
    }
    return this.#get(offset);
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case APIC.ID:
      case APIC.LDR:
        this.#set(offset, value & 0xff00_0000);
        return;
      case APIC.TPR:
        this.#setTpr(value & 0xff);
        return;
      case APIC.EOI:
        this.#endOfInterrupt();
        return;
      case APIC.DFR:
        this.#set(offset, value | 0x0fff_ffff);
        return;
      case APIC.SVR:
        this.#setSvr(value & 0x3ff);
        return;
      case APIC.ESR:
        // No error is ever recorded.
        return;
      case APIC.ICR:
        this.#set(offset, value & ~0x1000);
        this.#send();
        return;
      case APIC.ICR_HIGH:
        this.#set(offset, value & 0xff00_0000);
        return;
      case APIC.TIMER_INITIAL:
        this.timer.initialCount = value >>> 0;
        return;
      case APIC.TIMER_DIVIDE:
        this.timer.divideConfiguration = value;
        return;
    }
    const bits = LVT_BITS.get(offset);
    if (bits !== undefined) this.#setLvt(offset, value & bits);
  }

  state(): LapicState {
    return {
      registers: [...this.#registers],
      IRR: [...this.#irr.words],
      ISR: [...this.#isr.words],
      TMR: [...this.#tmr.words],
      taskPriorityLow: this.#tpr & 0xf,
      timer: this.timer.state(),
    };
  }

  /** CR8 has been restored already: it is part of the processor. */
  restore(state: LapicState): void {
    this.#registers.clear();
    for (const [offset, value] of state.registers) this.#registers.set(offset, value);
    this.#irr.words.set(state.IRR);
    this.#isr.words.set(state.ISR);
    this.#tmr.words.set(state.TMR);
    this.#low = { value: state.taskPriorityLow, of: this.#host.taskPriorityClass };
    this.timer.restore(state.timer);
  }

  #get(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }
  #set(offset: number, value: number): void {
    this.#registers.set(offset, value >>> 0);
  }

  get #tpr(): number {
    const level = this.#host.taskPriorityClass;
    return (level << 4) | (this.#low.of === level ? this.#low.value : 0);
  }
  #setTpr(value: number): void {
    this.#host.taskPriorityClass = value >> 4;
    this.#low = { value: value & 0xf, of: value >> 4 };
  }

  #setSvr(value: number): void {
    this.#set(APIC.SVR, value);
    if ((value & SVR_ENABLED) !== 0) return;
    // A software-disabled APIC has all its local interrupts masked.
    for (const offset of LVT_BITS.keys()) this.#set(offset, this.#get(offset) | LVT_MASKED);
  }

  #setLvt(offset: number, value: number): void {
    const enabled = (this.#get(APIC.SVR) & SVR_ENABLED) !== 0;
    this.#set(offset, enabled ? value : value | LVT_MASKED);
    if (offset === APIC.LVT_TIMER) this.timer.periodic = (value & LVT_PERIODIC) !== 0;
  }

  #endOfInterrupt(): void {
    const vector = this.#isr.highest;
    if (vector < 0) return;
    this.#isr.delete(vector);
    if (this.#tmr.has(vector)) this.#host.endOfInterrupt(vector);
  }

  #send(): void {
    const low = this.#get(APIC.ICR);
    const delivery = (low >> 8) & 7;
    const level = (low & 0x8000) !== 0;
    this.#host.send({
      delivery,
      vector: low & 0xff,
      destination: this.#get(APIC.ICR_HIGH) >>> 24,
      logical: (low & 0x800) !== 0,
      level,
      shorthand: (low >> 18) & 3,
      deassert: delivery === DELIVERY.init && level && (low & 0x4000) === 0,
    });
  }

  #timerExpired(): void {
    if (this.timerOpen) this.accept(this.#get(APIC.LVT_TIMER) & 0xff, false);
  }
}
