import { readFileSync } from "node:fs";
import { guestPath } from "../../../../../guests/assemble.ts";
import type { Backend } from "../../../../../src/backend.ts";
import type { Mode } from "../../../../../src/boot/mode.ts";
import type { Registers } from "../../../../../src/registers.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";
import type { GuestExpectation } from "../../../../guests/expectations.ts";
import { ENTRY, MEMORY_BYTES, mapDevices } from "../../../../guests/machine.ts";
import { Transcript } from "../../../../guests/transcript.ts";
import { type Stop, stopOf, type Trace } from "./trace.ts";

export interface GuestLimits {
  /** Whether the guest is to be stepped still, asked behind every step. From false on it stops at its exits alone. */
  readonly stepOn: (steps: number, last: Stop | undefined) => boolean;
  readonly milliseconds: number;
  /** End where stepping ends. */
  readonly stopUnstepped?: boolean;
  /** Instead of what the mode sets. */
  readonly rflags?: bigint;
}

/** What a guest did on one engine: a stop behind every instruction that was stepped, and at every exit. */
export interface GuestTrace extends Trace {
  /** How many of the stops were single steps. */
  readonly steps: number;
  readonly mode: Mode;
  readonly transcript: readonly string[];
}

/** Legacy area of an XSAVE image: MXCSR, x87 registers, XMM registers. */
const XSAVE = { control: 0, status: 2, tags: 4, mxcsr: 24, registers: 32, end: 416 } as const;

/** Runs a guest of `guests/` with its own test's devices, input and script, one instruction at a time. */
export function traceGuest(backend: Backend, expectation: GuestExpectation, limits: GuestLimits): GuestTrace {
  using vm = new Vm(backend, { memoryBytes: MEMORY_BYTES, ...expectation.vm });
  using vcpu = vm.createVcpu(0, expectation.vcpu);
  const transcript = new Transcript();
  mapDevices(vm, expectation, transcript);
  vm.memory.write(ENTRY, readFileSync(guestPath(expectation.guest, "bin")));
  const stops: Stop[] = [];
  const stop = (at: Vcpu) => stops.push(guestStop(at.registers, expectation, transcript));
  using _ = vm.observe((exit, at) => {
    if (exit.kind !== "interrupted") stop(at);
  });
  vcpu.enterMode(expectation.mode, { entry: ENTRY });
  if (limits.rflags !== undefined) vcpu.registers.rflags = limits.rflags;
  const host = expectation.host?.();
  const deadline = performance.now() + limits.milliseconds;
  let steps = 0;
  let end: string | undefined;
  let stepping = limits.stepOn(0, undefined);
  while (end === undefined && performance.now() < deadline && (stepping || !limits.stopUnstepped)) {
    // Every time: POPF and IRET take the step flag away on AMD, and KVM puts it back only when asked.
    // HLT is left to run: engines differ in what a step over it does.
    vcpu.debug({ singleStep: stepping && !atHlt(vcpu, vm) });
    const exit = vcpu.run({ timeoutMs: Math.max(1, deadline - performance.now()), maxExits: 1 });
    if (vm.outcome !== undefined) end = "stopped";
    else if (exit.kind === "debug") stepping &&= limits.stepOn(++steps, stops.at(-1));
    else if (exit.kind !== "interrupted") {
      const verdict = host?.(exit, vcpu);
      transcript.exit(exit);
      if (verdict !== "handled" && !ANSWERED.has(exit.kind)) end = exit.kind;
    }
  }
  return {
    stops,
    steps,
    end,
    mode: expectation.mode,
    transcript: transcript.lines,
    memory: vm.memory.read(0, MEMORY_BYTES),
  };
}

const HLT = 0xf4;

function atHlt({ registers }: Vcpu, vm: Vm): boolean {
  const next = Number(registers.cs.base + registers.rip);
  return next < MEMORY_BYTES && vm.memory.readU8(next) === HLT;
}

const ANSWERED: ReadonlySet<string> = new Set(["pioIn", "pioOut", "mmioRead", "mmioWrite", "rdmsr", "wrmsr"]);

/** Every register, and what the guest has put out so far. */
function guestStop(registers: Registers, { mode, vm }: GuestExpectation, transcript: Transcript): Stop {
  const stop = stopOf(registers, mode);
  for (const name of ["dr0", "dr1", "dr2", "dr3", "dr7", "cr8", "xcr0"] as const) stop.set(name, registers[name]);
  // Without irqchip there is no APIC to have an address.
  if (vm?.irqchip === "full") stop.set("apicBase", registers.apicBase);
  for (const name of ["gdt", "idt"] as const) {
    stop.set(`${name}.base`, registers[name].base);
    stop.set(`${name}.limit`, BigInt(registers[name].limit));
  }
  const image = registers.xsave;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  stop.set("fcw", BigInt(view.getUint16(XSAVE.control, true)));
  stop.set("fsw", BigInt(view.getUint16(XSAVE.status, true)));
  stop.set("ftw", BigInt(view.getUint8(XSAVE.tags)));
  stop.set("mxcsr", BigInt(view.getUint32(XSAVE.mxcsr, true)));
  for (let at: number = XSAVE.registers; at < XSAVE.end; at += 16) {
    const name = at < 160 ? `st${(at - XSAVE.registers) / 16}` : `xmm${(at - 160) / 16}`;
    stop.set(name, view.getBigUint64(at, true) | (view.getBigUint64(at + 8, true) << 64n));
  }
  stop.set("output", BigInt(Bun.hash(transcript.lines.join("\n"))));
  return stop;
}
