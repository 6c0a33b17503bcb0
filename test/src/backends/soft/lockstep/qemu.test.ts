import { describe, expect, test } from "bun:test";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { lockstep, report, type Tracer } from "./compare.ts";
import { LOCKSTEP_MODES } from "./program.ts";
import { traceOnQemu } from "./qemu.ts";
import { traceOn } from "./trace.ts";

/**
 * Generated programs with what KVM here cannot judge: hardware task switches, call gates between rings, virtual-8086
 * mode. More of them: `SOFT_LOCKSTEP_QEMU=100 bun test test/src/backends/soft/lockstep/qemu.test.ts`
 */
const PROGRAMS = Number(process.env.SOFT_LOCKSTEP_QEMU ?? 3);
const SEED = Number(process.env.SOFT_LOCKSTEP_SEED ?? 1);
const STATEMENTS = 6;
const MAX_STEPS = 600;

describe("lockstep of the software CPU with QEMU's TCG", () => {
  // The 64-bit one: it names its registers otherwise than qemu-system-i386.
  const path = Bun.which("qemu-system-x86_64");
  const skip = path === null ? " (skipped: no qemu-system-x86_64 on PATH)" : "";
  for (const mode of LOCKSTEP_MODES) {
    test.skipIf(path === null)(
      `${PROGRAMS} generated ${mode} programs take the same steps on both${skip}`,
      async () => {
        using soft = openSoft();
        let stops = 0;
        const engines: [Tracer, Tracer] = [
          (program) => traceOn(soft, program, MAX_STEPS),
          async (program) => {
            const trace = await traceOnQemu(path as string, program, MAX_STEPS);
            stops += trace.stops.length;
            return trace;
          },
        ];
        const found: string[] = [];
        for (let seed = SEED; seed < SEED + PROGRAMS; seed++) {
          const options = { seed, count: STATEMENTS, heavy: true, rings: true, limits: false };
          const mismatch = await lockstep(mode, options, engines);
          if (mismatch !== undefined) found.push(`seed ${seed}, ${report(mode, mismatch, ["soft", "qemu"])}`);
        }
        if (PROGRAMS > 10) console.log(`${mode}: ${PROGRAMS} programs, ${stops} steps on QEMU`);
        expect(found).toEqual([]);
        expect(stops).toBeGreaterThan(PROGRAMS * STATEMENTS);
      },
      600_000,
    );
  }
});
