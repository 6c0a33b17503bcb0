import {
  type LaneCode,
  type MemCode,
  type OpCode,
  type SimdCode,
  type SimdMemCode,
  type ValueType,
  VOID,
  type WideCode,
} from "./opcodes.ts";

/** A label of a structured block, for `br` and its kin. */
export interface Label {
  /** Nesting depth at which it was opened. */
  readonly depth: number;
}

/**
 * Writes the body of one function. Operands go through the WebAssembly stack, in the order of the specification.
 * Locals 0 … n−1 are the parameters; `local()` adds one, zero at entry.
 */
export class Code {
  #bytes: Uint8Array<ArrayBuffer>;
  #length = 0;
  #depth = 0;
  readonly #locals: ValueType[] = [];
  readonly #params: number;

  /** `capacity`: bytes to begin with; it grows. */
  constructor(params: number, capacity = 1024) {
    this.#params = params;
    this.#bytes = new Uint8Array(capacity);
  }

  /** Bytes of code so far. */
  get size(): number {
    return this.#length;
  }

  byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#length++] = value;
  }

  bytes(values: Uint8Array): void {
    while (this.#length + values.length > this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(values, this.#length);
    this.#length += values.length;
  }

  /** What was written, without locals or a closing end: for sections of a module. */
  raw(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  /** Unsigned LEB128 of a value below 2^32. */
  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  #signed32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of a 64-bit value. */
  signed64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    if (rest === BigInt.asIntN(32, rest)) {
      this.#signed32(Number(rest));
      return;
    }
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Adds a local. */
  local(type: ValueType): number {
    this.#locals.push(type);
    return this.#params + this.#locals.length - 1;
  }

  op(code: OpCode): void {
    this.byte(code);
  }
  wide(code: WideCode): void {
    this.byte(0xfc);
    this.byte(code);
  }
  simd(code: SimdCode): void {
    this.byte(0xfd);
    this.unsigned(code);
  }
  lane(code: LaneCode, lane: number): void {
    this.byte(0xfd);
    this.byte(code);
    this.byte(lane);
  }
  /** 16 lane numbers of 0 to 31: 0 to 15 from the first operand, 16 to 31 from the second. */
  shuffle(lanes: ArrayLike<number>): void {
    this.byte(0xfd);
    this.byte(13);
    for (let i = 0; i < 16; i++) this.byte(lanes[i] ?? 0);
  }
  /** A load or store. The address (i32) is on the stack, below the value of a store. Alignment is declared as 1. */
  mem(code: MemCode, offset: number): void {
    this.byte(code);
    this.byte(0);
    this.unsigned(offset);
  }
  simdMem(code: SimdMemCode, offset: number): void {
    this.byte(0xfd);
    this.unsigned(code);
    this.byte(0);
    this.unsigned(offset);
  }
  /** Pops length, source and target (i32 each): memory.copy, overlapping as memmove does. */
  memoryCopy(): void {
    for (const b of [0xfc, 10, 0, 0]) this.byte(b);
  }
  /** Pops length, byte value and target (i32 each): memory.fill. */
  memoryFill(): void {
    for (const b of [0xfc, 11, 0]) this.byte(b);
  }
  i32(value: number): void {
    this.byte(0x41);
    this.#signed32(value);
  }
  i64(value: bigint | number): void {
    if (typeof value === "bigint") {
      this.bytes(constantBytes(value));
      return;
    }
    this.byte(0x42);
    if (value === (value | 0)) this.#signed32(value);
    else this.signed64(BigInt(value));
  }
  f64(value: number): void {
    this.byte(0x44);
    const bytes = new Uint8Array(new Float64Array([value]).buffer);
    for (const b of bytes) this.byte(b);
  }
  f32(value: number): void {
    this.byte(0x43);
    const bytes = new Uint8Array(new Float32Array([value]).buffer);
    for (const b of bytes) this.byte(b);
  }
  /** A v128 constant from two 64-bit halves. */
  v128(low: bigint, high: bigint): void {
    this.byte(0xfd);
    this.byte(12);
    for (const half of [low, high]) {
      let rest = BigInt.asUintN(64, half);
      for (let i = 0; i < 8; i++, rest >>= 8n) this.byte(Number(rest & 0xffn));
    }
  }
  get(local: number): void {
    this.byte(0x20);
    this.unsigned(local);
  }
  set(local: number): void {
    this.byte(0x21);
    this.unsigned(local);
  }
  tee(local: number): void {
    this.byte(0x22);
    this.unsigned(local);
  }
  #open(opcode: number, result: ValueType | typeof VOID): Label {
    this.byte(opcode);
    this.byte(result);
    return { depth: ++this.#depth };
  }
  block(result: ValueType | typeof VOID = VOID): Label {
    return this.#open(0x02, result);
  }
  loop(): Label {
    return this.#open(0x03, VOID);
  }
  /** Pops the condition (i32). */
  if(result: ValueType | typeof VOID = VOID): Label {
    return this.#open(0x04, result);
  }
  else(): void {
    this.byte(0x05);
  }
  end(): void {
    this.#depth--;
    this.byte(0x0b);
  }
  br(label: Label): void {
    this.byte(0x0c);
    this.unsigned(this.#depth - label.depth);
  }
  brIf(label: Label): void {
    this.byte(0x0d);
    this.unsigned(this.#depth - label.depth);
  }
  /** Pops the index; the last label is the default. */
  brTable(labels: readonly Label[]): void {
    this.byte(0x0e);
    this.unsigned(labels.length - 1);
    for (const label of labels) this.unsigned(this.#depth - label.depth);
  }
  call(func: number): void {
    this.byte(0x10);
    this.unsigned(func);
  }
  /** Tail call through table 0; the index is on top of the arguments. */
  returnCallIndirect(type: number): void {
    this.byte(0x13);
    this.unsigned(type);
    this.byte(0);
  }

  /** The body as the code section holds it: locals, code, end. `before` goes in front; it shares the locals. */
  finish(before?: Code): Uint8Array {
    const head = new Code(0);
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    head.unsigned(runs.length);
    for (const run of runs) {
      head.unsigned(run.count);
      head.byte(run.type);
    }
    if (before !== undefined) head.bytes(before.#bytes.subarray(0, before.#length));
    const body = new Uint8Array(head.#length + this.#length + 1);
    body.set(head.#bytes.subarray(0, head.#length));
    body.set(this.#bytes.subarray(0, this.#length), head.#length);
    body[body.length - 1] = 0x0b;
    return body;
  }
}

/** Masks and the like come back in every instruction: their bytes are kept, up to a bound. */
const CONSTANTS = new Map<bigint, Uint8Array>();
const MAX_CONSTANTS = 4096;

function constantBytes(value: bigint): Uint8Array {
  const known = CONSTANTS.get(value);
  if (known !== undefined) return known;
  const code = new Code(0, 16);
  code.byte(0x42);
  code.signed64(value);
  const bytes = code.raw();
  if (CONSTANTS.size < MAX_CONSTANTS) CONSTANTS.set(value, bytes);
  return bytes;
}
