import { openSoft } from "../../../../src/backends/soft/backend.ts";
import type { Mode } from "../../../../src/boot/mode.ts";
import type { ExitKind } from "../../../../src/exit.ts";
import { Host } from "../../../../src/host.ts";
import { Random } from "./oracle/random.ts";

const MODES: readonly Mode[] = ["real16", "prot32", "paged32", "pae", "long64"];
const MEMORY = 0x20000;
const ENTRY = 0x1000;

/** What one random guest did. */
export interface FuzzRun {
  readonly mode: Mode;
  readonly exits: Partial<Record<ExitKind, number>>;
}

/** Bytes that reach far into the instruction set: random ones, and prefixes, escapes and ModR/M with small values. */
function fill(bytes: Uint8Array, r: Random): void {
  const kind = r.below(4);
  for (let i = 0; i < bytes.length; i++) {
    const byte = r.next() & 0xff;
    if (kind === 0) bytes[i] = byte;
    else if (kind === 1) bytes[i] = r.pick([byte, 0x0f, 0x66, 0x48, 0xf3, byte, byte & 0x3f]);
    else if (kind === 2)
      bytes[i] = r.below(3) === 0 ? r.pick([0x0f, 0xd8 + (byte & 7), 0xc4, 0xc5, 0xf0, 0x8e, 0xcf, 0xcd]) : byte;
    else bytes[i] = r.below(2) === 0 ? byte : r.pick([0xeb, 0x74, 0x75, 0xe2, 0xab, 0xaa, 0xa4, 0x88, 0x89, 0x01]);
  }
}

/**
 * Runs random bytes as a guest for a bounded number of instructions, answering every exit with random bytes. Whatever it
 * does must come out as an exit.
 */
export function fuzz(seed: number, instructions = 3000, exitLimit = 200): FuzzRun {
  const r = new Random(seed);
  const mode = r.pick(MODES);
  using host = new Host(openSoft());
  using vm = host.createVm({ memoryBytes: MEMORY });
  using vcpu = vm.createVcpu(0);
  const code = new Uint8Array(0x3000);
  fill(code, r);
  vm.memory.write(ENTRY, code);
  // Entries at page ends too.
  vcpu.enterMode(mode, { entry: ENTRY + (r.below(3) === 0 ? 0xff0 + r.below(16) : r.below(0x1000)) });
  vcpu.registers.set({
    rax: r.value(),
    rbx: BigInt(r.below(MEMORY)),
    rcx: BigInt(r.below(300)),
    rdx: r.value(),
    rsi: BigInt(r.below(MEMORY)),
    rdi: BigInt(r.below(MEMORY)),
    rsp: BigInt(r.below(MEMORY)),
  });
  const exits: Partial<Record<ExitKind, number>> = {};
  for (let n = 0; n < exitLimit; n++) {
    const exit = vcpu.run({ maxInstructions: instructions, timeoutMs: 2000 });
    exits[exit.kind] = (exits[exit.kind] ?? 0) + 1;
    if ("data" in exit && exit.data instanceof Uint8Array && exit.kind !== "pioOut") exit.data.fill(r.next() & 0xff);
    if (exit.kind === "interrupted" || exit.kind === "shutdown" || exit.kind === "internalError") break;
    if (exit.kind === "hlt" && r.below(4) === 0) break;
    if (r.below(8) === 0 && vcpu.interruptReady) vcpu.interrupt(r.below(256));
  }
  return { mode, exits };
}
