/** Runs a benchmark image on the software CPU: `bun engine-soft.ts IMAGE`. Prints a line per round, then RSS. */
import { readFileSync } from "node:fs";
import { openSoft } from "../../../src/backends/soft/backend.ts";
import { bootGuest, loadGuest } from "../../../src/boot/index.ts";
import { Vm } from "../../../src/vm.ts";
import { RoundListener } from "./rounds.ts";

const MEMORY_BYTES = 128 << 20;
const image = Bun.argv[2] as string;
using backend = openSoft();
using vm = new Vm(backend, { memoryBytes: MEMORY_BYTES });
using vcpu = vm.createVcpu();
bootGuest(vcpu.access, vm.memory, loadGuest(readFileSync(image), { file: image, memoryBytes: MEMORY_BYTES }));
const rounds = new RoundListener((line) => console.log(line));
const device = (name: string, write: (value: number) => void) => ({
  name,
  read: () => {},
  write: (_offset: number, data: Uint8Array) => write(data[0] as number),
});
// As v86 has them: handlers of ports, called without a way round a script.
vm.pio.map(
  0x80,
  1,
  device("storm", () => {}),
);
vm.pio.map(
  0xe9,
  1,
  device("rounds", (value) => {
    rounds.byte(value);
    if (rounds.done) vm.stop();
  }),
);
const exit = vcpu.run();
if (!rounds.done) {
  console.log(`failed ${JSON.stringify(exit, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`);
}
console.log(`rss ${process.memoryUsage().rss}`);
