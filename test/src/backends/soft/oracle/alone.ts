import type { Cpu } from "../../../../../src/backends/soft/cpu.ts";
import { Image, randomFpu } from "./fpu-state.ts";
import { Guest } from "./guest.ts";
import { DATA, HLT, Record, SLOT_BYTES } from "./layout.ts";
import { Random } from "./random.ts";
import { slotOffset, WORLDS, type World } from "./worlds.ts";

/** What a test sets before its instruction runs. */
export interface Alone {
  /** A world's name; "64-bit" unless given. */
  readonly world?: World["name"];
  /** General registers by number. */
  readonly gpr?: { readonly [register: number]: bigint };
  /** Seed of the FPU's state; without it FNINIT's and zeros. */
  readonly fpu?: number;
  /** Changes that state, an XSAVE image. */
  readonly image?: (image: Uint8Array, view: DataView) => void;
  /** Changes control registers and the like. */
  readonly prepare?: (cpu: Cpu) => void;
}

/** The state behind the instruction. */
export interface AloneOutcome {
  /** Exception that the instruction raised, or −1. */
  readonly vector: number;
  readonly image: Uint8Array;
  readonly gpr: (register: number) => bigint;
}

/** One instruction on the software CPU alone, in the oracle's guest: for what the host need not be asked about. */
export class Bench implements Disposable {
  readonly #guest = new Guest();
  /** 8 KiB at `DATA`. */
  readonly data: Uint8Array = this.#guest.data;

  run(instruction: readonly number[], options: Alone = {}): AloneOutcome {
    const world = WORLDS.find((w) => w.name === (options.world ?? "64-bit"));
    if (world === undefined) throw new TypeError(`No world is called "${options.world}"`);
    const input = new Uint8Array(Record.size);
    const output = new Uint8Array(Record.size);
    const view = new DataView(input.buffer);
    const image = input.subarray(Record.image, Record.image + Record.imageBytes);
    view.setUint32(Record.fpu, 1, true);
    view.setUint16(Record.image + Image.fcw, 0x37f, true);
    view.setUint32(Record.image + Image.mxcsr, 0x1f80, true);
    view.setUint32(Record.image + Image.xstateBv, 7, true);
    if (options.fpu !== undefined) randomFpu(new Random(options.fpu), image, { x87: false });
    options.image?.(image, new DataView(input.buffer, Record.image, Record.imageBytes));
    for (const [i, value] of Object.entries(options.gpr ?? {})) view.setBigUint64(8 * Number(i), value, true);
    view.setBigUint64(Record.rip, slotOffset(world), true);
    view.setUint32(Record.rflags, 0x202, true);
    this.#guest.world = world;
    const code = new Uint8Array(SLOT_BYTES).fill(HLT);
    code.set(instruction);
    this.#guest.code = code;
    const { cpu } = this.#guest;
    const saved = new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, 0x400);
    const before = saved.slice();
    options.prepare?.(cpu);
    cpu.changeMode();
    this.#guest.run(input, output);
    saved.set(before);
    cpu.changeMode();
    const out = new DataView(output.buffer);
    const ended = out.getBigUint64(Record.rip, true) === slotOffset(world) + BigInt(instruction.length);
    return {
      vector: ended ? -1 : out.getUint32(Record.vector, true),
      image: output.subarray(Record.image, Record.image + Record.imageBytes),
      gpr: (register) => out.getBigUint64(8 * register, true),
    };
  }

  [Symbol.dispose](): void {
    this.#guest[Symbol.dispose]();
  }
}

/** Linear address of a memory operand that lies well inside the data. */
export const OPERAND: bigint = BigInt(DATA + 0x400);
export const OPERAND_AT = 0x400;
