/**
 * Runs guests of random bytes on NVMM, with interrupts, NMIs, spurious returns and replaced reasons: `random-guests.ts SYSTEM FROM TO`.
 * Ends with status 0 when none made the backend throw or misuse libnvmm. A program of its own, since the peer aborts where
 * libnvmm would.
 */
import type { Mode } from "../../../../src/boot/mode.ts";
import { openRig, type PeerSystem } from "./peers.ts";

const MODES: readonly Mode[] = ["real16", "prot32", "long64", "long64-ring3"];
/** Opcodes and prefixes that reach ports, memory and string instructions sooner than chance would. */
const FAVOURED = Uint8Array.from(
  "6c6d6e6fe4e6eceef3f2a4aaaca6888ac60f808366 67f0c7a0a3868708213103".replaceAll(" ", "").match(/../g) ?? [],
  (pair) => Number.parseInt(pair, 16),
);
const CODE_BYTES = 256;
const MOST_EXITS = 40;

/** xorshift32. */
function randomFrom(seed: number): () => number {
  let x = Math.imul(seed, 0x9e3779b1) >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

function program(random: () => number): Uint8Array {
  const code = Uint8Array.from({ length: CODE_BYTES }, () => random());
  for (let i = 0; i < CODE_BYTES; i += 1 + (random() % 4)) code[i] = FAVOURED[random() % FAVOURED.length] as number;
  return code;
}

const [system, from, to] = process.argv.slice(2);
const { host, peer } = openRig(system as PeerSystem, "random");
peer.option("tickMs", 1);
peer.option("spurious", 3);
if (system === "netbsd") peer.option("overwrite", 5);
for (let seed = Number(from); seed < Number(to); seed++) {
  const random = randomFrom(seed);
  using vm = host.createVm({ memoryBytes: 0x40000, ...(seed & 8 ? { msrExits: { invalid: true } } : {}) });
  const vcpu = vm.createVcpu();
  vcpu.enterMode(MODES[seed % MODES.length] as Mode, { entry: 0x1000 });
  vm.memory.write(0x1000, program(random));
  for (const name of ["rax", "rcx", "rdx", "rbx", "rsi", "rdi", "rbp"] as const) {
    vcpu.registers[name] = BigInt(random() & 0xfffff);
  }
  for (let exits = 0; exits < MOST_EXITS; exits++) {
    const exit = vcpu.run({ timeoutMs: 3 });
    if (exit.kind === "pioIn" || exit.kind === "mmioRead") exit.data.fill(random());
    if (["shutdown", "internalError", "failEntry", "interrupted"].includes(exit.kind)) break;
    if (random() % 8 === 0) vcpu.interrupt(random() & 0xff);
    if (random() % 16 === 0) vcpu.nmi();
  }
  const violation = peer.violation();
  if (violation !== "") throw new Error(`Guest ${seed} made the backend misuse libnvmm: ${violation}`);
}
console.log("done");
