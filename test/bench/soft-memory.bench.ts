/** How soon does the software CPU make its first exit, what does an exit cost, and does its memory level off? */
import { join } from "node:path";
import { openSoft } from "../../src/backends/soft/backend.ts";
import { copyExit } from "../../src/exit.ts";
import { Vm } from "../../src/vm.ts";
import { formatSpread, hostLine, spreadOf } from "./report.ts";

const QUICK = Bun.argv.includes("--quick");
const STARTS = QUICK ? 5 : 15;
const EXITS = 200_000;
const BATCHES = QUICK ? 5 : 15;
const VMS = 200;

console.log(`soft-memory: ${hostLine()}`);
startUp();
exitCost();
manyVms();

/** Process start to first exit, the process's own clock; and the same around a process that imports nothing. */
function startUp(): void {
  const inside: number[] = [];
  const outside: number[] = [];
  const empty: number[] = [];
  const timed = (args: string[]): { stdout: string; ms: number } => {
    const started = Bun.nanoseconds();
    const { stdout } = Bun.spawnSync([process.execPath, ...args], { stderr: "inherit" });
    return { stdout: stdout.toString(), ms: (Bun.nanoseconds() - started) / 1e6 };
  };
  for (let i = 0; i < STARTS; i++) {
    empty.push(timed(["-e", "0"]).ms);
    const { stdout, ms } = timed([join(import.meta.dir, "soft/hello.ts")]);
    inside.push(Number(stdout));
    outside.push(ms);
  }
  console.log(`process start to first exit of hello.bin: ${formatSpread(spreadOf(inside), 1)} ms`);
  console.log(
    `the whole process: ${formatSpread(spreadOf(outside), 1)} ms, of one that does nothing: ${formatSpread(spreadOf(empty), 1)} ms`,
  );
}

/** A guest that writes a port for ever: nanoseconds per exit, and resident memory batch by batch. */
function exitCost(): void {
  using backend = openSoft();
  using vm = new Vm(backend, { memoryBytes: 1 << 20 });
  using vcpu = vm.createVcpu();
  // out 0x80, al; jmp $-2
  vcpu.load({ bytes: Uint8Array.of(0xe6, 0x80, 0xeb, 0xfc), origin: 0x1000, bits: 32 });
  const nanoseconds: number[] = [];
  const resident: number[] = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const started = Bun.nanoseconds();
    for (let i = 0; i < EXITS; i++) {
      const exit = vcpu.enter();
      if (exit.kind !== "pioOut") throw new Error(`An exit is ${JSON.stringify(copyExit(exit))}`);
    }
    nanoseconds.push((Bun.nanoseconds() - started) / EXITS);
    resident.push(process.memoryUsage().rss / 2 ** 20);
  }
  console.log(`an OUT exit: ${formatSpread(spreadOf(nanoseconds.slice(1)), 0)} ns`);
  console.log(`resident after each ${EXITS} exits: ${resident.map((mib) => mib.toFixed(0)).join(" ")} MiB`);
}

/** VMs created, run and disposed one after another. */
function manyVms(): void {
  using backend = openSoft();
  const resident: number[] = [];
  const milliseconds: number[] = [];
  for (let i = 1; i <= VMS; i++) {
    const started = Bun.nanoseconds();
    {
      using vm = new Vm(backend, { memoryBytes: 16 << 20 });
      using vcpu = vm.createVcpu();
      vcpu.load({ bytes: Uint8Array.of(0xb0, 0x2a, 0xe6, 0x80, 0xf4), origin: 0x1000, bits: 32 });
      if (vcpu.run().kind !== "pioOut" || vcpu.run().kind !== "hlt") throw new Error(`VM ${i} did not run`);
    }
    milliseconds.push((Bun.nanoseconds() - started) / 1e6);
    if (i % 20 === 0) resident.push(process.memoryUsage().rss / 2 ** 20);
  }
  console.log(`a VM made, run and disposed: ${formatSpread(spreadOf(milliseconds), 2)} ms`);
  console.log(`resident after each 20 VMs: ${resident.map((mib) => mib.toFixed(0)).join(" ")} MiB`);
}
