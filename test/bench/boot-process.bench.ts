/** How long does `vmexit boot guests/hello.bin` take as a process, next to `bun -e 0` and C's set-up of KVM? */
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

using peer = Peer.build(join(import.meta.dir, "peer/kvm-peer.c"));
const boot: number[] = [];
const empty: number[] = [];
const setUp: number[] = [];
for (let round = 0; round <= ROUNDS; round++) {
  const figures = [
    wallMs([process.execPath, "src/cli/main.ts", "boot", guest]),
    wallMs([process.execPath, "-e", "0"]),
    (await peer.ask(`boot 1 ${guest}`)) / 1e6,
  ] as const;
  // The first round fills the page cache.
  if (round === 0) continue;
  boot.push(figures[0]);
  empty.push(figures[1]);
  setUp.push(figures[2]);
}

const budget = boot.map((_, i) => 1.5 * (empty[i] as number) + (setUp[i] as number));
const line = (name: string, spread: Spread, digits = 1): void =>
  console.log(`${name.padEnd(44)} ${formatSpread(spread, digits)}`);
console.log(`boot-process: ${hostLine()}`);
console.log(`${ROUNDS} rounds, ms; median (minimum to maximum)`);
line("vmexit boot guests/hello.bin", spreadOf(boot));
line("bun -e 0", spreadOf(empty));
line("C: open, create, run hello.bin, close", spreadOf(setUp));
line("boot ÷ (1.5 × bun -e 0 + C's set-up)", spreadOf(boot.map((value, i) => value / (budget[i] as number))), 2);
