import type { Bits, Form } from "../../../src/asm/forms.ts";
import { codesByMnemonic, formOf } from "../../../src/asm/forms.ts";
import { RegisterClass as R } from "../../../src/asm/registers.ts";
import type { Slot } from "../../../src/asm/slots.ts";

/** One generated instruction. */
export interface Sample {
  readonly text: string;
  readonly bits: Bits;
  readonly mnemonic: string;
  readonly form: Form;
}

const R8 = "cl bl dl al".split(" ");
const R8_64 = "cl r9b sil bl".split(" ");
const POOLS: readonly (readonly [number, readonly string[], readonly string[]])[] = [
  [R.r8, R8, R8_64],
  [R.r16, "cx bx bp ax".split(" "), "cx r10w bx ax".split(" ")],
  [R.r32, "ecx ebx ebp eax".split(" "), "ecx r10d ebx eax".split(" ")],
  [R.r64, [], "rcx r11 rbx rax".split(" ")],
  [R.segment, "ds es fs ss".split(" "), "ds es gs ss".split(" ")],
  [R.control, "cr0 cr3 cr4".split(" "), "cr0 cr3 cr8".split(" ")],
  [R.debug, "dr0 dr7 dr6".split(" "), "dr0 dr7 dr6".split(" ")],
  [R.test, "tr6 tr7".split(" "), []],
  [R.fpu, "st1 st0 st5".split(" "), "st1 st0 st5".split(" ")],
  [R.mmx, "mm1 mm7 mm3".split(" "), "mm1 mm7 mm3".split(" ")],
  [R.xmm, "xmm1 xmm7 xmm3".split(" "), "xmm1 xmm12 xmm3".split(" ")],
  [R.ymm, "ymm1 ymm7 ymm3".split(" "), "ymm1 ymm12 ymm3".split(" ")],
  [R.zmm, "zmm1 zmm7 zmm3".split(" "), "zmm1 zmm12 zmm3".split(" ")],
  [R.mask, "k1 k7 k3".split(" "), "k1 k7 k3".split(" ")],
  [R.bound, "bnd1 bnd3".split(" "), "bnd1 bnd3".split(" ")],
  [R.tile, [], "tmm1 tmm5 tmm3".split(" ")],
];

const SIZES: Readonly<Record<number, string>> = {
  1: "byte",
  2: "word",
  4: "dword",
  8: "qword",
  10: "tword",
  16: "oword",
  32: "yword",
  64: "zword",
};

const ADDRESSES: Readonly<Record<Bits, readonly string[]>> = {
  16: ["[bx]", "[bp+si]", "[si+0x12]", "[0x1234]", "[bx+di-0x1234]", "[bp]", "[eax+ecx*4+8]", "[es:di]"],
  32: [
    "[eax]",
    "[ebp]",
    "[esi+0x12]",
    "[0x12345678]",
    "[ebx+ecx*8-0x1234]",
    "[esp+4]",
    "[edx*4]",
    "[fs:ecx]",
    "[bx+si]",
  ],
  64: [
    "[rax]",
    "[rbp]",
    "[rsi+0x12]",
    "[0x12345678]",
    "[r11+rcx*8-0x1234]",
    "[rsp+64]",
    "[r13*4]",
    "[gs:r9+128]",
    "[ecx+8]",
    "[rel 0x200]",
  ],
};

const VECTOR_ADDRESSES: Readonly<Record<Bits, readonly string[]>> = {
  16: ["[eax+%2*4]"],
  32: ["[eax+%2*4]", "[%2*8+16]", "[ebp+%2+64]"],
  64: ["[rax+%2*4]", "[%2*8+16]", "[r13+%2+64]", "[rsp+%3*2-0x1000]"],
};

const IMMEDIATES: Readonly<Record<string, readonly string[]>> = {
  imm4: ["3", "0xf"],
  imm8: ["5", "0x80", "0xff"],
  one: ["1"],
  imm8sex16: ["5", "-5", "byte 7"],
  imm8sex32: ["5", "-5", "byte 7"],
  imm8sex64: ["5", "-5", "byte 7"],
  imm16: ["0x1234", "0x80", "-0x80", "strict word 4"],
  imm32: ["0x12345678", "0x80", "-2", "strict dword 4"],
  imm32sex64: ["0x12345678", "0x80", "-0x12345", "strict dword 4"],
  imm64: ["0x123456789abcdef0", "-1", "0xffffffff", "0x80000000"],
};

const SHORT_TARGETS = ["$+2", "$-20", "$+100"];
const SHORT_ONLY = /^(loop|j[er]?cxz)/;

function registerTexts(slot: Slot, bits: Bits, evex: boolean): readonly string[] {
  if (slot.fixed !== 0) return [slot.label];
  const pool = POOLS.find(([cls]) => cls === slot.registers);
  if (!pool) return [];
  const names = bits === 64 ? pool[2] : pool[1];
  if (!evex || bits !== 64 || (slot.registers & (R.xmm | R.ymm | R.zmm)) === 0) return names;
  return names.map((name, i) => (i === 1 ? name.replace(/\d+/, "21") : name));
}

function memoryTexts(form: Form, slot: Slot, bits: Bits): readonly string[] {
  if (slot.memory === "offset")
    return bits === 64 ? ["[qword 0x123456789a]"] : bits === 32 ? ["[0x12345678]"] : ["[0x1234]"];
  if (slot.memory !== "any") {
    const letter = { vsib128: "xmm", vsib256: "ymm", vsib512: "zmm" }[slot.memory!];
    return VECTOR_ADDRESSES[bits].map((text) => text.replace(/%(\d)/, `${letter}$1`));
  }
  if (form.farMemory) {
    const size = SIZES[form.memoryBytes - 2] ?? "";
    // Loads of a far pointer into a register name no size; jumps name that of the offset.
    return ADDRESSES[bits]
      .slice(0, 4)
      .map((text) => (slot.label === "m" && form.slots.length === 1 ? `${size} far ${text}` : text));
  }
  const size = SIZES[form.memoryBytes];
  return ADDRESSES[bits].map((text) => (size === undefined ? text : `${size} ${text}`));
}

function slotTexts(mnemonic: string, form: Form, slot: Slot, bits: Bits): readonly string[] {
  if (slot.immediate) return IMMEDIATES[slot.immediate]!;
  if (slot.branch === 1) {
    return SHORT_TARGETS.map((target) => (SHORT_ONLY.test(mnemonic) ? target : `short ${target}`));
  }
  if (slot.branch !== undefined) return ["near $+2", "near $+0x300", "near $-0x200"];
  if (slot.far) return slot.bytes === 4 ? ["word 0x8:0x1234"] : ["dword 0x8:0x12345678"];
  const registers = registerTexts(slot, bits, form.encoding === "evex");
  const memory = slot.memory ? memoryTexts(form, slot, bits) : [];
  return [...registers, ...memory];
}

function decorated(form: Form, operands: readonly string[]): string[][] {
  if (form.encoding !== "evex") return [];
  const found: string[][] = [];
  const [first, ...rest] = operands;
  const last = operands.findLastIndex((_, i) => form.slots[i]!.modrm || form.slots[i]!.registers !== 0);
  const memoryAt = operands.findIndex((text) => text.includes("["));
  if (form.masking && !form.maskRequired) found.push([`${first}{k2}`, ...rest]);
  if (form.zeroing && memoryAt !== 0) found.push([`${first}{k5}{z}`, ...rest]);
  if (memoryAt >= 0 && form.broadcastCount > 0) {
    const address = operands[memoryAt]!.replace(/^\w+ (?=\[)/, "");
    found.push(operands.map((text, i) => (i === memoryAt ? `${address}{1to${form.broadcastCount}}` : text)));
  }
  if (memoryAt < 0 && form.rounding) {
    for (const mode of ["rn", "ru", "rd", "rz"])
      found.push(operands.map((text, i) => (i === last ? `${text}, {${mode}-sae}` : text)));
  } else if (memoryAt < 0 && form.suppressExceptions)
    found.push(operands.map((text, i) => (i === last ? `${text}, {sae}` : text)));
  return found;
}

/** Operand lists for one form: every text of every slot occurs at least once, and the decorations it may carry. */
function* operandLists(mnemonic: string, form: Form, bits: Bits): Generator<readonly string[]> {
  const choices = form.slots.map((slot) => slotTexts(mnemonic, form, slot, bits));
  if (choices.some((texts) => texts.length === 0)) return;
  const longest = Math.max(1, ...choices.map((texts) => texts.length));
  for (let round = 0; round < longest; round++) {
    const operands = choices.map((texts, i) => texts[(round + (round < texts.length ? 0 : i)) % texts.length]!);
    if (operands.filter((text) => text.includes("[")).length > 1) continue;
    const masked = form.maskRequired ? [`${operands[0]}{k3}`, ...operands.slice(1)] : operands;
    yield masked;
    if (round < 2 || masked.some((text) => text.includes("["))) {
      if (round % 3 < 2) yield* decorated(form, masked);
    }
  }
}

/** Every instruction form iced knows, in every mode it exists in, with a choice of operands for each. */
export function* corpus(): Generator<Sample> {
  for (const [mnemonic, codes] of codesByMnemonic()) {
    for (const code of codes) {
      const form = formOf(code);
      if (!form) continue;
      for (const bits of [16, 32, 64] as const) {
        if (!form.modes[bits]) continue;
        for (const operands of operandLists(mnemonic, form, bits)) {
          yield { text: operands.length === 0 ? mnemonic : `${mnemonic} ${operands.join(", ")}`, bits, mnemonic, form };
        }
      }
    }
  }
}
