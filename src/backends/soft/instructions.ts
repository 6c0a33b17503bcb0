import { Code, Mnemonic, Register } from "./decoder/names.ts";
import { arithmetic } from "./integer/arithmetic.ts";
import { bitInstructions } from "./integer/bits.ts";
import { control } from "./integer/control.ts";
import { moves } from "./integer/moves.ts";
import type { CoreEmitter } from "./integer/operands.ts";
import { shifts } from "./integer/shifts.ts";
import { stack } from "./integer/stack.ts";
import { stringCodes, strings } from "./integer/strings.ts";
import { system } from "./system/control-emitters.ts";
import type { Emitter, Registry } from "./translate/context.ts";

/** Mnemonics whose emitters always leave through the run loop, so that a block ends behind them. */
export const SYSTEM_ENDS: ReadonlySet<number> = new Set([
  Mnemonic.Hlt,
  Mnemonic.Cli,
  Mnemonic.Sti,
  Mnemonic.In,
  Mnemonic.Out,
  Mnemonic.Insb,
  Mnemonic.Insw,
  Mnemonic.Insd,
  Mnemonic.Outsb,
  Mnemonic.Outsw,
  Mnemonic.Outsd,
  Mnemonic.Lgdt,
  Mnemonic.Lidt,
  Mnemonic.Lldt,
  Mnemonic.Ltr,
  Mnemonic.Lmsw,
  Mnemonic.Verr,
  Mnemonic.Verw,
  Mnemonic.Clts,
  Mnemonic.Lar,
  Mnemonic.Lsl,
  Mnemonic.Invlpg,
  Mnemonic.Invpcid,
  Mnemonic.Wbinvd,
  Mnemonic.Invd,
  Mnemonic.Rdmsr,
  Mnemonic.Wrmsr,
  Mnemonic.Swapgs,
  Mnemonic.Xsetbv,
  Mnemonic.Clac,
  Mnemonic.Stac,
  Mnemonic.Vmcall,
  Mnemonic.Vmmcall,
  Mnemonic.Popf,
  Mnemonic.Popfd,
  Mnemonic.Popfq,
  Mnemonic.Lss,
]);

/** Registers whose moves end a block: segments, control and debug registers. */
export function isSystemRegister(register: Register): boolean {
  return (
    (register >= Register.ES && register <= Register.GS) || (register >= Register.CR0 && register <= Register.DR15)
  );
}

/** Adds the integer and system instructions. Their emitters need the core's own `RegionEmitter`. */
export function registerCore(registry: Registry): void {
  const groups = [arithmetic, bitInstructions, control, moves, shifts, stack, strings, system];
  for (const group of groups) for (const [mnemonic, emit] of group) registry.mnemonics.set(mnemonic, asEmitter(emit));
  registry.codes.set(Code.Movsd_m32_m32, asEmitter(stringCodes.movsd));
  registry.codes.set(Code.Cmpsd_m32_m32, asEmitter(stringCodes.cmpsd));
}

function asEmitter(emit: CoreEmitter): Emitter {
  return emit as Emitter;
}
