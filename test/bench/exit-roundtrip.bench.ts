/** How many exits per second does a script see, next to a C program on the same guest? */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createVm, type Device, type Vcpu } from "../../src/index.ts";
import { EXIT_GUESTS, GUEST_MEMORY_BYTES } from "./exit-guests.ts";
import { Peer, PeerHere } from "./peer.ts";
import { formatSpread, hostLine, paired } from "./report.ts";

const EXITS = 3_000;
/** As in the C program. */
const WARM_UP = 100;
const ROUNDS = 41;

let sink = 0;
const device: Device = {
  name: "sink",
  read: (_offset, data) => void data.fill(0x5a),
  write: (_offset, data) => {
    sink = data[0] as number;
  },
};

/** What a script does with each exit; the C program does the same. */
function answer(vcpu: Vcpu, exits: number): void {
  for (let i = 0; i < exits; i++) {
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
}

/** Nanoseconds for EXITS exits, answered by a switch in a script, or by a device on the bus. */
function ours(program: Uint8Array, onBus: boolean): number {
  using vm = createVm({ backend: "kvm", memoryBytes: GUEST_MEMORY_BYTES });
  using vcpu = vm.createVcpu();
  vm.memory.write(0x1000, program);
  vcpu.enterMode("real16", { entry: 0x1000 });
  if (onBus) vm.pio.map(0xe9, 1, device);
  const work = (exits: number) => (onBus ? void vcpu.run({ maxExits: exits }) : answer(vcpu, exits));
  work(WARM_UP);
  const start = Bun.nanoseconds();
  work(EXITS);
  return Bun.nanoseconds() - start;
}

const folder = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
try {
  const source = join(import.meta.dir, "peer/kvm-peer.c");
  using peer = Peer.build(source);
  using here = new PeerHere(source);
  console.log(`exit-roundtrip: ${hostLine()}`);
  console.log(`${ROUNDS} pairs of ${EXITS} exits; median (minimum to maximum); ratio = exits/s of vmexit ÷ C`);
  for (const name of ["out", "in", "mmio-read", "mmio-write", "device"] as const) {
    const { bytes } = EXIT_GUESTS[name === "device" ? "out" : name];
    const file = join(folder, `${name}.bin`);
    writeFileSync(file, bytes);
    ours(bytes, name === "device");
    const result = await paired(
      ROUNDS,
      () => ours(bytes, name === "device") / EXITS,
      async () => (await peer.ask(`${name} ${EXITS} ${file}`)) / EXITS,
    );
    // The same C inside this process, whose threads and size the kernel charges for.
    const inside = await paired(
      ROUNDS,
      () => ours(bytes, name === "device") / EXITS,
      () => here.ask(name, EXITS, file) / EXITS,
    );
    console.log(
      `${name.padEnd(10)}  vmexit ${formatSpread(result.ours, 0)} ns/exit  C ${formatSpread(result.theirs, 0)} ns/exit  ratio ${formatSpread(result.ratio, 3)}, to C in this process ${formatSpread(inside.ratio, 3)}`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
void sink;
