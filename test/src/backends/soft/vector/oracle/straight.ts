import { ConditionCode, Decoder, DecoderOptions, Register, type Register as RegisterNumber } from "iced-x86";
import { State, type Vector } from "../../../../../../src/backends/soft/state.ts";
import type { Address, Emit, HelperCpu, Registry } from "../../../../../../src/backends/soft/translate/context.ts";
import { gprBits, gprIndex, Insn } from "../../../../../../src/backends/soft/translate/insn.ts";
import type { Mode } from "../../../../../../src/backends/soft/translate/mode.ts";
import { Code } from "../../../../../../src/backends/soft/wasm/code.ts";
import { ModuleBuilder } from "../../../../../../src/backends/soft/wasm/module.ts";
import {
  Mem,
  type MemCode,
  Op,
  type SimdMemCode,
  Type,
  type ValueType,
} from "../../../../../../src/backends/soft/wasm/opcodes.ts";

/** Where the memory operand lies in the WebAssembly memory; its linear address is the same number. */
export const GUEST = 0x50000;
export const GUEST_BYTES = 2048;

/** 64-bit mode at CPL 3 with every unit enabled: what x87 and vector emitters ask of a mode, and no more. */
const MODE = {
  id: 1,
  bits: 64,
  stackBits: 64,
  user: true,
  cpl: 3,
  real: false,
  v86: false,
  long: true,
  flat: true,
  csBase: 0n,
  csLimit: 0xffff_ffff,
  alignCheck: false,
  x87: "run",
  mmx: "run",
  sse: "run",
  avx: "run",
  osxsave: true,
  ioAllowed: false,
} as Mode;

/** Everything an emitter asks for, for one instruction over flat memory without faults: a test bench for emitters alone. */
class StraightEmit implements Emit {
  readonly code: Code;
  readonly insn: Insn;
  readonly mode: Mode;
  readonly #module: ModuleBuilder;
  readonly #end;
  #address: Address | undefined;

  constructor(module: ModuleBuilder, insn: Insn, mode: Mode) {
    this.#module = module;
    this.insn = insn;
    this.mode = mode;
    this.code = new Code(0);
    this.#end = this.code.block();
  }

  temp(type: ValueType): number {
    return this.code.local(type);
  }

  gpr(register: RegisterNumber): void {
    const at = State.gpr + 8 * gprIndex(register);
    const bits = gprBits(register);
    const load =
      bits === 64 ? Mem.i64_load : bits === 32 ? Mem.i64_load32_u : bits === 16 ? Mem.i64_load16_u : Mem.i64_load8_u;
    this.loadState(load, at);
  }

  setGpr(register: RegisterNumber): void {
    const value = this.temp(Type.i64);
    this.code.set(value);
    const bits = gprBits(register);
    this.stateAddress();
    this.code.get(value);
    if (bits === 32) {
      this.code.i64(0xffff_ffffn);
      this.code.op(Op.i64_and);
    }
    this.storeState(
      bits >= 32 ? Mem.i64_store : bits === 16 ? Mem.i64_store16 : Mem.i64_store8,
      State.gpr + 8 * gprIndex(register),
    );
  }

  loadState(code: MemCode | SimdMemCode, offset: number): void {
    this.code.i32(0);
    this.#access(code, offset);
  }
  stateAddress(): void {
    this.code.i32(0);
  }
  storeState(code: MemCode | SimdMemCode, offset: number): void {
    this.#access(code, offset);
  }
  #access(code: number, offset: number): void {
    if (code >= 0x28 && code <= 0x3e) this.code.mem(code as MemCode, offset);
    else this.code.simdMem(code as SimdMemCode, offset);
  }

  address(options?: { align?: number }): Address {
    if (!this.#address) {
      const { raw } = this.insn;
      const offset = this.temp(Type.i64);
      if (raw.memoryBase === Register.None) this.code.i64(0);
      else this.gpr(raw.memoryBase);
      if (raw.memoryIndex !== Register.None) {
        this.gpr(raw.memoryIndex);
        this.code.i64(raw.memoryIndexScale);
        this.code.op(Op.i64_mul);
        this.code.op(Op.i64_add);
      }
      this.code.i64(raw.memoryDisplacement);
      this.code.op(Op.i64_add);
      this.code.set(offset);
      this.#address = { offset, segment: 3 };
    }
    if (options?.align) {
      this.code.get(this.#address.offset);
      this.code.i64(options.align - 1);
      this.code.op(Op.i64_and);
      this.code.op(Op.i64_eqz);
      this.code.op(Op.i32_eqz);
      this.raiseIf(13, 0);
    }
    return this.#address;
  }

  #pushAddress(address: Address): void {
    this.code.get(address.offset);
    this.code.op(Op.i32_wrap_i64);
  }

  load(address: Address, bytes: 1 | 2 | 4 | 8 | 16, displacement = 0): void {
    this.#pushAddress(address);
    const codes = { 1: Mem.i64_load8_u, 2: Mem.i64_load16_u, 4: Mem.i64_load32_u, 8: Mem.i64_load, 16: 0 as const };
    this.#access(codes[bytes], displacement);
  }
  store(address: Address, bytes: 1 | 2 | 4 | 8 | 16, value: number, displacement = 0): void {
    this.#pushAddress(address);
    this.code.get(value);
    const codes = { 1: Mem.i64_store8, 2: Mem.i64_store16, 4: Mem.i64_store32, 8: Mem.i64_store, 16: 11 as const };
    this.#access(codes[bytes], displacement);
  }
  checkWrite(_address: Address, _bytes: number): void {}
  checkRead(_address: Address, _bytes: number): void {}

  raise(vector: Vector, errorCode = 0): void {
    this.stateAddress();
    this.code.i32(vector);
    this.storeState(Mem.i32_store, State.vector);
    this.stateAddress();
    this.code.i32(errorCode);
    this.storeState(Mem.i32_store, State.errorCode);
    this.code.br(this.#end);
  }
  raiseIf(vector: Vector, errorCode?: number): void {
    this.code.if();
    this.raise(vector, errorCode);
    this.code.end();
  }

  setFlags(): void {
    const value = this.temp(Type.i32);
    this.code.set(value);
    this.stateAddress();
    this.code.get(value);
    this.storeState(Mem.i32_store, State.eflags);
  }
  flags(): void {
    this.loadState(Mem.i32_load, State.eflags);
  }
  condition(cc: ConditionCode): void {
    const masks: Partial<Record<ConditionCode, number>> = {
      [ConditionCode.b]: 1,
      [ConditionCode.ae]: 1,
      [ConditionCode.e]: 0x40,
      [ConditionCode.ne]: 0x40,
      [ConditionCode.be]: 0x41,
      [ConditionCode.a]: 0x41,
      [ConditionCode.p]: 4,
      [ConditionCode.np]: 4,
    };
    const negative = [ConditionCode.ae, ConditionCode.ne, ConditionCode.a, ConditionCode.np].includes(cc);
    this.flags();
    this.code.i32(masks[cc]!);
    this.code.op(Op.i32_and);
    this.code.op(Op.i32_eqz);
    if (!negative) this.code.op(Op.i32_eqz);
  }

  call(name: string, params: readonly ValueType[], result?: ValueType | "faults"): void {
    const results = result === undefined ? [] : [result === "faults" ? Type.i32 : result];
    this.code.call(this.#module.importFunction(name, params, results));
    if (result === "faults") this.code.brIf(this.#end);
  }
  callSystem(name: string, params: readonly ValueType[]): void {
    this.call(name, params, "faults");
  }

  requireX87(): boolean {
    return this.#require(this.mode.x87);
  }
  requireMmx(): boolean {
    return this.#require(this.mode.mmx);
  }
  requireSse(): boolean {
    return this.#require(this.mode.sse);
  }
  requireAvx(): boolean {
    return this.#require(this.mode.avx);
  }
  #require(gate: "run" | "ud" | "nm"): boolean {
    if (gate !== "run") this.raise(gate === "ud" ? 6 : 7);
    return gate === "run";
  }

  finish(): Code {
    this.code.end();
    return this.code;
  }
}

/** Runs single instructions through their emitters. State at 0, memory operand at `GUEST`. */
export class StraightRunner {
  readonly memory = new WebAssembly.Memory({ initial: 6 });
  readonly view: DataView<ArrayBuffer> = new DataView(this.memory.buffer as ArrayBuffer);
  readonly bytes: Uint8Array = new Uint8Array(this.memory.buffer as ArrayBuffer);
  readonly #registry: Registry;
  readonly #imports: Record<string, unknown> = {};
  readonly #table = new WebAssembly.Table({ initial: 1, element: "anyfunc" });
  readonly #cpu: HelperCpu;

  constructor(registry: Registry) {
    this.#registry = registry;
    const { view, bytes } = this;
    this.#cpu = {
      view,
      raise(vector, errorCode = 0) {
        view.setInt32(State.vector, vector, true);
        view.setInt32(State.errorCode, errorCode, true);
        return 1;
      },
      readMemory(_segment, offset, into) {
        into.set(bytes.subarray(Number(offset), Number(offset) + into.length));
        return true;
      },
      writeMemory(_segment, offset, from) {
        bytes.set(from, Number(offset));
        return true;
      },
    };
    this.#imports = { memory: this.memory, table: this.#table };
  }

  /** Translates one instruction. Undefined when nothing registered knows it. */
  translate(instruction: Uint8Array, mode: Partial<Mode> = {}): (() => void) | undefined {
    const bits = mode.bits ?? 64;
    const decoder = new Decoder(bits, instruction, DecoderOptions.None);
    const raw = decoder.decode();
    decoder.free();
    const insn = new Insn();
    insn.raw = raw;
    insn.code = raw.code;
    insn.mnemonic = raw.mnemonic;
    insn.length = raw.length;
    insn.operands = raw.opCount;
    const emitter = this.#registry.codes.get(insn.code) ?? this.#registry.mnemonics.get(insn.mnemonic);
    if (!emitter) return undefined;
    const module = new ModuleBuilder();
    const e = new StraightEmit(module, insn, { ...MODE, ...mode });
    emitter(e);
    raw.free();
    module.add("run", module.type([], []), e.finish());
    const compiled = new WebAssembly.Module(module.finish(6, 1));
    for (const { name, kind } of WebAssembly.Module.imports(compiled))
      if (kind === "function" && !this.#imports[name]) this.#imports[name] = this.#helper(name);
    const instance = new WebAssembly.Instance(compiled, { v: this.#imports } as Bun.WebAssembly.Imports);
    return instance.exports.run as () => void;
  }

  #helper(name: string): (...args: number[]) => number {
    const helper = this.#registry.helpers.get(name);
    if (!helper) throw new TypeError(`No helper is called "${name}"`);
    const cpu = this.#cpu;
    return (...args) => helper(cpu, ...args);
  }
}
