import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { Device } from "../device.ts";
import type { Exit } from "../exit.ts";
import { type RegisterAccess, RIP } from "../registers.ts";
import { type DisassembledInstruction, disassemble, instructionBefore } from "./disassemble.ts";
import { formatExit, formatPayload } from "./format.ts";
import { codeBits, linearAddress, readLinear } from "./guest-code.ts";

/** What a trace needs of the vCPU that made the exit. */
export interface TracedVcpu {
  readonly id: number;
  readonly access: Pick<RegisterAccess, "readGpr" | "readSegment" | "readControl">;
}

export interface TraceOptions {
  /** Gets each line, without its line break. */
  readonly write: (line: string) => void;
  /** Adds the instruction that made the exit, read from this memory. */
  readonly disassemble?: PhysicalMemory;
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
  readonly #now: () => number;
  readonly #start: number;
  /** The line of a read that waits for its answer. */
  #waiting: string | undefined;

  constructor(options: TraceOptions) {
    this.#write = options.write;
    this.#memory = options.disassemble;
    this.#now = options.now ?? (() => performance.now());
    this.#start = this.#now();
  }

  readonly record = (exit: Exit, vcpu: TracedVcpu): void => {
    if (exit.kind === "interrupted") return;
    this.end();
    const rip = vcpu.access.readGpr(RIP);
    const time = (this.#now() - this.#start).toFixed(3).padStart(10);
    const cpu = vcpu.id === 0 ? "" : ` cpu${vcpu.id}`;
    const line = `${time}${cpu} ${rip.toString(16).padStart(8, "0")} ${formatExit(exit)}${this.#instruction(exit, vcpu)}`;
    if (exit.kind === "pioIn" || exit.kind === "mmioRead") this.#waiting = line;
    else this.#write(line);
  };

  /** `device`, telling the trace what it answers. */
  device<D extends Device>(device: D): Device {
    return {
      name: device.name,
      read: (offset, data) => {
        device.read(offset, data);
        if (this.#waiting === undefined) return;
        this.#write(`${this.#waiting} -> ${formatPayload(data)}`);
        this.#waiting = undefined;
      },
      write: (offset, data) => device.write(offset, data),
    };
  }

  /** Writes a line that still waits: its read was answered by no device. */
  end(): void {
    if (this.#waiting === undefined) return;
    this.#write(`${this.#waiting} -> ff (no device)`);
    this.#waiting = undefined;
  }

  #instruction(exit: Exit, vcpu: TracedVcpu): string {
    if (this.#memory === undefined) return "";
    const found = instructionOf(exit, vcpu.access, this.#memory);
    return found === undefined ? "" : `  ; ${found.text}`;
  }
}

const MAX_INSTRUCTION_BYTES = 15;

/** The instruction that made an exit; undefined where its bytes cannot be read. */
export function instructionOf(
  exit: Exit,
  registers: TracedVcpu["access"],
  memory: PhysicalMemory,
): DisassembledInstruction | undefined {
  const cs = registers.readSegment("cs");
  const bits = codeBits(registers, cs);
  const ip = registers.readGpr(RIP);
  if (exit.kind === "pioOut" || exit.kind === "mmioWrite" || exit.kind === "hlt") {
    const length = Number(ip < 15n ? ip : BigInt(MAX_INSTRUCTION_BYTES));
    const before = readLinear(registers, memory, { address: linearAddress(ip - BigInt(length), cs, bits), length });
    const size = exit.kind === "pioOut" ? exit.size : exit.kind === "mmioWrite" ? exit.data.length : 0;
    const port = exit.kind === "pioOut" ? exit.port : 0;
    const found =
      before.length === length ? instructionBefore(before, { kind: exit.kind, size, port }, { bits, ip }) : undefined;
    if (found !== undefined) return found;
  }
  const bytes = readLinear(registers, memory, { address: linearAddress(ip, cs, bits), length: MAX_INSTRUCTION_BYTES });
  return disassemble(bytes, { bits, ip, count: 1 })[0];
}
