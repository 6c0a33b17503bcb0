import type { Cpu } from "../cpu.ts";
import { Vector } from "../state.ts";

/** Decimal adjustments (Intel SDM Vol. 2). Flags beyond the defined ones are as AMD and Intel leave them. */

const CF = 1;
const AF = 0x10;

/** SF, ZF, PF of a byte. */
function resultFlags(value: number): number {
  let parity = value ^ (value >> 4);
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return (value & 0x80) | (value === 0 ? 0x40 : 0) | ((parity & 1) === 0 ? 4 : 0);
}

function setLow(cpu: Cpu, mask: bigint, value: number): void {
  cpu.setGpr(0, (cpu.gpr(0) & ~mask) | BigInt(value));
}

export function decimalAdjust(cpu: Cpu, sign: 1 | -1): number {
  const old = cpu.gpr32(0) & 0xff;
  const flags = cpu.arithmeticFlags;
  let al = old;
  let out = 0;
  if ((old & 0xf) > 9 || (flags & AF) !== 0) {
    al += sign * 6;
    if (sign < 0 && (old < 6 || (flags & CF) !== 0)) out |= CF;
    if (sign > 0 && ((flags & CF) !== 0 || al > 0xff)) out |= CF;
    out |= AF;
  }
  if (old > 0x99 || (flags & CF) !== 0) {
    al += sign * 0x60;
    out |= CF;
  } else if (sign > 0) out &= ~CF;
  al &= 0xff;
  setLow(cpu, 0xffn, al);
  cpu.arithmeticFlags = out | resultFlags(al);
  return 0;
}

export function asciiAdjust(cpu: Cpu, sign: 1 | -1): number {
  const ax = cpu.gpr32(0) & 0xffff;
  const flags = cpu.arithmeticFlags;
  const adjust = (ax & 0xf) > 9 || (flags & AF) !== 0;
  const next = adjust ? (ax + sign * 0x106) & 0xffff : ax;
  const result = next & 0xff0f;
  setLow(cpu, 0xffffn, result);
  cpu.arithmeticFlags = (adjust ? CF | AF : 0) | resultFlags(result & 0xff);
  return 0;
}

export function asciiMultiply(cpu: Cpu, base: number): number {
  if ((base & 0xff) === 0) return cpu.raise(Vector.DE);
  const al = cpu.gpr32(0) & 0xff;
  const rest = al % (base & 0xff);
  setLow(cpu, 0xffffn, (Math.floor(al / (base & 0xff)) << 8) | rest);
  cpu.arithmeticFlags = resultFlags(rest);
  return 0;
}

export function asciiDivide(cpu: Cpu, base: number): number {
  const ax = cpu.gpr32(0) & 0xffff;
  const al = ((ax & 0xff) + (ax >> 8) * (base & 0xff)) & 0xff;
  setLow(cpu, 0xffffn, al);
  cpu.arithmeticFlags = resultFlags(al);
  return 0;
}
