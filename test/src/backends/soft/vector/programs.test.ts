import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { Host } from "../../../../../src/host.ts";
import { hostFlags } from "../oracle/host.ts";

/** Compiled code through the whole engine: regions, lazy flags, memory, modes. */
const PROGRAM = join(import.meta.dir, "programs/numeric.c");
const SCRIPT = join(import.meta.dir, "programs/flat.ld");
const ENTRY = 0x100000;

const VARIANTS = [
  { name: "unoptimised", flags: ["-O0"], needs: [] },
  { name: "SSE2, vectorised", flags: ["-O3", "-msse2"], needs: [] },
  { name: "SSE4.2", flags: ["-O3", "-msse4.2"], needs: ["sse4_2"] },
  { name: "AVX2 and FMA", flags: ["-O3", "-mavx2", "-mfma"], needs: ["avx2", "fma"] },
  { name: "x87", flags: ["-O2", "-mfpmath=387"], needs: [] },
] as const;

const SHARED = ["-fno-builtin", "-ffp-contract=fast", "-fno-math-errno"];
const FREESTANDING = [
  "-ffreestanding",
  "-fno-pic",
  "-no-pie",
  "-mno-red-zone",
  "-fno-stack-protector",
  "-nostdlib",
  "-Wl,--build-id=none",
  "-T",
  SCRIPT,
];

const hosted = process.platform === "linux" && process.arch === "x64";
const missing = hosted && Bun.which("gcc") ? undefined : "needs gcc on x86-64 Linux";

function run(command: readonly string[]): string {
  const r = Bun.spawnSync([...command]);
  if (r.exitCode !== 0) throw new Error(`${command.join(" ")}: ${r.stderr}`);
  return r.stdout.toString().trim();
}

describe("compiled programs compute on the software CPU what they compute on the host", () => {
  let directory = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "vmexit-programs-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  for (const { name, flags, needs } of VARIANTS) {
    const lacking = missing ?? needs.find((flag) => !hostFlags().has(flag));
    test.skipIf(lacking !== undefined)(
      lacking === undefined ? name : `${name} (skipped: ${lacking})`,
      () => {
        const [native, flat] = [join(directory, "native"), join(directory, "flat.bin")];
        run(["gcc", ...flags, ...SHARED, "-DHOSTED", "-o", native, PROGRAM]);
        run(["gcc", ...flags, ...SHARED, ...FREESTANDING, "-o", flat, PROGRAM]);
        using host = new Host(openSoft());
        using vm = host.createVm({ memoryBytes: 0x400000 });
        const vcpu = vm.createVcpu(0);
        vm.memory.write(ENTRY, readFileSync(flat));
        vcpu.enterMode("long64", { entry: ENTRY, stack: 0x300000 });
        expect(vcpu.run({ timeoutMs: 20_000 }).kind).toBe("hlt");
        expect(vcpu.registers.rax.toString(16).padStart(16, "0")).toBe(run([native]));
      },
      30_000,
    );
  }
});
