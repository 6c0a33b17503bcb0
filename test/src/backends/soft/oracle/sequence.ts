import { Decoder, DecoderOptions, EncodingKind, Formatter, FormatterSyntax, MemorySize } from "iced-x86";
import { describe, type Encoded, encode } from "./encode.ts";
import type { Form, FormIndex, Opcode } from "./forms.ts";
import { operandHint } from "./hints.ts";
import { HLT, SLOT_BYTES } from "./layout.ts";
import type { Random } from "./random.ts";
import { TOLERANCES } from "./tolerances.ts";
import { slotOffset, type World } from "./worlds.ts";

/** Instructions of a sequence at most. */
const MOST = 6;
const OF = 0x800;
const AF = 0x10;
const CF = 1;
/** The count may be 0, which leaves all flags. */
const SHIFTS = /^(Sh[lr]|Sa[lr]|R[oc][lr])$/;
const STACK = 4;

/** Mnemonics with a life of their own: bases of segments, and what changes how everything behind them runs. */
const ALONE = /^(Wr[fg]sbase|Fldcw|V?ldmxcsr|Enter|Leave|Popa|Popad)$/i;

const SEQUENCE: Opcode = {
  name: "sequence",
  code: 0,
  mnemonic: 0,
  word: "Sequence",
  kinds: [],
  features: [],
  encoding: EncodingKind.Legacy,
  modes: [16, 32, 64],
  privileged: false,
  falls: true,
  canLock: false,
  memorySize: MemorySize.Unknown,
};

/** Whether a form may stand among others: it goes on behind itself, needs no pointer, and has one right answer. */
function mayFollow({ opcode }: Form): boolean {
  const { kinds, word, privileged, falls } = opcode;
  if (!falls || privileged || ALONE.test(word) || operandHint(opcode) !== undefined) return false;
  if (kinds.some((k) => /^(seg|es)_r|vsib|^[cdefgs]s$|seg_reg/.test(k))) return false;
  return !TOLERANCES.some((t) => t.matches(opcode) && !kinds.some((k) => /^[xy]mm/.test(k)));
}

/** Approximations are tolerated one at a time. */
const INEXACT = /^V?(rcp|rsqrt)[ps]s$/i;

/** Makes sequences of instructions whose outcome is defined, flags included. */
export class SequenceMaker {
  readonly #index: FormIndex;
  readonly #integer: ReadonlyMap<number, readonly Form[]>;
  readonly #all: ReadonlyMap<number, readonly Form[]>;

  constructor(forms: readonly Form[], index: FormIndex) {
    this.#index = index;
    const usable = forms.filter((f) => mayFollow(f) && !INEXACT.test(f.opcode.word));
    const by = (list: readonly Form[]) =>
      new Map([16, 32, 64].map((bits) => [bits, list.filter((f) => f.bits === bits)] as const));
    this.#all = by(usable);
    this.#integer = by(usable.filter((f) => f.unit === "integer"));
  }

  make(world: World, random: Random): Encoded | undefined {
    const from = random.below(3) > 0 ? this.#integer : this.#all;
    const parts: Encoded[] = [];
    const wanted = 2 + random.below(MOST - 1);
    let state = { now: 0, ever: 0, bytes: 0 };
    for (let tries = 0; parts.length < wanted && tries < 60; tries++) {
      const form = random.pick(from.get(world.bits) ?? []);
      const e = random.chance(5) ? this.#branch(form, world, random) : encode(form, world, random, this.#index);
      if (e === undefined || !fits(e, state.now) || state.bytes + e.length >= SLOT_BYTES) continue;
      parts.push(e);
      const now = after(e, state.now);
      state = { now, ever: state.ever | now, bytes: state.bytes + e.length };
    }
    return parts.length < 2 ? undefined : sequenceOf(parts, world);
  }

  /** A branch to what follows: it changes nothing, but a block of translated code ends there. */
  #branch(form: Form, world: World, random: Random): Encoded | undefined {
    return describe(form, world, new Uint8Array([0x70 + random.below(16), 0]), this.#index);
  }
}

function isBranch({ bytes, length }: Encoded): boolean {
  return length === 2 && ((bytes[0] as number) & 0xf0) === 0x70 && bytes[1] === 0;
}

/** Prefixes may have made another form of what was picked, and memory must not need a register. */
function fits(e: Encoded, undefinedFlags: number): boolean {
  if (!(mayFollow(e.form) || isBranch(e)) || INEXACT.test(e.form.opcode.word) || (e.flags.read & undefinedFlags) !== 0)
    return false;
  if (e.memory !== undefined && (e.memory.base >= 0 || e.memory.index >= 0)) return false;
  return !e.registers.some((r) => r?.number === STACK) && e.text !== "(bad)";
}

/** Flags that are undefined behind an instruction. */
function after(e: Encoded, before: number): number {
  if (SHIFTS.test(e.form.opcode.word)) return before | e.flags.undefined | OF | AF | CF;
  return (before & ~e.flags.written) | e.flags.undefined;
}

const formatter = new Formatter(FormatterSyntax.Nasm);

/** Instructions in a row as one thing to run. */
export function sequenceOf(parts: readonly Encoded[], world: World): Encoded {
  const bytes = new Uint8Array(SLOT_BYTES).fill(HLT);
  let [length, now, ever] = [0, 0, 0];
  for (const part of parts) {
    bytes.set(part.bytes.subarray(0, part.length), length);
    length += part.length;
    now = after(part, now);
    ever |= now;
  }
  const decoder = new Decoder(world.bits, bytes.subarray(0, length), DecoderOptions.None);
  decoder.ip = slotOffset(world);
  const text = parts.map(() => {
    const raw = decoder.decode();
    const line = formatter.format(raw);
    raw.free();
    return line;
  });
  decoder.free();
  return {
    form: { name: "sequence", opcode: SEQUENCE, bits: world.bits, memory: false, unit: "sequence" },
    world,
    way: parts[0]?.way ?? "whole",
    bytes,
    length,
    text: text.join("; "),
    memory: undefined,
    registers: [],
    repeat: false,
    addressBits: world.bits,
    immediate: 0,
    flags: { read: 0, written: 0, undefined: 0 },
    sequence: { parts, atEnd: now, ever },
  };
}
