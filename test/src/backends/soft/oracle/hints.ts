import type { CaseBuilder } from "./case.ts";
import { farTarget, jumpTarget } from "./encode.ts";
import type { Opcode } from "./forms.ts";
import { Image } from "./fpu-state.ts";
import { CODE, DATA, DATA_BYTES, Record } from "./layout.ts";
import { double, extended, lanes, single } from "./random.ts";
import { operandBits, shiftCount } from "./undefined-flags.ts";
import { CODE64, SELECTORS } from "./worlds.ts";

/** Makes the operands of a case worth trying, where random ones nearly always do the same. */
type Hint = (c: CaseBuilder) => void;

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RBP = 5;

/** A dividend that mostly leaves a quotient that fits. */
const divide: Hint = (c) => {
  const bits = operandBits(c.e);
  if (c.random.chance(4)) return;
  const signed = c.e.form.opcode.word === "Idiv";
  const negative = signed && ((c.get(RAX) >> BigInt(bits - 1)) & 1n) !== 0n;
  if (bits === 8) c.setLow(RAX, 16, BigInt.asUintN(8, c.get(RAX)) | (negative ? 0xff00n : 0n));
  else if (!pointsAt(c, RDX)) c.setLow(RDX, bits, negative ? -1n : 0n);
};

/** Whether a register makes the address of the memory operand. */
function pointsAt(c: CaseBuilder, register: number): boolean {
  const { memory } = c.e;
  return memory !== undefined && (memory.base === register || (memory.index === register && !memory.vector));
}

/** The memory operand is what the accumulator holds, half of the time. */
const compareExchange: Hint = (c) => {
  const { memory } = c.e;
  if (memory === undefined || c.random.chance(2)) return;
  const bytes = memory.bytes;
  const half = BigInt(bytes * 4);
  if (/^Cmpxchg(8|16)b/.test(c.e.form.opcode.word)) {
    const value = (BigInt.asUintN(Number(half), c.get(RDX)) << half) | BigInt.asUintN(Number(half), c.get(RAX));
    c.patchNumber(c.target, value, bytes);
  } else c.patchNumber(c.target, BigInt.asUintN(bytes * 8, c.get(RAX)), bytes);
};

/** A bit number that stays near the operand. */
const bitString: Hint = (c) => {
  const [, index] = c.e.registers;
  if (c.e.memory === undefined || index === undefined || pointsAt(c, index.number) || index.number === 4) return;
  c.setLow(index.number, index.bits, BigInt(c.random.below(512) - 256));
};

/** The manual leaves the result undefined for counts above the size of the operand. */
const doubleShift: Hint = (c) => {
  const bits = operandBits(c.e);
  if (bits !== 16 || (shiftCount(c.e, c.view) & 31) <= 16) return;
  if (c.e.form.opcode.kinds.includes("cl") && !pointsAt(c, RCX)) c.setLow(RCX, 8, BigInt(c.random.below(17)));
};

/** Whether the stack has room in both directions. */
function stackInside(c: CaseBuilder): boolean {
  return c.stack >= DATA + 0x200 && c.stack < DATA + DATA_BYTES - 0x200;
}

/** Offset in CS of a place to jump to. */
function near(c: CaseBuilder): bigint {
  // A push that faults as well: processors differ in what goes first.
  if (c.e.world.bits === 64 && stackInside(c) && c.random.chance(24)) return c.random.u64() | (1n << 62n);
  return BigInt.asUintN(64, BigInt(jumpTarget(c.random)) - (c.e.world.bases[1] as bigint));
}

const indirect: Hint = (c) => {
  const [register] = c.e.registers;
  if (c.e.memory !== undefined) c.patchNumber(c.target, near(c), c.e.memory.bytes);
  // A target that cannot be jumped to is not to be the stack pointer too.
  else if (register !== undefined && register.number !== 4) c.setLow(register.number, register.bits, near(c));
};

const farIndirect: Hint = (c) => {
  const bytes = c.e.memory?.bytes ?? 0;
  if (bytes < 4) return;
  const target = farTarget(c.random, c.e.world);
  const { offset } = target;
  // RSP as part of the address may be a wild one, of which the manuals do not say how much counts in the new mode.
  const selector = c.e.world.bits === 64 && pointsAt(c, 4) ? CODE64 : target.selector;
  const low = BigInt.asUintN((bytes - 2) * 8, BigInt(offset));
  c.patchNumber(c.target, (BigInt(selector) << BigInt((bytes - 2) * 8)) | low, bytes);
};

const nearReturn: Hint = (c) => c.patchNumber(c.stack, near(c), 8);

/** Bytes of what a far return pops, by the suffix of the mnemonic. */
function popped(c: CaseBuilder): number {
  const { name } = c.e.form.opcode;
  return /^(Retfw|Iretw)/.test(name) ? 2 : /^(Retfq|Iretq)/.test(name) ? 8 : 4;
}

const farReturn: Hint = (c) => {
  const bytes = popped(c);
  const { selector, offset } = farTarget(c.random, c.e.world);
  // For another RPL some processors read the outer stack before they refuse.
  const words = [BigInt(offset), BigInt(stackInside(c) ? selector : selector | 3)];
  if (c.e.form.opcode.word.startsWith("Iret")) {
    const flags = BigInt((c.random.next() & 0x4_08d5) | 0x202);
    words.push(
      flags,
      BigInt(c.stack - Number(c.e.world.bases[2])),
      BigInt(c.random.chance(4) ? c.random.pick(SELECTORS) : c.e.world.selectors[2]),
    );
  }
  const out = new Uint8Array(words.length * bytes);
  for (const [i, word] of words.entries())
    for (let b = 0; b < bytes; b++) out[i * bytes + b] = Number((word >> BigInt(8 * b)) & 0xffn);
  c.patch(c.stack, out);
};

/** A selector as the operand that is loaded into a segment register, or asked about. */
const selectorOperand: Hint = (c) => {
  const { word, kinds } = c.e.form.opcode;
  const selector = BigInt(c.random.pick(SELECTORS));
  if (word === "Pop") {
    c.patchNumber(c.stack, selector | (c.random.u64() << 16n), 8);
    return;
  }
  if (c.e.memory !== undefined) {
    c.patchNumber(c.target, selector, 2);
    return;
  }
  const source = c.e.registers[kinds.findIndex((k, i) => i > 0 && /^r\d+_or_mem/.test(k))] ?? c.e.registers[0];
  if (source !== undefined) c.setLow(source.number, 16, selector);
};

const farPointer: Hint = (c) => {
  const bytes = c.e.memory?.bytes ?? 0;
  // LDS and LES with a register are taken for VEX, and invalid.
  if (bytes < 4) return;
  const shift = BigInt((bytes - 2) * 8);
  c.patchNumber(
    c.target,
    (BigInt(c.random.pick(SELECTORS)) << shift) | BigInt.asUintN(Number(shift), c.random.value()),
    bytes,
  );
};

const popFlags: Hint = (c) => {
  // Bit 9, IF, stays as it is for CPL 3; NT, AC, ID, TF and the arithmetic flags do not.
  c.patchNumber(c.stack, c.random.u64() & 0xffff_ffff_fff3_ffffn, 8);
};

const leave: Hint = (c) => c.setStack(RBP);

const translate: Hint = (c) => {
  const offset = BigInt(DATA + 0x800 + c.random.below(0x1000)) - (c.e.world.bases[c.e.memory?.segment ?? 3] as bigint);
  c.setLow(RBX, c.e.memory?.bits ?? 64, offset);
};

const counter: Hint = (c) => {
  if (c.random.chance(2)) c.set(RCX, BigInt(c.random.below(3)));
};

/** Bounds around the index. */
const bound: Hint = (c) => {
  const [index] = c.e.registers;
  const bytes = (c.e.memory?.bytes ?? 4) / 2;
  if (index === undefined || c.random.chance(3)) return;
  const value = BigInt.asIntN(bytes * 8, c.get(index.number));
  const around =
    BigInt.asUintN(bytes * 8, value - 3n) |
    (BigInt.asUintN(bytes * 8, value + BigInt(c.random.below(8) - 2)) << BigInt(bytes * 8));
  c.patchNumber(c.target, around, bytes * 2);
};

/** Memory operands of the x87 unit, special values and all. */
const x87Memory: Hint = (c) => {
  const { word } = c.e.form.opcode;
  const bytes = c.e.memory?.bytes ?? 0;
  if (word === "Fbld") packedDecimal(c);
  else if (word === "Fldenv" || word === "Frstor") environment(c, bytes);
  else if (bytes === 10) {
    const { se, significand } = extended(c.random);
    c.patchNumber(c.target, (BigInt(se) << 64n) | significand, 10);
  } else if (c.random.chance(2)) return;
  else if (bytes === 4) c.patchNumber(c.target, BigInt(single(c.random)), 4);
  else if (bytes === 8) c.patchNumber(c.target, double(c.random), 8);
};

/** FBLD of digits above nine is undefined: keep to digits. */
function packedDecimal(c: CaseBuilder): void {
  const out = new Uint8Array(10);
  for (let i = 0; i < 9; i++) out[i] = c.random.below(10) | (c.random.below(10) << 4);
  out[9] = c.random.below(2) << 7;
  c.patch(c.target, out);
}

function environment(c: CaseBuilder, bytes: number): void {
  if (bytes === 0) return;
  const image = new Uint8Array(bytes).map(() => c.random.below(256));
  const view = new DataView(image.buffer);
  const wide = bytes === 28 || bytes === 108;
  view.setUint16(0, 0x340 | (c.random.below(4) << 10) | (c.random.chance(3) ? c.random.below(64) : 0x3f), true);
  view.setUint16(wide ? 4 : 2, c.random.u32() & 0x7f7f, true);
  c.patch(c.target, image);
}

/** AMD's own bit of MXCSR. */
const MISALIGNED = 0x2_0000;

const loadMxcsr: Hint = (c) => {
  c.patchNumber(c.target, BigInt((c.random.u32() & (c.random.chance(8) ? ~MISALIGNED : 0xffff)) >>> 0), 4);
};

/** An image for FXRSTOR or XRSTOR: mostly valid, or what the pool has. EDX:EAX asks for the three components that the guest has. */
const restoreImage: Hint = (c) => {
  maskComponents(c);
  const image = new Uint8Array(Image.size);
  for (let i = 0; i < 160; i += 8) lanes(c.random, image.subarray(i, i + 8));
  lanes(c.random, image.subarray(160, 416));
  lanes(c.random, image.subarray(Image.ymm, Image.size));
  const view = new DataView(image.buffer);
  view.setUint16(Image.fcw, 0x340 | (c.random.chance(3) ? c.random.below(64) : 0x3f), true);
  view.setUint16(Image.fsw, c.random.u32() & 0x7f7f, true);
  view.setUint32(Image.mxcsr, c.random.u32() & (c.random.chance(8) ? ~MISALIGNED : 0xffff), true);
  view.setUint32(Image.mxcsrMask, 0xffff, true);
  view.setBigUint64(
    Image.xstateBv,
    BigInt(c.random.chance(24) ? c.random.below(256) & ~0xf8 : c.random.below(8)),
    true,
  );
  if (c.random.chance(3)) view.setBigUint64(Image.xstateBv + 8, (1n << 63n) | 7n, true);
  if (c.random.chance(24)) view.setUint8(Image.xstateBv + 24 + c.random.below(8), 1);
  c.patch(c.target, c.e.form.opcode.word.startsWith("Fx") ? image.subarray(0, 512) : image);
};

const maskComponents: Hint = (c) => {
  if (c.e.form.opcode.word.startsWith("Fx")) return;
  if (!pointsAt(c, RDX)) c.set(RDX, 0n);
  if (!pointsAt(c, RAX)) c.set(RAX, BigInt(c.random.below(8)));
};

/** XSAVE keeps what the header had for components not asked for: a header as software leaves it. */
const saveImage: Hint = (c) => {
  maskComponents(c);
  const header = new Uint8Array(64);
  header[0] = c.random.below(8);
  c.patch(c.target + Image.xstateBv, header);
};

/** Offset of MASKMOVQ and MASKMOVDQU. */
const maskedStore: Hint = (c) => {
  // RDI has been pointed already; a few all-zero masks, where no processor faults for them.
  const inside = c.target >= DATA && c.target < DATA + DATA_BYTES - 16;
  if (!inside || !c.random.chance(8)) return;
  c.record.fill(0, Record.image + Image.xmm, Record.image + Image.xmm + 128);
};

const enter: Hint = (c) => {
  c.setStack(RBP);
};

const flushLine: Hint = (c) => {
  if (c.target > CODE + DATA_BYTES * 8) c.target = 0;
};

const HINTS: readonly (readonly [RegExp, Hint])[] = [
  [/^I?Div$/, divide],
  [/^Cmpxchg/, compareExchange],
  [/^Bt[srcx]?$/, bitString],
  [/^Sh[lr]d$/, doubleShift],
  [/^Ret$/, nearReturn],
  [/^(Retf|Iret)/, farReturn],
  [/^(Lar|Lsl|Ver[rw])$/, selectorOperand],
  [/^L[defgs]s$/, farPointer],
  [/^Popf/, popFlags],
  [/^Leave$/, leave],
  [/^Enter$/, enter],
  [/^Xlatb$/, translate],
  [/^(Loop|Loope|Loopne|Jr?e?cxz)$/, counter],
  [/^Bound$/, bound],
  [/^V?ldmxcsr$/i, loadMxcsr],
  [/^(Fxrstor|Xrstor)/, restoreImage],
  [/^Xsave/, saveImage],
  [/^V?maskmov(q|dqu)$/i, maskedStore],
  [/^Cl(flush|wb|demote)/, flushLine],
];

/** What makes operands of a form worth trying; undefined where any will do. */
export function operandHint(opcode: Opcode): Hint | undefined {
  const { word, name, kinds, features } = opcode;
  if (word === "Jmp" || word === "Call") {
    if (kinds.some((k) => k.startsWith("br") || k.startsWith("far"))) return undefined;
    return /_m\d{4}$/.test(name) ? farIndirect : indirect;
  }
  const segment = kinds.some((k) => k === "seg_reg" || /^[cdefgs]s$/.test(k));
  if (segment && (word === "Pop" || (word === "Mov" && kinds[0] === "seg_reg"))) return selectorOperand;
  if (features.some((f) => f.startsWith("FPU")) && kinds.some((k) => k.startsWith("mem"))) return x87Memory;
  return HINTS.find(([words]) => words.test(word))?.[1];
}
