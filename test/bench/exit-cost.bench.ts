/** What does vmexit itself cost per exit, without the kernel? Invented exits through the decoder and the buses. */
import { Bench } from "tinybench";
import * as kvm from "../../ffi/kvm/run.ts";
import { ExitDecoder } from "../../src/backends/kvm/decode.ts";
import { dispatch } from "../../src/dispatch.ts";
import { Bus, type Exit } from "../../src/index.ts";
import { hostLine } from "./report.ts";

/** Exits per measured call: the timer's own cost vanishes. */
const BATCH = 1000;

/** A decoder over an invented kvm_run that shows one exit. */
function invented(fill: (run: kvm.KvmRun) => void): ExitDecoder {
  const page = new Uint8Array(12288);
  const run = kvm.KvmRun.view(page);
  fill(run);
  return new ExitDecoder(run, page);
}

const pio = (direction: number): ExitDecoder =>
  invented((run) => {
    run.exit_reason = kvm.KVM_EXIT_IO;
    Object.assign(run.io, { direction, size: 1, port: 0xe9, count: 1, data_offset: 4096 });
  });
const mmio = (is_write: number): ExitDecoder =>
  invented((run) => {
    run.exit_reason = kvm.KVM_EXIT_MMIO;
    Object.assign(run.mmio, { phys_addr: 0xfed00000, len: 4, is_write });
  });

const buses = { pio: new Bus("pio"), mmio: new Bus("mmio") };
let sink = 0;
const device = {
  name: "sink",
  read: (_offset: number, data: Uint8Array) => {
    data[0] = 0x5a;
  },
  write: (_offset: number, data: Uint8Array) => {
    sink = data[0] as number;
  },
};
buses.pio.map(0xe9, 1, device);
buses.mmio.map(0xfed00000, 0x1000, device);

const CASES: readonly (readonly [string, ExitDecoder])[] = [
  ["OUT", pio(kvm.KVM_EXIT_IO_OUT)],
  ["IN", pio(kvm.KVM_EXIT_IO_IN)],
  ["MMIO store", mmio(1)],
  ["MMIO load", mmio(0)],
  [
    "HLT",
    invented((run) => {
      run.exit_reason = kvm.KVM_EXIT_HLT;
    }),
  ],
];

const bench = new Bench({ time: 300, warmupTime: 200 });
for (const [name, decoder] of CASES) {
  bench.add(`${name}: decode`, () => {
    for (let i = 0; i < BATCH; i++) keep(decoder.decode());
  });
  bench.add(`${name}: decode and dispatch`, () => {
    for (let i = 0; i < BATCH; i++) dispatch(decoder.decode(), buses);
  });
}

let kept: Exit | undefined;
function keep(exit: Exit): void {
  kept = exit;
}

console.log(`exit-cost: ${hostLine()}`);
console.log(`ns per exit, median of batches of ${BATCH}; ± is the relative margin of error of the mean`);
await bench.run();
for (const task of bench.tasks) {
  if (task.result.state !== "completed") throw new Error(`${task.name}: ${task.result.state}`);
  const { p50, rme } = task.result.latency;
  console.log(`${task.name.padEnd(32)} ${((p50 * 1e6) / BATCH).toFixed(1).padStart(7)} ns  ± ${rme.toFixed(1)} %`);
}

// Garbage is made (one object per exit) but must not pile up.
Bun.gc(true);
const before = process.memoryUsage().heapUsed;
for (const [, decoder] of CASES) for (let i = 0; i < 1e6; i++) dispatch(decoder.decode(), buses);
Bun.gc(true);
const grown = process.memoryUsage().heapUsed - before;
console.log(`heap after 5 million exits: ${grown >= 0 ? "+" : ""}${(grown / 1024).toFixed(0)} KiB`);
void [sink, kept];
