import type { Code } from "iced-x86";
import { type Bits, codesByMnemonic, type Form, formOf } from "./forms.ts";
import { iced } from "./iced.ts";

/** What a mnemonic stands for in one mode. */
export interface Mnemonic {
  /** Forms that exist in the mode, cheapest first. */
  readonly forms: readonly Form[];
  /** An immediate the mnemonic implies as last operand: CMPEQPS is CMPPS with 0. */
  readonly predicate: number | undefined;
}

/** Another name for one or several of iced's mnemonics. */
interface Alias {
  readonly names: readonly string[];
  readonly operandSize?: number;
  /** The only one of iced's codes that is meant. */
  readonly only?: keyof typeof Code;
  readonly predicate?: number;
}

const CONDITIONS: Readonly<Record<string, string>> = {
  c: "b",
  nae: "b",
  nc: "ae",
  nb: "ae",
  z: "e",
  nz: "ne",
  na: "be",
  nbe: "a",
  pe: "p",
  po: "np",
  nge: "l",
  nl: "ge",
  ng: "le",
  nle: "g",
};

/** iced names CMPccXADD after the negated conditions, everybody else after Intel's. */
const CMPXADD: readonly (readonly [string, string])[] = [
  ["a", "nbe"],
  ["ae", "nb"],
  ["e", "z"],
  ["g", "nle"],
  ["ge", "nl"],
  ["ne", "nz"],
];

/** Names NASM has and iced spells differently. Where several are given, the cheapest form of the mode wins, as in NASM. */
const ALIASES: Readonly<Record<string, Alias>> = {
  sal: { names: ["shl"] },
  xlat: { names: ["xlatb"] },
  fwait: { names: ["wait"] },
  fsetpm: { names: ["fnsetpm"] },
  loadall: { names: ["loadall"], only: "Loadall386" },
  loadall286: { names: ["loadall"], only: "Loadall286" },
  retn: { names: ["ret"] },
  retw: { names: ["ret"], operandSize: 16 },
  retd: { names: ["ret"], operandSize: 32 },
  retq: { names: ["ret"], operandSize: 64 },
  retnw: { names: ["ret"], operandSize: 16 },
  retnd: { names: ["ret"], operandSize: 32 },
  retnq: { names: ["ret"], operandSize: 64 },
  retfw: { names: ["retf"], operandSize: 16 },
  retfd: { names: ["retf"], operandSize: 32 },
  retfq: { names: ["retf"], operandSize: 64 },
  int03: { names: ["int3"] },
  int01: { names: ["int1"] },
  icebp: { names: ["int1"] },
  smi: { names: ["int1"] },
  pmulhrwa: { names: ["pmulhrw"] },
  ud2a: { names: ["ud2"] },
  ud2b: { names: ["ud1"] },
  loopz: { names: ["loope"] },
  loopnz: { names: ["loopne"] },
  iret: { names: ["iret", "iretd", "iretq"] },
  iretw: { names: ["iret"] },
  pushf: { names: ["pushf", "pushfd", "pushfq"] },
  pushfw: { names: ["pushf"] },
  popf: { names: ["popf", "popfd", "popfq"] },
  popfw: { names: ["popf"] },
  pusha: { names: ["pusha", "pushad"] },
  pushaw: { names: ["pusha"] },
  popa: { names: ["popa", "popad"] },
  popaw: { names: ["popa"] },
  getsec: { names: ["getsec", "getsecq"] },
  sysret: { names: ["sysret", "sysretq"] },
  sysexit: { names: ["sysexit", "sysexitq"] },
  movsx: { names: ["movsx", "movsxd"] },
};

const COMPARES = "eq lt le unord neq nlt nle ord".split(" ");
const VECTOR_COMPARES = (
  "eq_oq lt_os le_os unord_q neq_uq nlt_us nle_us ord_q eq_uq nge_us ngt_us false_oq neq_oq ge_os gt_os true_uq " +
  "eq_os lt_oq le_oq unord_s neq_us nlt_uq nle_uq ord_s eq_us nge_uq ngt_uq false_os neq_os ge_oq gt_oq true_us"
).split(" ");
const SHORT_VECTOR_COMPARES = [...COMPARES, "eq_uq", "nge", "ngt", "false", "neq_oq", "ge", "gt", "true"];
const INTEGER_COMPARES = ["eq", "lt", "le", "false", "neq", "nlt", "nle", "true"];
const XOP_COMPARES = ["lt", "le", "gt", "ge", "eq", "neq", "false", "true"];
const CARRYLESS: readonly (readonly [string, number])[] = [
  ["lqlq", 0x00],
  ["hqlq", 0x01],
  ["lqhq", 0x10],
  ["hqhq", 0x11],
];

function pseudoInstructions(): Map<string, Alias> {
  const found = new Map<string, Alias>(Object.entries(ALIASES));
  const put = (name: string, target: string, predicate: number) => {
    if (!codesByMnemonic().has(name) && !found.has(name)) found.set(name, { names: [target], predicate });
  };
  for (const [alias, condition] of Object.entries(CONDITIONS)) {
    for (const family of ["j", "set", "cmov"]) found.set(family + alias, { names: [family + condition] });
  }
  for (const [alias, condition] of CMPXADD) found.set(`cmp${alias}xadd`, { names: [`cmp${condition}xadd`] });
  for (const type of ["ps", "pd", "ss", "sd"]) {
    for (const [i, name] of COMPARES.entries()) put(`cmp${name}${type}`, `cmp${type}`, i);
  }
  for (const type of ["ps", "pd", "ss", "sd", "ph", "sh"]) {
    for (const [i, name] of VECTOR_COMPARES.entries()) put(`vcmp${name}${type}`, `vcmp${type}`, i);
    for (const [i, name] of SHORT_VECTOR_COMPARES.entries()) put(`vcmp${name}${type}`, `vcmp${type}`, i);
  }
  for (const type of ["b", "w", "d", "q", "ub", "uw", "ud", "uq"]) {
    for (const [i, name] of INTEGER_COMPARES.entries()) put(`vpcmp${name}${type}`, `vpcmp${type}`, i);
    put(`vpcmpge${type}`, `vpcmp${type}`, 5);
    put(`vpcmpgt${type}`, `vpcmp${type}`, 6);
    for (const [i, name] of XOP_COMPARES.entries()) put(`vpcom${name}${type}`, `vpcom${type}`, i);
  }
  for (const [name, predicate] of CARRYLESS) {
    put(`pclmul${name}dq`, "pclmulqdq", predicate);
    put(`vpclmul${name}dq`, "vpclmulqdq", predicate);
  }
  return found;
}

let aliases: Map<string, Alias> | undefined;
const resolved: Record<Bits, Map<string, Mnemonic | undefined>> = { 16: new Map(), 32: new Map(), 64: new Map() };

/** MOVSXD without REX.W only copies: MOVSX never means it. */
function isShortMovsxd({ code }: Form): boolean {
  const { Code } = iced();
  return code === Code.Movsxd_r16_rm16 || code === Code.Movsxd_r32_rm32;
}

/** Instructions whose VEX form came after the EVEX one, and which every assembler encodes as EVEX unless told {vex}. */
const EVEX_FIRST = /^(vpdpbusds?|vpdpwssds?|vpmadd52[lh]uq|vcvtneps2bf16)$/;

/** The order in which NASM would try a form: shortest first, but for what the sources cannot tell apart by length. */
function rank(name: string, form: Form, bits: Bits): number {
  let cost = form.cost[bits] * 4;
  if (form.rare) cost += 400;
  // PUSH of a number and a far pointer have the size of the mode, even where another would be shorter.
  if ((name === "push" || form.slots[0]?.far) && form.operandSize !== bits) cost += 80;
  if (bits === 64 && form.farMemory && form.operandSize === 64) cost -= 8;
  if (form.encoding === "vex" && EVEX_FIRST.test(name)) cost += 80;
  // Ties: the sign-extended immediate before the accumulator, FADD ST(i), ST(0) before its mirror, VPPERM's memory last.
  if (form.slots.some(({ immediate }) => immediate?.startsWith("imm8sex"))) cost -= 1;
  if (form.slots[1]?.label === "st0") cost -= 1;
  if (name === "vpextrw" && form.encoding === "evex" && form.slots[0]?.memory) cost -= 1;
  if (name === "vpperm" && form.slots[3]?.memory) cost -= 1;
  return cost;
}

function formsOf(names: readonly string[], bits: Bits): Form[] {
  const ranked: { form: Form; cost: number }[] = [];
  for (const name of names) {
    for (const code of codesByMnemonic().get(name) ?? []) {
      const form = formOf(code);
      if (form?.modes[bits]) ranked.push({ form, cost: rank(name, form, bits) });
    }
  }
  ranked.sort((a, b) => a.cost - b.cost || a.form.code - b.form.code);
  return ranked.map(({ form }) => form);
}

/**
 * Looks a mnemonic up, in lower case.
 *
 * @returns its forms in the mode (none when it exists in other modes only), or nothing for what is no instruction.
 */
export function mnemonic(name: string, bits: Bits): Mnemonic | undefined {
  const cache = resolved[bits];
  if (cache.has(name)) return cache.get(name);
  aliases ??= pseudoInstructions();
  const alias: Alias | undefined = aliases.get(name) ?? (codesByMnemonic().has(name) ? { names: [name] } : undefined);
  let found: Mnemonic | undefined;
  if (alias) {
    const { operandSize, only } = alias;
    const wanted = only === undefined ? undefined : iced().Code[only];
    const forms = formsOf(alias.names, bits).filter(
      (form) =>
        !(name === "movsx" && isShortMovsxd(form)) &&
        (operandSize === undefined || form.operandSize === operandSize) &&
        (wanted === undefined || form.code === wanted),
    );
    found = {
      forms,
      predicate: alias.predicate,
    };
    cache.set(name, found);
  }
  return found;
}

/** True for the name of an instruction in any mode, in lower case. */
export function isMnemonic(name: string): boolean {
  aliases ??= pseudoInstructions();
  return aliases.has(name) || codesByMnemonic().has(name);
}

/** Every mnemonic, for suggestions. */
export function allMnemonics(): string[] {
  aliases ??= pseudoInstructions();
  return [...codesByMnemonic().keys(), ...aliases.keys()];
}
