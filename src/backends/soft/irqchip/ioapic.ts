import { DELIVERY, type DeliverMessage } from "./message.ts";

export const IOAPIC_BASE = 0xfec0_0000;
export const IOAPIC_BYTES = 0x100;
export const IOAPIC_PINS = 24;
/** 24 entries, version 0x11: the 82093AA, as KVM shows it. */
const VERSION = ((IOAPIC_PINS - 1) << 16) | 0x11;

/** Low word of a redirection entry. */
export const ENTRY = {
  LOGICAL: 1 << 11,
  DELIVERY_STATUS: 1 << 12,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
} as const;
const READ_ONLY = ENTRY.DELIVERY_STATUS | ENTRY.REMOTE_IRR;

export interface IoApicState {
  IOREGSEL: number;
  /** Bits 27 to 24 of the ID register. */
  id: number;
  /** Pins that are high (level) or have asked (edge). */
  IRR: number;
  /** Low and high word of each redirection entry. */
  entries: { low: number; high: number }[];
}

/** The I/O APIC at 0xFEC00000 (Intel 82093AA datasheet, 290566). */
export class IoApic {
  readonly #deliver: DeliverMessage;
  #select = 0;
  #id = 0;
  #irr = 0;
  readonly #low = new Uint32Array(IOAPIC_PINS).fill(ENTRY.MASKED);
  readonly #high = new Uint32Array(IOAPIC_PINS);

  constructor(deliver: DeliverMessage) {
    this.#deliver = deliver;
  }

  state(): IoApicState {
    const entries = Array.from(this.#low, (low, i) => ({ low, high: this.#high[i] as number }));
    return { IOREGSEL: this.#select, id: this.#id, IRR: this.#irr, entries };
  }

  setPin(pin: number, level: boolean): void {
    const mask = 1 << pin;
    const before = this.#irr;
    this.#irr = level ? before | mask : before & ~mask;
    const edge = ((this.#low[pin] as number) & ENTRY.LEVEL) === 0;
    if (level && !(edge && before === this.#irr)) this.#service(pin);
  }

  /** A local APIC is done with a level-triggered vector: pins that are still high ask again. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.#low[pin] as number;
      if ((low & 0xff) !== vector || (low & ENTRY.LEVEL) === 0) continue;
      this.#low[pin] = low & ~ENTRY.REMOTE_IRR;
      if ((this.#irr & (1 << pin)) !== 0) this.#service(pin);
    }
  }

  /** Whether a pin's edges reach anyone. */
  open(pin: number): boolean {
    return ((this.#low[pin] as number) & ENTRY.MASKED) === 0;
  }

  /** Whether they come as NMIs, which RFLAGS.IF does not hold off. */
  isNmi(pin: number): boolean {
    return this.open(pin) && (((this.#low[pin] as number) >> 8) & 7) === DELIVERY.nmi;
  }

  /** @param offset Bytes from 0xFEC00000. */
  read(offset: number): number {
    if (offset === 0) return this.#select;
    return offset === 0x10 ? this.#readRegister() : 0;
  }

  write(offset: number, value: number): void {
    if (offset === 0) this.#select = value & 0xff;
    else if (offset === 0x10) this.#writeRegister(value);
  }

  #readRegister(): number {
    const select = this.#select;
    if (select === 1) return VERSION;
    if (select === 0 || select === 2) return (this.#id & 0xf) << 24;
    const words = (select & 1) === 0 ? this.#low : this.#high;
    return select < 0x10 ? 0 : (words[(select - 0x10) >> 1] ?? 0xffff_ffff);
  }

  #writeRegister(value: number): void {
    const select = this.#select;
    if (select === 0) this.#id = (value >>> 24) & 0xf;
    const pin = (select - 0x10) >> 1;
    if (select < 0x10 || pin >= IOAPIC_PINS) return;
    const before = this.#low[pin] as number;
    if ((select & 1) !== 0) this.#high[pin] = value;
    else this.#low[pin] = (value & ~READ_ONLY) | (before & READ_ONLY);
    let low = this.#low[pin] as number;
    // A system that switches an entry to edge and back expects Remote IRR to be clear.
    if ((low & ENTRY.LEVEL) === 0) this.#low[pin] = low &= ~ENTRY.REMOTE_IRR;
    else if ((this.#irr & (1 << pin)) !== 0) this.#service(pin);
  }

  #service(pin: number): void {
    const low = this.#low[pin] as number;
    const level = (low & ENTRY.LEVEL) !== 0;
    if ((low & ENTRY.MASKED) !== 0 || (level && (low & ENTRY.REMOTE_IRR) !== 0)) return;
    const taken = this.#deliver({
      delivery: (low >> 8) & 7,
      vector: low & 0xff,
      destination: (this.#high[pin] as number) >>> 24,
      logical: (low & ENTRY.LOGICAL) !== 0,
      level,
    });
    if (level && taken > 0) this.#low[pin] = low | ENTRY.REMOTE_IRR;
  }
}
