import type { Code } from "../wasm/code.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { Type } from "../wasm/opcodes.ts";

/** One exported function of six i32 that returns an i32. */
export interface KernelSpec {
  readonly name: string;
  readonly code: () => Code;
}

/** Builds a module of kernels with a page of memory of its own; `result` views its first bytes. */
export function buildKernels(specs: readonly KernelSpec[]): Record<string, unknown> {
  const module = new ModuleBuilder();
  const type = module.type(Array(6).fill(Type.i32), [Type.i32]);
  for (const { name, code } of specs) module.add(name, type, code());
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const table = new WebAssembly.Table({ initial: 1, element: "anyfunc" });
  const compiled = new WebAssembly.Module(module.finish(1, 1));
  const instance = new WebAssembly.Instance(compiled, { v: { memory, table } });
  return { ...instance.exports, result: new Uint32Array(memory.buffer, 0, 2) };
}
