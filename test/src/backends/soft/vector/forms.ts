import * as iced from "iced-x86";
import {
  type Code,
  Code as Codes,
  Encoder,
  Instruction,
  Mnemonic,
  OpCodeOperandKind,
  OpKind,
  Register,
} from "iced-x86";
import type { Registry } from "../../../../../src/backends/soft/translate/context.ts";
import type { VectorCase } from "./lockstep.ts";
import type { Random } from "./oracle/random.ts";

/** One way to write an instruction's operands: register or memory where the form leaves the choice. */
export interface VectorForm {
  readonly name: string;
  readonly code: Code;
  readonly mnemonic: Mnemonic;
  readonly kinds: readonly string[];
  readonly memory: boolean;
  readonly immediate: boolean;
}

const KIND_NAMES: Record<number, string> = Object.fromEntries(
  Object.entries(OpCodeOperandKind).flatMap(([name, value]) => (typeof value === "number" ? [[value, name]] : [])),
);

function kindsOf(code: Code): { kinds: string[]; encoding: number; long: boolean } {
  const info = iced.CodeExt.opCode(code);
  const kinds: string[] = [];
  for (let i = 0; i < info.opCount; i++) kinds.push(KIND_NAMES[info.opKind(i)]!);
  const result = { kinds, encoding: info.encoding, long: info.mode64 };
  info.free();
  return result;
}

function mnemonicOfCode(code: Code): Mnemonic {
  const raw = new Instruction();
  raw.code = code;
  const { mnemonic } = raw;
  raw.free();
  return mnemonic;
}

/** Every form of legacy and VEX encoding whose meaning `registry` knows. */
export function vectorForms(registry: Registry): VectorForm[] {
  const forms: VectorForm[] = [];
  for (const [name, code] of Object.entries(Codes)) {
    if (typeof code !== "number") continue;
    const mnemonic = mnemonicOfCode(code);
    if (!registry.codes.has(code) && !registry.mnemonics.has(mnemonic)) continue;
    if (!registry.codes.has(code) && (mnemonic === Mnemonic.Movsd || mnemonic === Mnemonic.Cmpsd)) continue;
    const { kinds, encoding, long } = kindsOf(code);
    if (encoding > 1 || !long) continue;
    const either = kinds.findIndex((k) => k.includes("_or_mem"));
    const immediate = kinds.some((k) => k.startsWith("imm"));
    const make = (memory: boolean) => ({
      name: memory && either >= 0 ? `${name} (memory)` : name,
      code,
      mnemonic,
      kinds,
      memory,
      immediate,
    });
    if (either >= 0) forms.push(make(false), make(true));
    else forms.push(make(kinds.some((k) => k.startsWith("mem"))));
  }
  return forms;
}

/** Numbers of the index register and the mask of a gather; the destination must be another one. */
export const VSIB_INDEX = 7;
const VSIB_MASK = 8;

/** Makes a case's addresses sane for forms that take them from registers that are otherwise random. */
export function prepareCase(form: VectorForm, c: VectorCase, random: Random): void {
  const name = Mnemonic[form.mnemonic]!;
  if (/^V?p?gather/i.test(name.slice(1))) {
    const view = new DataView(c.ymm.buffer, c.ymm.byteOffset + 32 * VSIB_INDEX, 32);
    // DPS, DPD, DD and DQ have indices of 32 bits, the others of 64.
    const bytes = /gatherd/.test(name) ? 4 : 8;
    for (let i = 0; i < 32; i += bytes) {
      const index = random.below(15);
      if (bytes === 4) view.setInt32(i, index, true);
      else view.setBigInt64(i, BigInt(index), true);
    }
  }
  if (/maskmov(q|dqu)$/i.test(name)) c.pointers = [7];
}

const GPRS = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13];

/** Encodes a form with registers and immediate chosen by `random`. Undefined for what a choice makes unencodable. */
export function encodeForm(form: VectorForm, random: Random): Uint8Array | undefined {
  const raw = new Instruction();
  raw.code = form.code;
  form.kinds.forEach((kind, i) => {
    setOperand(raw, i, kind, form.memory, random);
  });
  if (form.kinds.some((kind) => kind.startsWith("mem_vsib")))
    raw.op2Register = (form.kinds[2]!.startsWith("ymm") ? Register.YMM0 : Register.XMM0) + VSIB_MASK;
  const encoder = new Encoder(64);
  try {
    encoder.encode(raw, 0x1000n);
    return encoder.takeBuffer();
  } catch (error) {
    if (String(error).includes("RIP")) return undefined;
    throw new Error(`${form.name}: ${String(error)}`);
  } finally {
    encoder.free();
    raw.free();
  }
}

function setOperand(raw: Instruction, i: number, kind: string, memory: boolean, random: Random): void {
  if (kind.startsWith("imm")) {
    raw.setOpKind(i, OpKind.Immediate8);
    raw.immediate8 = random.below(256);
    return;
  }
  if (kind.startsWith("mem_vsib")) {
    setMemory(raw, i);
    const wide = kind.endsWith("y");
    raw.memoryIndex = (wide ? Register.YMM0 : Register.XMM0) + VSIB_INDEX;
    raw.memoryIndexScale = random.pick([1, 2, 4, 8]);
    return;
  }
  if (kind.startsWith("mem") || (kind.includes("_or_mem") && memory)) {
    setMemory(raw, i);
    return;
  }
  if (kind === "seg_rDI") {
    raw.setOpKind(i, OpKind.MemorySegRDI);
    return;
  }
  raw.setOpKind(i, OpKind.Register);
  raw.setOpRegister(i, registerFor(kind, random));
}

function setMemory(raw: Instruction, i: number): void {
  raw.setOpKind(i, OpKind.Memory);
  raw.memoryBase = Register.R14;
  raw.memoryDisplSize = 0;
}

function registerFor(kind: string, random: Random): Register {
  if (kind.startsWith("xmm")) return Register.XMM0 + random.below(7);
  if (kind.startsWith("ymm")) return Register.YMM0 + random.below(7);
  if (kind.startsWith("mm")) return Register.MM0 + random.below(8);
  const gpr = random.pick(GPRS);
  if (kind.startsWith("r64")) return Register.RAX + gpr;
  if (kind.startsWith("r32")) return Register.EAX + gpr;
  if (kind.startsWith("r16")) return Register.AX + gpr;
  if (kind.startsWith("r8")) return gpr < 4 ? Register.AL + gpr : Register.SPL + gpr - 4;
  if (kind === "al") return Register.AL;
  throw new Error(`no register for operand kind ${kind}`);
}
