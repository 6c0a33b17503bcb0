import { type Arguments, type OptionSpec, parseArguments } from "./arguments.ts";
import type { BootPlan, MachineSettings } from "./boot-plan.ts";
import type { Issue } from "./machine-schema.ts";
import { UsageError } from "./usage-error.ts";

export const BOOT_OPTIONS: readonly OptionSpec[] = [
  { name: "backend", value: "name", help: "auto (the first that works), kvm, nvmm or soft" },
  { name: "memory", short: "m", value: "size", help: "RAM from address 0: 64K, 2M, 1G; default 16M" },
  { name: "mode", value: "mode", help: "state to start in: see below; default real16" },
  { name: "format", value: "name", help: "what the file is; default: by its content" },
  { name: "load-address", value: "address", help: "where a flat binary goes; default 0x1000" },
  { name: "entry", value: "address", help: "where to start; default the load address" },
  { name: "stack", value: "address", help: "initial stack pointer" },
  { name: "command-line", value: "text", help: "for a Multiboot kernel or a .com program" },
  { name: "module", value: "file", help: "for a Multiboot kernel; repeatable" },
  { name: "timeout", value: "time", help: "500ms, 10s, 2m or none; default 10s unless\nstdin is a terminal" },
  { name: "max-exits", value: "count", help: "stop after so many exits" },
  { name: "max-instructions", value: "count", help: "stop after so many, where the backend counts" },
  { name: "cpuid", value: "leaf:reg=value", help: "change CPUID: 7.0:ebx=0,ecx=0x10 or 7.1:none;\nrepeatable" },
  {
    name: "irqchip",
    value: "kind",
    optional: true,
    help: "interrupt controllers in the engine: full (the\ndefault) or split",
  },
  { name: "pit", help: "a timer (PIT) in the engine; implies --irqchip" },
  { name: "msr-exits", help: "unknown MSRs become exits, for --trace, and\nread 0; else they raise #GP" },
  {
    name: "clock",
    value: "what",
    help: "what the guest's time follows: instructions (on\nsoft, the default there) or host",
  },
  { name: "seed", value: "number", help: "where RDRAND begins, on soft" },
  { name: "debug-console", value: "where", help: "port 0xe9 goes to stdout, stderr or off" },
  { name: "machine", value: "file", help: "take settings from JSON; options here win" },
  { name: "trace", value: "asm", optional: true, help: "a line on stderr for each exit; =asm adds the\ninstruction" },
  { name: "disassemble", help: "the same as --trace=asm" },
  { name: "stats", help: "exits by reason and port, with counts and time" },
  { name: "json", help: "one result object on stdout, with what the\nguest printed inside" },
  { name: "help", short: "h", help: "this text" },
];

/** Settings whose option takes one value, which the schema reads. */
const TEXT_SETTINGS: readonly (keyof MachineSettings)[] = [
  "backend",
  "memory",
  "mode",
  "format",
  "loadAddress",
  "entry",
  "stack",
  "commandLine",
  "timeout",
  "maxExits",
  "maxInstructions",
  "irqchip",
  "clock",
  "seed",
  "debugConsole",
];

/** @throws {UsageError} naming the option, what it takes and what it got. */
export function bootPlan(args: readonly string[]): BootPlan | "help" {
  const parsed = parseArguments(args, BOOT_OPTIONS);
  if (parsed.options.has("help")) return "help";
  const [guest, extra] = parsed.positionals;
  if (extra !== undefined) throw new UsageError(`Cannot boot "${extra}" beside "${guest}"`, "give one guest file");
  const machineFile = last(parsed, "machine");
  const file =
    machineFile === undefined
      ? {}
      : (require("./machine-file.ts") as typeof import("./machine-file.ts")).readMachineFile(machineFile);
  const settings = parsed.options.size === 0 ? file : { ...file, ...settingsOf(parsed) };
  const boot = guest ?? file.guest;
  if (boot === undefined)
    throw new UsageError(
      "Cannot boot without a guest",
      "write vmexit boot <guest>, for example vmexit boot guests/hello.bin",
    );
  if (settings.pit && settings.irqchip === undefined) settings.irqchip = "full";
  if (settings.pit && settings.irqchip !== "full") {
    throw new UsageError(
      `Cannot use --pit with --irqchip=${settings.irqchip}`,
      "the PIT needs --irqchip=full",
      "--pit",
    );
  }
  return {
    ...settings,
    guest: boot,
    trace: traceOf(parsed),
    stats: parsed.options.has("stats"),
    json: parsed.options.has("json"),
  };
}

function traceOf(parsed: Arguments): BootPlan["trace"] {
  if (parsed.options.has("disassemble")) return "asm";
  const value = last(parsed, "trace");
  if (value === undefined) return "off";
  if (value === "") return "plain";
  if (value === "asm") return "asm";
  throw new UsageError(`Cannot read --trace=${value}`, "write --trace or --trace=asm", "--trace");
}

/** Settings given as options, checked; what is not given is not there. */
function settingsOf(parsed: Arguments): MachineSettings {
  const given = givenSettings(parsed);
  if (Object.keys(given).length === 0) return {};
  const { OPTIONS } = require("./machine-schema.ts") as typeof import("./machine-schema.ts");
  const checked = OPTIONS.safeParse(given);
  if (checked.success) return checked.data as MachineSettings;
  const [issue] = checked.error.issues as [Issue];
  const name = optionOf(String(issue.path[0]));
  throw new UsageError(`Cannot read --${name} "${last(parsed, name)}"`, `write ${formOf(issue)}`, `--${name}`);
}

/** By setting; text as it was given. */
function givenSettings(parsed: Arguments): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const setting of TEXT_SETTINGS) {
    const text = last(parsed, optionOf(setting));
    if (text !== undefined) given[setting] = text;
  }
  if (given.irqchip === "") given.irqchip = "full";
  if (parsed.options.has("pit")) given.pit = true;
  if (parsed.options.has("msr-exits")) given.msrExits = true;
  const modules = parsed.options.get("module");
  if (modules !== undefined) given.modules = modules;
  const cpuid = parsed.options.get("cpuid");
  if (cpuid !== undefined) {
    const { parseCpuidOption } = require("./cpuid-option.ts") as typeof import("./cpuid-option.ts");
    given.cpuid = parseCpuidOption(cpuid);
  }
  return given;
}

/** `loadAddress` is `--load-address`. */
function optionOf(setting: string): string {
  return setting.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** What an option takes, in words. */
function formOf(issue: Issue): string {
  return issue.code === "invalid_value" ? issue.values.join(", ").replace(/, ([^,]*)$/, " or $1") : issue.message;
}

function last(parsed: Arguments, name: string): string | undefined {
  return parsed.options.get(name)?.at(-1);
}
