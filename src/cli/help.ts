import type { OptionSpec } from "./arguments.ts";
import { UsageError } from "./usage-error.ts";

const OVERVIEW = `vmexit boots guests on this host's hypervisor and shows their exits.

  vmexit boot <guest> [options]   run a guest: flat binary, ELF, Multiboot, .com, .asm
  vmexit asm <file> [options]     assemble NASM syntax into a flat binary
  vmexit doctor [--json]          what this host lacks to run guests, and how to get it
  vmexit help [command]           this text, or a command's options
  vmexit help modes               what each mode sets in each register, and why
  vmexit --version

Try: vmexit boot guests/hello.bin
`;

const BOOT_INTRO = `vmexit boot <guest> [options]

Runs a guest. What it prints on the serial port (0x3f8) and the debug console
(0xe9) goes to stdout, all messages go to stderr. Standard input is the serial
port's input; on a terminal every key goes to the guest, and Ctrl-A X switches
the machine off.
The machine: RAM from address 0, a 16550 at 0x3f8 (IRQ 4), debug console 0xe9,
POST code 0x80, debug exit 0xf4 and 0x501, power-off 0x604, resets 0x64, 0xcf9.
A file is taken for what its content says: Multiboot, ELF, a 512-byte boot
sector, a .com program by its name; else a flat binary, loaded and entered at
0x1000 in real mode. A .asm file is assembled first.
`;

const BOOT_NOTES = `
Modes
  16-bit: real16 unreal16 prot16; 32-bit: prot32 paged32 pae compat32;
  64-bit: long64 long64-ring3

Formats
  flat, elf, multiboot, com (at offset 0x100 of a segment, as DOS loads it),
  boot-sector (at 0x7c00, DL = 0x80)

Exit status
  0    the guest halted, powered off, or asked for a reset; Ctrl-A X
  n    debug exit: (value << 1) | 1, as QEMU
  64   wrong usage, or a wrong machine description
  66   guest file missing, unreadable or unusable
  69   no usable backend: see vmexit doctor
  70   the engine could not run the guest (internal error, entry failure)
  74   stdout cannot be written
  124  time, exit or instruction limit
  130  Ctrl-C; 129 hangup, 143 terminated
  134  triple fault
  141  nobody reads stdout any more
`;

const DOCTOR_HELP = `vmexit doctor [--json]

Checks Bun, the system, the processor, /dev/kvm and every backend, runs a trial
guest, and says for each failure what to do. Exit status 0 when at least one
backend works, else 69.
`;

/** `vmexit help [command]`. */
export function help(args: readonly string[]): number {
  console.log(textFor(args[0]).trimEnd());
  return 0;
}

/** From the set-ups themselves, so that it cannot be out of date. */
function modesHelp(): string {
  const { describeModes, MODES, modeSetup } = require("../boot/index.ts") as typeof import("../boot/index.ts");
  return describeModes(MODES.map((mode) => modeSetup(mode)));
}

function textFor(command: string | undefined): string {
  switch (command) {
    case undefined:
      return OVERVIEW;
    case "boot":
      return bootHelp();
    case "modes":
      return modesHelp();
    case "doctor":
      return DOCTOR_HELP;
    case "asm":
      return (require("../asm/command.ts") as typeof import("../asm/command.ts")).ASM_USAGE;
    case "help":
      return OVERVIEW;
    default:
      throw unknownCommand(command);
  }
}

/** What to do when the first argument is no command. */
export function commandless(name: string): (args: readonly string[]) => number {
  if (name === "--version" || name === "-v" || name === "-V") return printVersion;
  if (name === "--help" || name === "-h") return help;
  if (name === "")
    throw new UsageError(
      "Cannot do anything without a command",
      `write one, for example vmexit boot guests/hello.bin\n\n${OVERVIEW.trimEnd()}`,
    );
  throw unknownCommand(name);
}

function printVersion(): number {
  const { version } = require("../../package.json") as { version: string };
  console.log(`vmexit ${version}`);
  return 0;
}

function unknownCommand(name: string): UsageError {
  const { didYouMean } = require("../asm/suggest.ts") as typeof import("../asm/suggest.ts");
  const near = didYouMean(name, ["boot", "asm", "doctor", "help"]);
  const isFile = /[./]/.test(name);
  return new UsageError(
    `Unknown command "${name}"`,
    isFile ? `to run it, write vmexit boot ${name}` : near || "there are boot, asm, doctor and help",
  );
}

function bootHelp(): string {
  const { BOOT_OPTIONS } = require("./boot-options.ts") as typeof import("./boot-options.ts");
  return `${BOOT_INTRO}\nOptions\n${BOOT_OPTIONS.map(optionLine).join("\n")}\n${BOOT_NOTES}`;
}

const TEXT_COLUMN = 32;

function optionLine({ name, short, value, optional, help: text }: OptionSpec): string {
  const flag = `${short === undefined ? "    " : `-${short}, `}--${name}`;
  const placeholder = value === undefined ? "" : optional ? `[=${value}]` : ` <${value}>`;
  const left = `  ${flag}${placeholder}`;
  const gap = " ".repeat(TEXT_COLUMN);
  return `${left.padEnd(TEXT_COLUMN - 1)} ${text.replaceAll("\n", `\n${gap}`)}`;
}
