/** State of one 8259A, named as the datasheet names it where it does. Bit i stands for line i. */
export interface PicState {
  IRR: number;
  IMR: number;
  ISR: number;
  /** Lines whose level was high when last looked at: what makes an edge. */
  lines: number;
  /** Level-triggered lines. */
  ELCR: number;
  /** Line of highest priority. */
  highest: number;
  /** Vector of line 0, from ICW2. */
  base: number;
  /** What comes next at the odd port: 0 OCW1, else ICW2, ICW3, ICW4. */
  expects: 0 | 2 | 3 | 4;
  needsICW4: boolean;
  single: boolean;
  autoEoi: boolean;
  rotateOnAutoEoi: boolean;
  specialFullyNested: boolean;
  specialMask: boolean;
  readISR: boolean;
  poll: boolean;
}

const ICW1 = { IC4: 0x01, SNGL: 0x02, INIT: 0x10 } as const;
const ICW4 = { AEOI: 0x02, SFNM: 0x10 } as const;
const OCW3 = { RIS: 0x01, RR: 0x02, P: 0x04, SELECT: 0x08, SMM: 0x20, ESMM: 0x40 } as const;
/** OCW2, bits 7 to 5: rotate, specific, EOI. */
const OCW2 = {
  ROTATE_AEOI_CLEAR: 0,
  EOI: 1,
  SPECIFIC_EOI: 3,
  ROTATE_AEOI_SET: 4,
  ROTATE_EOI: 5,
  SET_PRIORITY: 6,
  ROTATE_SPECIFIC_EOI: 7,
} as const;
/** Line of the master that the slave drives. */
const CASCADE = 2;
/** What a chip answers when the request went away before it was acknowledged. */
const SPURIOUS = 7;

function bit(line: number): number {
  return 1 << (line & 7);
}

/** One 8259A (Intel 8259A datasheet, 231468). */
export class Pic8259 {
  readonly name: string;
  readonly #elcrMask: number;
  readonly #cascades: boolean;
  readonly #output: (level: boolean) => void;
  #level = false;
  readonly #s: PicState = {
    IRR: 0,
    IMR: 0,
    ISR: 0,
    lines: 0,
    ELCR: 0,
    highest: 0,
    base: 0,
    expects: 0,
    needsICW4: false,
    single: false,
    autoEoi: false,
    rotateOnAutoEoi: false,
    specialFullyNested: false,
    specialMask: false,
    readISR: false,
    poll: false,
  };

  /**
   * @param options.elcrMask Lines that may be level-triggered: not the timer, the keyboard, the cascade, the clock and the FPU.
   * @param options.cascades Whether line 2 is another chip, whose requests nest in special fully nested mode.
   * @param options.output Called with INT whenever it may have changed.
   */
  constructor(name: string, options: { elcrMask: number; cascades: boolean; output: (level: boolean) => void }) {
    this.name = name;
    this.#elcrMask = options.elcrMask;
    this.#cascades = options.cascades;
    this.#output = options.output;
  }

  state(): PicState {
    return { ...this.#s };
  }

  /** INT, the request to the processor or the master. */
  get output(): boolean {
    return this.#level;
  }

  setLine(line: number, level: boolean): void {
    const s = this.#s;
    const mask = bit(line);
    if ((s.ELCR & mask) !== 0) s.IRR = level ? s.IRR | mask : s.IRR & ~mask;
    else if (level && (s.lines & mask) === 0) s.IRR |= mask;
    s.lines = level ? s.lines | mask : s.lines & ~mask;
    this.#update();
  }

  /** INTA: the line that is served now, or 7 without having served it when none asks any more. */
  acknowledge(): { line: number; spurious: boolean } {
    const line = this.#request();
    if (line < 0) return { line: SPURIOUS, spurious: true };
    // INT drops with INTA, so that what is left makes a new edge at the master.
    this.#drive(false);
    this.#serve(line);
    return { line, spurious: false };
  }

  /** Whether a line's edges reach the output, if nothing of higher priority is in service. */
  open(line: number): boolean {
    return (this.#s.IMR & bit(line)) === 0;
  }

  vector(line: number): number {
    return this.#s.base + line;
  }

  /** @param odd Port 0x21 or 0xA1 rather than 0x20 or 0xA0. */
  read(odd: boolean): number {
    const s = this.#s;
    if (s.poll) {
      s.poll = false;
      const line = this.#request();
      if (line < 0) return 0;
      this.#serve(line);
      return 0x80 | line;
    }
    if (odd) return s.IMR;
    return s.readISR ? s.ISR : s.IRR;
  }

  write(odd: boolean, value: number): void {
    if (odd) this.#writeOdd(value);
    else if ((value & ICW1.INIT) !== 0) this.#initialise(value);
    else if ((value & OCW3.SELECT) !== 0) this.#ocw3(value);
    else this.#ocw2(value);
  }

  get ELCR(): number {
    return this.#s.ELCR;
  }
  set ELCR(value: number) {
    this.#s.ELCR = value & this.#elcrMask;
  }

  #initialise(value: number): void {
    const s = this.#s;
    s.lines = 0;
    s.IRR &= s.ELCR;
    s.IMR = 0;
    s.ISR = 0;
    s.highest = 0;
    s.base = 0;
    s.specialMask = false;
    s.readISR = false;
    s.poll = false;
    s.autoEoi = false;
    s.rotateOnAutoEoi = false;
    s.specialFullyNested = false;
    s.needsICW4 = (value & ICW1.IC4) !== 0;
    s.single = (value & ICW1.SNGL) !== 0;
    s.expects = 2;
    this.#update();
  }

  #writeOdd(value: number): void {
    const s = this.#s;
    switch (s.expects) {
      case 0:
        s.IMR = value;
        this.#update();
        return;
      case 2:
        s.base = value & 0xf8;
        s.expects = s.single ? (s.needsICW4 ? 4 : 0) : 3;
        return;
      case 3:
        // The cascade is wired: there is nothing to choose.
        s.expects = s.needsICW4 ? 4 : 0;
        return;
      case 4:
        s.specialFullyNested = (value & ICW4.SFNM) !== 0;
        s.autoEoi = (value & ICW4.AEOI) !== 0;
        s.expects = 0;
    }
  }

  #ocw2(value: number): void {
    const s = this.#s;
    const line = value & 7;
    const command = value >> 5;
    switch (command) {
      case OCW2.ROTATE_AEOI_CLEAR:
      case OCW2.ROTATE_AEOI_SET:
        s.rotateOnAutoEoi = command === OCW2.ROTATE_AEOI_SET;
        return;
      case OCW2.EOI:
      case OCW2.ROTATE_EOI: {
        const served = this.#first(s.ISR);
        if (served < 0) return;
        s.ISR &= ~bit(served);
        if (command === OCW2.ROTATE_EOI) s.highest = (served + 1) & 7;
        break;
      }
      case OCW2.SPECIFIC_EOI:
      case OCW2.ROTATE_SPECIFIC_EOI:
        s.ISR &= ~bit(line);
        if (command === OCW2.ROTATE_SPECIFIC_EOI) s.highest = (line + 1) & 7;
        break;
      case OCW2.SET_PRIORITY:
        s.highest = (line + 1) & 7;
        break;
      default:
        return;
    }
    this.#update();
  }

  #ocw3(value: number): void {
    const s = this.#s;
    if ((value & OCW3.P) !== 0) s.poll = true;
    if ((value & OCW3.RR) !== 0) s.readISR = (value & OCW3.RIS) !== 0;
    if ((value & OCW3.ESMM) === 0) return;
    s.specialMask = (value & OCW3.SMM) !== 0;
    this.#update();
  }

  /** The line of highest priority in a set, or −1. */
  #first(set: number): number {
    const { highest } = this.#s;
    for (let i = 0; i < 8; i++) if ((set & bit(highest + i)) !== 0) return (highest + i) & 7;
    return -1;
  }

  /** The line that may interrupt now, or −1. */
  #request(): number {
    const s = this.#s;
    const line = this.#first(s.IRR & ~s.IMR);
    if (line < 0) return -1;
    let served = s.ISR;
    if (s.specialMask) served &= ~s.IMR;
    if (s.specialFullyNested && this.#cascades) served &= ~bit(CASCADE);
    const current = this.#first(served);
    const rank = (of: number) => (of - s.highest) & 7;
    return current < 0 || rank(line) < rank(current) ? line : -1;
  }

  #serve(line: number): void {
    const s = this.#s;
    if ((s.ELCR & bit(line)) === 0) s.IRR &= ~bit(line);
    if (!s.autoEoi) s.ISR |= bit(line);
    else if (s.rotateOnAutoEoi) s.highest = (line + 1) & 7;
    this.#update();
  }

  #update(): void {
    this.#drive(this.#request() >= 0);
  }

  /** Told each time, changed or not: a master that was initialised since has forgotten that the line is high. */
  #drive(level: boolean): void {
    this.#level = level;
    this.#output(level);
  }
}

/** The two 8259A of a PC: ports 0x20, 0x21, 0xA0, 0xA1, and the edge/level registers 0x4D0, 0x4D1. */
export class PicPair {
  readonly master = new Pic8259("master PIC", { elcrMask: 0xf8, cascades: true, output: () => {} });
  readonly slave = new Pic8259("slave PIC", {
    elcrMask: 0xde,
    cascades: false,
    output: (level) => this.master.setLine(CASCADE, level),
  });

  /** INTR of the processor. */
  get output(): boolean {
    return this.master.output;
  }

  /** @param irq 0 to 15. Line 2 is the cascade's own. */
  setIrq(irq: number, level: boolean): void {
    if (irq < 8) this.master.setLine(irq, level);
    else this.slave.setLine(irq - 8, level);
  }

  /** INTA: the vector, a spurious one where the request went away. */
  acknowledge(): number {
    const { line, spurious } = this.master.acknowledge();
    if (line !== CASCADE || spurious) return this.master.vector(line);
    return this.slave.vector(this.slave.acknowledge().line);
  }

  /** Undefined for a port that is not theirs. */
  readPort(port: number): number | undefined {
    switch (port) {
      case 0x20:
      case 0x21:
        return this.master.read(port === 0x21);
      case 0xa0:
      case 0xa1:
        return this.slave.read(port === 0xa1);
      case 0x4d0:
        return this.master.ELCR;
      case 0x4d1:
        return this.slave.ELCR;
      default:
        return undefined;
    }
  }

  writePort(port: number, value: number): void {
    switch (port) {
      case 0x20:
      case 0x21:
        this.master.write(port === 0x21, value);
        return;
      case 0xa0:
      case 0xa1:
        this.slave.write(port === 0xa1, value);
        return;
      case 0x4d0:
        this.master.ELCR = value;
        return;
      case 0x4d1:
        this.slave.ELCR = value;
    }
  }
}

/** Whether a port belongs to the pair. */
export function isPicPort(port: number): boolean {
  return port === 0x20 || port === 0x21 || port === 0xa0 || port === 0xa1 || port === 0x4d0 || port === 0x4d1;
}
