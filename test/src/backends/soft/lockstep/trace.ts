import type { Backend } from "../../../../../src/backend.ts";
import { applyMode } from "../../../../../src/boot/enter-mode.ts";
import type { Mode } from "../../../../../src/boot/mode.ts";
import type { ExitKind } from "../../../../../src/exit.ts";
import { GPR_NAMES, type Registers, type SegmentName } from "../../../../../src/registers.ts";
import { Vm } from "../../../../../src/vm.ts";
import { LAYOUT } from "./layout.ts";
import type { Program } from "./program.ts";

/** One stop of a single-stepped engine: name and value of everything compared. */
export type Stop = ReadonlyMap<string, bigint>;

export interface Trace {
  readonly stops: readonly Stop[];
  /** How the program ended; undefined when it was cut short: the steps were used up, or the engine gave up. */
  readonly end: string | undefined;
  /** The handlers' log and the data pages, where the program came to its own end. */
  readonly memory: Uint8Array;
}

const SEGMENTS: readonly SegmentName[] = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr"];
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "efer"] as const;
const HLT = 0xf4;
/** No end of the program's own: the engine gives up, or leaves for memory that another engine may have. */
const CUT_SHORT: ReadonlySet<ExitKind> = new Set(["internalError", "interrupted", "mmioRead", "mmioWrite"]);
/** Some engines step with the guest's own TF. */
const TF = 0x100n;
/** RF is visible in flag images only where an engine happens to stop. */
const RFLAGS_COMPARED = ~0x10000n;

/** Single-steps `program` for at most `maxSteps` stops. */
export function traceOn(backend: Backend, program: Program, maxSteps: number): Trace {
  using vm = new Vm(backend, { memoryBytes: LAYOUT.memoryBytes });
  using vcpu = vm.createVcpu();
  applyMode(vcpu.access, vm.memory, program.setup);
  for (const { gpa, bytes } of program.pieces) vm.memory.write(gpa, bytes);
  const stops: Stop[] = [];
  let end: string | undefined;
  while (stops.length < maxSteps) {
    // Every time: POPF and IRET take the step flag away on AMD, and KVM puts it back only when asked.
    vcpu.debug({ singleStep: true });
    const exit = vcpu.run({ timeoutMs: 3000 });
    if (exit.kind !== "debug") {
      if (!CUT_SHORT.has(exit.kind)) end = exit.kind;
      break;
    }
    const stop = stopOf(vcpu.registers, program.mode);
    stops.push(stop);
    // HLT is where programs end. Engines differ in whether a step over it is an exit of its own.
    const next = Number((stop.get("cs.base") ?? 0n) + vcpu.registers.rip);
    if (next < LAYOUT.memoryBytes && vm.memory.readU8(next) === HLT) {
      end = "hlt";
      break;
    }
  }
  const memory = new Uint8Array(0x1000 + 0x7000);
  memory.set(vm.memory.read(LAYOUT.logPointer, LAYOUT.logEnd - LAYOUT.logPointer));
  memory.set(vm.memory.read(LAYOUT.data, 0x7000), 0x1000);
  return { stops, end, memory };
}

/** What is compared of the registers that system-mode programs change. */
export function stopOf(registers: Registers, mode: Mode): Map<string, bigint> {
  const stop = new Map<string, bigint>();
  for (const name of GPR_NAMES) stop.set(name, registers[name]);
  stop.set("rflags", registers.rflags & RFLAGS_COMPARED);
  stop.set("r11", registers.r11 & ~TF); // SYSCALL puts RFLAGS there
  for (const name of SEGMENTS) {
    const segment = registers[name];
    stop.set(name, BigInt(segment.selector));
    // The hidden part of what holds a null selector is nobody's to see.
    if (segment.unusable || ((segment.selector & ~3) === 0 && mode !== "real16")) continue;
    stop.set(`${name}.base`, segment.base);
    stop.set(`${name}.limit`, BigInt(segment.limit));
  }
  for (const name of CONTROLS) stop.set(name, registers[name]);
  return stop;
}
