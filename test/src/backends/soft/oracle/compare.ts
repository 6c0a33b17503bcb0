import { Mnemonic } from "iced-x86";
import type { Cpu } from "../../../../../src/backends/soft/cpu.ts";
import { softEngine } from "../../../../../src/backends/soft/engine.ts";
import { State } from "../../../../../src/backends/soft/state.ts";
import { SoftVm } from "../../../../../src/backends/soft/vm.ts";
import { type Encoded, encode, type Form, integerForms } from "./forms.ts";
import { DATA, DATA_BYTES, HostProcessor, hostFlags } from "./native.ts";
import { Random } from "./random.ts";

const CODE = 0x8000;
const TABLES = 0x1000;
const ARITHMETIC = 0x8d5;

/** Exceptions and the signals Linux makes of them. */
const SIGNAL_OF: Record<number, readonly number[]> = {
  0: [8],
  6: [4],
  12: [7],
  13: [11],
  14: [11],
  17: [7],
};

/** A guest in 64-bit mode at CPL 0 whose linear addresses are physical ones. */
class Guest implements Disposable {
  readonly #vm = new SoftVm(softEngine(), {});
  readonly #vcpu = this.#vm.createVcpu(0);
  readonly cpu: Cpu = this.#vcpu.cpu;
  readonly code: Uint8Array;
  readonly data: Uint8Array;

  constructor() {
    const low = this.#vm.allocate(0x10000);
    const data = this.#vm.allocate(DATA_BYTES);
    const slot = { offset: 0, readOnly: false, logDirty: false };
    this.#vm.mapSlot(0, { ...slot, gpa: 0, memory: low, bytes: 0x10000 });
    this.#vm.mapSlot(1, { ...slot, gpa: DATA, memory: data, bytes: DATA_BYTES });
    this.data = data.bytes;
    this.code = low.bytes.subarray(CODE, CODE + 0x1000);
    const view = new DataView(low.bytes.buffer, low.bytes.byteOffset);
    view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
    view.setBigUint64(TABLES + 0x1000, 0x83n, true); // one page of 1 GiB
    const r = this.#vcpu.registers;
    r.writeControl("cr3", BigInt(TABLES));
    r.writeControl("cr4", 0x620n);
    r.writeControl("efer", 0xd00n);
    r.writeControl("cr0", 0x8001_0033n);
    const flat = {
      selector: 8,
      base: 0n,
      limit: 0xffff_ffff,
      type: 0xb,
      s: 1,
      dpl: 0,
      present: 1,
      avl: 0,
      l: 1,
      db: 0,
      g: 1,
      unusable: 0,
    } as const;
    r.writeSegment("cs", flat);
    for (const name of ["ds", "es", "ss", "fs", "gs"] as const)
      r.writeSegment(name, { ...flat, selector: 16, type: 3, l: 0, db: 1 });
    r.writeTable("idt", { base: 0n, limit: 0 });
  }

  /** Runs the instruction that lies before the HLT. The exception's vector, or −1. */
  run(): number {
    this.cpu.rip = BigInt(CODE);
    const exit = this.#vcpu.run();
    if (exit.kind === "hlt") return -1;
    if (exit.kind === "shutdown") return this.#vcpu.faultChain[0]?.vector ?? 0;
    throw new Error(`The guest left with ${exit.kind}`);
  }

  [Symbol.dispose](): void {
    this.#vm[Symbol.dispose]();
  }
}

/** One disagreement, as small as it could be made. */
export interface Mismatch {
  readonly text: string;
  readonly bytes: string;
  readonly input: string;
  readonly differences: readonly string[];
}

const NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];

interface Case {
  readonly gpr: BigUint64Array;
  flags: number;
  /** Offset in the data of the compared window. */
  at: number;
  readonly memory: Uint8Array;
}

/** Compares the host processor with the software CPU, instruction by instruction. */
export class Comparison implements Disposable {
  readonly #host = new HostProcessor();
  readonly #guest = new Guest();
  readonly #random: Random;
  readonly forms: readonly Form[];
  readonly #pool = new Uint8Array(2 * DATA_BYTES);
  cases = 0;
  faults = 0;

  constructor(seed: number) {
    this.#random = new Random(seed);
    const words = new Int32Array(this.#pool.buffer);
    for (let i = 0; i < words.length; i++) words[i] = this.#random.below(4) === 0 ? 0 : this.#random.next();
    const flags = hostFlags();
    const lacks = (name: string, ...mnemonics: Mnemonic[]) => (flags.has(name) ? [] : mnemonics);
    const missing = new Set([
      ...lacks("bmi1", Mnemonic.Andn, Mnemonic.Bextr, Mnemonic.Blsi, Mnemonic.Blsr, Mnemonic.Blsmsk, Mnemonic.Tzcnt),
      ...lacks(
        "bmi2",
        Mnemonic.Bzhi,
        Mnemonic.Mulx,
        Mnemonic.Pdep,
        Mnemonic.Pext,
        Mnemonic.Rorx,
        Mnemonic.Sarx,
        Mnemonic.Shlx,
        Mnemonic.Shrx,
      ),
      ...lacks("adx", Mnemonic.Adcx, Mnemonic.Adox),
      ...lacks("abm", Mnemonic.Lzcnt),
      ...lacks("movbe", Mnemonic.Movbe),
      ...lacks("sse4_2", Mnemonic.Crc32),
    ]);
    this.forms = integerForms(softEngine().registry).filter((form) => !missing.has(form.mnemonic));
  }

  /** `count` cases of one form, with a few encodings. */
  *check(form: Form, encodings: number, count: number): Generator<Mismatch> {
    for (let i = 0; i < encodings; i++) {
      const encoded = encode(form, this.#random);
      if (encoded === undefined) continue;
      this.#host.instruction = encoded.bytes;
      this.#guest.code.fill(0xf4, 0, 64);
      this.#guest.code.set(encoded.bytes);
      for (let n = 0; n < count; n++) {
        const found = this.#one(encoded, this.#make(encoded));
        if (found === undefined) continue;
        yield found;
        break;
      }
    }
  }

  #make(e: Encoded): Case {
    const r = this.#random;
    const gpr = new BigUint64Array(16);
    for (let i = 0; i < 16; i++) gpr[i] = r.value();
    const inside = () => BigInt(DATA + 0x800 + r.below(0x1000));
    if (e.base >= 0) {
      if (e.index >= 0) gpr[e.index] = BigInt(r.below(64));
      const index = e.index >= 0 ? (gpr[e.index] as bigint) * BigInt(e.scale) : 0n;
      gpr[e.base] = inside() - index - BigInt(e.displacement);
      if (e.form.mnemonic === Mnemonic.Cmpxchg16b) gpr[e.base] = (inside() & ~15n) - index - BigInt(e.displacement);
    }
    if (e.bitIndex >= 0) gpr[e.bitIndex] = BigInt.asUintN(64, BigInt(r.below(512) - 256));
    if (e.base !== 4) gpr[4] = inside() & ~7n;
    if (e.base < 0) {
      gpr[6] = inside();
      gpr[7] = inside();
      if (e.repeat) gpr[1] = BigInt(r.below(5));
    }
    if (e.form.mnemonic === Mnemonic.Leave) gpr[5] = inside();
    // Each case shifts one pool of random bytes, which is as good as new ones and far quicker.
    const from = r.below(DATA_BYTES >> 2) * 4;
    const memory = this.#pool.subarray(from, from + DATA_BYTES);
    return { gpr, flags: (r.next() & ARITHMETIC) | 0x202, at: 0, memory };
  }

  #one(e: Encoded, c: Case): Mismatch | undefined {
    const differences = this.#differences(e, c);
    if (differences.length === 0) return undefined;
    return this.#minimise(e, c);
  }

  /** Clears registers and flags as long as the disagreement stays. */
  #minimise(e: Encoded, c: Case): Mismatch {
    for (let i = 0; i < 16; i++) {
      if (i === e.base || i === e.index || i === 4 || (e.base < 0 && (i === 6 || i === 7 || i === 5))) continue;
      for (const smaller of [0n, 1n, (c.gpr[i] as bigint) & 0xffn]) {
        const old = c.gpr[i] as bigint;
        if (old === smaller) break;
        c.gpr[i] = smaller;
        if (this.#differences(e, c).length > 0) break;
        c.gpr[i] = old;
      }
    }
    for (let bit = 1; bit <= 0x800; bit <<= 1) {
      if ((c.flags & bit & ARITHMETIC) === 0) continue;
      c.flags &= ~bit;
      if (this.#differences(e, c).length === 0) c.flags |= bit;
    }
    const input = [...c.gpr].flatMap((v, i) => (v === 0n ? [] : [`${NAMES[i]}=0x${v.toString(16)}`]));
    return {
      text: e.text,
      bytes: Buffer.from(e.bytes).toString("hex"),
      input: `${input.join(" ")} flags=0x${c.flags.toString(16)}`,
      differences: this.#differences(e, c),
    };
  }

  #differences(e: Encoded, c: Case): string[] {
    const host = this.#host;
    const { cpu, data } = this.#guest;
    this.cases++;
    host.input.set(c.gpr);
    host.flags = c.flags;
    host.data.set(c.memory);
    cpu.u64.set(c.gpr, State.gpr >> 3);
    cpu.eflags = c.flags & ~0x200;
    data.set(c.memory);
    const signal = host.run();
    const vector = this.#guestRun(e);
    if (signal !== 0 || vector >= 0) {
      this.faults++;
      const agree = (SIGNAL_OF[vector] ?? []).includes(signal);
      if (!agree) return [`host: signal ${signal}, soft: exception ${vector}`];
    }
    const found: string[] = [];
    for (let i = 0; i < 16; i++) {
      const mine = cpu.u64[(State.gpr >> 3) + i] as bigint;
      const theirs = host.output[i] as bigint;
      if (mine !== theirs) found.push(`${NAMES[i]}: host 0x${theirs.toString(16)}, soft 0x${mine.toString(16)}`);
    }
    const mask = ARITHMETIC & ~e.undefinedFlags;
    const mine = cpu.eflags & mask;
    const theirs = host.flags & mask;
    if (mine !== theirs) found.push(`flags: host 0x${theirs.toString(16)}, soft 0x${mine.toString(16)}`);
    if (Buffer.compare(host.data, data) !== 0) {
      const at = host.data.findIndex((b, i) => b !== data[i]);
      found.push(`memory at +0x${at.toString(16)}: host ${host.data[at]}, soft ${data[at]}`);
    }
    return found;
  }

  #guestRun(e: Encoded): number {
    try {
      return this.#guest.run();
    } catch (error) {
      throw new Error(`${e.text} ${Buffer.from(e.bytes).toString("hex")}`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    this.#host[Symbol.dispose]();
    this.#guest[Symbol.dispose]();
  }
}
