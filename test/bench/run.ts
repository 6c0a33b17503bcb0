/** Runs the benchmarks, each in a process of its own: `bun run bench [name …] [--quick]`. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

const flags = Bun.argv.slice(2).filter((argument) => argument.startsWith("-"));
const wanted = Bun.argv.slice(2).filter((argument) => !argument.startsWith("-"));
const all = readdirSync(import.meta.dir).filter((name) => name.endsWith(".bench.ts"));
const chosen = wanted.length === 0 ? all : all.filter((name) => wanted.some((part) => name.startsWith(part)));
if (chosen.length === 0) {
  console.error(
    `No benchmark is named ${wanted.join(" or ")}: there are ${all.map((name) => name.replace(".bench.ts", "")).join(", ")}`,
  );
  process.exit(64);
}
let failed = 0;
for (const name of chosen.toSorted()) {
  const { exitCode } = Bun.spawnSync([process.execPath, join(import.meta.dir, name), ...flags], {
    cwd: join(import.meta.dir, "../.."),
    stdout: "inherit",
    stderr: "inherit",
  });
  if (exitCode !== 0) {
    console.error(`${name} ended with status ${exitCode}`);
    failed++;
  }
  console.log();
}
process.exit(failed === 0 ? 0 : 1);
