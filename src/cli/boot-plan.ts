import type { Mode } from "../boot/mode.ts";
import type { BackendChoice, CpuidOverrides } from "../index.ts";

/** What the guest file is taken for, instead of a look at its content. */
export const FORMATS = ["flat", "com", "boot-sector", "elf", "multiboot"] as const;

export const IRQCHIPS = ["none", "full", "split"] as const;
export const CLOCKS = ["instructions", "host"] as const;
export const CONSOLES = ["stdout", "stderr", "off"] as const;

/** All that can be said about a machine, on the command line or in a machine description. */
export interface MachineSettings {
  backend?: BackendChoice;
  /** In bytes. */
  memory?: number;
  mode?: Mode;
  format?: (typeof FORMATS)[number];
  /** Guest-physical address of the binary's first byte. */
  loadAddress?: number;
  /** Linear address of the first instruction. */
  entry?: number;
  stack?: number;
  /** For a Multiboot kernel, or the tail in a .com program's PSP. */
  commandLine?: string;
  /** Files that a Multiboot kernel is given. */
  modules?: readonly string[];
  /** Milliseconds; Infinity for none. In JSON a number means milliseconds too. */
  timeout?: number;
  maxExits?: number;
  /** On backends that count them. */
  maxInstructions?: number;
  cpuid?: CpuidOverrides;
  irqchip?: (typeof IRQCHIPS)[number];
  pit?: boolean;
  msrExits?: boolean;
  /** What the guest's time follows. */
  clock?: (typeof CLOCKS)[number];
  /** Where the guest's random numbers begin. */
  seed?: number;
  /** Where port 0xE9 goes. */
  debugConsole?: (typeof CONSOLES)[number];
}

/** What `vmexit boot` is to do. */
export interface BootPlan extends MachineSettings {
  readonly guest: string;
  /** One line per exit on stderr; `asm` with the instruction. */
  readonly trace: "off" | "plain" | "asm";
  readonly stats: boolean;
  readonly json: boolean;
}
