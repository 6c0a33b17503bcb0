/** Imports vmexit's software CPU, runs guests/hello.bin to its first exit, and tells the milliseconds since this process started. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

// Not by guests/assemble.ts: that would time the assembler's modules, too.
const HELLO = join(import.meta.dir, "../../../guests/hello.bin");

const { openSoft } = await import("../../../src/backends/soft/backend.ts");
const { Vm } = await import("../../../src/vm.ts");
using backend = openSoft();
using vm = new Vm(backend, { memoryBytes: 1 << 20 });
using vcpu = vm.createVcpu();
vcpu.load({ bytes: readFileSync(HELLO), origin: 0x1000, bits: 16 });
const exit = vcpu.run();
if (exit.kind !== "pioOut") throw new Error(`hello.bin began with ${exit.kind}`);
console.log(performance.now().toFixed(2));
