import { FLAGS_PARAMS, FlagCode } from "./flags/emit.ts";
import { Family, Flag, type FlagName, familyOf, KINDS } from "./flags/kinds.ts";
import { Code } from "./wasm/code.ts";
import { ModuleBuilder } from "./wasm/module.ts";
import { Op, Type } from "./wasm/opcodes.ts";

/** The six flags of a descriptor whose kind is only known at run time. `carry` stands for the second descriptor's CF. */
function flagsFunction(module: ModuleBuilder, name: string, withCarry: boolean, carryImport: number): void {
  const code = new Code(8);
  const carry = withCarry
    ? (flag: FlagName) => {
        for (let i = 4; i < 8; i++) code.get(i);
        code.i32(0);
        code.i64(0);
        code.i64(0);
        code.i64(0);
        code.call(carryImport);
        code.i32(Math.log2(Flag[flag]));
        code.op(Op.i32_shr_u);
        code.i32(1);
        code.op(Op.i32_and);
      }
    : () => code.i32(0);
  const flags = new FlagCode(code, { kind: 0, a: 1, b: 2, r: 3 }, carry);
  // One block per kind; br_table leaves k of them, so what follows the end of block k computes kind k.
  const labels = Array.from({ length: KINDS }, () => code.block()).reverse();
  code.get(0);
  code.brTable(labels);
  for (let kind = 0; kind < KINDS; kind++) {
    code.end();
    if (familyOf(kind) === Family.explicit) {
      code.get(1);
      code.op(Op.i32_wrap_i64);
    } else flags.all(kind);
    code.op(Op.return);
  }
  code.op(Op.unreachable);
  module.add(name, module.type(FLAGS_PARAMS, [Type.i32]), code);
}

let compiled: { plain: WebAssembly.Module; full: WebAssembly.Module } | undefined;

function compile(): { plain: WebAssembly.Module; full: WebAssembly.Module } {
  const plain = new ModuleBuilder();
  flagsFunction(plain, "carryFlags", false, 0);
  const full = new ModuleBuilder();
  const carry = full.importFunction("carryFlags", FLAGS_PARAMS, [Type.i32]);
  flagsFunction(full, "flags", true, carry);
  return { plain: new WebAssembly.Module(plain.finish(1, 0)), full: new WebAssembly.Module(full.finish(1, 0)) };
}

export type FlagsFunction = (
  kind: number,
  a: bigint,
  b: bigint,
  r: bigint,
  carryKind: number,
  carryA: bigint,
  carryB: bigint,
  carryR: bigint,
) => number;

/** Instantiates what all regions share: `flags`, exported to generated code and to TypeScript. */
export function createRuntime(memory: WebAssembly.Memory, table: WebAssembly.Table): { flags: FlagsFunction } {
  compiled ??= compile();
  const first = new WebAssembly.Instance(compiled.plain, { v: { memory, table } });
  const second = new WebAssembly.Instance(compiled.full, {
    v: { memory, table, carryFlags: first.exports.carryFlags as FlagsFunction },
  });
  return { flags: second.exports.flags as FlagsFunction };
}
