import { Code, Mnemonic, Register } from "../decoder/names.ts";
import { MASKS } from "../flags/kinds.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import type { Address } from "../translate/context.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import { loadSegment } from "./moves.ts";
import { type CoreEmitter, pushOperand } from "./operands.ts";

type Bytes = 2 | 4 | 8;

export function stackRegister(e: RegionEmitter): Register {
  return e.mode.stackBits === 64 ? Register.RSP : e.mode.stackBits === 32 ? Register.ESP : Register.SP;
}

/** The stack at `delta` bytes from the stack pointer, wrapped to its width. */
export function stackAddress(e: RegionEmitter, delta: number): Address {
  const c = e.code;
  const offset = e.temp(Type.i64);
  e.gpr(stackRegister(e));
  if (delta !== 0) {
    c.i64(delta);
    c.op(Op.i64_add);
    if (e.mode.stackBits !== 64) {
      c.i64(MASKS[e.mode.stackBits]);
      c.op(Op.i64_and);
    }
  }
  c.set(offset);
  return { offset, segment: SegIndex.ss };
}

/** Moves the stack pointer. */
export function moveStack(e: RegionEmitter, delta: number): void {
  if (delta === 0) return;
  e.gpr(stackRegister(e));
  e.code.i64(delta);
  e.code.op(Op.i64_add);
  e.setGpr(stackRegister(e));
}

/** Pushes a local on the guest's stack. */
export function pushValue(e: RegionEmitter, value: number, bytes: Bytes): void {
  const at = stackAddress(e, -bytes);
  e.store(at, bytes, value);
  e.code.get(at.offset);
  e.setGpr(stackRegister(e));
}

/** Reads the top of the guest's stack into a fresh local; the pointer stays. */
export function peekValue(e: RegionEmitter, bytes: Bytes, delta = 0): number {
  const value = e.temp(Type.i64);
  e.load(stackAddress(e, delta), bytes);
  e.code.set(value);
  return value;
}

function pushWidth(e: RegionEmitter): Bytes {
  return -e.insn.raw.stackPointerIncrement as Bytes;
}

function push(e: RegionEmitter): void {
  const c = e.code;
  const bytes = pushWidth(e);
  const value = e.temp(Type.i64);
  if (e.insn.isRegister(0) && e.insn.register(0) >= Register.ES && e.insn.register(0) <= Register.GS) {
    e.loadState(Mem.i64_load32_u, State.segments + (e.insn.register(0) - Register.ES) * Seg.size + Seg.selector);
  } else pushOperand(e, 0, (bytes * 8) as 16 | 32 | 64);
  c.set(value);
  pushValue(e, value, bytes);
}

function pop(e: RegionEmitter): void {
  const c = e.code;
  const bytes = e.insn.raw.stackPointerIncrement as Bytes;
  const value = peekValue(e, bytes);
  if (e.insn.isMemory(0)) {
    // The address is formed with the stack pointer behind the pop, yet a fault of the store must leave it in front.
    const before = e.temp(Type.i64);
    e.gpr64(4);
    c.set(before);
    moveStack(e, bytes);
    const at = e.address();
    c.get(before);
    e.setGpr64(4);
    e.store(at, bytes, value);
    moveStack(e, bytes);
    return;
  }
  const register = e.insn.register(0);
  if (register >= Register.ES && register <= Register.GS) {
    const segment = register - Register.ES;
    if (e.mode.real && segment !== SegIndex.ss) {
      moveStack(e, bytes);
      c.get(value);
      loadSegment(e, segment);
      return;
    }
    c.i32(segment);
    c.get(value);
    c.op(Op.i32_wrap_i64);
    c.i32(bytes);
    e.endSystem("popSegment", [Type.i32, Type.i32, Type.i32]);
    return;
  }
  moveStack(e, bytes);
  c.get(value);
  e.setGpr(register);
}

/** PUSHA and PUSHAD: all eight, with the stack pointer as it was. What a fault finds pushed stays in memory. */
function pusha(bytes: 2 | 4): CoreEmitter {
  return (e) => {
    const c = e.code;
    const first = bytes === 2 ? Register.AX : Register.EAX;
    const value = e.temp(Type.i64);
    for (let i = 0; i < 8; i++) {
      e.gpr(first + i);
      c.set(value);
      e.store(stackAddress(e, -(i + 1) * bytes), bytes, value);
    }
    moveStack(e, -8 * bytes);
  };
}

function popa(bytes: 2 | 4): CoreEmitter {
  return (e) => {
    const c = e.code;
    const first = bytes === 2 ? Register.AX : Register.EAX;
    const values: number[] = [];
    for (let i = 7; i >= 0; i--) values[i] = peekValue(e, bytes, (7 - i) * bytes);
    for (const [i, value] of values.entries()) {
      if (i === 4) continue;
      c.get(value);
      e.setGpr(first + i);
    }
    moveStack(e, 8 * bytes);
  };
}

function pushf(bytes: Bytes): CoreEmitter {
  return (e) => {
    const c = e.code;
    if (e.mode.v86) {
      // IOPL below 3 is #GP(0).
      e.loadState(Mem.i32_load, State.eflags);
      c.i32(0x3000);
      c.op(Op.i32_and);
      c.i32(0x3000);
      c.op(Op.i32_ne);
      e.raiseIf(Vector.GP, 0);
    }
    const value = e.temp(Type.i64);
    e.loadState(Mem.i32_load, State.eflags);
    c.i32(0x00fc_ffff);
    c.op(Op.i32_and);
    e.flags();
    c.op(Op.i32_or);
    c.i32(2);
    c.op(Op.i32_or);
    c.op(Op.i64_extend_i32_u);
    c.set(value);
    pushValue(e, value, bytes);
  };
}

function popf(bytes: Bytes): CoreEmitter {
  return (e) => {
    const c = e.code;
    const value = peekValue(e, bytes);
    c.get(value);
    c.op(Op.i32_wrap_i64);
    c.i32(bytes);
    e.endSystem("popFlags", [Type.i32, Type.i32]);
  };
}

/** LEAVE: the frame pointer goes to the stack pointer, then is popped. */
function leave(e: RegionEmitter): void {
  const c = e.code;
  const bytes = (e.insn.code === Code.Leavew ? 2 : e.insn.code === Code.Leaved ? 4 : 8) as Bytes;
  const frame = bytes === 2 ? Register.BP : bytes === 4 ? Register.EBP : Register.RBP;
  const pointer = e.mode.stackBits === 64 ? Register.RBP : e.mode.stackBits === 32 ? Register.EBP : Register.BP;
  const offset = e.temp(Type.i64);
  const value = e.temp(Type.i64);
  e.gpr(pointer);
  c.set(offset);
  e.load({ offset, segment: SegIndex.ss }, bytes);
  c.set(value);
  c.get(offset);
  c.i64(bytes);
  c.op(Op.i64_add);
  e.setGpr(stackRegister(e));
  c.get(value);
  e.setGpr(frame);
}

/** ENTER with its nesting level: the frame pointers of the outer levels are copied. */
function enter(e: RegionEmitter): void {
  const c = e.code;
  const size = e.insn.raw.immediate16;
  const level = e.insn.raw.immediate8_2nd & 31;
  const bytes = (e.insn.code === Code.Enterw_imm16_imm8 ? 2 : e.insn.code === Code.Enterd_imm16_imm8 ? 4 : 8) as Bytes;
  const frame = bytes === 2 ? Register.BP : bytes === 4 ? Register.EBP : Register.RBP;
  const pointer = e.mode.stackBits === 64 ? Register.RBP : e.mode.stackBits === 32 ? Register.EBP : Register.BP;
  const value = e.temp(Type.i64);
  const frameTop = stackAddress(e, -bytes);
  // Every push must succeed or none: RSP and RBP change at the end only.
  e.gpr(frame);
  c.set(value);
  e.store(frameTop, bytes, value);
  let pushed = 1;
  for (let i = 1; i < level; i++) {
    const outer = e.temp(Type.i64);
    e.gpr(pointer);
    c.i64(-i * bytes);
    c.op(Op.i64_add);
    c.i64(MASKS[e.mode.stackBits]);
    c.op(Op.i64_and);
    c.set(outer);
    e.load({ offset: outer, segment: SegIndex.ss }, bytes);
    c.set(value);
    e.store(stackAddress(e, -++pushed * bytes), bytes, value);
  }
  if (level > 0) e.store(stackAddress(e, -++pushed * bytes), bytes, frameTop.offset);
  e.checkWrite(stackAddress(e, -pushed * bytes - size), bytes);
  moveStack(e, -pushed * bytes - size);
  c.get(frameTop.offset);
  e.setGpr(frame);
}

export const stack: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Push, push],
  [Mnemonic.Pop, pop],
  [Mnemonic.Pusha, pusha(2)],
  [Mnemonic.Pushad, pusha(4)],
  [Mnemonic.Popa, popa(2)],
  [Mnemonic.Popad, popa(4)],
  [Mnemonic.Pushf, pushf(2)],
  [Mnemonic.Pushfd, pushf(4)],
  [Mnemonic.Pushfq, pushf(8)],
  [Mnemonic.Popf, popf(2)],
  [Mnemonic.Popfd, popf(4)],
  [Mnemonic.Popfq, popf(8)],
  [Mnemonic.Leave, leave],
  [Mnemonic.Enter, enter],
];
