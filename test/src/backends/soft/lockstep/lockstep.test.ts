import { describe, expect, test } from "bun:test";
import type { Backend } from "../../../../../src/backend.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { openBackend } from "../../../../../src/host.ts";
import { pagesOutsideLongMode } from "../../../../guests/machine.ts";
import { lockstep, report, type Tracer } from "./compare.ts";
import { LAYOUT } from "./layout.ts";
import { build, LOCKSTEP_MODES, type Program } from "./program.ts";
import { traceOn } from "./trace.ts";

/**
 * Generated system-mode programs on KVM and on the software CPU, one instruction at a time. More of them:
 * `SOFT_LOCKSTEP=500 SOFT_LOCKSTEP_SEED=1000 bun test test/src/backends/soft/lockstep`
 */
const PROGRAMS = Number(process.env.SOFT_LOCKSTEP ?? 4);
const SEED = Number(process.env.SOFT_LOCKSTEP_SEED ?? 1);
const SECONDS = Number(process.env.SOFT_LOCKSTEP_SECONDS ?? 3600);
const STATEMENTS = 15;
const MAX_STEPS = 1200;

const PAGED: ReadonlySet<string> = new Set(["paged32", "pae"]);

const { kvm, missing } = openKvm();

describe("lockstep of the software CPU with KVM", () => {
  for (const mode of LOCKSTEP_MODES) {
    const reason = missing ?? (PAGED.has(mode) && !legacyPaging() ? "this KVM pages only in long mode" : undefined);
    const skip = reason === undefined ? "" : ` (skipped: ${reason})`;
    const title = `${PROGRAMS} generated ${mode} programs take the same steps on both${skip}`;
    test.skipIf(reason !== undefined)(
      title,
      async () => {
        using soft = openSoft();
        let stops = 0;
        let finished = 0;
        const engines: [Tracer, Tracer] = [
          (program) => {
            const trace = traceOn(soft, program, MAX_STEPS);
            stops += trace.stops.length;
            return trace;
          },
          (program) => {
            const trace = traceOn(kvm as Backend, program, MAX_STEPS);
            if (trace.end !== undefined) finished++;
            return trace;
          },
        ];
        const found: string[] = [];
        const until = performance.now() + SECONDS * 1000;
        let run = 0;
        for (; run < PROGRAMS && performance.now() < until; run++) {
          const seed = SEED + run;
          const mismatch = await lockstep(mode, { seed, count: STATEMENTS, ...abilities() }, engines);
          if (mismatch !== undefined) found.push(`seed ${seed}, ${report(mode, mismatch, ["soft", "kvm"])}`);
        }
        if (PROGRAMS > 10)
          console.log(`${mode}: ${run} programs, ${stops} steps, ${finished} ended by themselves on KVM`);
        expect(found).toEqual([]);
      },
      SECONDS * 1000,
    );
  }
});

/** What this KVM does as a processor would. Asked once. */
function abilities(): { limits: boolean; rings: boolean } {
  known ??= {
    limits: firstVector("  mov bx, 0xffff\n  mov ax, [bx]") === 13,
    // Ring 0 in KVM's emulator, which has no x87.
    rings: firstVector("  fnop\n  int3") === 3,
  };
  return known;
}
let known: { limits: boolean; rings: boolean } | undefined;

/** The vector of the first event that a real-mode statement logs on KVM. */
function firstVector(statement: string): number {
  const program = build("real16", [statement]);
  return traceOn(kvm as Backend, program as Program, 100).memory[LAYOUT.log - LAYOUT.logPointer] ?? 0;
}

/** Asked once: it takes a VM. */
function legacyPaging(): boolean {
  paging ??= kvm !== undefined && pagesOutsideLongMode(kvm);
  return paging;
}
let paging: boolean | undefined;

/** KVM, or why there is none. */
function openKvm(): { kvm?: Backend; missing?: string } {
  try {
    const { engine } = openBackend("kvm");
    if (!engine.capabilities.singleStep) return { missing: "this KVM does not single-step" };
    return { kvm: engine };
  } catch (error) {
    return { missing: (error as Error).message };
  }
}
