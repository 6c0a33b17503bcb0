import { UsageError } from "./usage-error.ts";

// node:util's parseArgs costs 3 ms to import, more than half of what Bun itself takes to start (5 ms), and has neither
// optional values (--trace=asm) nor suggestions: hence these lines. Commander costs 8 ms.

/** One option of a command: what the parser checks and `--help` prints. */
export interface OptionSpec {
  readonly name: string;
  /** One letter, for `-h`. */
  readonly short?: string;
  /** What the value is, e.g. `size`. Without it the option is a flag. */
  readonly value?: string;
  /** The value may be left out; it is given with `=` only. */
  readonly optional?: true;
  /** For `--help`; a line break where 48 columns are full. */
  readonly help: string;
}

export interface Arguments {
  readonly positionals: readonly string[];
  /** Values by option name, in order; a flag's is `""`. */
  readonly options: ReadonlyMap<string, readonly string[]>;
}

/** @throws {UsageError} for an unknown option, a missing value, or a value where none belongs. */
export function parseArguments(args: readonly string[], specs: readonly OptionSpec[]): Arguments {
  const positionals: string[] = [];
  const options = new Map<string, string[]>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "--") {
      positionals.push(...args.slice(i + 1));
      break;
    }
    if (!arg.startsWith("-") || arg === "-") {
      positionals.push(arg);
      continue;
    }
    const equals = arg.indexOf("=");
    const flag = equals < 0 ? arg : arg.slice(0, equals);
    const spec = specs.find(({ name, short }) => flag === `--${name}` || (short !== undefined && flag === `-${short}`));
    if (spec === undefined) throw unknownOption(flag, specs);
    let value = equals < 0 ? undefined : arg.slice(equals + 1);
    if (spec.value === undefined && value !== undefined) {
      throw new UsageError(`Cannot give --${spec.name} the value "${value}"`, `write --${spec.name} alone`, flag);
    }
    if (spec.value !== undefined && !spec.optional && value === undefined) {
      value = args[++i];
      if (value === undefined || value.startsWith("--")) {
        throw new UsageError(
          `Cannot read --${spec.name} without a value`,
          `write --${spec.name} <${spec.value}>`,
          flag,
        );
      }
    }
    const values = options.get(spec.name);
    if (values === undefined) options.set(spec.name, [value ?? ""]);
    else values.push(value ?? "");
  }
  return { positionals, options };
}

function unknownOption(flag: string, specs: readonly OptionSpec[]): UsageError {
  const { didYouMean } = require("../asm/suggest.ts") as typeof import("../asm/suggest.ts");
  const near = didYouMean(
    flag,
    specs.map(({ name }) => `--${name}`),
  );
  return new UsageError(`Unknown option "${flag}"`, near || "see --help for what there is", flag);
}
