/** How long does a VM take from creation to its first exit and its disposal, next to a C program doing the same? */
import { join } from "node:path";
import { openBackend } from "../../src/index.ts";
import { Peer } from "./peer.ts";
import { formatSpread, hostLine, paired } from "./report.ts";

const VMS = 20;
const ROUNDS = 31;
const guest = join(import.meta.dir, "../../guests/hello.bin");
const program = await Bun.file(guest).bytes();

using host = openBackend("kvm");

function ours(): number {
  const start = Bun.nanoseconds();
  for (let i = 0; i < VMS; i++) {
    using vm = host.createVm({ memoryBytes: 0xf0000 });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, program);
    vcpu.enterMode("real16", { entry: 0x1000 });
    vcpu.run();
  }
  return (Bun.nanoseconds() - start) / VMS / 1000;
}

using peer = Peer.build(join(import.meta.dir, "peer/kvm-peer.c"));
const theirs = async () => (await peer.ask(`lifecycle ${VMS} ${guest}`)) / VMS / 1000;
console.log(`vm-lifecycle: ${hostLine()}`);
console.log(`pairs of ${VMS} VMs: create, run hello.bin to its first exit, dispose; median (minimum to maximum)`);
// A script that makes a few VMs runs code that the JIT has not seen; a fuzzer or a test suite soon runs compiled code.
for (const [name, rounds] of [
  ["the first 100 VMs", 5],
  ["up to the 500th", 20],
  ["from then on", ROUNDS],
] as const) {
  const result = await paired(rounds, ours, theirs);
  console.log(
    `${name.padEnd(18)} vmexit ${formatSpread(result.ours, 0)} µs  C ${formatSpread(result.theirs, 0)} µs  C ÷ vmexit ${formatSpread(result.ratio, 3)}`,
  );
}
