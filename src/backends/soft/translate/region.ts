import { Decoder, type Instruction, newInstruction } from "../decoder/iced.ts";
import { Code, FlowControl, Mnemonic, OpKind, Register } from "../decoder/names.ts";
import { MASKS } from "../flags/kinds.ts";
import { isSystemRegister } from "../instructions.ts";
import { Vector } from "../state.ts";
import type { Registry } from "./context.ts";
import { RegionEmitter, type RegionOptions } from "./emitter.ts";
import { Insn } from "./insn.ts";
import type { Mode } from "./mode.ts";
import type { Site } from "./site.ts";

/** Instructions of one region at most: larger functions take the optimising compiler too long. */
export const REGION_INSTRUCTIONS = 256;
const MAX_INSTRUCTION_BYTES = 15;
/** Instructions of one block at most: the grain in which the budget is taken. */
export const BLOCK_INSTRUCTIONS = 64;

/** Where code is: bytes from one page, or from the two around an instruction that crosses them. */
export interface CodeSource {
  readonly bytes: Uint8Array;
  /** Instruction pointer of `bytes[0]`. */
  readonly rip: bigint;
}

export interface Block {
  /** Bytes from the start of the source. */
  readonly start: number;
  end: number;
  instructions: number;
  /** Its last instruction may jump to its first. */
  repeats: boolean;
}

interface Shape {
  readonly length: number;
  /** No fall-through inside the block. */
  readonly ends: boolean;
  /** Bytes from the start of the source where control may go on. */
  readonly leaders: readonly number[];
  readonly calls?: boolean;
}

/** Finds the blocks of a region and writes its function. */
export class Translator {
  readonly #registry: Registry;
  readonly #complete: () => boolean;
  /** Mnemonics behind which a block ends: their emitters leave through the run loop. */
  readonly #systemEnds: ReadonlySet<number>;
  readonly #instruction = newInstruction();
  readonly #insn = new Insn();

  /** `complete`: whether the registry has every emitter there is; more may be loaded on demand. */
  constructor(registry: Registry, systemEnds: ReadonlySet<number>, complete: () => boolean = () => true) {
    this.#registry = registry;
    this.#complete = complete;
    this.#systemEnds = systemEnds;
    this.#insn.raw = this.#instruction;
  }

  /** The blocks reachable from the entries by direct jumps and calls without leaving the source, in address order. */
  discover(
    source: CodeSource,
    mode: Mode,
    entries: readonly number[],
    stops: ReadonlySet<bigint>,
    limit = REGION_INSTRUCTIONS,
  ): Block[] {
    using decoder = new Decoder(mode.bits, source.bytes);
    const shapes = new Map<number, Shape>();
    const leaders = new Set(entries);
    const work = [...entries];
    for (let at = work.pop(); at !== undefined; at = work.pop()) {
      let run = 0;
      for (let offset = at; !shapes.has(offset) && shapes.size < limit; ) {
        const rip = BigInt.asUintN(mode.bits, source.rip + BigInt(offset));
        if (stops.has(rip)) break;
        const shape = this.#shape(decoder, source, mode, offset);
        if (shape === undefined) break;
        shapes.set(offset, shape);
        for (const leader of shape.leaders) {
          if (leaders.has(leader) || leader < 0 || leader >= source.bytes.length) continue;
          leaders.add(leader);
          work.push(leader);
        }
        if (shape.ends) break;
        offset += shape.length;
        if (++run >= BLOCK_INSTRUCTIONS) {
          leaders.add(offset);
          work.push(offset);
          break;
        }
      }
    }
    return [...leaders].sort((a, b) => a - b).flatMap((start) => this.#block(start, shapes, leaders));
  }

  #block(start: number, shapes: ReadonlyMap<number, Shape>, leaders: ReadonlySet<number>): Block[] {
    const block: Block = { start, end: start, instructions: 0, repeats: false };
    for (;;) {
      const shape = shapes.get(block.end);
      if (shape === undefined) break;
      block.end += shape.length;
      block.instructions++;
      block.repeats = shape.leaders.includes(start) && !shape.calls;
      if (shape.ends || leaders.has(block.end)) break;
    }
    return block.instructions === 0 ? [] : [block];
  }

  /** Undefined when the instruction does not end inside the source, or nothing can be decoded. */
  #shape(decoder: Decoder, source: CodeSource, mode: Mode, offset: number): Shape | undefined {
    const i = this.#instruction;
    decoder.seek(offset, BigInt.asUintN(mode.bits, source.rip + BigInt(offset)));
    decoder.decode(i);
    // Cut short here, or longer than any instruction may be: for the run loop to tell apart.
    if (i.isInvalid && (decoder.wantsMore || i.length === MAX_INSTRUCTION_BYTES)) return undefined;
    // All bytes that make it invalid are watched, or it would stay #UD when another than the first is changed.
    if (i.isInvalid) return { length: Math.max(i.length, 1), ends: true, leaders: [] };
    const next = offset + i.length;
    const flow = i.flowControl;
    if (flow === FlowControl.Next) {
      const ends = this.#systemEnds.has(i.mnemonic) || this.#movesSystemRegister(i);
      // Behind HLT there is often no code: it is translated when it is reached.
      return { length: i.length, ends, leaders: ends && i.mnemonic !== Mnemonic.Hlt ? [next] : [] };
    }
    const leaders: number[] = [];
    const kind = i.op0Kind;
    if (kind === OpKind.NearBranch16 || kind === OpKind.NearBranch32 || kind === OpKind.NearBranch64) {
      // The difference of instruction pointers is the difference of offsets.
      leaders.push(Number(BigInt.asIntN(mode.bits, i.nearBranchTarget - source.rip)));
    }
    const falls =
      flow === FlowControl.ConditionalBranch ||
      flow === FlowControl.Call ||
      flow === FlowControl.IndirectCall ||
      flow === FlowControl.Interrupt;
    if (falls) leaders.push(next);
    return { length: i.length, ends: true, leaders, calls: flow === FlowControl.Call };
  }

  #movesSystemRegister(i: Instruction): boolean {
    if (i.mnemonic !== Mnemonic.Mov && i.mnemonic !== Mnemonic.Pop) return false;
    return i.op0Register >= Register.ES && isSystemRegister(i.op0Register);
  }

  /** Writes the function of the region into `options.module` under `name`. Returns where it can leave. */
  emit(source: CodeSource, blocks: readonly Block[], name: string, options: RegionOptions): Site[] {
    const { mode } = options;
    using decoder = new Decoder(mode.bits, source.bytes);
    const e = new RegionEmitter(options);
    const at = (offset: number) => BigInt.asUintN(mode.bits, source.rip + BigInt(offset));
    e.begin(blocks.map((b) => at(b.start)));
    for (const [index, block] of blocks.entries()) {
      e.beginBlock(index, block.instructions, block.repeats);
      decoder.seek(block.start, at(block.start));
      for (let n = 0; n < block.instructions; n++) {
        decoder.decode(this.#instruction);
        this.#emitInstruction(e, mode);
      }
      e.endBlock(at(block.end));
    }
    e.finish(name);
    return e.sites;
  }

  #emitInstruction(e: RegionEmitter, mode: Mode): void {
    const insn = this.#insn;
    const raw = this.#instruction;
    insn.code = raw.code;
    insn.mnemonic = raw.mnemonic;
    insn.length = raw.length;
    insn.operands = raw.opCount;
    insn.rip = BigInt.asUintN(64, raw.ip);
    insn.next = BigInt.asUintN(64, raw.nextIP) & MASKS[mode.bits];
    e.beginInstruction(insn);
    const emitter =
      insn.code === Code.INVALID
        ? undefined
        : (this.#registry.codes.get(insn.code) ?? this.#registry.mnemonics.get(insn.mnemonic));
    if (emitter !== undefined) emitter(e);
    // Data behind code looks like any instruction: what is not known is only loaded when it is reached.
    else if (insn.code !== Code.INVALID && !this.#complete()) e.leaveUnknown();
    else e.raise(Vector.UD);
    e.endInstruction();
  }
}
