import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { RegisterAccess, Segment } from "../registers.ts";
import { pagingStateOf, walkPages } from "./walk.ts";

/** What is asked of a vCPU's registers to find its code. */
export type CodeRegisters = Pick<RegisterAccess, "readGpr" | "readSegment" | "readControl">;

const EFER_LMA = 1n << 10n;

/** Width of the code that CS selects. */
export function codeBits(registers: CodeRegisters, cs: Segment = registers.readSegment("cs")): 16 | 32 | 64 {
  if (cs.l === 1 && (registers.readControl("efer") & EFER_LMA) !== 0n) return 64;
  return cs.db === 1 ? 32 : 16;
}

/** The linear address of an instruction pointer: CS has a base except in 64-bit mode. */
export function linearAddress(ip: bigint, cs: Segment, bits: 16 | 32 | 64): bigint {
  return bits === 64 ? ip : BigInt.asUintN(32, cs.base + ip);
}

/** Guest memory by linear address, through the guest's own page tables. Ends early where nothing is mapped. */
export function readLinear(
  registers: CodeRegisters,
  memory: PhysicalMemory,
  range: { readonly address: bigint; readonly length: number },
): Uint8Array {
  const state = pagingStateOf(registers);
  const found = new Uint8Array(range.length);
  for (let done = 0; done < range.length; ) {
    const gva = range.address + BigInt(done);
    const chunk = Math.min(range.length - done, 4096 - Number(gva & 0xfffn));
    const { gpa } = walkPages(memory, state, gva);
    if (gpa === undefined) return found.slice(0, done);
    const backed = backedBytes(memory, gpa, chunk);
    if (backed > 0) found.set(memory.read(gpa, backed), done);
    done += backed;
    if (backed < chunk) return found.slice(0, done);
  }
  return found;
}

function backedBytes(memory: PhysicalMemory, gpa: number, wanted: number): number {
  if (memory.has(gpa, wanted)) return wanted;
  let bytes = 0;
  while (bytes < wanted && memory.has(gpa + bytes, 1)) bytes++;
  return bytes;
}
