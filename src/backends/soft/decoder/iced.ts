import { readFileSync } from "node:fs";
import type * as iced from "iced-x86";

/**
 * iced's decoder, straight from the WebAssembly of its package. Of the 40 ms that `import "iced-x86"` and a first decode
 * take, 25 go into a megabyte of JavaScript for its encoder, formatters and enumerations: of no use here.
 */
interface Wasm {
  readonly memory: WebAssembly.Memory;
  readonly __wbindgen_malloc: (bytes: number, align: number) => number;
  readonly decoder_new: (result: number, bits: number, data: number, length: number, options: number) => void;
  readonly __wbg_decoder_free: (decoder: number) => void;
  readonly decoder_set_position: (result: number, decoder: number, position: number) => void;
  readonly decoder_set_ip: (decoder: number, ip: bigint) => void;
  readonly decoder_decodeOut: (decoder: number, instruction: number) => void;
  readonly decoder_lastError: (decoder: number) => number;
  readonly memorysizeext_size: (size: number) => number;
  readonly opcodeinfo_opCode: (info: number) => number;
  readonly opcodeinfo_groupIndex: (info: number) => number;
  readonly __wbg_opcodeinfo_free: (info: number) => void;
  readonly instruction_new: () => number;
  readonly instruction_set_code: (instruction: number, code: number) => void;
  readonly instruction_immediate: (result: number, instruction: number, operand: number) => void;
  readonly instruction_opCode: (instruction: number) => number;
  readonly instruction_ip: (instruction: number) => bigint;
  readonly instruction_nextIP: (instruction: number) => bigint;
  readonly instruction_nearBranchTarget: (instruction: number) => bigint;
  readonly instruction_memoryDisplacement: (instruction: number) => bigint;
}

/** Exports that read a number out of an instruction. */
type Getter = (instruction: number) => number;

function instantiate(): Record<string, Getter> & Wasm {
  const module = new WebAssembly.Module(readFileSync(Bun.resolveSync("iced-x86/iced_x86_bg.wasm", import.meta.dir)));
  // Called for errors only: a width that is not 16, 32 or 64, a position or an operand number out of range.
  const refuse = (name: string) => () => {
    throw new RangeError(`iced-x86 refused an argument (${name})`);
  };
  const imports: Record<string, Record<string, () => never>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    imports[from][name] = refuse(name);
  }
  return new WebAssembly.Instance(module, imports).exports as unknown as Record<string, Getter> & Wasm;
}

const wasm = instantiate();
/** DecoderError.NoMoreBytes */
const NO_MORE_BYTES = 2;
/** Where functions with two results leave them: a value, then whether it is an error. */
const RESULT = wasm.__wbindgen_malloc(16, 8);
let memory = new DataView(wasm.memory.buffer);

/** The memory, which moves when it grows. */
function view(): DataView {
  if (memory.buffer !== wasm.memory.buffer) memory = new DataView(wasm.memory.buffer);
  return memory;
}

/** Bytes of a memory operand; 0 where its size is not known. */
export function memorySizeBytes(size: iced.MemorySize): number {
  return wasm.memorysizeext_size(size);
}

/** Properties that are a number or an enumeration's value, below 2 to the 31. */
const NUMBERS = [
  "conditionCode",
  "encoding",
  "farBranch16",
  "farBranchSelector",
  "flowControl",
  "immediate8",
  "immediate8_2nd",
  "length",
  "memoryBase",
  "memoryDisplSize",
  "memoryIndex",
  "memoryIndexScale",
  "memorySegment",
  "memorySize",
  "mnemonic",
  "op0Kind",
  "op0Register",
  "opCount",
  "stackPointerIncrement",
] as const;
const FLAGS = [
  "hasLockPrefix",
  "hasRepPrefix",
  "hasRepnePrefix",
  "isCallFar",
  "isCallFarIndirect",
  "isCallNear",
  "isInvalid",
  "isJmpFar",
  "isJmpFarIndirect",
  "isJmpShortOrNear",
  "isVsib",
] as const;
const ADDRESSES = ["ip", "nextIP", "nearBranchTarget"] as const;

/** What the software CPU asks of an instruction; an `Instruction` of iced's own package answers too. */
export type RawInstruction = Pick<
  iced.Instruction,
  | (typeof NUMBERS)[number]
  | (typeof FLAGS)[number]
  | (typeof ADDRESSES)[number]
  | "code"
  | "farBranch32"
  | "immediate"
  | "immediate16"
  | "memoryDisplacement"
  | "opKind"
  | "opRegister"
> & { readonly opCode: Pick<iced.OpCodeInfo, "opCode" | "groupIndex"> };

const getter = (name: string): Getter => wasm[`instruction_${name}`] as Getter;
const OP_KINDS = [0, 1, 2, 3, 4].map((operand) => getter(`op${operand}Kind`));
const OP_REGISTERS = [0, 1, 2, 3, 4].map((operand) => getter(`op${operand}Register`));

/** One decoded instruction, to be decoded into again and again: it is never given back. */
class DecodedInstruction {
  /** Where it is in iced's memory. */
  readonly at = wasm.instruction_new();

  get code(): iced.Code {
    return getter("code")(this.at);
  }
  set code(code: iced.Code) {
    wasm.instruction_set_code(this.at, code);
  }
  get immediate16(): number {
    // iced exports one function for both: they lie at the same place.
    return getter("farBranch16")(this.at);
  }
  get farBranch32(): number {
    return getter("farBranch32")(this.at) >>> 0;
  }
  get memoryDisplacement(): bigint {
    return wasm.instruction_memoryDisplacement(this.at);
  }
  get opCode(): Pick<iced.OpCodeInfo, "opCode" | "groupIndex"> {
    const info = wasm.instruction_opCode(this.at);
    const copy = { opCode: wasm.opcodeinfo_opCode(info) >>> 0, groupIndex: wasm.opcodeinfo_groupIndex(info) };
    wasm.__wbg_opcodeinfo_free(info);
    return copy;
  }
  opKind(operand: number): iced.OpKind {
    return (OP_KINDS[operand] as Getter)(this.at);
  }
  opRegister(operand: number): iced.Register {
    return (OP_REGISTERS[operand] as Getter)(this.at);
  }
  immediate(operand: number): bigint {
    wasm.instruction_immediate(RESULT, this.at, operand);
    return view().getBigUint64(RESULT, true);
  }
}

/** Adds a property that reads by the export of its name. */
function define(name: string, read: (at: number) => unknown): void {
  Object.defineProperty(DecodedInstruction.prototype, name, {
    get(this: DecodedInstruction) {
      return read(this.at);
    },
  });
}
for (const name of NUMBERS) define(name, getter(name));
for (const name of FLAGS) define(name, (at) => getter(name)(at) !== 0);
for (const name of ADDRESSES) define(name, (at) => BigInt.asUintN(64, wasm[`instruction_${name}`](at)));

export type Instruction = DecodedInstruction & RawInstruction;

export function newInstruction(): Instruction {
  return new DecodedInstruction() as Instruction;
}

/** Decodes from a copy of `bytes`, which is given back on disposal. */
export class Decoder implements Disposable {
  readonly #at: number;

  constructor(bits: 16 | 32 | 64, bytes: Uint8Array) {
    const data = wasm.__wbindgen_malloc(bytes.length, 1);
    new Uint8Array(wasm.memory.buffer).set(bytes, data);
    wasm.decoder_new(RESULT, bits, data, bytes.length, 0);
    this.#at = view().getUint32(RESULT, true);
  }

  /** Goes on at `offset` bytes from the start, which has the instruction pointer `ip`. */
  seek(offset: number, ip: bigint): void {
    wasm.decoder_set_position(RESULT, this.#at, offset);
    wasm.decoder_set_ip(this.#at, ip);
  }

  decode(into: Instruction): void {
    wasm.decoder_decodeOut(this.#at, into.at);
  }

  /** Whether the last instruction is invalid because it goes on beyond the bytes. */
  get wantsMore(): boolean {
    return wasm.decoder_lastError(this.#at) === NO_MORE_BYTES;
  }

  [Symbol.dispose](): void {
    wasm.__wbg_decoder_free(this.#at);
  }
}
