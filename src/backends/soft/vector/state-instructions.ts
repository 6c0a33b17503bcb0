import { Register } from "../decoder/names.ts";
import { State, Vector } from "../state.ts";
import type { Address, Emit, Emitter } from "../translate/context.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import { entered } from "./operands.ts";
import { OFFSET } from "./special-helpers.ts";
import { XSAVE, XSAVEC, XSAVEOPT } from "./state-image.ts";

function storeOffset(e: Emit, at: Address): void {
  e.stateAddress();
  e.code.get(at.offset);
  e.storeState(Mem.i64_store, OFFSET);
}

/** Holds the image's address to its alignment; the helper does the rest of the access. */
function checkStart(e: Emit, at: Address, writes: boolean): void {
  if (writes) e.checkWrite(at, 1);
  else e.checkRead(at, 1);
}

/** FXSAVE and FXRSTOR. `wide`: the REX.W form with 64-bit pointers. */
function legacyImage(helper: string, wide: boolean): Emitter {
  return (e) => {
    if (!e.requireX87()) return;
    const at = e.address({ align: 16 });
    checkStart(e, at, helper === "sse.fxsave");
    storeOffset(e, at);
    e.code.i32(at.segment);
    e.code.i32(wide ? 1 : 0);
    e.code.i32(e.mode.bits === 64 ? 16 : 8);
    e.call(helper, [Type.i32, Type.i32, Type.i32], "faults");
  };
}

/** The XSAVE family: #UD without CR4.OSXSAVE, #NM with CR0.TS, #GP(0) unless aligned by 64. */
function extendedImage(helper: string, wide: boolean, variant?: number): Emitter {
  return (e) => {
    const { code } = e;
    if (!e.mode.osxsave) {
      e.raise(Vector.UD);
      return;
    }
    e.loadState(Mem.i32_load, State.cr0);
    code.i32(8);
    code.op(Op.i32_and);
    e.raiseIf(Vector.NM);
    const at = e.address({ align: 64 });
    checkStart(e, at, helper === "sse.xsave");
    storeOffset(e, at);
    code.i32(at.segment);
    code.i32((wide ? 1 : 0) | (e.mode.bits === 64 ? 2 : 0));
    e.gpr(Register.EAX);
    code.op(Op.i32_wrap_i64);
    if (variant !== undefined) code.i32(variant);
    e.call(helper, Array(variant === undefined ? 3 : 4).fill(Type.i32), "faults");
  };
}

const ldmxcsr: Emitter = entered((e) => {
  const { code } = e;
  const value = e.temp(Type.i64);
  e.load(e.address(), 4);
  code.set(value);
  code.get(value);
  code.i64(0xffff_0000);
  code.op(Op.i64_and);
  code.op(Op.i64_eqz);
  code.op(Op.i32_eqz);
  e.raiseIf(Vector.GP, 0);
  e.stateAddress();
  code.get(value);
  code.op(Op.i32_wrap_i64);
  e.storeState(Mem.i32_store, State.mxcsr);
});

const stmxcsr: Emitter = entered((e) => {
  const value = e.temp(Type.i64);
  e.loadState(Mem.i64_load32_u, State.mxcsr);
  e.code.set(value);
  e.store(e.address(), 4, value);
});

/** By full name. */
export const STATE_INSTRUCTIONS: Readonly<Record<string, Emitter>> = {
  Ldmxcsr: ldmxcsr,
  Vldmxcsr: ldmxcsr,
  Stmxcsr: stmxcsr,
  Vstmxcsr: stmxcsr,
  Fxsave: legacyImage("sse.fxsave", false),
  Fxsave64: legacyImage("sse.fxsave", true),
  Fxrstor: legacyImage("sse.fxrstor", false),
  Fxrstor64: legacyImage("sse.fxrstor", true),
  Xsave: extendedImage("sse.xsave", false, XSAVE),
  Xsave64: extendedImage("sse.xsave", true, XSAVE),
  Xsaveopt: extendedImage("sse.xsave", false, XSAVEOPT),
  Xsaveopt64: extendedImage("sse.xsave", true, XSAVEOPT),
  Xsavec: extendedImage("sse.xsave", false, XSAVEC),
  Xsavec64: extendedImage("sse.xsave", true, XSAVEC),
  Xrstor: extendedImage("sse.xrstor", false),
  Xrstor64: extendedImage("sse.xrstor", true),
};
