import type { Backend } from "../../../../../src/backend.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { applyMode } from "../../../../../src/boot/enter-mode.ts";
import { openBackend } from "../../../../../src/host.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";
import { LAYOUT } from "../lockstep/layout.ts";
import { build, type LockstepMode } from "../lockstep/program.ts";

/** An exception or interrupt that a program's handlers have seen. */
export interface Logged {
  readonly vector: number;
  readonly code: number;
  readonly ip: number;
  readonly cs: number;
  /** Without RF and TF. */
  readonly flags: number;
  readonly cr2: bigint;
}

export interface Outcome {
  readonly log: readonly Logged[];
  readonly vcpu: Vcpu;
  readonly vm: Vm;
}

const ENTRY_BYTES = { 16: 10, 32: 24, 64: 28 } as const;

/**
 * The engine these programs run on: the software CPU, or what `SOFT_SYSTEM` names, to hold the expectations themselves
 * against a processor: `SOFT_SYSTEM=kvm bun test test/src/backends/soft/system/architecture.test.ts`.
 */
export function engine(): Backend {
  return process.env.SOFT_SYSTEM === "kvm" ? openBackend("kvm").engine : openSoft();
}

/**
 * Runs statements to the HLT behind them, in ring 0 of `mode`, on lockstep's layout: each statement that faults or
 * raises an interrupt is logged by the handlers, which go on with the next one.
 */
export function play(
  backend: Backend,
  mode: LockstepMode,
  statements: readonly string[],
  inspect: (outcome: Outcome) => void,
): void {
  const program = build(mode, statements);
  if (program === undefined) throw new RangeError("The program does not fit");
  using vm = new Vm(backend, { memoryBytes: LAYOUT.memoryBytes });
  using vcpu = vm.createVcpu();
  applyMode(vcpu.access, vm.memory, program.setup);
  for (const { gpa, bytes } of program.pieces) vm.memory.write(gpa, bytes);
  let exit = vcpu.run({ timeoutMs: 5000 });
  // Ports read all ones.
  while (exit.kind === "pioOut" || exit.kind === "pioIn") exit = vcpu.run({ timeoutMs: 5000 });
  if (exit.kind !== "hlt") throw new Error(`The program ended with ${exit.kind} at ${vcpu.registers.rip.toString(16)}`);
  inspect({ log: readLog(vm, mode), vcpu, vm });
}

function readLog(vm: Vm, mode: LockstepMode): Logged[] {
  const bits = mode === "real16" ? 16 : mode === "long64" ? 64 : 32;
  const end = vm.memory.readU32(LAYOUT.logPointer);
  const log: Logged[] = [];
  for (let at: number = LAYOUT.log; at < end; at += ENTRY_BYTES[bits]) {
    const word = (index: number) =>
      bits === 16 ? vm.memory.readU16(at + index * 2) : vm.memory.readU32(at + index * 4);
    const [vector, code, ip, cs, flags] = [0, 1, 2, 3, 4].map(word) as [number, number, number, number, number];
    const cr2 = bits === 16 ? 0n : bits === 32 ? BigInt(word(5)) : vm.memory.readU64(at + 20);
    log.push({ vector, code, ip, cs, flags, cr2 });
  }
  return log;
}
