import { Register } from "../decoder/names.ts";
import type { Emit, Emitter } from "../translate/context.ts";
import { Op, Simd, type SimdCode } from "../wasm/opcodes.ts";
import { pickLanes } from "./integer-lanes.ts";
import { laneInputs } from "./lanes.ts";
import {
  entered,
  hold,
  isWide,
  isYmm,
  keep,
  loadZeroExtended,
  pushRegister,
  type Source,
  source128,
  sourceOf,
  sources,
  writeVector,
} from "./operands.ts";
import { byteIndices } from "./shuffles.ts";

/** PMOVSX and PMOVZX: `from`-byte elements to `to`-byte ones, in doublings. */
export function extend(from: 1 | 2 | 4, to: 2 | 4 | 8, kind: "s" | "u"): Emitter {
  const steps: SimdCode[] = [];
  if (from === 1) steps.push(Simd[`i16x8_extend_low_i8x16_${kind}`]);
  if (from <= 2 && to >= 4) steps.push(Simd[`i32x4_extend_low_i16x8_${kind}`]);
  if (to === 8) steps.push(Simd[`i64x2_extend_low_i32x4_${kind}`]);
  return entered((e) => {
    const wide = isYmm(e.insn.register(0));
    const half = (16 * from) / to;
    const source = extendSource(e, (wide ? 2 * half : half) as 2 | 4 | 8 | 16);
    const halves = (wide ? [0, 1] : [0]).map(
      (n): Source =>
        () => {
          source();
          if (n === 1) {
            source();
            e.code.shuffle(Array.from({ length: 16 }, (_, i) => (i + half) & 15));
          }
          for (const step of steps) e.code.simd(step);
        },
    );
    // The source may be the destination's low half.
    writeVector(
      e,
      e.insn.register(0),
      halves.map((push) => hold(e, push)),
    );
  });
}

function extendSource(e: Emit, bytes: 2 | 4 | 8 | 16): Source {
  if (!e.insn.isMemory(1)) {
    const register = e.insn.register(1);
    return hold(e, () => pushRegister(e, register));
  }
  if (bytes !== 16) return sourceOf(e, loadZeroExtended(e, e.address(), bytes));
  e.load(e.address(), 16);
  return sourceOf(e, keep(e));
}

/** PTEST (mask all ones) and VTESTPS, VTESTPD (sign bits): ZF from a AND b, CF from NOT a AND b; the rest is cleared. */
export function testBits(mask: bigint): Emitter {
  return entered((e) => {
    const { code } = e;
    const b = sources(e, 1);
    const a = sources(e, 0);
    const flag = (combine: (half: number) => void, bit: number) => {
      a.forEach((_, half) => {
        combine(half);
        code.v128(mask, mask);
        code.simd(Simd.v128_and);
        if (half === 1) code.simd(Simd.v128_or);
      });
      code.simd(Simd.v128_any_true);
      code.op(Op.i32_eqz);
      code.i32(bit);
      code.op(Op.i32_shl);
    };
    flag((half) => {
      a[half]!();
      b[half]!();
      code.simd(Simd.v128_and);
    }, 6);
    flag((half) => {
      b[half]!();
      a[half]!();
      code.simd(Simd.v128_andnot);
    }, 0);
    code.op(Op.i32_or);
    e.setFlags();
  });
}

/** VBROADCASTSS/SD and VPBROADCASTB/W/D/Q: the lowest element everywhere. */
export function broadcast(bytes: 1 | 2 | 4 | 8): Emitter {
  return entered((e) => {
    const memory = e.insn.isMemory(1);
    const source = memory
      ? sourceOf(e, loadZeroExtended(e, e.address(), bytes))
      : hold(e, () => pushRegister(e, e.insn.register(1)));
    const push: Source = () => {
      source();
      source();
      e.code.shuffle(pickLanes(bytes, Array(16 / bytes).fill(0)));
    };
    writeVector(e, e.insn.register(0), isWide(e) ? [push, push] : [push]);
  });
}

/** VBROADCASTF128 and VBROADCASTI128. */
export const broadcast128: Emitter = entered((e) => {
  e.load(e.address(), 16);
  const push = sourceOf(e, keep(e));
  writeVector(e, e.insn.register(0), [push, push]);
});

/** VINSERTF128 and VINSERTI128. */
export const insert128: Emitter = entered((e) => {
  const value = source128(e, 2, "never");
  const base = e.insn.register(1);
  const high = (e.insn.imm8 & 1) === 1;
  const halves: Source[] = high ? [() => pushRegister(e, base, 0), value] : [value, () => pushRegister(e, base, 1)];
  writeVector(
    e,
    e.insn.register(0),
    halves.map((push) => hold(e, push)),
  );
});

/** VEXTRACTF128 and VEXTRACTI128. */
export const extract128: Emitter = entered((e) => {
  pushRegister(e, e.insn.register(1), (e.insn.imm8 & 1) as 0 | 1);
  const value = keep(e);
  if (e.insn.isMemory(0)) e.store(e.address(), 16, value);
  else writeVector(e, e.insn.register(0), [sourceOf(e, value)]);
});

/** VPERM2F128 and VPERM2I128: each half from any half of both operands, or zero. */
export const permute128: Emitter = entered((e) => {
  const b = sources(e, 2);
  const a = sources(e, 1);
  const all = [...a, ...b];
  const halves = [0, 1].map((half): Source => {
    const control = e.insn.imm8 >> (4 * half);
    return control & 8 ? () => e.code.v128(0n, 0n) : all[control & 3]!;
  });
  writeVector(
    e,
    e.insn.register(0),
    halves.map((push) => hold(e, push)),
  );
});

/** VPERMQ and VPERMPD: 64-bit lanes across the whole register by immediate. */
export const permuteQuadwords: Emitter = entered((e) => {
  const source = sources(e, 1);
  const { imm8 } = e.insn;
  const halves = [0, 1].map(
    (half): Source =>
      () => {
        source[0]!();
        source[1]!();
        e.code.shuffle(pickLanes(8, [(imm8 >> (4 * half)) & 3, (imm8 >> (4 * half + 2)) & 3]));
      },
  );
  writeVector(
    e,
    e.insn.register(0),
    halves.map((push) => hold(e, push)),
  );
});

/** VPERMD and VPERMPS: 32-bit lanes of the last operand by the lanes of the second. */
export const permuteDoublewords: Emitter = entered((e) => {
  const { code } = e;
  const values = sources(e, 2);
  const indices = sources(e, 1);
  const halves = indices.map(
    (index, half): Source =>
      () => {
        byteIndices(laneInputs(e, index, index, half), 7n);
        const bytes = keep(e);
        values[0]!();
        code.get(bytes);
        code.simd(Simd.i8x16_swizzle);
        values[1]!();
        code.get(bytes);
        // Numbers of the lower half wrap beyond 15, which a swizzle turns into zero, as it does with 16 and up.
        code.v128(0x1010_1010_1010_1010n, 0x1010_1010_1010_1010n);
        code.simd(Simd.i8x16_sub);
        code.simd(Simd.i8x16_swizzle);
        code.simd(Simd.v128_or);
      },
  );
  writeVector(
    e,
    e.insn.register(0),
    halves.map((push) => hold(e, push)),
  );
});

/** Number in `SegIndex` of a segment register. */
export function segmentIndex(register: Register): number {
  return register - Register.ES;
}
