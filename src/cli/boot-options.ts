import { type Arguments, type OptionSpec, parseArguments } from "./arguments.ts";
import { type BootPlan, CONSOLES, FORMATS, IRQCHIPS, type MachineSettings } from "./boot-plan.ts";
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
  { name: "debug-console", value: "where", help: "port 0xe9 goes to stdout, stderr or off" },
  { name: "machine", value: "file", help: "take settings from JSON; options here win" },
  { name: "trace", value: "asm", optional: true, help: "a line on stderr for each exit; =asm adds the\ninstruction" },
  { name: "disassemble", help: "the same as --trace=asm" },
  { name: "stats", help: "exits by reason and port, with counts and time" },
  { name: "json", help: "one result object on stdout, with what the\nguest printed inside" },
  { name: "help", short: "h", help: "this text" },
];

type Parser<T> = (text: string) => T | undefined;

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

/** Settings given as options; what is not given is not there. */
function settingsOf(parsed: Arguments): MachineSettings {
  const quantity = require("./quantity.ts") as typeof import("./quantity.ts");
  const { parseAddress, parseCount, parseDuration, parseSize } = quantity;
  const settings: MachineSettings = {};
  const put = <K extends keyof MachineSettings>(
    key: K,
    name: string,
    parse: Parser<NonNullable<MachineSettings[K]>>,
    form: string,
  ): void => {
    const text = last(parsed, name);
    if (text === undefined) return;
    const value = parse(text);
    if (value === undefined) throw new UsageError(`Cannot read --${name} "${text}"`, `write ${form}`, `--${name}`);
    settings[key] = value;
  };
  const choice = <T extends string>(names: readonly T[]): [Parser<T>, string] => [
    (text) => names.find((name) => name === text),
    names.join(", ").replace(/, ([^,]*)$/, " or $1"),
  ];
  put("memory", "memory", parseSize, quantity.SIZE_FORM);
  put("loadAddress", "load-address", parseAddress, quantity.ADDRESS_FORM);
  put("entry", "entry", parseAddress, quantity.ADDRESS_FORM);
  put("stack", "stack", parseAddress, quantity.ADDRESS_FORM);
  put("timeout", "timeout", parseDuration, quantity.DURATION_FORM);
  put("maxExits", "max-exits", parseCount, quantity.COUNT_FORM);
  put("maxInstructions", "max-instructions", parseCount, quantity.COUNT_FORM);
  put("format", "format", ...choice(FORMATS));
  put("debugConsole", "debug-console", ...choice(CONSOLES));
  put("irqchip", "irqchip", ...irqchipChoice(choice(IRQCHIPS)));
  if (parsed.options.has("mode")) {
    put("mode", "mode", ...choice((require("../boot/mode.ts") as typeof import("../boot/mode.ts")).MODES));
  }
  if (parsed.options.has("backend")) {
    const { BACKEND_NAMES } = require("../index.ts") as typeof import("../index.ts");
    put("backend", "backend", ...choice(["auto", ...BACKEND_NAMES]));
  }
  put("commandLine", "command-line", (text) => text, "any text");
  const modules = parsed.options.get("module");
  if (modules !== undefined) settings.modules = modules;
  if (parsed.options.has("pit")) settings.pit = true;
  if (parsed.options.has("msr-exits")) settings.msrExits = true;
  const cpuid = parsed.options.get("cpuid");
  if (cpuid !== undefined) {
    const { parseCpuidOption } = require("./cpuid-option.ts") as typeof import("./cpuid-option.ts");
    settings.cpuid = parseCpuidOption(cpuid);
  }
  return settings;
}

/** `--irqchip` alone means full. */
function irqchipChoice<T extends string>([parse, form]: [Parser<T>, string]): [Parser<T>, string] {
  return [(text) => parse(text === "" ? "full" : text), form];
}

function last(parsed: Arguments, name: string): string | undefined {
  return parsed.options.get(name)?.at(-1);
}
