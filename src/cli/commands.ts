/** Each command loads by itself: start-up is counted in milliseconds. */
const COMMANDS: Readonly<Record<string, (args: readonly string[]) => number | Promise<number>>> = {
  boot: (args) => (require("./boot.ts") as typeof import("./boot.ts")).boot(args),
  doctor: (args) => (require("./doctor.ts") as typeof import("./doctor.ts")).doctor(args),
  asm: (args) => (require("./asm.ts") as typeof import("./asm.ts")).asm(args),
  help: (args) => (require("./help.ts") as typeof import("./help.ts")).help(args),
};

/** Runs the tool. @returns its exit status. */
export async function run(args: readonly string[]): Promise<number> {
  const [name = "", ...rest] = args;
  try {
    const command = COMMANDS[name] ?? (require("./help.ts") as typeof import("./help.ts")).commandless(name);
    return await command(rest);
  } catch (error) {
    return fail(error, args);
  }
}

/** Prints what went wrong. @returns its status. */
export function fail(error: unknown, args: readonly string[] = []): number {
  const { describeError, errorObject, statusOfError } = require("./failure.ts") as typeof import("./failure.ts");
  const end = args.indexOf("--");
  const isJson = args.slice(0, end < 0 ? undefined : end).includes("--json");
  if (isJson) console.log(JSON.stringify(errorObject(error)));
  console.error(describeError(error));
  return statusOfError(error);
}
