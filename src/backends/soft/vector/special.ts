import { OpKind, Register } from "../decoder/names.ts";
import { Vector } from "../state.ts";
import type { Address, Emit, Emitter } from "../translate/context.ts";
import { gprBits } from "../translate/insn.ts";
import { Mem, Op, Simd, SimdMem, Type } from "../wasm/opcodes.ts";
import { callHelper, passOperands, takeResult } from "./floating.ts";
import { OPERAND_C, RESULT } from "./floating-helpers.ts";
import { binaryLanes, type LaneInputs } from "./lanes.ts";
import {
  emitMmxTransition,
  entered,
  hold,
  inputs,
  isWide,
  isYmm,
  pushRegister,
  sourceOf,
  sources,
  usesMmx,
  writeVector,
} from "./operands.ts";
import { segmentIndex } from "./permutes.ts";
import { type Gather, OFFSET } from "./special-helpers.ts";

/** Both operands to a helper, its result to the destination: operation number, halves, immediate. */
function blockOperation(
  helper: string,
  args: (e: Emit, halves: number) => readonly number[],
  operands: 1 | 2 = 2,
): Emitter {
  return entered((e) => {
    const [left, right] = operands === 1 ? [1, 1] : inputs(e);
    const b = sources(e, right).map((push) => hold(e, push));
    const a = left === right ? b : sources(e, left);
    passOperands(e, [a, b]);
    const values = args(e, b.length);
    for (const value of values) e.code.i32(value);
    e.call(
      helper,
      values.map(() => Type.i32),
      Type.i32,
    );
    e.code.op(Op.drop);
    const results = b.map(() => e.temp(Type.v128));
    takeResult(e, results);
    writeVector(
      e,
      e.insn.register(0),
      results.map((r) => sourceOf(e, r)),
    );
  });
}

const aes = (operation: number, operands: 1 | 2 = 2) =>
  blockOperation("sse.aes", (e, halves) => [operation, halves, e.insn.imm8], operands);

/** MPSADBW: sums of four absolute differences at eight neighbouring places. */
function multipleSums(x: LaneInputs): void {
  const { code } = x;
  const control = x.imm8 >> (3 * x.half);
  const start = control & 4 ? 4 : 0;
  const block = (control & 3) * 4;
  for (let k = 0; k < 4; k++) {
    for (const [operand, lanes] of [
      [x.a, Array.from({ length: 16 }, (_, i) => (start + k + i) & 15)],
      [x.b, Array(16).fill(block + k)],
    ] as const) {
      operand();
      operand();
      code.shuffle(lanes);
      code.simd(Simd.i16x8_extend_low_i8x16_u);
    }
    code.simd(Simd.i16x8_sub);
    code.simd(Simd.i16x8_abs);
    if (k > 0) code.simd(Simd.i16x8_add);
  }
}

/** PHMINPOSUW: the smallest word and its place. */
const smallestWord: Emitter = entered((e) => {
  const { code } = e;
  const b = sources(e, 1)[0]!;
  const best = e.temp(Type.i32);
  const candidate = e.temp(Type.i32);
  for (let i = 0; i < 8; i++) {
    b();
    code.lane(25, i);
    code.i32(3);
    code.op(Op.i32_shl);
    code.i32(i);
    code.op(Op.i32_or);
    if (i === 0) {
      code.set(best);
      continue;
    }
    code.set(candidate);
    code.get(candidate);
    code.get(best);
    code.get(candidate);
    code.get(best);
    code.op(Op.i32_lt_u);
    code.op(Op.select);
    code.set(best);
  }
  writeVector(e, e.insn.register(0), [
    () => {
      code.v128(0n, 0n);
      code.get(best);
      code.i32(3);
      code.op(Op.i32_shr_u);
      code.lane(26, 0);
      code.get(best);
      code.i32(7);
      code.op(Op.i32_and);
      code.lane(26, 1);
    },
  ]);
});

/** PCMPxSTRx. `wide`: the explicit lengths are RAX and RDX. */
function stringCompare(lengths: "implicit" | "explicit", output: "index" | "mask", wide = false): Emitter {
  return entered((e) => {
    const { code } = e;
    // The one SSE instruction family whose memory operand need not be aligned.
    const b = sources(e, 1, "never");
    passOperands(e, [sources(e, 0), b]);
    if (lengths === "explicit") {
      for (const [register, at] of [
        [Register.RAX, 0],
        [Register.RDX, 8],
      ] as const) {
        e.stateAddress();
        e.gpr(wide ? register : register - Register.RAX + Register.EAX);
        if (!wide) code.op(Op.i64_extend32_s);
        e.storeState(Mem.i64_store, OPERAND_C + at);
      }
    }
    code.i32(e.insn.imm8);
    code.i32(lengths === "explicit" ? 1 : 0);
    e.call("sse.strings", [Type.i32, Type.i32], Type.i32);
    const outcome = e.temp(Type.i32);
    code.set(outcome);
    if (output === "index") {
      code.get(outcome);
      code.i32(0xff);
      code.op(Op.i32_and);
      code.op(Op.i64_extend_i32_u);
      e.setGpr(Register.ECX);
    } else writeVector(e, Register.XMM0, [() => e.loadState(SimdMem.v128_load, RESULT)]);
    code.get(outcome);
    code.i32(8);
    code.op(Op.i32_shr_u);
    e.setFlags();
  });
}

function storeOffset(e: Emit, at: Address): void {
  e.stateAddress();
  e.code.get(at.offset);
  e.storeState(Mem.i64_store, OFFSET);
}

/** VMASKMOVPS and its kind. */
function maskMove(bytes: 4 | 8): Emitter {
  return entered((e) => {
    const { insn } = e;
    const wide = isWide(e);
    const halves = wide ? ([0, 1] as const) : ([0] as const);
    const register = (operand: number) => halves.map((half) => () => pushRegister(e, insn.register(operand), half));
    const at = e.address();
    const count = (halves.length * 16) / bytes;
    storeOffset(e, at);
    if (insn.isMemory(0)) {
      passOperands(e, [register(1), register(2)]);
      callHelper(e, "avx.maskstore", at.segment, bytes, count, 64);
      return;
    }
    passOperands(e, [register(1)]);
    callHelper(e, "avx.maskload", at.segment, bytes, count);
    const results = halves.map(() => e.temp(Type.v128));
    takeResult(e, results);
    writeVector(
      e,
      insn.register(0),
      results.map((r) => sourceOf(e, r)),
    );
  });
}

/** MASKMOVDQU and MASKMOVQ: bytes to where (E/R)DI points. */
const maskMoveBytes: Emitter = entered((e) => {
  const { insn } = e;
  const bits = insn.opKind(0) === OpKind.MemorySegRDI ? 64 : insn.opKind(0) === OpKind.MemorySegEDI ? 32 : 16;
  e.stateAddress();
  e.gpr(bits === 64 ? Register.RDI : bits === 32 ? Register.EDI : Register.DI);
  e.storeState(Mem.i64_store, OFFSET);
  const mmx = usesMmx(e);
  passOperands(e, [[() => pushRegister(e, insn.register(2))], [() => pushRegister(e, insn.register(1))]]);
  if (mmx) emitMmxTransition(e);
  callHelper(e, "avx.maskstore", segmentIndex(insn.raw.memorySegment), 1, mmx ? 8 : 16, bits);
});

/** VGATHERDPS, VPGATHERQQ and their kin. */
function gather(element: 4 | 8, index: 4 | 8): Emitter {
  return entered((e) => {
    const { insn, code } = e;
    const { raw } = insn;
    const number = (register: Register) => register - (isYmm(register) ? Register.YMM0 : Register.XMM0);
    const [target, indices, mask] = [number(insn.register(0)), number(raw.memoryIndex), number(insn.register(2))];
    if (target === indices || target === mask || indices === mask) {
      e.raise(Vector.UD);
      return;
    }
    const wide = isYmm(insn.register(0)) || isYmm(raw.memoryIndex);
    const shape: Gather = {
      element,
      index,
      count: (wide ? 32 : 16) / Math.max(element, index),
      scale: raw.memoryIndexScale,
    };
    const base = raw.memoryBase;
    const addressBits = base !== Register.None && gprBits(base) === 32 ? 32 : e.mode.bits === 64 ? 64 : 32;
    e.stateAddress();
    if (base === Register.None) code.i64(0);
    else e.gpr(base);
    code.i64(BigInt.asIntN(64, raw.memoryDisplacement));
    code.op(Op.i64_add);
    e.storeState(Mem.i64_store, OFFSET);
    callHelper(
      e,
      "avx.gather",
      segmentIndex(raw.memorySegment),
      target | (indices << 8) | (mask << 16),
      shape.element | (shape.index << 8) | (shape.count << 16) | (shape.scale << 24),
      addressBits,
    );
  });
}

/** By SSE name; VEX names have a V in front. */
export const SPECIAL: Readonly<Record<string, Emitter>> = {
  Aesenc: aes(0),
  Aesenclast: aes(1),
  Aesdec: aes(2),
  Aesdeclast: aes(3),
  Aesimc: aes(4, 1),
  Aeskeygenassist: aes(5, 1),
  Pclmulqdq: blockOperation("sse.clmul", (e, halves) => [halves, e.insn.imm8]),
  Mpsadbw: binaryLanes(multipleSums),
  Phminposuw: smallestWord,
  Pcmpistri: stringCompare("implicit", "index"),
  Pcmpistrm: stringCompare("implicit", "mask"),
  Pcmpestri: stringCompare("explicit", "index"),
  Pcmpestrm: stringCompare("explicit", "mask"),
  Pcmpestri64: stringCompare("explicit", "index", true),
  Pcmpestrm64: stringCompare("explicit", "mask", true),
  Maskmovdqu: maskMoveBytes,
};

/** Instructions of one form only, by their full name. */
export const SINGLE_SPECIAL: Readonly<Record<string, Emitter>> = {
  Maskmovq: maskMoveBytes,
  Vmaskmovps: maskMove(4),
  Vmaskmovpd: maskMove(8),
  Vpmaskmovd: maskMove(4),
  Vpmaskmovq: maskMove(8),
  Vgatherdps: gather(4, 4),
  Vgatherdpd: gather(8, 4),
  Vgatherqps: gather(4, 8),
  Vgatherqpd: gather(8, 8),
  Vpgatherdd: gather(4, 4),
  Vpgatherdq: gather(8, 4),
  Vpgatherqd: gather(4, 8),
  Vpgatherqq: gather(8, 8),
};
