import { Code, ConditionCode, Register } from "../decoder/names.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import type { Address, Emit } from "../translate/context.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import { isNonWaiting, operand87 } from "./unit.ts";

/** Raises #MF when an unmasked exception is pending. */
export function emitPendingCheck(e: Emit): void {
  e.loadState(Mem.i32_load, State.fsw);
  e.code.i32(0x80);
  e.code.op(Op.i32_and);
  e.raiseIf(Vector.MF);
}

/** The opcode byte (D8 to DF) and the ModRM byte's reg field, or the whole ModRM byte of a register form. */
function encodingOf(e: Emit): { opcode: number; modrm: number; reg: number } {
  const { opCode, groupIndex } = e.insn.raw.opCode;
  if (groupIndex >= 0) return { opcode: opCode, modrm: groupIndex << 3, reg: groupIndex };
  const opcode = opCode >> 8;
  const modrm = (opCode & 0xff) | stackIndex(e);
  return { opcode, modrm, reg: (modrm >> 3) & 7 };
}

/** The i of ST(i) that the encoding carries. With two operands one of them is ST(0), and the other is the one. */
function stackIndex(e: Emit): number {
  let index = 0;
  for (let i = 0; i < e.insn.operands; i++) {
    if (!e.insn.isRegister(i)) continue;
    const register = e.insn.register(i);
    if (register >= Register.ST0 && register <= Register.ST7) index |= register - Register.ST0;
  }
  return index;
}

/** Any instruction of D8 to DF but those that move whole environments. */
export function emitX87(e: Emit): void {
  if (!e.requireX87()) return;
  const { opcode, modrm, reg } = encodingOf(e);
  const control = isNonWaiting(opcode, modrm);
  if (!control || waitsByPrefix(e)) emitPendingCheck(e);
  if (modrm >= 0xc0) emitRegister(e, opcode, modrm);
  else emitMemory(e, opcode, reg);
}

/** iced takes 9B and the FN instruction behind it for one when asked to; such a form has its own code. */
const WITH_WAIT: ReadonlySet<Code> = new Set([
  Code.Fstenv_m14byte,
  Code.Fstenv_m28byte,
  Code.Fstcw_m2byte,
  Code.Fclex,
  Code.Finit,
  Code.Fsave_m94byte,
  Code.Fsave_m108byte,
  Code.Fstsw_m2byte,
  Code.Fstsw_AX,
]);

function waitsByPrefix(e: Emit): boolean {
  return WITH_WAIT.has(e.insn.code);
}

function emitRegister(e: Emit, opcode: number, modrm: number): void {
  if (opcode === 0xdf && modrm === 0xe0) {
    pushStatus(e);
    e.code.op(Op.i64_extend_i32_u);
    e.setGpr(Register.AX);
    return;
  }
  if (!isNonWaiting(opcode, modrm)) noteInstruction(e, opcode, modrm);
  e.code.i32(opcode);
  e.code.i32(modrm);
  const condition = conditionOf(opcode, modrm);
  if (condition === undefined) e.code.i32(0);
  else e.condition(condition);
  e.call("x87.register", [Type.i32, Type.i32, Type.i32], Type.i32);
  const reg = (modrm >> 3) & 7;
  if ((opcode === 0xdb || opcode === 0xdf) && (reg === 5 || reg === 6)) e.setFlags();
  else e.code.op(Op.drop);
}

function conditionOf(opcode: number, modrm: number): ConditionCode | undefined {
  const reg = (modrm >> 3) & 7;
  if (reg > 3) return undefined;
  if (opcode === 0xda) return [ConditionCode.b, ConditionCode.e, ConditionCode.be, ConditionCode.p][reg];
  if (opcode === 0xdb) return [ConditionCode.ae, ConditionCode.ne, ConditionCode.a, ConditionCode.np][reg];
  return undefined;
}

function pushStatus(e: Emit): void {
  e.loadState(Mem.i32_load, State.fsw);
  e.loadState(Mem.i32_load, State.top);
  e.code.i32(11);
  e.code.op(Op.i32_shl);
  e.code.op(Op.i32_or);
}

/** FOP and FIP; FDP too when there is a memory operand. */
function noteInstruction(e: Emit, opcode: number, modrm: number, at?: Address): void {
  const { code } = e;
  e.stateAddress();
  code.i32(((opcode & 7) << 8) | modrm);
  e.storeState(Mem.i32_store, State.fop);
  e.stateAddress();
  code.i64(e.insn.rip);
  e.storeState(Mem.i64_store, State.fip);
  e.stateAddress();
  pushSelector(e, SegIndex.cs);
  e.storeState(Mem.i32_store, State.fipSelector);
  if (!at) return;
  e.stateAddress();
  code.get(at.offset);
  e.storeState(Mem.i64_store, State.fdp);
  e.stateAddress();
  pushSelector(e, at.segment);
  e.storeState(Mem.i32_store, State.fdpSelector);
}

function pushSelector(e: Emit, segment: number): void {
  e.loadState(Mem.i32_load, State.segments + segment * Seg.size + Seg.selector);
}

function emitMemory(e: Emit, opcode: number, reg: number): void {
  const operand = operand87(opcode, reg);
  if (!operand) {
    e.raise(Vector.UD);
    return;
  }
  const at = e.address();
  if (operand.access === "load") emitLoad(e, at, opcode, reg, operand.bytes);
  else emitStore(e, at, opcode, reg, operand.bytes);
}

/** The ModRM byte that FOP keeps is not known here in full; its mod and rm fields are those of a plain [disp32]. */
function memoryModrm(reg: number): number {
  return (reg << 3) | 5;
}

function emitLoad(e: Emit, at: Address, opcode: number, reg: number, bytes: 2 | 4 | 8 | 10): void {
  const { code } = e;
  const low = e.temp(Type.i64);
  if (bytes === 10) e.checkRead(at, 10, 8);
  e.load(at, bytes === 10 ? 8 : bytes);
  code.set(low);
  if (bytes === 10) {
    const high = e.temp(Type.i64);
    e.load(at, 2, 8);
    code.set(high);
    e.stateAddress();
    code.get(high);
    e.storeState(Mem.i64_store, State.scratch + 8);
  }
  e.stateAddress();
  code.get(low);
  e.storeState(Mem.i64_store, State.scratch);
  if (opcode !== 0xd9 || reg !== 5) noteInstruction(e, opcode, memoryModrm(reg), at);
  code.i32(opcode);
  code.i32(reg);
  code.i32(bytes);
  e.call("x87.load", [Type.i32, Type.i32, Type.i32]);
}

function emitStore(e: Emit, at: Address, opcode: number, reg: number, bytes: 2 | 4 | 8 | 10): void {
  const { code } = e;
  const value = e.temp(Type.i64);
  if (reg === 7 && (opcode === 0xd9 || opcode === 0xdd)) {
    if (opcode === 0xd9) e.loadState(Mem.i32_load, State.fcw);
    else pushStatus(e);
    code.op(Op.i64_extend_i32_u);
    code.set(value);
    e.store(at, 2, value);
    return;
  }
  // Everything that can fault comes first: the conversion then works on the state as it was, the pop on the stored one.
  e.checkWrite(at, bytes, bytes === 10 ? 8 : bytes);
  code.i32(opcode);
  code.i32(reg);
  e.call("x87.prepare", [Type.i32, Type.i32], Type.i32);
  code.if();
  e.loadState(Mem.i64_load, State.scratch);
  code.set(value);
  if (bytes === 10) {
    // Read before the first store: slow stores use the scratch area too.
    const high = e.temp(Type.i64);
    e.loadState(Mem.i64_load, State.scratch + 8);
    code.set(high);
    e.store(at, 8, value);
    e.store(at, 2, high, 8);
  } else e.store(at, bytes, value);
  code.end();
  noteInstruction(e, opcode, memoryModrm(reg), at);
  code.i32(opcode);
  code.i32(reg);
  e.call("x87.commit", [Type.i32, Type.i32]);
}

/** FLDENV, FNSTENV, FRSTOR, FNSAVE through the helper of that name. */
export function emitEnvironment(helper: string, bytes: 14 | 28): (e: Emit) => void {
  return (e) => {
    if (!e.requireX87()) return;
    if (waitsByPrefix(e) || helper === "x87.fldenv" || helper === "x87.frstor") emitPendingCheck(e);
    const at = e.address();
    e.stateAddress();
    e.code.get(at.offset);
    e.storeState(Mem.i64_store, State.scratch);
    e.code.i32(at.segment);
    e.code.i32(bytes);
    e.code.i32(e.mode.real ? 1 : 0);
    e.call(helper, [Type.i32, Type.i32, Type.i32], "faults");
  };
}

/** FWAIT: #NM when CR0.MP and CR0.TS are set, then #MF when an exception is pending. */
export function emitWait(e: Emit): void {
  e.loadState(Mem.i32_load, State.cr0);
  e.code.i32(0xa);
  e.code.op(Op.i32_and);
  e.code.i32(0xa);
  e.code.op(Op.i32_eq);
  e.raiseIf(Vector.NM);
  emitPendingCheck(e);
}
