/** How long does `vmexit boot guests/hello.bin` take as a process, next to `bun -e 0` and C's set-up of KVM? */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Peer } from "./peer.ts";
import { formatSpread, hostLine, type Spread, spreadOf } from "./report.ts";

const ROUNDS = 31;
const root = join(import.meta.dir, "../..");
const guest = join(root, "guests/hello.bin");

function wallMs(command: string[]): number {
  const start = Bun.nanoseconds();
  const { exitCode } = Bun.spawnSync(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with status ${exitCode}`);
  return (Bun.nanoseconds() - start) / 1e6;
}

/** The package as the registry has it: its bundle, and no sources that anybody could have edited. */
using installed = new (class implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
  constructor() {
    wallMs([process.execPath, join(root, "src/cli/build.ts")]);
    for (const part of ["dist", "src/cli/main.ts", "package.json"]) {
      cpSync(join(root, part), join(this.path, part), { recursive: true });
    }
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
})();
using peer = Peer.build(join(import.meta.dir, "peer/kvm-peer.c"));
const { execPath } = process;
const sources = `require(${JSON.stringify(join(root, "src/cli/commands.ts"))}).run(["boot", ${JSON.stringify(guest)}])`;
const WAYS: Readonly<Record<string, () => number | Promise<number>>> = {
  "boot, as installed": () => wallMs([execPath, join(installed.path, "src/cli/main.ts"), "boot", guest]),
  "boot, in a clone": () => wallMs([execPath, join(root, "src/cli/main.ts"), "boot", guest]),
  "boot, from the sources": () => wallMs([execPath, "-e", `${sources}.then((status) => process.exit(status))`]),
  "bun -e 0": () => wallMs([execPath, "-e", "0"]),
  "C: open, create, run hello.bin, close": async () => (await peer.ask(`boot 1 ${guest}`)) / 1e6,
};
const figures: Record<string, number[]> = {};
for (let round = 0; round <= ROUNDS; round++) {
  for (const [name, measure] of Object.entries(WAYS)) {
    const ms = await measure();
    figures[name] ??= [];
    // The first round fills the page cache.
    if (round > 0) figures[name].push(ms);
  }
}

const [boot = [], , , empty = [], setUp = []] = Object.values(figures);
const budget = boot.map((_, i) => 1.5 * (empty[i] as number) + (setUp[i] as number));
const line = (name: string, spread: Spread, digits = 1): void =>
  console.log(`${name.padEnd(44)} ${formatSpread(spread, digits)}`);
console.log(`boot-process: ${hostLine()}`);
console.log(`${ROUNDS} rounds, ms; median (minimum to maximum)`);
for (const [name, values] of Object.entries(figures)) line(name, spreadOf(values));
line("as installed ÷ (1.5 × bun -e 0 + C's set-up)", spreadOf(boot.map((ms, i) => ms / (budget[i] as number))), 2);
