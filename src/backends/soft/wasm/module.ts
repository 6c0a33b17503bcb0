import { Code } from "./code.ts";
import type { ValueType } from "./opcodes.ts";

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const encoder = new TextEncoder();

/**
 * Assembles one WebAssembly module: types, imported functions, one imported memory, one imported table, functions and
 * their exports (WebAssembly Core Specification 3.0, "Binary Format, Modules"). Imports come from the module name `v`.
 */
export class ModuleBuilder {
  readonly #types: string[] = [];
  readonly #imports: { name: string; type: number }[] = [];
  readonly #importIndex = new Map<string, number>();
  readonly #functions: { type: number; body: Uint8Array; name: string }[] = [];

  /** Index of a function type, interned. */
  type(params: readonly ValueType[], results: readonly ValueType[]): number {
    const key = String.fromCharCode(0x60, params.length, ...params, results.length, ...results);
    const known = this.#types.indexOf(key);
    return known >= 0 ? known : this.#types.push(key) - 1;
  }

  /** Imports a function, interned by name, and returns its index. */
  importFunction(name: string, params: readonly ValueType[], results: readonly ValueType[]): number {
    const known = this.#importIndex.get(name);
    if (known !== undefined) return known;
    const index = this.#imports.push({ name, type: this.type(params, results) }) - 1;
    this.#importIndex.set(name, index);
    return index;
  }

  /** Adds and exports a function under `name`. Functions call each other through the table only, so imports may still come. */
  add(name: string, type: number, code: Code, before?: Code): void {
    this.#functions.push({ type, body: code.finish(before), name });
  }

  /** The bytes of the module. `memoryPages` is the least size of the memory import, `tableSize` of the table import. */
  finish(memoryPages: number, tableSize: number): Uint8Array<ArrayBuffer> {
    const out = new Code(0);
    for (const b of MAGIC) out.byte(b);
    section(out, 1, (c) => {
      c.unsigned(this.#types.length);
      for (const type of this.#types) for (let i = 0; i < type.length; i++) c.byte(type.charCodeAt(i));
    });
    section(out, 2, (c) => {
      c.unsigned(this.#imports.length + 2);
      for (const { name, type } of this.#imports) {
        text(c, "v");
        text(c, name);
        c.byte(0);
        c.unsigned(type);
      }
      text(c, "v");
      text(c, "memory");
      c.byte(2);
      c.byte(0);
      c.unsigned(memoryPages);
      text(c, "v");
      text(c, "table");
      c.byte(1);
      c.byte(0x70);
      c.byte(0);
      c.unsigned(tableSize);
    });
    section(out, 3, (c) => {
      c.unsigned(this.#functions.length);
      for (const { type } of this.#functions) c.unsigned(type);
    });
    section(out, 7, (c) => {
      c.unsigned(this.#functions.length);
      this.#functions.forEach(({ name }, i) => {
        text(c, name);
        c.byte(0);
        c.unsigned(this.#imports.length + i);
      });
    });
    section(out, 10, (c) => {
      c.unsigned(this.#functions.length);
      for (const { body } of this.#functions) {
        c.unsigned(body.length);
        c.bytes(body);
      }
    });
    return out.raw();
  }
}

function text(code: Code, value: string): void {
  const bytes = encoder.encode(value);
  code.unsigned(bytes.length);
  code.bytes(bytes);
}

function section(out: Code, id: number, fill: (code: Code) => void): void {
  const code = new Code(0);
  fill(code);
  const bytes = code.raw();
  out.byte(id);
  out.unsigned(bytes.length);
  out.bytes(bytes);
}
