import type { DebugRequest } from "../../backend.ts";
import type { Exit } from "../../exit.ts";
import type { Translations } from "./code/translations.ts";
import { EFLAGS } from "./control-bits.ts";
import type { Cpu } from "./cpu.ts";
import { decodeDr7, type Watchpoint, Watchpoints } from "./debug.ts";
import { State } from "./state.ts";

/** DR6 as it reads with no bit set. */
const DR6_CLEAR = 0xffff_0ff0n;

/** The breakpoints in force: the debugger's where it has any, else those of the guest's own debug registers. */
export class Breakpoints {
  readonly #cpu: Cpu;
  readonly #code: Translations;
  #request: DebugRequest = {};
  #debuggers = new Map<bigint, number>();
  #guests: readonly { index: number; address: bigint }[] = [];
  #watches: readonly Watchpoint[] = [];
  /** A breakpoint already reported: the next run goes past it. */
  #passed: bigint | undefined;

  constructor(cpu: Cpu, code: Translations) {
    this.#cpu = cpu;
    this.#code = code;
  }

  set request(request: DebugRequest) {
    this.#request = request;
    this.#debuggers = new Map();
    const watches: Watchpoint[] = [];
    for (const [index, b] of (request.breakpoints ?? []).entries()) {
      if (b.on === "execute") this.#debuggers.set(b.address, index);
      else watches.push({ index, address: b.address, bytes: b.bytes ?? 1, reads: b.on === "readWrite" });
    }
    this.#watches = watches;
    this.update();
  }

  /** Whether the debugger steps. */
  get stepping(): boolean {
    return this.#request.singleStep === true;
  }
  /** Whether the debugger watches memory. */
  get watching(): boolean {
    return this.#watches.length > 0;
  }

  /** Called when a debug register of the guest changed, too. */
  update(): void {
    const cpu = this.#cpu;
    const own = decodeDr7(cpu.get(State.dr + 5 * 8), (i) => cpu.get64(State.dr + i * 8));
    const mine = this.#debuggers.size > 0 || this.#watches.length > 0;
    this.#guests = mine ? [] : own.execute;
    cpu.access.watchpoints = mine ? new Watchpoints(this.#watches) : new Watchpoints(own.data, own.ports);
    const stops = new Set([...this.#debuggers.keys(), ...this.#guests.map((b) => b.address)]);
    const changed = stops.size !== this.#code.stops.size || [...stops].some((s) => !this.#code.stops.has(s));
    cpu.flushTlb();
    if (!changed) return;
    this.#code.stops = stops;
    this.#code.dropAll();
  }

  /** RIP was changed from outside: a breakpoint there is met anew. */
  forget(): void {
    this.#passed = undefined;
  }

  /** What stops at RIP: the debugger's exit, or the DR6 bit of the guest's #DB. */
  get here(): Exit | bigint | undefined {
    const cpu = this.#cpu;
    const { rip } = cpu;
    const passed = this.#passed === rip;
    this.#passed = undefined;
    if (passed || (cpu.get(State.eflags) & EFLAGS.RF) !== 0) return undefined;
    const index = this.#debuggers.get(rip);
    if (index !== undefined) {
      this.#passed = rip;
      return this.exit(1n << BigInt(index));
    }
    const own = this.#guests.find((b) => b.address === rip);
    return own === undefined ? undefined : 1n << BigInt(own.index);
  }

  /** The debugger's exit, with these bits of DR6. */
  exit(dr6: bigint): Exit {
    let dr7 = 0x400n;
    for (const [index, b] of (this.#request.breakpoints ?? []).entries()) {
      const kind = b.on === "execute" ? 0n : b.on === "write" ? 1n : 3n;
      const length = { 1: 0n, 2: 1n, 4: 3n, 8: 2n }[b.bytes ?? 1];
      dr7 |= (2n << BigInt(index * 2)) | ((kind | (length << 2n)) << BigInt(16 + index * 4));
    }
    return { kind: "debug", exception: 1, pc: this.#cpu.rip, dr6: DR6_CLEAR | dr6, dr7 };
  }
}
