import { State } from "../state.ts";
import { arithmeticKernels, BIAS, INEXACT, type Kernels, UP } from "./kernels.ts";

/** Word numbers in the state. */
const FCW = State.fcw >> 2;
const FSW = State.fsw >> 2;
const FTW = State.ftw >> 2;
const TOP = State.top >> 2;
const REGISTERS = State.x87 >> 2;
const SCRATCH = State.scratch >> 2;

const C1 = 0x200;
const PRECISION = 0x20;
const CONDITIONS = 0x4700;
/** FCW: all exceptions masked and round to nearest; precision control is looked at apart. */
const CONTROL_MASK = 0xc3f;
const CONTROL = 0x3f;
const BIAS_80 = 16383;

/** The order of two numbers as condition codes, and as ZF, PF, CF. */
const LESS = { conditions: 0x100, flags: 1 };
const EQUAL = { conditions: 0x4000, flags: 0x40 };
const GREATER = { conditions: 0, flags: 0 };

/**
 * The common cases of common x87 instructions on 32-bit words: normal numbers (and zeros where they are exact), every
 * exception masked, round to nearest. Whatever is not handled changes nothing and is left to `X87Unit`.
 */
export class FastX87 {
  readonly #words: Int32Array;
  #kernels: Kernels | undefined;
  /** The second operand of arithmetic and comparisons. */
  #low = 0;
  #high = 0;
  #se = 0;
  /** Of the arithmetic under way: sign bit, and exponent without the kernel's change. */
  #sign = 0;
  #exponent = 0;
  /** Status of the store under way: flags and C1, or -1 when `X87Unit` has it. */
  #stored = -1;

  constructor(view: DataView) {
    this.#words = new Int32Array(view.buffer, view.byteOffset, State.size >> 2);
  }

  /** Word number of ST(i). */
  #at(i: number): number {
    return REGISTERS + (((this.#words[TOP]! + i) & 7) << 2);
  }

  #inUse(i: number): boolean {
    return ((this.#words[FTW]! >> ((this.#words[TOP]! + i) & 7)) & 1) !== 0;
  }

  #write(i: number, low: number, high: number, se: number): void {
    const w = this.#words;
    const at = this.#at(i);
    w[at] = low;
    w[at + 1] = high;
    w[at + 2] = se;
    w[FTW]! |= 1 << ((w[TOP]! + i) & 7);
  }

  #pop(): void {
    const w = this.#words;
    w[FTW]! &= ~(1 << w[TOP]!);
    w[TOP] = (w[TOP]! + 1) & 7;
  }

  #push(low: number, high: number, se: number): boolean {
    if (this.#inUse(-1)) return false;
    const w = this.#words;
    w[TOP] = (w[TOP]! - 1) & 7;
    w[FSW]! &= ~C1;
    this.#write(0, low, high, se);
    return true;
  }

  /** Executes D8 to DF with a register operand. Returns what `X87Unit.register` does, or -1 when it has to. */
  register(opcode: number, modrm: number, condition: boolean): number {
    const i = modrm & 7;
    const reg = (modrm >> 3) & 7;
    switch (opcode) {
      case 0xd8:
        this.#operand(i);
        return this.#inUse(0) && this.#inUse(i) ? this.#dispatch(reg, 0, false) : -1;
      case 0xdc:
      case 0xde:
        return this.#toRegister(reg, i, opcode === 0xde);
      case 0xd9:
        return this.#moves(modrm, reg, i);
      case 0xdd:
        return reg === 2 || reg === 3
          ? this.#storeRegister(i, reg === 3)
          : reg >= 4
            ? this.#compareRegister(i, reg - 4, 0)
            : -1;
      case 0xda:
        return reg < 4 ? this.#conditionalMove(i, condition) : -1;
      case 0xdb:
      case 0xdf:
        if (opcode === 0xdb && reg < 4) return this.#conditionalMove(i, condition);
        if (reg !== 5 && reg !== 6) return -1;
        return this.#compareRegister(i, opcode === 0xdf ? 1 : 0, 1);
      default:
        return -1;
    }
  }

  #operand(i: number): void {
    const at = this.#at(i);
    this.#low = this.#words[at]!;
    this.#high = this.#words[at + 1]!;
    this.#se = this.#words[at + 2]! & 0xffff;
  }

  /** D8 and memory forms: ST(0) op operand. */
  #dispatch(reg: number, target: number, pop: boolean): number {
    if (reg === 2 || reg === 3) return this.#compare(reg - 2, 0);
    return this.#arithmetic(reg, 0, target, pop) ? 0 : -1;
  }

  /** DC and DE: the destination is ST(i), ST(0) the second operand. */
  #toRegister(reg: number, i: number, pop: boolean): number {
    if (reg === 2 || reg === 3 || !this.#inUse(0) || !this.#inUse(i)) return -1;
    this.#operand(0);
    return this.#arithmetic(reg < 4 ? reg : reg ^ 1, i, i, pop) ? 0 : -1;
  }

  #moves(modrm: number, reg: number, i: number): number {
    const w = this.#words;
    if (reg <= 1) {
      if (!this.#inUse(i)) return -1;
      this.#operand(i);
      if (reg === 0) return this.#push(this.#low, this.#high, this.#se) ? 0 : -1;
      if (!this.#inUse(0)) return -1;
      const at = this.#at(0);
      const low = w[at]!;
      const high = w[at + 1]!;
      const se = w[at + 2]! & 0xffff;
      this.#write(0, this.#low, this.#high, this.#se);
      this.#write(i, low, high, se);
      w[FSW]! &= ~C1;
      return 0;
    }
    if (modrm === 0xe8) return this.#push(0, 0x80000000 | 0, BIAS_80) ? 0 : -1;
    if (modrm === 0xee) return this.#push(0, 0, 0) ? 0 : -1;
    if ((modrm !== 0xe0 && modrm !== 0xe1) || !this.#inUse(0)) return -1;
    const at = this.#at(0) + 2;
    w[at] = modrm === 0xe0 ? w[at]! ^ 0x8000 : w[at]! & 0x7fff;
    w[FSW]! &= ~C1;
    return 0;
  }

  #storeRegister(i: number, pop: boolean): number {
    if (!this.#inUse(0)) return -1;
    this.#operand(0);
    this.#write(i, this.#low, this.#high, this.#se);
    this.#words[FSW]! &= ~C1;
    if (pop) this.#pop();
    return 0;
  }

  #compareRegister(i: number, pops: number, intoFlags: number): number {
    if (!this.#inUse(0) || !this.#inUse(i)) return -1;
    this.#operand(i);
    return this.#compare(pops, intoFlags);
  }

  /** Compares ST(0) with the operand: into the condition codes, or returned as flags. */
  #compare(pops: number, intoFlags: number): number {
    const at = this.#at(0);
    const w = this.#words;
    const low = w[at]!;
    const high = w[at + 1]!;
    const se = w[at + 2]! & 0xffff;
    if (!comparable(low, high, se) || !comparable(this.#low, this.#high, this.#se)) return -1;
    const order = compareWords(low, high, se, this.#low, this.#high, this.#se);
    if (intoFlags) w[FSW]! &= ~C1;
    else w[FSW] = (w[FSW]! & ~CONDITIONS) | order.conditions;
    if (pops) this.#pop();
    return intoFlags ? order.flags : 0;
  }

  /** ST(target) = ST(left) op operand, where `reg` selects as in D8. */
  #arithmetic(reg: number, left: number, target: number, pop: boolean): boolean {
    const w = this.#words;
    const control = w[FCW]!;
    if ((control & CONTROL_MASK) !== CONTROL) return false;
    const pc = (control >> 8) & 3;
    const drop = pc === 0 ? 40 : pc === 2 ? 11 : 0;
    const at = this.#at(left);
    const se = w[at + 2]! & 0xffff;
    if (!normal(w[at + 1]!, se) || !normal(this.#high, this.#se))
      return drop === 0 && this.#withZero(reg, at, target, pop);
    this.#kernels ??= arithmeticKernels();
    const k = this.#kernels;
    const status =
      reg === 5 || reg === 7
        ? this.#compute(k, reg, drop, this.#low, this.#high, this.#se, w[at]!, w[at + 1]!, se)
        : this.#compute(k, reg, drop, w[at]!, w[at + 1]!, se, this.#low, this.#high, this.#se);
    if (status < 0) return false;
    const exponent = this.#exponent + (status & 0xff) - BIAS;
    if (exponent <= 0 || exponent >= 0x7fff) return false;
    this.#write(target, k.result[0]! | 0, k.result[1]! | 0, this.#sign | exponent);
    w[FSW] = (w[FSW]! & ~C1) | (status & INEXACT ? PRECISION : 0) | (status & UP ? C1 : 0);
    if (pop) this.#pop();
    return true;
  }

  /** A normal number and a zero at full precision: nothing to round. */
  #withZero(reg: number, at: number, target: number, pop: boolean): boolean {
    const w = this.#words;
    let low = w[at]!;
    let high = w[at + 1]!;
    let se = w[at + 2]! & 0xffff;
    const leftIsZero = isZero(low, high, se);
    if (leftIsZero ? !normal(this.#high, this.#se) : !normal(high, se) || !isZero(this.#low, this.#high, this.#se))
      return false;
    if (reg === 1 || reg === (leftIsZero ? 6 : 7)) {
      this.#write(target, 0, 0, (se ^ this.#se) & 0x8000);
    } else if (reg >= 6) return false;
    else {
      if (leftIsZero) {
        low = this.#low;
        high = this.#high;
        se = this.#se;
      }
      // The number is taken away: as the operand of a subtraction, or as what a reversed one takes away.
      if (reg === (leftIsZero ? 4 : 5)) se ^= 0x8000;
      this.#write(target, low, high, se);
    }
    w[FSW]! &= ~C1;
    if (pop) this.#pop();
    return true;
  }

  /** FCMOVcc. */
  #conditionalMove(i: number, condition: boolean): number {
    if (!this.#inUse(0) || !this.#inUse(i)) return -1;
    if (!condition) return 0;
    this.#operand(i);
    this.#write(0, this.#low, this.#high, this.#se);
    return 0;
  }

  /** FLDCW that leaves nothing pending. */
  #loadControl(control: number): boolean {
    const w = this.#words;
    if (w[FSW]! & ~control & 0x3f) return false;
    w[FCW] = (control & 0x1f7f) | 0x40;
    w[FSW]! &= ~0x8080;
    return true;
  }

  /** Runs a kernel; sign and exponent before its change go to the fields. Negative when it is not for the kernels. */
  #compute(
    k: Kernels,
    reg: number,
    drop: number,
    al: number,
    ah: number,
    ase: number,
    bl: number,
    bh: number,
    bse: number,
  ): number {
    const ea = ase & 0x7fff;
    const eb = bse & 0x7fff;
    this.#sign = (ase ^ bse) & 0x8000;
    if (reg === 1) {
      this.#exponent = ea + eb - BIAS_80;
      return k.multiply(ah, al, bh, bl, 0, drop);
    }
    if (reg >= 6) {
      this.#exponent = ea - eb + BIAS_80;
      return k.divide(ah, al, bh, bl, 0, drop);
    }
    const signB = reg === 0 ? bse & 0x8000 : (bse & 0x8000) ^ 0x8000;
    const same = (ase & 0x8000) === signB;
    const order = compareMagnitude(al, ah, ase, bl, bh, bse);
    if (order >= 0) {
      const d = ea - eb;
      // Far apart, or a difference of nothing, which is +0: the long way.
      if (d > 126 || (order === 0 && !same)) return -1;
      this.#sign = ase & 0x8000;
      this.#exponent = ea;
      return same ? k.add(ah, al, bh, bl, d, drop) : k.subtract(ah, al, bh, bl, d, drop);
    }
    const d = eb - ea;
    if (d > 126) return -1;
    this.#sign = signB;
    this.#exponent = eb;
    return same ? k.add(bh, bl, ah, al, d, drop) : k.subtract(bh, bl, ah, al, d, drop);
  }

  /** Executes a load form whose operand lies in the scratch area. False when `X87Unit` has to. */
  load(opcode: number, reg: number): boolean {
    if (opcode === 0xd9 && reg === 5) return this.#loadControl(this.#words[SCRATCH]! & 0xffff);
    if (opcode >= 0xdf || (opcode === 0xdb && reg !== 0) || (opcode === 0xd9 && reg !== 0)) return false;
    const w = this.#words;
    const low = w[SCRATCH]!;
    const converted =
      opcode <= 0xd9
        ? this.#fromSingle(low)
        : opcode <= 0xdb
          ? this.#fromInteger(low)
          : opcode <= 0xdd
            ? this.#fromDouble(low, w[SCRATCH + 1]!)
            : this.#fromInteger((low << 16) >> 16);
    if (!converted) return false;
    if (opcode & 1) return this.#push(this.#low, this.#high, this.#se);
    return this.#inUse(0) && this.#dispatch(reg, 0, false) >= 0;
  }

  #fromDouble(low: number, high: number): boolean {
    const exponent = (high >>> 20) & 0x7ff;
    if (exponent === 0 || exponent === 0x7ff) {
      if (low !== 0 || (high & 0x7fffffff) !== 0) return false;
      this.#set(0, 0, (high >>> 16) & 0x8000);
      return true;
    }
    this.#set(
      low << 11,
      0x80000000 | ((high & 0xfffff) << 11) | (low >>> 21),
      ((high >>> 16) & 0x8000) | (exponent + (BIAS_80 - 1023)),
    );
    return true;
  }

  #fromSingle(bits: number): boolean {
    const exponent = (bits >>> 23) & 0xff;
    if (exponent === 0 || exponent === 0xff) {
      if ((bits & 0x7fffffff) !== 0) return false;
      this.#set(0, 0, (bits >>> 16) & 0x8000);
      return true;
    }
    this.#set(0, 0x80000000 | ((bits & 0x7fffff) << 8), ((bits >>> 16) & 0x8000) | (exponent + (BIAS_80 - 127)));
    return true;
  }

  #fromInteger(value: number): boolean {
    if (value === 0) {
      this.#set(0, 0, 0);
      return true;
    }
    const magnitude = value < 0 ? -value : value;
    const shift = Math.clz32(magnitude);
    this.#set(0, magnitude << shift, (value < 0 ? 0x8000 : 0) | (BIAS_80 + 31 - shift));
    return true;
  }

  #set(low: number, high: number, se: number): void {
    this.#low = low;
    this.#high = high | 0;
    this.#se = se;
  }

  /** Works out a store form: the bits go to the scratch area. False when `X87Unit` has to. `commit` follows. */
  prepare(opcode: number, reg: number): boolean {
    this.#stored = -1;
    const w = this.#words;
    if ((w[FCW]! & 0x3f) !== 0x3f || !this.#inUse(0)) return false;
    this.#operand(0);
    if (opcode === 0xdd && reg !== 1) return this.#toDouble();
    if (opcode === 0xd9) return this.#toSingle();
    if (reg === 1 || opcode === 0xdd) return this.#toInteger(opcode === 0xdd ? 64 : opcode === 0xdb ? 32 : 16, 3);
    const rc = (w[FCW]! >> 10) & 3;
    if (rc === 1 || rc === 2) return false;
    if (opcode === 0xdb && reg <= 3) return this.#toInteger(32, rc);
    if (opcode === 0xdf && reg !== 6) return this.#toInteger(reg === 7 ? 64 : 16, rc);
    return false;
  }

  /** Completes a store that `prepare` took on; false when it had not. */
  commit(opcode: number, reg: number): boolean {
    if (this.#stored < 0) return false;
    const w = this.#words;
    w[FSW] = (w[FSW]! & ~C1) | this.#stored;
    this.#stored = -1;
    if (reg === 1 || reg === 3 || reg >= 6 || (opcode === 0xdb && reg === 7)) this.#pop();
    return true;
  }

  #finishStore(low: number, high: number, inexact: boolean, up: boolean): boolean {
    this.#words[SCRATCH] = low;
    this.#words[SCRATCH + 1] = high;
    this.#stored = (inexact ? PRECISION : 0) | (up ? C1 : 0);
    return true;
  }

  #isZero(): boolean {
    return isZero(this.#low, this.#high, this.#se);
  }

  #toDouble(): boolean {
    if (this.#isZero()) return this.#finishStore(0, this.#se << 16, false, false);
    const exponent = (this.#se & 0x7fff) - (BIAS_80 - 1023);
    if (this.#high >= 0 || exponent < 1 || exponent > 0x7fd || this.#words[FCW]! & 0xc00) return false;
    const rest = this.#low & 0x7ff;
    const low = (this.#low >>> 11) | (this.#high << 21);
    const high = ((this.#se & 0x8000) << 16) | (exponent << 20) | ((this.#high >>> 11) & 0xfffff);
    const up = rest > 0x400 || (rest === 0x400 && (low & 1) === 1);
    const rounded = up ? (low + 1) | 0 : low;
    // A carry out of the fraction goes into the exponent, which is where it belongs.
    return this.#finishStore(rounded, up && rounded === 0 ? (high + 1) | 0 : high, rest !== 0, up);
  }

  #toSingle(): boolean {
    if (this.#isZero()) return this.#finishStore(this.#se << 16, 0, false, false);
    const exponent = (this.#se & 0x7fff) - (BIAS_80 - 127);
    if (this.#high >= 0 || exponent < 1 || exponent > 0xfd || this.#words[FCW]! & 0xc00) return false;
    const rest = this.#high & 0xff;
    const bits = ((this.#se & 0x8000) << 16) | (exponent << 23) | ((this.#high >>> 8) & 0x7fffff);
    const up = rest > 0x80 || (rest === 0x80 && (this.#low !== 0 || (bits & 1) === 1));
    return this.#finishStore(up ? (bits + 1) | 0 : bits, 0, rest !== 0 || this.#low !== 0, up);
  }

  /** Rounds to an integer: to nearest (`rc` 0) or towards zero (3). Only magnitudes of one half to 2^62. */
  #toInteger(bits: 16 | 32 | 64, rc: number): boolean {
    if (this.#isZero()) return this.#finishStore(0, 0, false, false);
    const n = BIAS_80 + 63 - (this.#se & 0x7fff);
    if (this.#high >= 0 || n < 2 || n > 64) return false;
    const low = this.#low;
    const high = this.#high;
    let whole: number;
    let upper = 0;
    let fraction: number;
    let rest = 0;
    if (n < 32) {
      whole = (low >>> n) | (high << (32 - n));
      upper = high >>> n;
      fraction = low << (32 - n);
    } else if (n === 32) {
      whole = high;
      fraction = low;
    } else if (n < 64) {
      whole = high >>> (n - 32);
      fraction = (high << (64 - n)) | (low >>> (n - 32));
      rest = low << (64 - n);
    } else {
      whole = 0;
      fraction = high;
      rest = low;
    }
    const above = fraction >>> 0;
    const up = rc === 0 && (above > 0x80000000 || (above === 0x80000000 && (rest !== 0 || (whole & 1) === 1)));
    if (up) {
      whole = (whole + 1) | 0;
      if (whole === 0) upper = (upper + 1) | 0;
    }
    // The narrow forms take what surely fits; their very ends go the long way.
    if (bits === 32 && (upper !== 0 || whole < 0)) return false;
    if (bits === 16 && (upper !== 0 || whole >>> 0 > 0x7fff)) return false;
    if (this.#se & 0x8000) {
      whole = -whole | 0;
      upper = whole === 0 ? -upper | 0 : ~upper;
    }
    return this.#finishStore(whole, upper, fraction !== 0 || rest !== 0, up);
  }
}

/** A normal number: integer bit set, exponent neither least nor greatest. */
function normal(high: number, se: number): boolean {
  const exponent = se & 0x7fff;
  return high < 0 && exponent !== 0 && exponent !== 0x7fff;
}

function isZero(low: number, high: number, se: number): boolean {
  return low === 0 && high === 0 && (se & 0x7fff) === 0;
}

function comparable(low: number, high: number, se: number): boolean {
  return normal(high, se) || isZero(low, high, se);
}

function compareMagnitude(al: number, ah: number, ase: number, bl: number, bh: number, bse: number): number {
  const d = (ase & 0x7fff) - (bse & 0x7fff);
  if (d !== 0) return d;
  return ah !== bh ? (ah >>> 0) - (bh >>> 0) : (al >>> 0) - (bl >>> 0);
}

function compareWords(al: number, ah: number, ase: number, bl: number, bh: number, bse: number): typeof LESS {
  const zero = ah === 0 && bh === 0;
  if (zero) return EQUAL;
  if (((ase ^ bse) & 0x8000) !== 0) return ase & 0x8000 ? LESS : GREATER;
  const d = compareMagnitude(al, ah, ase, bl, bh, bse);
  if (d === 0) return EQUAL;
  return d < 0 === ((ase & 0x8000) === 0) ? LESS : GREATER;
}
