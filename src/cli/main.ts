#!/usr/bin/env bun
import { STATUS } from "./exit-status.ts";

/** Each command loads by itself: start-up is counted in milliseconds. */
const COMMANDS: Readonly<Record<string, (args: readonly string[]) => number | Promise<number>>> = {
  boot: (args) => (require("./boot.ts") as typeof import("./boot.ts")).boot(args),
  doctor: (args) => (require("./doctor.ts") as typeof import("./doctor.ts")).doctor(args),
  help: (args) => (require("./help.ts") as typeof import("./help.ts")).help(args),
};

async function main(args: readonly string[]): Promise<number> {
  const [name = "", ...rest] = args;
  try {
    const command = COMMANDS[name] ?? (require("./help.ts") as typeof import("./help.ts")).commandless(name);
    return await command(rest);
  } catch (error) {
    const failure = require("./failure.ts") as typeof import("./failure.ts");
    const end = args.indexOf("--");
    const isJson = args.slice(0, end < 0 ? undefined : end).includes("--json");
    if (isJson) console.log(JSON.stringify(failure.errorObject(error)));
    console.error(failure.describeError(error));
    return failure.statusOfError(error) ?? STATUS.engine;
  }
}

main(Bun.argv.slice(2)).then((status) => process.exit(status));
