import {
  add80,
  compare80,
  div80,
  extract80,
  mul80,
  type Order,
  remainder80,
  roundToIntegral80,
  scale80,
  sqrt80,
  sub80,
} from "./arithmetic.ts";
import { constant80 } from "./constants.ts";
import {
  fromBcd80,
  fromInteger80,
  load80,
  type StoreResult,
  store80,
  toBcd80,
  toInteger80,
  widen80,
} from "./conversions.ts";
import { classify80, type Float80, INDEFINITE, type Result80, result80, roundingOf } from "./float80.ts";
import { IE, ZE, ZERO } from "./rounding.ts";
import type { X87State } from "./state.ts";
import { atan80, cosine80, exp2m1, log2p1, log2Times, sincos80, sine80, tangent80 } from "./transcendental.ts";

/** Status word bits (Intel SDM Vol. 1, "x87 FPU Status Register"). */
const SF = 0x40;
const ES = 0x80;
const C0 = 0x100;
const C1 = 0x200;
const C2 = 0x400;
const C3 = 0x4000;
const BUSY = 0x8000;
const CONDITIONS = C0 | C1 | C2 | C3;

/** ZF, PF, CF as FCOMI sets them. */
const ORDER_EFLAGS: Record<Order, number> = { greater: 0, less: 1, equal: 0x40, unordered: 0x45 };
const ORDER_CONDITIONS: Record<Order, number> = { greater: 0, less: C0, equal: C3, unordered: C0 | C2 | C3 };

type Binary = (a: Float80, b: Float80, control: number) => Result80;
/** The arithmetic that the reg field selects in D8, DA, DC and DE: add, multiply, compare, compare and pop, sub, subr, div, divr. */
const BINARY: readonly (Binary | undefined)[] = [
  add80,
  mul80,
  undefined,
  undefined,
  sub80,
  (a, b, control) => sub80(b, a, control),
  div80,
  (a, b, control) => div80(b, a, control),
];

/** How a memory operand of the x87 is read or written; undefined for what only raises #UD or is not a data operand. */
export interface X87Operand {
  readonly access: "load" | "store";
  readonly bytes: 2 | 4 | 8 | 10;
}

const LOADS: Readonly<Record<number, X87Operand["bytes"]>> = { 216: 4, 218: 4, 220: 8, 222: 2 };
const STORES: Readonly<Record<number, readonly (readonly ["load" | "store", X87Operand["bytes"]] | undefined)[]>> = {
  217: [["load", 4], undefined, ["store", 4], ["store", 4], undefined, ["load", 2], undefined, ["store", 2]],
  219: [["load", 4], ["store", 4], ["store", 4], ["store", 4], undefined, ["load", 10], undefined, ["store", 10]],
  221: [["load", 8], ["store", 8], ["store", 8], ["store", 8], undefined, undefined, undefined, ["store", 2]],
  223: [
    ["load", 2],
    ["store", 2],
    ["store", 2],
    ["store", 2],
    ["load", 10],
    ["load", 8],
    ["store", 10],
    ["store", 8],
  ],
};

/** What the instruction `opcode` (D8 to DF) with reg field `reg` does to its memory operand. FLDENV, FSAVE and their kind are not here. */
export function operand87(opcode: number, reg: number): X87Operand | undefined {
  const bytes = LOADS[opcode];
  if (bytes) return { access: "load", bytes };
  const entry = STORES[opcode]?.[reg];
  return entry && { access: entry[0], bytes: entry[1] };
}

/** Whether an instruction runs although an unmasked exception is pending: the FN forms. */
export function isNonWaiting(opcode: number, modrm: number): boolean {
  const reg = (modrm >> 3) & 7;
  if (modrm >= 0xc0) return (opcode === 0xdb && modrm >= 0xe0 && modrm <= 0xe4) || (opcode === 0xdf && modrm === 0xe0);
  return (opcode === 0xd9 && reg >= 6) || (opcode === 0xdd && reg >= 6);
}

/** The x87 execution unit over one processor's state: what each opcode does once its memory operand has been read. */
export class X87Unit {
  readonly #state: X87State;
  /** What the store under way writes, between `prepareStore` and `commitStore`. */
  #pending: StoreResult | undefined;

  constructor(state: X87State) {
    this.#state = state;
  }

  /** Whether the next waiting instruction raises #MF. */
  get pendingException(): boolean {
    return (this.#state.status & ES) !== 0;
  }

  // ---- instructions without a memory operand

  /**
   * Executes D8 to DF with a register operand.
   * @param condition FCMOVcc only: whether the condition holds.
   * @returns ZF, PF and CF for FCOMI and its kind, else 0.
   */
  register(opcode: number, modrm: number, condition = false): number {
    const reg = (modrm >> 3) & 7;
    const i = modrm & 7;
    switch (opcode) {
      case 0xd8:
        this.#arithmetic(reg, 0, 0, i, false);
        return 0;
      case 0xd9:
        this.#d9(modrm, reg, i);
        return 0;
      case 0xda:
        if (modrm === 0xe9) this.#compare(1, "unordered", 2);
        else this.#conditionalMove(i, condition);
        return 0;
      case 0xdb:
        if (reg < 4) this.#conditionalMove(i, condition);
        else if (modrm === 0xe2) this.#state.status &= ~(BUSY | 0xff);
        else if (modrm === 0xe3) this.#state.initialize();
        else if (reg === 5) return this.#compareFlags(i, "unordered", false);
        else if (reg === 6) return this.#compareFlags(i, "ordered", false);
        return 0;
      case 0xdc:
        this.#toRegister(reg, i, false);
        return 0;
      case 0xdd:
        this.#dd(reg, i);
        return 0;
      case 0xde:
        if (modrm === 0xd9) this.#compare(1, "ordered", 2);
        else this.#toRegister(reg, i, true);
        return 0;
      default:
        return this.#df(reg, i);
    }
  }

  #d9(modrm: number, reg: number, i: number) {
    if (reg === 0) this.#loadRegister(i);
    else if (reg === 1) this.#exchange(i);
    else if (reg === 3) this.#storeUnchecked(i);
    else if (modrm >= 0xe0) this.#d9Group(modrm);
  }

  #d9Group(modrm: number) {
    switch (modrm) {
      case 0xe0:
        return this.#sign((se) => se ^ 0x8000);
      case 0xe1:
        return this.#sign((se) => se & 0x7fff);
      case 0xe4:
        return this.#compareValue({ se: 0, significand: 0n }, "ordered", 0);
      case 0xe5:
        return this.#examine();
      case 0xf0:
        return this.#unary((a, c) => exp2m1(a, c));
      case 0xf1:
        return this.#binaryPop((a, b, c) => log2Times(a, b, c));
      case 0xf2:
        return this.#trigonometric(tangent80, { se: 0x3fff, significand: 0x8000_0000_0000_0000n });
      case 0xf3:
        return this.#binaryPop((a, b, c) => atan80(b, a, c));
      case 0xf4:
        return this.#extract();
      case 0xf5:
        return this.#remainder("nearest");
      case 0xf6:
        return this.#rotate(-1);
      case 0xf7:
        return this.#rotate(1);
      case 0xf8:
        return this.#remainder("truncate");
      case 0xf9:
        return this.#binaryPop((a, b, c) => log2p1(a, b, c));
      case 0xfa:
        return this.#unary(sqrt80);
      case 0xfb:
        return this.#sincos();
      case 0xfc:
        return this.#unary(roundToIntegral80);
      case 0xfd:
        return this.#scale();
      case 0xfe:
        return this.#trigonometric(sine80);
      case 0xff:
        return this.#trigonometric(cosine80);
      default:
        this.#push(constant80(modrm - 0xe8, roundingOf(this.#state.control)));
    }
  }

  #dd(reg: number, i: number) {
    if (reg === 0) this.#free(i);
    else if (reg === 1) this.#exchange(i);
    else if (reg <= 3) this.#storeRegister(i, reg === 3);
    else this.#compare(i, "unordered", reg - 4);
  }

  #df(reg: number, i: number): number {
    if (reg === 0) {
      this.#free(i);
      this.#state.pop();
    } else if (reg === 1) this.#exchange(i);
    else if (reg <= 3) this.#storeRegister(i, true);
    else if (reg === 5) return this.#compareFlags(i, "unordered", true);
    else if (reg === 6) return this.#compareFlags(i, "ordered", true);
    return 0;
  }

  /** DC and DE: the destination is ST(i), and the reg field's subtractions and divisions are the other way round. */
  #toRegister(reg: number, i: number, pop: boolean) {
    if (reg === 2 || reg === 3) this.#compare(i, "ordered", pop ? 1 : reg - 2);
    else this.#arithmetic(reg < 4 ? reg : reg ^ 1, i, i, 0, pop);
  }

  /** ST(target) = ST(left) op ST(right), where op is what `reg` selects with ST(0) as its left side in D8. */
  #arithmetic(reg: number, target: number, left: number, right: number, pop: boolean) {
    if (reg === 2 || reg === 3) return this.#compare(right, "ordered", reg - 2);
    const s = this.#state;
    if (s.isEmpty(left) || s.isEmpty(right)) return this.#underflow(target, pop ? 1 : 0);
    const result = BINARY[reg]!(s.read(left), s.read(right), s.control);
    if (this.#finish(result, target) && pop) s.pop();
  }

  // ---- instructions with a memory operand

  /** Executes a load form with the operand's bits. Also FLDCW. */
  load(opcode: number, reg: number, bits: bigint): void {
    this.#load(opcode, reg, bits);
  }

  #load(opcode: number, reg: number, bits: bigint) {
    const s = this.#state;
    if (opcode === 0xd9 && reg === 5) return this.loadControl(Number(bits));
    if (opcode === 0xdb && reg === 5) {
      this.#push({ se: Number(bits >> 64n), significand: BigInt.asUintN(64, bits) });
      return;
    }
    if (opcode === 0xdf && reg === 4) {
      this.#push(fromBcd80(bits));
      return;
    }
    const pushes = (opcode & 1) === 1;
    if (pushes && this.#overflows()) return;
    if (!pushes && s.isEmpty(0)) {
      if (reg === 2 || reg === 3) return this.#unorderedEmpty(reg - 2);
      return this.#underflow(0, 0);
    }
    const operand = this.#operand(opcode, reg, bits);
    if (pushes) {
      if (this.#raise(operand.flags, false) || !(operand.flags & ~s.control & IE)) s.push(operand.value);
      return;
    }
    this.#memoryArithmetic(reg, operand);
  }

  #operand(opcode: number, reg: number, bits: bigint): Result80 {
    const { control } = this.#state;
    if (opcode === 0xd8) return widen80(bits, 4, control);
    if (opcode === 0xdc) return widen80(bits, 8, control);
    if (opcode === 0xd9) return load80(bits, 4, control);
    if (opcode === 0xdd) return load80(bits, 8, control);
    const width = opcode === 0xda || opcode === 0xdb ? 32 : opcode === 0xdf && reg === 5 ? 64 : 16;
    return result80(fromInteger80(BigInt.asIntN(width, bits)), 0, control);
  }

  #memoryArithmetic(reg: number, operand: Result80) {
    const s = this.#state;
    if (reg === 2 || reg === 3) return this.#compareValue(operand.value, "ordered", reg - 2, operand.flags);
    const r = BINARY[reg]!(s.read(0), operand.value, s.control);
    let flags = r.flags | operand.flags;
    // An invalid operation, a division by zero or a NaN hides the denormal operand, as it would between registers.
    if (r.flags & (IE | ZE) || isNanResult(r.value)) flags = r.flags | (operand.flags & IE);
    this.#finish(result80(r.value, flags, s.control, r.up), 0);
  }

  /**
   * Works out what a store form writes.
   * @returns the bits to store, or undefined when an unmasked exception forbids the store; `commitStore` follows in either case.
   */
  prepareStore(opcode: number, reg: number): bigint | undefined {
    const s = this.#state;
    if (opcode === 0xd9 && reg === 7) return BigInt(s.control);
    if (opcode === 0xdd && reg === 7) return BigInt(s.status);
    const empty = s.isEmpty(0);
    const value = empty ? INDEFINITE : s.read(0);
    let r = this.#convert(opcode, reg, value);
    if (empty) r = { ...r, flags: IE | SF, up: false, stored: (s.control & IE) !== 0 };
    this.#pending = r;
    return r.stored ? r.bits : undefined;
  }

  #convert(opcode: number, reg: number, value: Float80): StoreResult {
    const { control } = this.#state;
    if (opcode === 0xd9) return store80(value, 4, control);
    if (opcode === 0xdd) return reg === 1 ? toInteger80(value, 64, control, ZERO) : store80(value, 8, control);
    if (opcode === 0xdb && reg === 7)
      return { bits: (BigInt(value.se) << 64n) | value.significand, flags: 0, up: false, stored: true };
    if (opcode === 0xdf && reg === 6) return toBcd80(value, control);
    const bits = opcode === 0xdb ? 32 : reg === 7 ? 64 : 16;
    return toInteger80(value, bits, control, reg === 1 ? ZERO : roundingOf(control));
  }

  /** Completes a store form after the memory write: exception flags, and the pop. */
  commitStore(opcode: number, reg: number): void {
    const r = this.#pending;
    this.#pending = undefined;
    if (!r) return;
    this.#raise(r.flags, r.up);
    const pops = reg === 1 || reg === 3 || reg >= 6 || (opcode === 0xdb && reg === 7);
    if (r.stored && pops) this.#state.pop();
  }

  /** FLDCW: a newly unmasked exception becomes pending, a newly masked one stops to be. */
  loadControl(control: number): void {
    const s = this.#state;
    s.control = (control & 0x1f7f) | 0x40;
    s.summarize();
  }

  // ---- the steps they share

  /** Sets exception flags and C1. Returns whether every one of them is masked. */
  #raise(flags: number, up: boolean): boolean {
    const s = this.#state;
    s.status = (s.status & ~C1) | (up ? C1 : 0) | flags;
    if (flags & ~s.control & 0x3f) {
      s.status |= ES | BUSY;
      return false;
    }
    return true;
  }

  /** Raises a result's exceptions and writes it to ST(target) unless an unmasked one forbids that. */
  #finish(result: Result80, target: number): boolean {
    this.#raise(result.flags, result.up);
    if (result.stored) this.#state.write(target, result.value);
    return result.stored;
  }

  #underflow(target: number, pops: number) {
    const s = this.#state;
    if (!this.#raise(IE | SF, false)) return;
    s.write(target, INDEFINITE);
    for (let i = 0; i < pops; i++) s.pop();
  }

  /** Whether a push finds its register in use; responds to that. */
  #overflows(): boolean {
    const s = this.#state;
    if (s.isEmpty(-1)) return false;
    if (this.#raise(IE | SF, true)) s.push(INDEFINITE);
    return true;
  }

  #push(value: Float80) {
    if (this.#overflows()) return;
    this.#state.status &= ~C1;
    this.#state.push(value);
  }

  #loadRegister(i: number) {
    const s = this.#state;
    if (s.isEmpty(i)) {
      if (this.#raise(IE | SF, false)) s.push(INDEFINITE);
      return;
    }
    this.#push(s.read(i));
  }

  #exchange(i: number) {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(i)) {
      if (!this.#raise(IE | SF, false)) return;
      if (s.isEmpty(0)) s.write(0, INDEFINITE);
      if (s.isEmpty(i)) s.write(i, INDEFINITE);
    }
    const top = s.read(0);
    s.status &= ~C1;
    s.write(0, s.read(i));
    s.write(i, top);
  }

  #storeRegister(i: number, pop: boolean) {
    const s = this.#state;
    if (s.isEmpty(0)) return this.#underflow(i, pop ? 1 : 0);
    s.status &= ~C1;
    s.write(i, s.read(0));
    if (pop) s.pop();
  }

  /** The undocumented D9 D8: FSTP that does not care whether ST(0) is empty. */
  #storeUnchecked(i: number) {
    const s = this.#state;
    s.status &= ~C1;
    if (!s.isEmpty(0)) s.write(i, s.read(0));
    s.pop();
  }

  #conditionalMove(i: number, condition: boolean) {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(i)) return this.#underflow(0, 0);
    if (condition) s.write(0, s.read(i));
  }

  #compare(i: number, nans: "ordered" | "unordered", pops: number) {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(i)) return this.#unorderedEmpty(pops);
    this.#compareValue(s.read(i), nans, pops);
  }

  #compareValue(b: Float80, nans: "ordered" | "unordered", pops: number, operandFlags = 0) {
    const s = this.#state;
    if (s.isEmpty(0)) return this.#unorderedEmpty(pops);
    const { order, flags } = compare80(s.read(0), b, nans);
    const all = order === "unordered" ? flags | (operandFlags & IE) : flags | operandFlags;
    const masked = this.#raise(all, false);
    this.#conditions(ORDER_CONDITIONS[order]);
    if (!masked) return;
    for (let i = 0; i < pops; i++) s.pop();
  }

  #unorderedEmpty(pops: number) {
    const masked = this.#raise(IE | SF, false);
    this.#conditions(ORDER_CONDITIONS.unordered);
    if (!masked) return;
    for (let i = 0; i < pops; i++) this.#state.pop();
  }

  #conditions(bits: number) {
    this.#state.status = (this.#state.status & ~CONDITIONS) | bits;
  }

  /** FCOMI and its kind. Returns the flags as they become; an unmasked exception only holds the pop back. */
  #compareFlags(i: number, nans: "ordered" | "unordered", pop: boolean): number {
    const s = this.#state;
    const empty = s.isEmpty(0) || s.isEmpty(i);
    const { order, flags } = empty
      ? { order: "unordered" as const, flags: IE | SF }
      : compare80(s.read(0), s.read(i), nans);
    if (this.#raise(flags, false) && pop) s.pop();
    return ORDER_EFLAGS[order];
  }

  #sign(change: (se: number) => number) {
    const s = this.#state;
    if (s.isEmpty(0)) return this.#underflow(0, 0);
    const a = s.read(0);
    s.status &= ~C1;
    s.write(0, { se: change(a.se), significand: a.significand });
  }

  #examine() {
    const s = this.#state;
    const a = s.read(0);
    const sign = a.se & 0x8000 ? C1 : 0;
    if (s.isEmpty(0)) return this.#conditions(C3 | C0 | sign);
    const codes = {
      unsupported: 0,
      quiet: C0,
      signaling: C0,
      normal: C2,
      infinity: C2 | C0,
      zero: C3,
      denormal: C3 | C2,
    };
    this.#conditions(codes[classify80(a)] | sign);
  }

  #unary(operation: (a: Float80, control: number) => Result80) {
    const s = this.#state;
    if (s.isEmpty(0)) return this.#underflow(0, 0);
    this.#finish(operation(s.read(0), s.control), 0);
  }

  /** ST(1) = operation(ST(0), ST(1)), then pop. */
  #binaryPop(operation: Binary) {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(1)) return this.#underflow(1, 1);
    if (this.#finish(operation(s.read(0), s.read(1), s.control), 1)) s.pop();
  }

  #scale() {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(1)) return this.#underflow(0, 0);
    this.#finish(scale80(s.read(0), s.read(1), s.control), 0);
  }

  #remainder(quotient: "truncate" | "nearest") {
    const s = this.#state;
    if (s.isEmpty(0) || s.isEmpty(1)) {
      s.status &= ~C2;
      return this.#underflow(0, 0);
    }
    const r = remainder80(s.read(0), s.read(1), s.control, quotient);
    s.status &= ~C2;
    const stored = this.#finish(r, 0);
    // Without a quotient C0 and C3 stay what they were.
    if (!stored || r.quotient === undefined) return;
    const q = r.quotient;
    this.#conditions((r.partial ? C2 : 0) | (q & 4 ? C0 : 0) | (q & 2 ? C3 : 0) | (q & 1 ? C1 : 0));
  }

  #free(i: number) {
    this.#state.status &= ~C1;
    this.#state.free(i);
  }

  #rotate(by: number) {
    const s = this.#state;
    s.status &= ~C1;
    s.top += by;
  }

  #extract() {
    const s = this.#state;
    if (s.isEmpty(0) || !s.isEmpty(-1)) {
      const empty = s.isEmpty(0);
      if (!this.#raise(IE | SF, !empty)) return;
      s.write(0, INDEFINITE);
      s.push(INDEFINITE);
      return;
    }
    const { exponent, significand } = extract80(s.read(0), s.control);
    if (!this.#finish(exponent, 0)) return;
    s.push(significand.value);
  }

  /** FSIN, FCOS, and FPTAN with the 1.0 that it pushes. */
  #trigonometric(operation: (a: Float80, control: number) => Result80 | undefined, push?: Float80) {
    const s = this.#state;
    s.status &= ~C2;
    if (s.isEmpty(0) || (push && !s.isEmpty(-1))) return this.#pairFault(push !== undefined);
    const r = operation(s.read(0), s.control);
    if (!r) {
      s.status = (s.status & ~C1) | C2;
      return;
    }
    if (!this.#finish(r, 0) || !push) return;
    s.push(isNanResult(r.value) ? r.value : push);
  }

  /** Stack fault of an instruction that may also push. */
  #pairFault(pushes: boolean) {
    const s = this.#state;
    if (!this.#raise(IE | SF, !s.isEmpty(0))) return;
    s.write(0, INDEFINITE);
    if (pushes) s.push(INDEFINITE);
  }

  #sincos() {
    const s = this.#state;
    s.status &= ~C2;
    if (s.isEmpty(0) || !s.isEmpty(-1)) return this.#pairFault(true);
    const r = sincos80(s.read(0), s.control);
    if (!r) {
      s.status = (s.status & ~C1) | C2;
      return;
    }
    if (!this.#finish(r.sine, 0)) return;
    s.push(r.cosine.value);
  }
}

function isNanResult(value: Float80): boolean {
  return (value.se & 0x7fff) === 0x7fff && (value.significand & 0x7fff_ffff_ffff_ffffn) !== 0n;
}
