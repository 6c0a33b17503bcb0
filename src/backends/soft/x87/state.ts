import { State } from "../state.ts";
import type { Float80 } from "./float80.ts";
import { classify80 } from "./float80.ts";

/** The x87 registers of one processor, in the memory that translated code also sees. */
export class X87State {
  readonly #view: DataView;

  /** @param view Offset 0 is the processor's state base. */
  constructor(view: DataView) {
    this.#view = view;
  }

  get control(): number {
    return this.#view.getUint16(State.fcw, true);
  }
  set control(value: number) {
    this.#view.setUint32(State.fcw, value, true);
  }

  /** The status word with TOP in it. */
  get status(): number {
    return this.#view.getUint16(State.fsw, true) | (this.top << 11);
  }
  set status(value: number) {
    this.#view.setUint32(State.fsw, value & 0xc7ff, true);
    this.top = value >> 11;
  }

  get tags(): number {
    return this.#view.getUint8(State.ftw);
  }
  set tags(value: number) {
    this.#view.setUint32(State.ftw, value & 0xff, true);
  }

  get top(): number {
    return this.#view.getUint8(State.top);
  }
  set top(value: number) {
    this.#view.setUint32(State.top, value & 7, true);
  }

  isEmpty(i: number): boolean {
    return ((this.tags >> ((this.top + i) & 7)) & 1) === 0;
  }

  /** ST(i), whatever its tag. */
  read(i: number): Float80 {
    return this.readPhysical((this.top + i) & 7);
  }

  /** Writes ST(i) and marks it in use. */
  write(i: number, value: Float80): void {
    const index = (this.top + i) & 7;
    this.writePhysical(index, value);
    this.tags |= 1 << index;
  }

  readPhysical(index: number): Float80 {
    const at = State.x87 + index * 16;
    return { se: this.#view.getUint16(at + 8, true), significand: this.#view.getBigUint64(at, true) };
  }

  writePhysical(index: number, value: Float80): void {
    const at = State.x87 + index * 16;
    this.#view.setBigUint64(at, value.significand, true);
    this.#view.setUint16(at + 8, value.se, true);
  }

  free(i: number): void {
    this.tags &= ~(1 << ((this.top + i) & 7));
  }

  push(value: Float80): void {
    this.top -= 1;
    this.write(0, value);
  }

  pop(): void {
    this.free(0);
    this.top += 1;
  }

  /** FNINIT: the registers keep their contents. */
  initialize(): void {
    this.control = 0x37f;
    this.status = 0;
    this.tags = 0;
    this.clearPointers();
  }

  /** FOP, FIP and FDP with their selectors. */
  clearPointers(): void {
    for (const at of [State.fop, State.fipSelector, State.fdpSelector]) this.#view.setUint32(at, 0, true);
    this.#view.setBigUint64(State.fip, 0n, true);
    this.#view.setBigUint64(State.fdp, 0n, true);
  }

  /** Recomputes ES and B from the flags and their masks. */
  summarize(): void {
    const pending = this.status & ~this.control & 0x3f;
    this.status = pending ? this.status | 0x8080 : this.status & ~0x8080;
  }

  /** The full tag word: two bits for each register, 0 valid, 1 zero, 2 special, 3 empty. */
  get fullTags(): number {
    let word = 0;
    for (let i = 0; i < 8; i++) word |= this.#fullTag(i) << (2 * i);
    return word;
  }
  set fullTags(word: number) {
    let tags = 0;
    for (let i = 0; i < 8; i++) if (((word >> (2 * i)) & 3) !== 3) tags |= 1 << i;
    this.tags = tags;
  }

  #fullTag(index: number): number {
    if (((this.tags >> index) & 1) === 0) return 3;
    const kind = classify80(this.readPhysical(index));
    return kind === "zero" ? 1 : kind === "normal" ? 0 : 2;
  }
}
