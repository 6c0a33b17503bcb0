import type { Emitter } from "../translate/context.ts";
import { Op, Simd, Type } from "../wasm/opcodes.ts";
import { binaryLanes, type LaneInputs } from "./lanes.ts";
import {
  emitMmxTransition,
  entered,
  isVex,
  type Source,
  source128,
  sources,
  usesMmx,
  writeVector,
} from "./operands.ts";

type Lane = "i16x8" | "i32x4" | "i64x2";
type Kind = "shl" | "shr_u" | "shr_s";
const BITS: Record<Lane, number> = { i16x8: 16, i32x4: 32, i64x2: 64 };

/** PSLL, PSRL, PSRA: every lane by one count, an immediate or the low 64 bits of the last operand. */
function shift(lane: Lane, kind: Kind): Emitter {
  const bits = BITS[lane];
  const operation = Simd[`${lane}_${kind}`];
  return entered((e) => {
    const { code, insn } = e;
    const last = insn.operands - 1;
    const byRegister = insn.isMemory(last) || insn.isRegister(last);
    const count = e.temp(Type.i32);
    if (byRegister) {
      const push = source128(e, last);
      const wide = e.temp(Type.i64);
      push();
      code.lane(29, 0);
      code.tee(wide);
      code.op(Op.i32_wrap_i64);
      code.i32(bits);
      code.get(wide);
      code.i64(bits);
      code.op(Op.i64_lt_u);
      code.op(Op.select);
    } else code.i32(Math.min(insn.imm8, bits));
    code.set(count);
    const values = sources(e, isVex(e) ? 1 : 0);
    if (usesMmx(e)) emitMmxTransition(e);
    const shifted = values.map(
      (push): Source =>
        () => {
          push();
          code.get(count);
          if (kind === "shr_s") {
            // Beyond the lane an arithmetic shift leaves the sign everywhere.
            code.i32(bits - 1);
            code.get(count);
            code.i32(bits);
            code.op(Op.i32_lt_u);
            code.op(Op.select);
            code.simd(operation);
            return;
          }
          code.simd(operation);
          code.v128(0n, 0n);
          code.get(count);
          code.i32(bits);
          code.op(Op.i32_lt_u);
          code.op(Op.select);
        },
    );
    // A count in a register may be the destination: it is in a local by now.
    writeVector(e, insn.register(0), shifted);
  });
}

/** PSLLDQ and PSRLDQ: bytes within 128 bits. */
function shiftBytes(direction: "left" | "right"): Emitter {
  return entered((e) => {
    const { code, insn } = e;
    const n = Math.min(insn.imm8, 16);
    const values = sources(e, isVex(e) ? 1 : 0);
    const lanes = Array.from({ length: 16 }, (_, i) => {
      const from = direction === "left" ? i - n : i + n;
      return from < 0 || from > 15 ? 16 : from;
    });
    writeVector(
      e,
      insn.register(0),
      values.map((push) => () => {
        push();
        code.v128(0n, 0n);
        code.shuffle(lanes);
      }),
    );
  });
}

/** VPSLLV, VPSRLV, VPSRAV: every lane by its own count. */
function variable(lane: "i32x4" | "i64x2", kind: Kind): (x: LaneInputs) => void {
  const bits = BITS[lane];
  const word = lane === "i32x4" ? "i32" : "i64";
  const [extract, replace] = lane === "i32x4" ? ([27, 28] as const) : ([29, 30] as const);
  return (x) => {
    const { code } = x;
    const constant = (n: number) => (word === "i32" ? code.i32(n) : code.i64(n));
    code.v128(0n, 0n);
    for (let i = 0; i < 128 / bits; i++) {
      const count = () => {
        x.b();
        code.lane(extract, i);
      };
      x.a();
      code.lane(extract, i);
      count();
      if (kind === "shr_s") {
        constant(bits - 1);
        count();
        constant(bits);
        code.op(Op[`${word}_lt_u`]);
        code.op(Op.select);
      }
      code.op(Op[`${word}_${kind}`]);
      if (kind !== "shr_s") {
        constant(0);
        count();
        constant(bits);
        code.op(Op[`${word}_lt_u`]);
        code.op(Op.select);
      }
      code.lane(replace, i);
    }
  };
}

/** By SSE name; VEX names have a V in front. */
export const SHIFTS: Readonly<Record<string, Emitter>> = {
  Psllw: shift("i16x8", "shl"),
  Pslld: shift("i32x4", "shl"),
  Psllq: shift("i64x2", "shl"),
  Psrlw: shift("i16x8", "shr_u"),
  Psrld: shift("i32x4", "shr_u"),
  Psrlq: shift("i64x2", "shr_u"),
  Psraw: shift("i16x8", "shr_s"),
  Psrad: shift("i32x4", "shr_s"),
  Pslldq: shiftBytes("left"),
  Psrldq: shiftBytes("right"),
};

/** Instructions that exist only in VEX form, by their full name. */
export const VARIABLE_SHIFTS: Readonly<Record<string, Emitter>> = {
  Vpsllvd: binaryLanes(variable("i32x4", "shl")),
  Vpsllvq: binaryLanes(variable("i64x2", "shl")),
  Vpsrlvd: binaryLanes(variable("i32x4", "shr_u")),
  Vpsrlvq: binaryLanes(variable("i64x2", "shr_u")),
  Vpsravd: binaryLanes(variable("i32x4", "shr_s")),
};
