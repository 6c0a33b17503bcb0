import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { Device } from "../device.ts";
import type { Exit } from "../exit.ts";
import { RIP } from "../registers.ts";
import { loadDisassembler } from "./disassemble.ts";
import { instructionOf } from "./exiting-instruction.ts";
import { formatExit, formatPayload } from "./format.ts";
import type { CodeRegisters } from "./guest-code.ts";

/** What a trace needs of the vCPU that made the exit. */
export interface TracedVcpu {
  readonly id: number;
  readonly access: CodeRegisters;
}

export interface TraceOptions {
  /** Gets each line, without its line break. */
  readonly write: (line: string) => void;
  /** Adds the instruction that made the exit, read from this memory. */
  readonly disassemble?: PhysicalMemory;
  /** The source of an address, e.g. `hello.asm:14`: added to the instruction. */
  readonly sourceLine?: ((address: bigint) => string | undefined) | undefined;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
}

/**
 * One readable line per exit: milliseconds since the start, RIP after the exit, the reason and its payload.
 *
 * Give `record` to `vm.observe()`. The answer to a read is known only when its device has given it: map devices as
 * `tracer.device(device)` and the line ends in `-> 60`; a read that no device answers ends in `-> ff (no device)`.
 */
export class Tracer {
  readonly #write: (line: string) => void;
  readonly #memory: PhysicalMemory | undefined;
  readonly #sourceLine: (address: bigint) => string | undefined;
  readonly #now: () => number;
  readonly #start: number;
  /** A read whose line waits for its answer. */
  #waiting: { readonly line: string; readonly answer: Uint8Array; have: number } | undefined;

  constructor(options: TraceOptions) {
    this.#write = options.write;
    this.#memory = options.disassemble;
    this.#sourceLine = options.sourceLine ?? (() => undefined);
    this.#now = options.now ?? (() => performance.now());
    if (options.disassemble !== undefined) loadDisassembler();
    this.#start = this.#now();
  }

  readonly record = (exit: Exit, vcpu: TracedVcpu): void => {
    if (exit.kind === "interrupted") return;
    this.end();
    const rip = vcpu.access.readGpr(RIP);
    const time = (this.#now() - this.#start).toFixed(3).padStart(10);
    const cpu = vcpu.id === 0 ? "" : ` cpu${vcpu.id}`;
    const line = `${time}${cpu} ${rip.toString(16).padStart(8, "0")} ${formatExit(exit)}${this.#instruction(exit, vcpu)}`;
    if (exit.kind !== "pioIn" && exit.kind !== "mmioRead") this.#write(line);
    else this.#waiting = { line, answer: new Uint8Array(exit.data.length), have: 0 };
  };

  /** `device`, telling the trace what it answers. */
  device<D extends Device>(device: D): Device {
    return {
      name: device.name,
      read: (offset, data) => {
        device.read(offset, data);
        this.#answered(data);
      },
      write: (offset, data) => device.write(offset, data),
    };
  }

  /** Writes a line that still waits: its read was answered by no device. */
  end(): void {
    if (this.#waiting !== undefined) this.#write(`${this.#waiting.line} -> ff (no device)`);
    this.#waiting = undefined;
  }

  /** A string instruction's elements are answered one by one. */
  #answered(data: Uint8Array): void {
    const read = this.#waiting;
    if (read === undefined) return;
    read.answer.set(data.subarray(0, read.answer.length - read.have), read.have);
    read.have += data.length;
    if (read.have < read.answer.length) return;
    this.#write(`${read.line} -> ${formatPayload(read.answer)}`);
    this.#waiting = undefined;
  }

  #instruction(exit: Exit, vcpu: TracedVcpu): string {
    if (this.#memory === undefined) return "";
    const found = instructionOf(exit, vcpu.access, this.#memory);
    if (found === undefined) return "";
    const source = this.#sourceLine(found.linear);
    return `  ; ${found.text}${source === undefined ? "" : `  ${source}`}`;
  }
}
