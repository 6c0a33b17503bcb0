import { newInstruction } from "../decoder/iced.ts";
import { Code } from "../decoder/names.ts";
import { State } from "../state.ts";
import type { HelperCpu, Registry, StateView } from "../translate/context.ts";
import { emitEnvironment, emitWait, emitX87 } from "./emit.ts";
import { fldenv, fnsave, fnstenv, frstor } from "./environment.ts";
import { FastX87 } from "./fast.ts";
import { X87State } from "./state.ts";
import { X87Unit } from "./unit.ts";

/** Codes between the first and the last x87 form that no processor since the 387 executes: #UD. */
const RETIRED: ReadonlySet<Code> = new Set([Code.Frstpm, Code.Fstdw_AX, Code.Fstsg_AX]);

const ENVIRONMENTS: readonly (readonly [Code, string, 14 | 28])[] = [
  [Code.Fldenv_m14byte, "x87.fldenv", 14],
  [Code.Fldenv_m28byte, "x87.fldenv", 28],
  [Code.Fnstenv_m14byte, "x87.fnstenv", 14],
  [Code.Fstenv_m14byte, "x87.fnstenv", 14],
  [Code.Fnstenv_m28byte, "x87.fnstenv", 28],
  [Code.Fstenv_m28byte, "x87.fnstenv", 28],
  [Code.Frstor_m94byte, "x87.frstor", 14],
  [Code.Frstor_m108byte, "x87.frstor", 28],
  [Code.Fnsave_m94byte, "x87.fnsave", 14],
  [Code.Fsave_m94byte, "x87.fnsave", 14],
  [Code.Fnsave_m108byte, "x87.fnsave", 28],
  [Code.Fsave_m108byte, "x87.fnsave", 28],
];

/** Enters every x87 instruction and its helpers. */
export function registerX87(registry: Registry): void {
  const raw = newInstruction();
  for (let code: Code = Code.Fadd_m32fp; code <= Code.Fcomip_st0_sti; code++) {
    if (RETIRED.has(code)) continue;
    registry.codes.set(code, emitX87);
    raw.code = code;
    registry.mnemonics.set(raw.mnemonic, emitX87);
  }
  for (const [code, helper, bytes] of ENVIRONMENTS) registry.codes.set(code, emitEnvironment(helper, bytes));
  registry.codes.set(Code.Wait, emitWait);
  registry.helpers.set("x87.register", register);
  registry.helpers.set("x87.load", load);
  registry.helpers.set("x87.prepare", prepare);
  registry.helpers.set("x87.commit", commit);
  registry.helpers.set("x87.fldenv", (cpu, segment, bytes, real) => fldenv(cpu, segment!, bytes!, real!));
  registry.helpers.set("x87.fnstenv", (cpu, segment, bytes, real) => fnstenv(cpu, segment!, bytes!, real!));
  registry.helpers.set("x87.frstor", (cpu, segment, bytes, real) => frstor(cpu, segment!, bytes!, real!));
  registry.helpers.set("x87.fnsave", (cpu, segment, bytes, real) => fnsave(cpu, segment!, bytes!, real!));
}

/** Both ways to execute over one processor's state. */
interface Units {
  readonly fast: FastX87;
  readonly whole: X87Unit;
}

const UNITS = Symbol("x87 units");

/** They hang on the view itself: a WeakMap would cost as much as an addition. */
function unitsOf(cpu: HelperCpu): Units {
  const view: StateView & { [UNITS]?: Units } = cpu.view;
  view[UNITS] ??= { fast: new FastX87(view), whole: new X87Unit(new X87State(view)) };
  return view[UNITS];
}

function register(cpu: HelperCpu, opcode: number, modrm: number, condition: number): number {
  const { fast, whole } = unitsOf(cpu);
  const result = fast.register(opcode, modrm, condition === 1);
  return result >= 0 ? result : whole.register(opcode, modrm, condition === 1);
}

function load(cpu: HelperCpu, opcode: number, reg: number, bytes: number): number {
  const { fast, whole } = unitsOf(cpu);
  if (fast.load(opcode, reg)) return 0;
  let bits = cpu.view.getBigUint64(State.scratch, true);
  if (bytes === 10) bits |= BigInt(cpu.view.getUint16(State.scratch + 8, true)) << 64n;
  whole.load(opcode, reg, bits);
  return 0;
}

/** Returns 1 and leaves the value in State.scratch when there is something to store. */
function prepare(cpu: HelperCpu, opcode: number, reg: number): number {
  const { fast, whole } = unitsOf(cpu);
  if (fast.prepare(opcode, reg)) return 1;
  const bits = whole.prepareStore(opcode, reg);
  if (bits === undefined) return 0;
  cpu.view.setBigUint64(State.scratch, BigInt.asUintN(64, bits), true);
  cpu.view.setBigUint64(State.scratch + 8, bits >> 64n, true);
  return 1;
}

function commit(cpu: HelperCpu, opcode: number, reg: number): number {
  const { fast, whole } = unitsOf(cpu);
  if (!fast.commit(opcode, reg)) whole.commitStore(opcode, reg);
  return 0;
}
