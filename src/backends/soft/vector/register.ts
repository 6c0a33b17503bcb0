import { Code, Mnemonic } from "../decoder/names.ts";
import type { Emitter, Registry } from "../translate/context.ts";
import { Simd } from "../wasm/opcodes.ts";
import { CONVERSION_HELPERS } from "./conversion-helpers.ts";
import { CONVERSIONS, SINGLE_CONVERSIONS } from "./conversions.ts";
import { byHelper, CMPSD, FLOATING, laneCount } from "./floating.ts";
import { FLOATING_HELPERS } from "./floating-helpers.ts";
import { FMA } from "./fma.ts";
import { BINARY_LANES, UNARY_LANES } from "./integer-lanes.ts";
import { binaryLanes, unaryLanes } from "./lanes.ts";
import {
  emms,
  extract,
  insert,
  MOVSD_CODES,
  moveAcross,
  moveHalf,
  moveLow,
  moveScalar,
  moveWhole,
  signMask,
  zeroRegisters,
} from "./moves.ts";
import { PS, SS } from "./ordinary.ts";
import {
  broadcast,
  broadcast128,
  extend,
  extract128,
  insert128,
  permute128,
  permuteDoublewords,
  permuteQuadwords,
  testBits,
} from "./permutes.ts";
import { SHIFTS, VARIABLE_SHIFTS } from "./shifts.ts";
import { OTHER_SHUFFLES, SHUFFLES } from "./shuffles.ts";
import { SINGLE_SPECIAL, SPECIAL } from "./special.ts";
import { SPECIAL_HELPERS } from "./special-helpers.ts";
import { IMAGE_HELPERS } from "./state-image.ts";
import { STATE_INSTRUCTIONS } from "./state-instructions.ts";

const SIGNS = 0x8000_0000_8000_0000n;
const TOP = 0x8000_0000_0000_0000n;
const ALL = 0xffff_ffff_ffff_ffffn;

/** Instructions with an SSE (or MMX) and a VEX form of the same name but for the V. */
const BOTH: Readonly<Record<string, Emitter>> = {
  ...mapValues(BINARY_LANES, binaryLanes),
  ...mapValues(UNARY_LANES, unaryLanes),
  ...SHIFTS,
  ...SHUFFLES,
  ...FLOATING,
  ...CONVERSIONS,
  ...SPECIAL,
  Rcpps: byHelper("sse.rcp", PS, (_, halves) => [laneCount(PS, halves)]),
  Rcpss: byHelper("sse.rcp", SS, () => [1]),
  Rsqrtps: byHelper("sse.rsqrt", PS, (_, halves) => [laneCount(PS, halves)]),
  Rsqrtss: byHelper("sse.rsqrt", SS, () => [1]),
  Movaps: moveWhole("always"),
  Movapd: moveWhole("always"),
  Movdqa: moveWhole("always"),
  Movups: moveWhole("never"),
  Movupd: moveWhole("never"),
  Movdqu: moveWhole("never"),
  Lddqu: moveWhole("never"),
  Movntps: moveWhole("always"),
  Movntpd: moveWhole("always"),
  Movntdq: moveWhole("always"),
  Movntdqa: moveWhole("always"),
  Movss: moveScalar(4),
  Movlps: moveHalf(0),
  Movlpd: moveHalf(0),
  Movhps: moveHalf(1),
  Movhpd: moveHalf(1),
  Movhlps: moveAcross([3, 1]),
  Movlhps: moveAcross([0, 2]),
  Movd: moveLow(4),
  Movq: moveLow(8),
  Pextrb: extract(1),
  Pextrw: extract(2),
  Pextrd: extract(4),
  Pextrq: extract(8),
  Extractps: extract(4),
  Pinsrb: insert(1),
  Pinsrw: insert(2),
  Pinsrd: insert(4),
  Pinsrq: insert(8),
  Pmovmskb: signMask(Simd.i8x16_bitmask, 16),
  Movmskps: signMask(Simd.i32x4_bitmask, 4),
  Movmskpd: signMask(Simd.i64x2_bitmask, 2),
  Pmovsxbw: extend(1, 2, "s"),
  Pmovsxbd: extend(1, 4, "s"),
  Pmovsxbq: extend(1, 8, "s"),
  Pmovsxwd: extend(2, 4, "s"),
  Pmovsxwq: extend(2, 8, "s"),
  Pmovsxdq: extend(4, 8, "s"),
  Pmovzxbw: extend(1, 2, "u"),
  Pmovzxbd: extend(1, 4, "u"),
  Pmovzxbq: extend(1, 8, "u"),
  Pmovzxwd: extend(2, 4, "u"),
  Pmovzxwq: extend(2, 8, "u"),
  Pmovzxdq: extend(4, 8, "u"),
  Ptest: testBits(ALL),
};

/** Instructions of one form only, by their full name. */
const SINGLE: Readonly<Record<string, Emitter>> = {
  ...OTHER_SHUFFLES,
  ...SINGLE_CONVERSIONS,
  ...FMA,
  ...SINGLE_SPECIAL,
  ...STATE_INSTRUCTIONS,
  ...VARIABLE_SHIFTS,
  Movntq: moveWhole("never"),
  Movdq2q: moveLow(8),
  Movq2dq: moveLow(8),
  Emms: emms,
  Vmovsd: moveScalar(8),
  Vcmpsd: CMPSD,
  Vtestps: testBits(SIGNS),
  Vtestpd: testBits(TOP),
  Vzeroupper: zeroRegisters(false),
  Vzeroall: zeroRegisters(true),
  Vbroadcastss: broadcast(4),
  Vbroadcastsd: broadcast(8),
  Vpbroadcastb: broadcast(1),
  Vpbroadcastw: broadcast(2),
  Vpbroadcastd: broadcast(4),
  Vpbroadcastq: broadcast(8),
  Vbroadcastf128: broadcast128,
  Vbroadcasti128: broadcast128,
  Vinsertf128: insert128,
  Vinserti128: insert128,
  Vextractf128: extract128,
  Vextracti128: extract128,
  Vperm2f128: permute128,
  Vperm2i128: permute128,
  Vpermq: permuteQuadwords,
  Vpermpd: permuteQuadwords,
  Vpermd: permuteDoublewords,
  Vpermps: permuteDoublewords,
};

function mapValues<T, U>(of: Readonly<Record<string, T>>, f: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(of).map(([name, value]) => [name, f(value)]));
}

function mnemonicOf(name: string): Mnemonic {
  const mnemonic = Mnemonic[name as keyof typeof Mnemonic];
  if (mnemonic === undefined) throw new TypeError(`No mnemonic is called "${name}"`);
  return mnemonic;
}

/** Enters MMX, SSE to SSE4.2, AES, PCLMULQDQ, AVX, AVX2, FMA and F16C with their helpers. */
export function registerVector(registry: Registry): void {
  for (const [name, emitter] of Object.entries(BOTH)) {
    registry.mnemonics.set(mnemonicOf(name), emitter);
    const vex = `V${name[0]!.toLowerCase()}${name.slice(1)}`;
    registry.mnemonics.set(mnemonicOf(vex), emitter);
  }
  for (const [name, emitter] of Object.entries(SINGLE)) registry.mnemonics.set(mnemonicOf(name), emitter);
  for (const code of MOVSD_CODES) registry.codes.set(code, moveScalar(8));
  registry.codes.set(Code.Cmpsd_xmm_xmmm64_imm8, CMPSD);
  for (const [name, helper] of Object.entries({
    ...FLOATING_HELPERS,
    ...CONVERSION_HELPERS,
    ...SPECIAL_HELPERS,
    ...IMAGE_HELPERS,
  }))
    registry.helpers.set(name, helper);
}
