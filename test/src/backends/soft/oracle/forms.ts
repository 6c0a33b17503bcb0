import {
  Code,
  CodeExt,
  CpuidFeature,
  EncodingKind,
  FlowControl,
  Instruction,
  type MemorySize,
  Mnemonic,
  OpCodeOperandKind,
} from "iced-x86";
import type { Registry } from "../../../../../src/backends/soft/translate/context.ts";
import { EXCLUSIONS, HOST_NEEDS } from "./exclusions.ts";

export type Unit = "integer" | "x87" | "mmx" | "sse" | "avx" | "sequence";
/** Those that forms have. */
export const UNITS: readonly Unit[] = ["integer", "x87", "mmx", "sse", "avx"];

/** One row of iced's table, as far as tests ask. */
export interface Opcode {
  readonly name: string;
  readonly code: Code;
  readonly mnemonic: Mnemonic;
  /** The mnemonic in iced's spelling. */
  readonly word: string;
  /** Operand kinds by iced's names. */
  readonly kinds: readonly string[];
  readonly features: readonly string[];
  readonly encoding: EncodingKind;
  readonly modes: readonly (16 | 32 | 64)[];
  readonly privileged: boolean;
  /** What follows is executed next. */
  readonly falls: boolean;
  readonly canLock: boolean;
  readonly memorySize: MemorySize;
}

/** One way to write an instruction: register or memory where the form leaves the choice, in code of one width. */
export interface Form {
  readonly name: string;
  readonly opcode: Opcode;
  readonly bits: 16 | 32 | 64;
  readonly memory: boolean;
  readonly unit: Unit;
}

function namesOf(of: object): string[] {
  const names: string[] = [];
  for (const [name, value] of Object.entries(of)) if (typeof value === "number") names[value] ??= name;
  return names;
}
const KINDS = namesOf(OpCodeOperandKind);
const FEATURES = namesOf(CpuidFeature);
const MNEMONICS = namesOf(Mnemonic);

function opcodes(): Opcode[] {
  const all: Opcode[] = [];
  const raw = new Instruction();
  for (const [name, code] of Object.entries(Code)) {
    if (typeof code !== "number") continue;
    raw.code = code;
    const info = CodeExt.opCode(code);
    const { mnemonic } = raw;
    if (info.isInstruction)
      all.push({
        name,
        code,
        mnemonic,
        word: MNEMONICS[mnemonic] as string,
        kinds: Array.from({ length: info.opCount }, (_, i) => KINDS[info.opKind(i)] as string),
        features: [...raw.cpuidFeatures()].map((f) => FEATURES[f] as string),
        encoding: info.encoding,
        modes: [
          ...(info.mode16 ? ([16] as const) : []),
          ...(info.mode32 ? ([32] as const) : []),
          ...(info.mode64 ? ([64] as const) : []),
        ],
        privileged: raw.isPrivileged,
        falls: raw.flowControl === FlowControl.Next,
        canLock: info.canUseLockPrefix,
        memorySize: info.memorySize,
      });
    info.free();
  }
  raw.free();
  return all;
}

function unitOf({ encoding, kinds, features }: Opcode): Unit {
  if (features.some((f) => f.startsWith("FPU"))) return "x87";
  if (features.some((f) => f.startsWith("XSAVE") || f.startsWith("AVX") || f.startsWith("FMA") || f === "F16C"))
    return "avx";
  if (kinds.some((k) => /^[xy]mm|_vsib/.test(k)) || features.some((f) => /^FXSR|^SSE$/.test(f)))
    return encoding === EncodingKind.VEX ? "avx" : "sse";
  return features.includes("MMX") || kinds.some((k) => k.startsWith("mm_")) ? "mmx" : "integer";
}

/** Finds a form by what the decoder says. */
export class FormIndex {
  readonly #forms = new Map<string, Form>();

  constructor(forms: readonly Form[]) {
    for (const form of forms) {
      const key = `${form.opcode.code} ${form.bits}`;
      this.#forms.set(`${key} ${form.memory}`, form);
      // Operands at RSI, RDI and the like are memory too, which no form has a choice of.
      if (!this.#forms.has(`${key} ${!form.memory}`)) this.#forms.set(`${key} ${!form.memory}`, form);
    }
  }

  find(code: Code, bits: number, memory: boolean): Form | undefined {
    return this.#forms.get(`${code} ${bits} ${memory}`);
  }
}

/** What is compared, and what is not by reason. */
export interface FormList {
  readonly forms: readonly Form[];
  /** Names of codes by the reason they are left out for. */
  readonly excluded: ReadonlyMap<string, readonly string[]>;
}

/** Every opcode form of iced's table that the software CPU implements and user code may try. */
export function formList(registry: Registry, hostFlags: ReadonlySet<string>): FormList {
  const forms: Form[] = [];
  const excluded = new Map<string, string[]>();
  for (const opcode of opcodes()) {
    for (const bits of opcode.modes) {
      const reason = reasonAgainst(opcode, bits, registry, hostFlags);
      if (reason === undefined) forms.push(...formsOf(opcode, bits));
      else excluded.set(reason, [...(excluded.get(reason) ?? []), `${opcode.name} (${bits}-bit)`]);
    }
  }
  return { forms, excluded };
}

function reasonAgainst(
  opcode: Opcode,
  bits: 16 | 32 | 64,
  registry: Registry,
  hostFlags: ReadonlySet<string>,
): string | undefined {
  const { encoding, code, mnemonic, features, kinds } = opcode;
  if (encoding !== EncodingKind.Legacy && encoding !== EncodingKind.VEX)
    return "an EVEX, XOP, MVEX or 3DNow! encoding: not implemented";
  if (!registry.codes.has(code) && !registry.mnemonics.has(mnemonic)) return "not implemented";
  for (const { reason, matches } of EXCLUSIONS) if (matches(opcode, bits, hostFlags)) return reason;
  const wide = kinds.some((k) => k.startsWith("ymm"));
  for (const feature of features) {
    const flag = HOST_NEEDS[wide ? `${feature}.256` : feature] ?? HOST_NEEDS[feature];
    if (flag !== undefined && !hostFlags.has(flag)) return `the host lacks ${flag}`;
  }
  return undefined;
}

function formsOf(opcode: Opcode, bits: 16 | 32 | 64): Form[] {
  const { kinds, name } = opcode;
  const either = kinds.some((k) => k.includes("_or_mem"));
  const only = kinds.some((k) => k.startsWith("mem"));
  const unit = unitOf(opcode);
  const form = (memory: boolean, suffix = "") => ({ name: `${name}${suffix}`, opcode, bits, memory, unit });
  return either ? [form(false), form(true, " (memory)")] : [form(only)];
}
