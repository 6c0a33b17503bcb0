import { Code, Register } from "../decoder/names.ts";
import { State } from "../state.ts";
import type { Emit, Emitter } from "../translate/context.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import { emitPendingCheck } from "../x87/emit.ts";
import { pickLanes } from "./integer-lanes.ts";
import {
  type Alignment,
  clearUpper,
  emitMmxTransition,
  entered,
  isMmx,
  isVex,
  isWide,
  isXmm,
  keep,
  loadZeroExtended,
  memoryAddress,
  pushRegister,
  type Source,
  sourceOf,
  sources,
  usesMmx,
  writeVector,
} from "./operands.ts";

/** MOVAPS and its kind: a whole register from or to a register or memory. */
export function moveWhole(alignment: Alignment): Emitter {
  return entered((e) => {
    if (!e.insn.isMemory(0)) {
      const halves = sources(e, 1, alignment);
      if (usesMmx(e)) emitMmxTransition(e);
      writeVector(e, e.insn.register(0), halves);
      return;
    }
    const register = e.insn.register(1);
    if (isMmx(register)) {
      storeLow(e, register, 8);
      emitMmxTransition(e);
      return;
    }
    const at = memoryAddress(e, alignment);
    const values = (isWide(e) ? ([0, 1] as const) : ([0] as const)).map((half) => {
      pushRegister(e, register, half);
      return keep(e);
    });
    if (values.length === 2) e.checkWrite(at, 32, 16);
    values.forEach((value, half) => {
      e.store(at, 16, value, half * 16);
    });
  });
}

/** Stores the low 4 or 8 bytes of a register, or those of 64-bit lane `lane`. */
function storeLow(e: Emit, register: Register, bytes: 4 | 8, lane: 0 | 1 = 0): void {
  const value = e.temp(Type.i64);
  pushRegister(e, register);
  e.code.lane(29, lane);
  e.code.set(value);
  e.store(e.address(), bytes, value);
}

/** Joins 32- or 64-bit lanes of two sources into a register. */
function join(e: Emit, a: Source, b: Source, lanes: readonly number[], size = 8): void {
  writeVector(e, e.insn.register(0), [
    () => {
      a();
      b();
      e.code.shuffle(pickLanes(size, lanes));
    },
  ]);
}

const fromRegister =
  (e: Emit, operand: number): Source =>
  () =>
    pushRegister(e, e.insn.register(operand));

/** MOVSS and MOVSD: a load clears the rest, a move between registers keeps it. */
export function moveScalar(bytes: 4 | 8): Emitter {
  return entered((e) => {
    const { insn } = e;
    if (insn.isMemory(0)) storeLow(e, insn.register(1), bytes);
    else if (insn.isMemory(1)) writeVector(e, insn.register(0), [sourceOf(e, loadZeroExtended(e, e.address(), bytes))]);
    else {
      const [a, b] = isVex(e) ? [1, 2] : [0, 1];
      const lanes = bytes === 4 ? [4, 1, 2, 3] : [2, 1];
      join(e, fromRegister(e, a), fromRegister(e, b), lanes, bytes);
    }
  });
}

/** MOVLPS, MOVHPS and their double forms: 64 bits between memory and one half of a register. */
export function moveHalf(lane: 0 | 1): Emitter {
  return entered((e) => {
    const { insn } = e;
    if (insn.isMemory(0)) {
      storeLow(e, insn.register(1), 8, lane);
      return;
    }
    const memory = insn.operands - 1;
    const value = sourceOf(e, loadZeroExtended(e, e.address(), 8));
    join(e, fromRegister(e, memory - 1), value, lane === 0 ? [2, 1] : [0, 2]);
  });
}

/** MOVHLPS (high to low) and MOVLHPS (low to high). */
export function moveAcross(lanes: readonly [number, number]): Emitter {
  return entered((e) => {
    const [a, b] = isVex(e) ? [1, 2] : [0, 1];
    join(e, fromRegister(e, a), fromRegister(e, b), lanes);
  });
}

/** MOVD and MOVQ, whatever lies on either side; also MOVDQ2Q and MOVQ2DQ. */
export function moveLow(bytes: 4 | 8): Emitter {
  return entered((e) => {
    const { insn, code } = e;
    if (insn.isMemory(0)) {
      storeLow(e, insn.register(1), bytes);
      if (usesMmx(e)) emitMmxTransition(e);
      return;
    }
    const target = insn.register(0);
    if (!isXmm(target) && !isMmx(target)) {
      if (usesMmx(e)) emitMmxTransition(e);
      pushRegister(e, insn.register(1));
      code.lane(29, 0);
      e.setGpr(target);
      return;
    }
    const value = lowSource(e, bytes);
    if (usesMmx(e)) emitMmxTransition(e);
    writeVector(e, target, [value]);
  });
}

function lowSource(e: Emit, bytes: 4 | 8): Source {
  const { insn, code } = e;
  if (insn.isMemory(1)) return sourceOf(e, loadZeroExtended(e, e.address(), bytes));
  const register = insn.register(1);
  code.v128(0n, 0n);
  if (isXmm(register) || isMmx(register)) {
    pushRegister(e, register);
    code.lane(29, 0);
  } else e.gpr(register);
  code.lane(30, 0);
  return sourceOf(e, keep(e));
}

/** PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS: one lane to a general register or memory. */
export function extract(bytes: 1 | 2 | 4 | 8): Emitter {
  const lanes = 16 / bytes;
  return entered((e) => {
    const { insn, code } = e;
    const register = insn.register(1);
    const lane = insn.imm8 & (isMmx(register) ? 3 : lanes - 1);
    const value = e.temp(Type.i64);
    pushRegister(e, register);
    code.lane(bytes === 1 ? 22 : bytes === 2 ? 25 : bytes === 4 ? 27 : 29, lane);
    if (bytes !== 8) code.op(Op.i64_extend_i32_u);
    code.set(value);
    if (insn.isMemory(0)) {
      e.store(e.address(), bytes, value);
      return;
    }
    if (usesMmx(e)) emitMmxTransition(e);
    code.get(value);
    e.setGpr(insn.register(0));
  });
}

/** PINSRB, PINSRW, PINSRD, PINSRQ: one lane from a general register or memory. */
export function insert(bytes: 1 | 2 | 4 | 8): Emitter {
  const lanes = 16 / bytes;
  return entered((e) => {
    const { insn, code } = e;
    const value = e.temp(Type.i64);
    const from = isVex(e) ? 2 : 1;
    if (insn.isMemory(from)) e.load(e.address(), bytes);
    else e.gpr(insn.register(from));
    code.set(value);
    const base = insn.register(from - 1);
    const lane = insn.imm8 & (isMmx(base) ? 3 : lanes - 1);
    if (usesMmx(e)) emitMmxTransition(e);
    writeVector(e, insn.register(0), [
      () => {
        pushRegister(e, base);
        code.get(value);
        if (bytes !== 8) code.op(Op.i32_wrap_i64);
        code.lane(bytes === 1 ? 23 : bytes === 2 ? 26 : bytes === 4 ? 28 : 30, lane);
      },
    ]);
  });
}

/** PMOVMSKB, MOVMSKPS, MOVMSKPD: the top bits of the lanes as an integer. */
export function signMask(bitmask: number, lanes: number): Emitter {
  return entered((e) => {
    const { insn, code } = e;
    const mmx = usesMmx(e);
    const halves = sources(e, 1);
    if (mmx) emitMmxTransition(e);
    halves.forEach((push, half) => {
      push();
      code.simd(bitmask as never);
      if (half === 0) return;
      code.i32(lanes);
      code.op(Op.i32_shl);
      code.op(Op.i32_or);
    });
    if (mmx) {
      code.i32(0xff);
      code.op(Op.i32_and);
    }
    code.op(Op.i64_extend_i32_u);
    e.setGpr(insn.register(0));
  });
}

/** VZEROUPPER and VZEROALL: in 64-bit mode all sixteen registers, else eight. */
export function zeroRegisters(all: boolean): Emitter {
  return (e) => {
    if (!e.requireAvx()) return;
    const count = e.mode.bits === 64 ? 16 : 8;
    for (let i = 0; i < count; i++) {
      const register = Register.XMM0 + i;
      if (all) writeVector(e, register, [() => e.code.v128(0n, 0n)]);
      clearUpper(e, register);
    }
  };
}

/** The SSE forms whose mnemonic string instructions share. */
export const MOVSD_CODES: readonly Code[] = [Code.Movsd_xmm_xmmm64, Code.Movsd_xmmm64_xmm];

/** EMMS: all x87 registers empty; what they hold and TOP stay. */
export const emms: Emitter = (e) => {
  if (!e.requireMmx()) return;
  emitPendingCheck(e);
  e.stateAddress();
  e.code.i32(0);
  e.storeState(Mem.i32_store, State.ftw);
  e.stateAddress();
  e.code.i32(0);
  e.storeState(Mem.i32_store, State.top);
};
