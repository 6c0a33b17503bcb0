import { expect, test } from "bun:test";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { registerX87 } from "../../../../../src/backends/soft/x87/register.ts";
import { NativeOracle, unavailable } from "../vector/oracle/native.ts";
import { Random } from "../vector/oracle/random.ts";
import { StraightRunner } from "../vector/oracle/straight.ts";
import { TRANSCENDENTAL, x87Forms } from "./forms.ts";
import { describeCase, packedDecimal, randomCase, runNative, runSoft, type X87Outcome } from "./lockstep.ts";

/** Cases per form. `VMEXIT_ORACLE_CASES=10000 bun test test/src/backends/soft/x87` is the full run. */
const CASES = Number(process.env.VMEXIT_ORACLE_CASES ?? 80);
const SEED = Number(process.env.VMEXIT_ORACLE_SEED ?? 1);
const TIMEOUT_MS = 5000 + CASES * 100;
const missing = unavailable();
const suffix = missing ? ` (skipped: ${missing})` : "";

function bench() {
  const registry = createRegistry();
  registerX87(registry);
  return { host: new NativeOracle(), soft: new StraightRunner(registry) };
}

/** C1 after FCOMI and its kind: the manual says cleared, some processors leave it. */
function maskUndefined(name: string, o: X87Outcome): X87Outcome {
  return /^d[bf] [ef]/.test(name) ? { ...o, status: o.status & ~0x200 } : o;
}

test.skipIf(missing !== undefined)(
  `x87 forms leave the same registers, flags and memory as the host processor${suffix}`,
  () => {
    const { host, soft } = bench();
    for (const form of x87Forms()) {
      const run = soft.translate(form.bytes);
      if (!run) throw new Error(`nothing is registered for ${form.name}`);
      const random = new Random(SEED);
      for (let i = 0; i < CASES; i++) {
        const c = randomCase(random, form.memory);
        if (form.name === "df /4") packedDecimal(random, c.memory);
        const expected = maskUndefined(form.name, runNative(host, c, form.bytes));
        const actual = maskUndefined(form.name, runSoft(soft, c, run));
        if (!Bun.deepEquals(actual, expected))
          expect({ case: describeCase(c), form: form.name, ...actual }).toEqual({
            case: describeCase(c),
            form: form.name,
            ...expected,
          });
      }
    }
  },
  TIMEOUT_MS,
);

/** An extended encoding as a number that grows by one with each unit in the last place. */
function ordinal(text: string): bigint {
  const [se, significand] = text.split(":");
  const head = Number.parseInt(se!, 16);
  const magnitude = (BigInt(head & 0x7fff) << 63n) + (BigInt(`0x${significand}`) & 0x7fff_ffff_ffff_ffffn);
  return head & 0x8000 ? -magnitude : magnitude;
}

// The manual promises an error below one unit in the last place, not which of the two neighbours: C1 goes with the choice.
test.skipIf(missing !== undefined)(
  `x87 transcendental instructions come within one unit in the last place of the host${suffix}`,
  () => {
    const { host, soft } = bench();
    for (const modrm of TRANSCENDENTAL) {
      const bytes = new Uint8Array([0xd9, modrm]);
      const run = soft.translate(bytes)!;
      const random = new Random(SEED + modrm);
      for (let i = 0; i < CASES; i++) {
        const c = randomCase(random, 0);
        const expected = runNative(host, c, bytes);
        const actual = runSoft(soft, c, run);
        const where = `d9 ${modrm.toString(16)} ${describeCase(c)}`;
        expect(`${where} ${(actual.status & ~0x200).toString(16)}`).toBe(
          `${where} ${(expected.status & ~0x200).toString(16)}`,
        );
        expect(actual.tags).toBe(expected.tags);
        actual.registers.forEach((value, j) => {
          const distance = ordinal(value) - ordinal(expected.registers[j]!);
          if (distance > 1n || distance < -1n)
            expect(`${where} R${j} ${value}`).toBe(`${where} R${j} ${expected.registers[j]}`);
        });
      }
    }
  },
  TIMEOUT_MS,
);
