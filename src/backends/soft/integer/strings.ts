import { Mnemonic, OpKind, Register } from "../decoder/names.ts";
import { type Bits, Family, flagKind, MASKS } from "../flags/kinds.ts";
import { SegIndex, State } from "../state.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import type { Label } from "../wasm/code.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";
import type { CoreEmitter } from "./operands.ts";

type Bytes = 1 | 2 | 4 | 8;

interface StringForm {
  readonly bytes: Bytes;
  readonly addressBits: 16 | 32 | 64;
  readonly source: Register;
  readonly target: Register;
  readonly counter: Register;
  readonly sourceSegment: number;
  /** Local (i64): bytes to move the indexes by, negative when DF is set. */
  readonly step: number;
}

const REGISTERS = {
  16: [Register.SI, Register.DI, Register.CX],
  32: [Register.ESI, Register.EDI, Register.ECX],
  64: [Register.RSI, Register.RDI, Register.RCX],
} as const;

function addressBits(e: RegionEmitter): 16 | 32 | 64 {
  for (let i = 0; i < e.insn.operands; i++) {
    switch (e.insn.opKind(i)) {
      case OpKind.MemorySegSI:
      case OpKind.MemoryESDI:
        return 16;
      case OpKind.MemorySegESI:
      case OpKind.MemoryESEDI:
        return 32;
      case OpKind.MemorySegRSI:
      case OpKind.MemoryESRDI:
        return 64;
    }
  }
  return e.mode.bits;
}

function form(e: RegionEmitter, bytes: Bytes): StringForm {
  const c = e.code;
  const bits = addressBits(e);
  const [source, target, counter] = REGISTERS[bits];
  const step = e.temp(Type.i64);
  c.i64(-bytes);
  c.i64(bytes);
  e.loadState(Mem.i32_load, State.eflags);
  c.i32(0x400);
  c.op(Op.i32_and);
  c.op(Op.select);
  c.set(step);
  const segment = e.insn.raw.memorySegment;
  return {
    bytes,
    addressBits: bits,
    source,
    target,
    counter,
    sourceSegment: segment === Register.None ? SegIndex.ds : segment - Register.ES,
    step,
  };
}

function indexAddress(e: RegionEmitter, register: Register, segment: number) {
  const offset = e.temp(Type.i64);
  e.gpr(register);
  e.code.set(offset);
  return { offset, segment };
}

function advance(e: RegionEmitter, s: StringForm, register: Register): void {
  e.gpr(register);
  e.code.get(s.step);
  e.code.op(Op.i64_add);
  e.setGpr(register);
}

/**
 * Runs `body` once, or as often as a REP prefix says. State is exact between iterations, so a fault or the end of the
 * budget there leaves with the count that is left. `bulk` may do many iterations at once, or branch to its label.
 */
function repeat(
  e: RegionEmitter,
  s: StringForm,
  body: (done: Label | undefined) => void,
  bulk?: (impossible: Label) => void,
): void {
  const c = e.code;
  if (!e.insn.hasRep && !e.insn.hasRepne) {
    body(undefined);
    return;
  }
  e.commitFlags();
  const done = c.block();
  const again = c.loop();
  e.gpr(s.counter);
  c.op(Op.i64_eqz);
  c.brIf(done);
  if (bulk === undefined) body(done);
  else {
    const single = c.block();
    const many = c.block();
    bulk(many);
    c.br(single);
    c.end();
    body(done);
    c.end();
  }
  e.gpr(s.counter);
  c.op(Op.i64_eqz);
  c.brIf(done);
  // Each iteration counts as an instruction; the first is the one the block has paid.
  c.get(e.budgetLocal);
  c.op(Op.i32_eqz);
  c.if();
  e.leaveForBudget();
  c.end();
  c.get(e.budgetLocal);
  c.i32(1);
  c.op(Op.i32_sub);
  c.set(e.budgetLocal);
  c.br(again);
  c.end();
  c.end();
}

/** One iteration done: the counter goes down. */
function count(e: RegionEmitter, s: StringForm): void {
  if (!e.insn.hasRep && !e.insn.hasRepne) return;
  const c = e.code;
  e.gpr(s.counter);
  c.i64(1);
  c.op(Op.i64_sub);
  e.setGpr(s.counter);
}

/** Fewer elements than this are not worth the checks. */
const BULK_ELEMENTS = 8;

/** Whether offsets are linear addresses up to a segment base: no limit to check over a range. */
function bulkAllowed(e: RegionEmitter, s: StringForm): boolean {
  if (!e.insn.hasRep && !e.insn.hasRepne) return false;
  if (e.mode.alignCheck || s.addressBits === 16) return false;
  return e.mode.bits === 64 || (e.mode.flat && s.sourceSegment < 4);
}

/** Elements that a range of one page allows: the least of the counter, the budget and the room up to each page's end. */
function bulkCount(e: RegionEmitter, s: StringForm, linears: readonly number[], impossible: Label): number {
  const c = e.code;
  const elements = e.temp(Type.i64);
  const room = e.temp(Type.i64);
  const least = () => {
    c.set(room);
    c.get(room);
    c.get(elements);
    c.get(room);
    c.get(elements);
    c.op(Op.i64_lt_u);
    c.op(Op.select);
    c.set(elements);
  };
  c.get(s.step);
  c.i64(0);
  c.op(Op.i64_lt_s);
  c.brIf(impossible);
  e.gpr(s.counter);
  c.set(elements);
  c.get(e.budgetLocal);
  c.i32(1);
  c.op(Op.i32_add);
  c.op(Op.i64_extend_i32_u);
  least();
  for (const linear of linears) {
    c.i64(4096);
    c.get(linear);
    c.i64(4095);
    c.op(Op.i64_and);
    c.op(Op.i64_sub);
    c.i64(Math.log2(s.bytes));
    c.op(Op.i64_shr_u);
    least();
  }
  c.get(elements);
  c.i64(BULK_ELEMENTS);
  c.op(Op.i64_lt_u);
  c.brIf(impossible);
  return elements;
}

/** The WebAssembly address of `linear` in a local; branches when the TLB does not have it. */
function bulkHost(e: RegionEmitter, linear: number, write: boolean, impossible: Label): number {
  const c = e.code;
  const host = e.temp(Type.i32);
  const entry = e.probe(linear, 1, write);
  c.op(Op.i32_eqz);
  c.brIf(impossible);
  e.pushHost(linear, entry, write);
  c.set(host);
  return host;
}

function bulkBytes(e: RegionEmitter, s: StringForm, elements: number): number {
  const c = e.code;
  const length = e.temp(Type.i32);
  c.get(elements);
  c.op(Op.i32_wrap_i64);
  c.i32(Math.log2(s.bytes));
  c.op(Op.i32_shl);
  c.set(length);
  return length;
}

/** Takes the elements off the counter and the budget, and moves the indexes. */
function bulkAdvance(e: RegionEmitter, s: StringForm, elements: number, registers: readonly Register[]): void {
  const c = e.code;
  for (const register of registers) {
    e.gpr(register);
    c.get(elements);
    c.i64(Math.log2(s.bytes));
    c.op(Op.i64_shl);
    c.op(Op.i64_add);
    e.setGpr(register);
  }
  e.gpr(s.counter);
  c.get(elements);
  c.op(Op.i64_sub);
  e.setGpr(s.counter);
  c.get(e.budgetLocal);
  c.i32(1);
  c.op(Op.i32_add);
  c.get(elements);
  c.op(Op.i32_wrap_i64);
  c.op(Op.i32_sub);
  c.set(e.budgetLocal);
}

function bulkMovs(e: RegionEmitter, s: StringForm): ((impossible: Label) => void) | undefined {
  if (!bulkAllowed(e, s)) return undefined;
  return (impossible) => {
    const c = e.code;
    const from = e.linear(indexAddress(e, s.source, s.sourceSegment), 1, false);
    const to = e.linear(indexAddress(e, s.target, SegIndex.es), 1, true);
    const elements = bulkCount(e, s, [from, to], impossible);
    const source = bulkHost(e, from, false, impossible);
    const target = bulkHost(e, to, true, impossible);
    const length = bulkBytes(e, s, elements);
    // A target shortly behind its source repeats what was just written: one by one.
    c.get(target);
    c.get(source);
    c.op(Op.i32_sub);
    c.get(length);
    c.op(Op.i32_lt_u);
    c.brIf(impossible);
    c.get(target);
    c.get(source);
    c.get(length);
    c.memoryCopy();
    bulkAdvance(e, s, elements, [s.source, s.target]);
  };
}

function bulkStos(e: RegionEmitter, s: StringForm): ((impossible: Label) => void) | undefined {
  if (!bulkAllowed(e, s)) return undefined;
  return (impossible) => {
    const c = e.code;
    const to = e.linear(indexAddress(e, s.target, SegIndex.es), 1, true);
    const elements = bulkCount(e, s, [to], impossible);
    const target = bulkHost(e, to, true, impossible);
    const length = bulkBytes(e, s, elements);
    const byte = e.temp(Type.i64);
    e.gpr(Register.AL);
    c.set(byte);
    if (s.bytes > 1) {
      // Only a value of equal bytes can be filled.
      c.get(byte);
      c.i64(0x0101_0101_0101_0101n);
      c.op(Op.i64_mul);
      c.i64(MASKS[(s.bytes * 8) as Bits]);
      c.op(Op.i64_and);
      e.gpr(ACCUMULATOR[s.bytes]);
      c.op(Op.i64_ne);
      c.brIf(impossible);
    }
    c.get(target);
    c.get(byte);
    c.op(Op.i32_wrap_i64);
    c.get(length);
    c.memoryFill();
    bulkAdvance(e, s, elements, [s.target]);
  };
}

function movs(bytes: Bytes): CoreEmitter {
  return (e) => {
    const s = form(e, bytes);
    repeat(
      e,
      s,
      () => {
        const value = e.temp(Type.i64);
        e.load(indexAddress(e, s.source, s.sourceSegment), bytes);
        e.code.set(value);
        e.store(indexAddress(e, s.target, SegIndex.es), bytes, value);
        advance(e, s, s.source);
        advance(e, s, s.target);
        count(e, s);
      },
      bulkMovs(e, s),
    );
  };
}

const ACCUMULATOR: Record<Bytes, Register> = { 1: Register.AL, 2: Register.AX, 4: Register.EAX, 8: Register.RAX };

function stos(bytes: Bytes): CoreEmitter {
  return (e) => {
    const s = form(e, bytes);
    repeat(
      e,
      s,
      () => {
        const value = e.temp(Type.i64);
        e.gpr(ACCUMULATOR[bytes]);
        e.code.set(value);
        e.store(indexAddress(e, s.target, SegIndex.es), bytes, value);
        advance(e, s, s.target);
        count(e, s);
      },
      bulkStos(e, s),
    );
  };
}

function lods(bytes: Bytes): CoreEmitter {
  return (e) => {
    const s = form(e, bytes);
    repeat(e, s, () => {
      e.load(indexAddress(e, s.source, s.sourceSegment), bytes);
      e.setGpr(ACCUMULATOR[bytes]);
      advance(e, s, s.source);
      count(e, s);
    });
  };
}

/** Flags as CMP a, b; a REPE or REPNE ends when ZF is not as its prefix wants. */
function compare(e: RegionEmitter, s: StringForm, a: number, b: number, done: Label | undefined): void {
  const c = e.code;
  const bits = (s.bytes * 8) as Bits;
  c.get(a);
  c.set(e.main.a);
  c.get(b);
  c.set(e.main.b);
  c.get(a);
  c.get(b);
  c.op(Op.i64_sub);
  c.i64(MASKS[bits]);
  c.op(Op.i64_and);
  c.set(e.main.r);
  e.useFlags(Family.sub, bits);
  if (done === undefined) return;
  c.i32(flagKind(Family.sub, bits));
  c.set(e.main.kind);
  e.forgetFlags();
  c.get(a);
  c.get(b);
  c.op(e.insn.hasRepne ? Op.i64_eq : Op.i64_ne);
  c.brIf(done);
}

function cmps(bytes: Bytes): CoreEmitter {
  return (e) => {
    const s = form(e, bytes);
    repeat(e, s, (done) => {
      const a = e.temp(Type.i64);
      const b = e.temp(Type.i64);
      e.load(indexAddress(e, s.source, s.sourceSegment), bytes);
      e.code.set(a);
      e.load(indexAddress(e, s.target, SegIndex.es), bytes);
      e.code.set(b);
      advance(e, s, s.source);
      advance(e, s, s.target);
      count(e, s);
      compare(e, s, a, b, done);
    });
  };
}

function scas(bytes: Bytes): CoreEmitter {
  return (e) => {
    const s = form(e, bytes);
    repeat(e, s, (done) => {
      const a = e.temp(Type.i64);
      const b = e.temp(Type.i64);
      e.gpr(ACCUMULATOR[bytes]);
      e.code.set(a);
      e.load(indexAddress(e, s.target, SegIndex.es), bytes);
      e.code.set(b);
      advance(e, s, s.target);
      count(e, s);
      compare(e, s, a, b, done);
    });
  };
}

/** INS and OUTS leave to the run loop, element by element. */
function portString(e: RegionEmitter, input: boolean, bytes: Bytes): void {
  const c = e.code;
  const bits = addressBits(e);
  const segment = e.insn.raw.memorySegment;
  c.i32(bytes);
  c.i32(bits);
  c.i32(input ? SegIndex.es : segment === Register.None ? SegIndex.ds : segment - Register.ES);
  c.i32((input ? 1 : 0) | (e.insn.hasRep || e.insn.hasRepne ? 2 : 0));
  e.endSystem("portString", [Type.i32, Type.i32, Type.i32, Type.i32]);
}

/** MOVSD and CMPSD name SSE instructions too: those are told apart by their code, in the vector registry. */
export const strings: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Movsb, movs(1)],
  [Mnemonic.Movsw, movs(2)],
  [Mnemonic.Movsq, movs(8)],
  [Mnemonic.Stosb, stos(1)],
  [Mnemonic.Stosw, stos(2)],
  [Mnemonic.Stosd, stos(4)],
  [Mnemonic.Stosq, stos(8)],
  [Mnemonic.Lodsb, lods(1)],
  [Mnemonic.Lodsw, lods(2)],
  [Mnemonic.Lodsd, lods(4)],
  [Mnemonic.Lodsq, lods(8)],
  [Mnemonic.Cmpsb, cmps(1)],
  [Mnemonic.Cmpsw, cmps(2)],
  [Mnemonic.Cmpsq, cmps(8)],
  [Mnemonic.Scasb, scas(1)],
  [Mnemonic.Scasw, scas(2)],
  [Mnemonic.Scasd, scas(4)],
  [Mnemonic.Scasq, scas(8)],
  [Mnemonic.Insb, (e) => portString(e, true, 1)],
  [Mnemonic.Insw, (e) => portString(e, true, 2)],
  [Mnemonic.Insd, (e) => portString(e, true, 4)],
  [Mnemonic.Outsb, (e) => portString(e, false, 1)],
  [Mnemonic.Outsw, (e) => portString(e, false, 2)],
  [Mnemonic.Outsd, (e) => portString(e, false, 4)],
];

/** The string forms of the two ambiguous mnemonics. */
export const stringCodes = { movsd: movs(4), cmpsd: cmps(4) };
