import { expect, test } from "bun:test";
import { Bench } from "../oracle/alone.ts";

const RAX = 0;
/** PUSHFQ, POP RAX: the flags as the guest sees them. */
const READ = [0x9c, 0x58];
const STC = 0xf9;
const SF = 0x80;
const CF = 1;
/** XOR EAX, EAX and DEC EAX: SF and PF set; CF and ZF clear. */
const NEGATIVE = [0x31, 0xc0, 0xff, 0xc8];

/** CF and SF behind instructions. */
function flagsBehind(instructions: readonly number[]): number {
  using bench = new Bench();
  const { gpr } = bench.run([...NEGATIVE, ...instructions, ...READ], { gpr: { 4: 0x2000_5000n } });
  return Number(gpr(RAX)) & (SF | CF);
}

test.each([
  ["ROL then STC", [0xc1, 0xc1, 0x04, STC], SF | CF],
  ["STC then ROR of 0 to the right", [STC, 0xc1, 0xc9, 0x01], SF],
  ["ROL by CL then BT", [0xb1, 0x03, 0xd3, 0xc2, 0x0f, 0xba, 0xe2, 0x05], SF],
  ["CMC then RCL then CMC", [0xf5, 0xd1, 0xd1, 0xf5], SF | CF],
] as const)("%s keeps SF of what came before", (_, instructions, flags) => {
  expect(flagsBehind(instructions)).toBe(flags);
});
