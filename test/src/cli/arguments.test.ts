import { expect, test } from "bun:test";
import { type OptionSpec, parseArguments } from "../../../src/cli/arguments.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";

const SPECS: readonly OptionSpec[] = [
  { name: "memory", short: "m", value: "size", help: "" },
  { name: "trace", value: "asm", optional: true, help: "" },
  { name: "stats", help: "" },
];

function parsed(...args: string[]) {
  const { positionals, options } = parseArguments(args, SPECS);
  return { positionals, options: Object.fromEntries(options) };
}

function refusal(...args: string[]): UsageError {
  try {
    parsed(...args);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error(`${args.join(" ")} was taken`);
}

test("parseArguments() takes a value behind a space or an equals sign, by long or short name", () => {
  expect(parsed("--memory", "1M").options).toEqual({ memory: ["1M"] });
  expect(parsed("--memory=1M").options).toEqual({ memory: ["1M"] });
  expect(parsed("-m", "1M").options).toEqual({ memory: ["1M"] });
});

test("parseArguments() keeps every value of a repeated option in order", () => {
  expect(parsed("-m", "1", "--memory=2").options).toEqual({ memory: ["1", "2"] });
});

test("parseArguments() never takes the next argument as an optional value", () => {
  expect(parsed("--trace", "guest.bin")).toEqual({ positionals: ["guest.bin"], options: { trace: [""] } });
  expect(parsed("--trace=asm").options).toEqual({ trace: ["asm"] });
});

test("parseArguments() takes all behind -- as positional, and a lone dash too", () => {
  expect(parsed("-", "--", "--stats", "-m").positionals).toEqual(["-", "--stats", "-m"]);
});

test("parseArguments() refuses an option without its value, even when another option follows", () => {
  expect(refusal("--memory").option).toBe("--memory");
  expect(refusal("--memory", "--stats").message).toBe("Cannot read --memory without a value: write --memory <size>");
});

test("parseArguments() refuses a value for a flag", () => {
  expect(refusal("--stats=1").remedy).toBe("write --stats alone");
});

test("parseArguments() suggests what an unknown option was meant as", () => {
  expect(refusal("--memroy", "1M").message).toBe('Unknown option "--memroy": did you mean "--memory"?');
  expect(refusal("-x").remedy).toBe("see --help for what there is");
});
