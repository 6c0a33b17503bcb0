import { readFileSync } from "node:fs";
import { guestPath } from "../../guests/assemble.ts";
import type { Backend } from "../../src/backend.ts";
import { AcpiPower } from "../../src/devices/acpi-power.ts";
import { DebugConsole } from "../../src/devices/debug-console.ts";
import { DebugExit } from "../../src/devices/debug-exit.ts";
import { Uart16550 } from "../../src/devices/uart16550.ts";
import { Vm } from "../../src/vm.ts";
import type { GuestExpectation } from "./expectations.ts";
import { Transcript } from "./transcript.ts";

export const ENTRY = 0x1000;
/** As much as the smallest machine anyone would ask for: the tables end at 0x10000 and prot32 wants memory at 0x18000. */
export const MEMORY_BYTES = 0x20000;
const DEFAULT_TIMEOUT_MS = 10_000;
const CR0_PE = 1n;
const CR0_PG_PE = (1n << 31n) | CR0_PE;

export interface GuestRun {
  readonly transcript: string[];
  readonly exits: number;
  readonly rip: bigint;
}

/** Runs a guest as its expectation says and tells what came of it. */
export function runGuest(backend: Backend, expectation: GuestExpectation): GuestRun {
  using vm = new Vm(backend, { memoryBytes: MEMORY_BYTES, ...expectation.vm });
  using vcpu = vm.createVcpu(0, expectation.vcpu);
  const transcript = new Transcript();
  mapDevices(vm, expectation, transcript);
  vm.memory.write(ENTRY, readFileSync(guestPath(expectation.guest, "bin")));
  vcpu.enterMode(expectation.mode, { entry: ENTRY });

  const host = expectation.host?.();
  for (;;) {
    const exit = vcpu.run({ timeoutMs: expectation.timeoutMs ?? DEFAULT_TIMEOUT_MS });
    if (vm.outcome !== undefined) break;
    const verdict = host?.(exit, vcpu);
    transcript.exit(exit);
    if (verdict !== "handled" && !isAccess(exit.kind)) break;
  }
  return { transcript: transcript.lines, exits: vcpu.exits, rip: vcpu.registers.rip };
}

/** Whether an engine pages outside long mode at all: KVM as software may refuse, by leaving CR0.PG clear. */
export function pagesOutsideLongMode(backend: Backend): boolean {
  using vm = new Vm(backend, { memoryBytes: MEMORY_BYTES });
  using vcpu = vm.createVcpu();
  vm.memory.write(ENTRY, Uint8Array.of(0xf4)); // HLT
  vcpu.enterMode("pae", { entry: ENTRY });
  const exit = vcpu.run({ timeoutMs: DEFAULT_TIMEOUT_MS });
  // PE without PG: the engine dropped the bit. A triple fault leaves either both or, after a reset, neither.
  return exit.kind === "hlt" || (vcpu.registers.cr0 & CR0_PG_PE) !== CR0_PE;
}

export function mapDevices(vm: Vm, { input, mmio }: GuestExpectation, transcript: Transcript): void {
  const uart = new Uart16550({
    onByte: (byte) => transcript.bytes("uart", [byte]),
    ...(vm.irqchip === "none" ? {} : { irq: vm.irqLine(4) }),
  });
  if (input !== undefined) uart.receive(new TextEncoder().encode(input));
  const debugConsole = new DebugConsole({ onByte: (byte) => transcript.bytes("console", [byte]) });
  const debugExit = new DebugExit({
    onExit: (value) => {
      transcript.note(`debug exit 0x${value.toString(16)}`);
      vm.stop();
    },
  });
  const power = new AcpiPower({
    onPowerOff: () => {
      transcript.note("power off");
      vm.stop();
    },
  });
  vm.pio.map(0x3f8, 8, uart);
  vm.pio.map(0xe9, 1, debugConsole);
  vm.pio.map(0xf4, 4, debugExit);
  vm.pio.map(0x604, 2, power);
  if (mmio === undefined) return;
  vm.mmio.map(mmio.console, 1, debugConsole);
  vm.mmio.map(mmio.exit, 4, debugExit);
}

function isAccess(kind: string): boolean {
  return ["pioIn", "pioOut", "mmioRead", "mmioWrite", "rdmsr", "wrmsr"].includes(kind);
}
