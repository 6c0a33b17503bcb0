/** How many exits per second does a script see on NVMM, next to a C program on the same libnvmm? And how many system calls does one cost? */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openNvmm } from "../../src/backends/nvmm/backend.ts";
import { Vm } from "../../src/vm.ts";
import { openPeer, PEER_FOLDER, peerLibrary, peerMissing } from "../peers/libnvmm/build.ts";
import { EXIT_GUESTS, GUEST_MEMORY_BYTES } from "./exit-guests.ts";
import { Peer } from "./peer.ts";
import { formatSpread, hostLine, paired } from "./report.ts";

const EXITS = 1_000;
const ROUNDS = 31;

let sink = 0;

/** Nanoseconds for EXITS exits, and what libnvmm asked of the kernel besides running. */
function ours(program: Uint8Array, library: string): { ns: number; calls: number } {
  const counters = openPeer(library);
  using vm = new Vm(openNvmm({ library }), { memoryBytes: GUEST_MEMORY_BYTES });
  using vcpu = vm.createVcpu();
  vm.memory.write(0x1000, program);
  vcpu.enterMode("real16", { entry: 0x1000 });
  vcpu.run({ maxExits: 100 });
  const besides = () => counters.counter("syscalls") - counters.counter("run");
  const before = besides();
  const start = Bun.nanoseconds();
  for (let i = 0; i < EXITS; i++) {
    const exit = vcpu.enter();
    switch (exit.kind) {
      case "pioOut":
      case "mmioWrite":
        sink = exit.data[0] as number;
        break;
      case "pioIn":
      case "mmioRead":
        exit.data.fill(0x5a);
        break;
      default:
        throw new Error(`Unexpected exit ${exit.kind}`);
    }
  }
  return { ns: Bun.nanoseconds() - start, calls: (besides() - before) / EXITS };
}

const missing = peerMissing();
if (missing !== undefined) {
  console.log(`nvmm-exit: skipped, ${missing}`);
} else {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
  try {
    using peer = Peer.build(join(PEER_FOLDER, "bench/client.c"));
    const library = peerLibrary("netbsd", "bench");
    console.log(`nvmm-exit: ${hostLine()}, on the libnvmm for Linux`);
    console.log(`${ROUNDS} pairs of ${EXITS} exits; median (minimum to maximum); ratio = exits/s of vmexit ÷ C`);
    for (const name of Object.keys(EXIT_GUESTS) as (keyof typeof EXIT_GUESTS)[]) {
      const { bytes } = EXIT_GUESTS[name];
      const file = join(folder, `${name}.bin`);
      writeFileSync(file, bytes);
      const { calls } = ours(bytes, library);
      const result = await paired(
        ROUNDS,
        () => ours(bytes, library).ns / EXITS,
        async () => (await peer.ask(`${name} ${EXITS} ${file} ${library}`)) / EXITS,
      );
      console.log(
        `${name.padEnd(10)}  vmexit ${formatSpread(result.ours, 0)} ns/exit  C ${formatSpread(result.theirs, 0)} ns/exit  ratio ${formatSpread(result.ratio, 3)}  system calls besides run ${calls}`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
void sink;
