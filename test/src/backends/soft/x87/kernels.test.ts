import { expect, test } from "bun:test";
import { add80, div80, mul80, sub80 } from "../../../../../src/backends/soft/x87/arithmetic.ts";
import { arithmeticKernels, BIAS, INEXACT, UP } from "../../../../../src/backends/soft/x87/kernels.ts";
import { Random } from "../oracle/random.ts";

const BASE = 0x3fff + 200;
const TOP = 1n << 63n;
const OPERATIONS = { add: add80, subtract: sub80, multiply: mul80, divide: div80 } as const;
/** Bits that precision control drops, and its encoding. */
const PRECISIONS = [
  [0, 0x300],
  [11, 0x200],
  [40, 0x000],
] as const;

function significand(r: Random): bigint {
  const fraction = r.pick([
    0n,
    1n,
    TOP - 1n,
    r.u64(),
    r.u64() & 0xffff_ffff_0000_0000n,
    1n << r.pick([3n, 11n, 40n, 62n]),
  ]);
  return TOP | (fraction & (TOP - 1n));
}

test("the x87 kernels round as the BigInt arithmetic does, whatever the precision", () => {
  const kernels = arithmeticKernels();
  const r = new Random(3);
  const high = (x: bigint) => Number(BigInt.asIntN(32, x >> 32n));
  const low = (x: bigint) => Number(BigInt.asIntN(32, x));
  for (let i = 0; i < 20_000; i++) {
    const [a, b] = [significand(r), significand(r)];
    const d = r.pick([0, 1, 2, 11, 31, 32, 33, 63, 64, 65, 66, 80, r.below(127)]);
    const [drop, control] = r.pick(PRECISIONS);
    const name = r.pick(["add", "subtract", "multiply", "divide"] as const);
    if (name === "subtract" && d === 0 && b >= a) continue;
    const exponent = BASE - d;
    const expected = OPERATIONS[name]({ se: BASE, significand: a }, { se: exponent, significand: b }, 0x7f | control);
    const status = kernels[name](high(a), low(a), high(b), low(b), d, drop);
    const actual = (BigInt(kernels.result[1]!) << 32n) | BigInt(kernels.result[0]!);
    const start = name === "multiply" ? BASE + exponent - 0x3fff : name === "divide" ? BASE - exponent + 0x3fff : BASE;
    const got = `${actual.toString(16)} ${start + (status & 0xff) - BIAS} ${(status & INEXACT) !== 0} ${(status & UP) !== 0}`;
    const { value, flags, up } = expected;
    const wanted = `${value.significand.toString(16)} ${value.se} ${(flags & 0x20) !== 0} ${up}`;
    if (got !== wanted)
      expect(`${name} ${a.toString(16)} ${b.toString(16)} d ${d} drop ${drop}: ${got}`).toBe(`the same: ${wanted}`);
  }
});
