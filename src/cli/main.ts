#!/usr/bin/env bun
/**
 * The tool: from its bundle, which starts in half the time, or from these sources where there is no bundle or one of
 * them was edited since. `npm install` and `npm run build` make it.
 */
import type { Bundle } from "./build.ts";

const ROOT = `${import.meta.dir}/../../`;

function bundled(): Bundle["commands"] | undefined {
  let bundle: Bundle;
  try {
    bundle = require("../../dist/vmexit.js") as Bundle;
  } catch (error) {
    if ((error as { code?: string }).code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
  // A published package has no .gitignore, and nobody edits its sources.
  const isClone = Bun.file(`${ROOT}.gitignore`).size > 0;
  return isClone && isStale(bundle.sources) ? undefined : bundle.commands;
}

function isStale(sources: Bundle["sources"]): boolean {
  return sources.some(([path, modified]) => Bun.file(ROOT + path).lastModified !== modified);
}

const { run, fail } = (bundled() ?? (() => require("./commands.ts") as typeof import("./commands.ts")))();

// Without this, Bun prints an error thrown in a timer or a stream and goes on.
process.on("uncaughtException", (error) => process.exit(fail(error)));
run(Bun.argv.slice(2)).then((status) => process.exit(status));
