import { CR0, CR4, EFER, EFLAGS } from "./control-bits.ts";
import type { Cpu } from "./cpu.ts";
import { Seg, SegIndex, State } from "./state.ts";
import type { Gate, Mode } from "./translate/mode.ts";

/** Modes by what tells them apart. A VM has few; the table is shared by its vCPUs. */
export type ModeTable = Map<string, Mode>;

/** Highest mode number: the jump cache keeps twelve bits for it. */
const MAX_MODES = 4095;

/** Limits that generated code compares with: −1 sends every access to the slow path. */
function deriveLimits(cpu: Cpu, real: boolean): void {
  for (let i = 0; i < 6; i++) {
    const slot = State.segments + i * Seg.size;
    const attributes = cpu.get(slot + Seg.attributes);
    const limit = BigInt(cpu.get(slot + Seg.limit) >>> 0);
    const code = (attributes & 8) !== 0;
    let read = limit;
    let write = limit;
    if (!real) {
      const usable = (attributes & 0x1_0080) === 0x80;
      const down = !code && (attributes & 4) !== 0;
      if (!usable || down || (code && (attributes & 2) === 0)) read = -1n;
      if (!usable || down || code || (attributes & 2) === 0) write = -1n;
    }
    cpu.set64(slot + Seg.readLimit, read);
    cpu.set64(slot + Seg.writeLimit, write);
  }
}

function isFlat(cpu: Cpu): boolean {
  for (const i of [SegIndex.es, SegIndex.cs, SegIndex.ss, SegIndex.ds]) {
    const slot = State.segments + i * Seg.size;
    if (cpu.get64(slot + Seg.base) !== 0n || cpu.get64(slot + Seg.readLimit) !== 0xffff_ffffn) return false;
    if (i !== SegIndex.cs && cpu.get64(slot + Seg.writeLimit) !== 0xffff_ffffn) return false;
  }
  return true;
}

/** Privilege: 0 in real mode, 3 in virtual-8086 mode, else the DPL of SS (Intel SDM Vol. 3C, guest-state checks). */
function privilege(cpu: Cpu, real: boolean, v86: boolean): 0 | 1 | 2 | 3 {
  if (v86) return 3;
  if (real) return 0;
  return ((cpu.attributes(SegIndex.ss) >> 5) & 3) as 0 | 1 | 2 | 3;
}

export function computeMode(cpu: Cpu, table: ModeTable): Mode {
  const { cr0, cr4, efer } = cpu;
  const eflags = cpu.get(State.eflags);
  const protectedMode = (cr0 & CR0.PE) !== 0;
  const v86 = protectedMode && (eflags & EFLAGS.VM) !== 0;
  const real = !protectedMode || v86;
  const long = (efer & EFER.LMA) !== 0;
  const csAttributes = cpu.attributes(SegIndex.cs);
  const bits = long && !v86 && (csAttributes & 0x200) !== 0 ? 64 : (csAttributes & 0x400) !== 0 && !v86 ? 32 : 16;
  const stackBits = bits === 64 ? 64 : (cpu.attributes(SegIndex.ss) & 0x400) !== 0 && !v86 ? 32 : 16;
  deriveLimits(cpu, real);
  const cpl = privilege(cpu, real, v86);
  const em = (cr0 & CR0.EM) !== 0;
  const ts = (cr0 & CR0.TS) !== 0;
  const xcr0 = cpu.get(State.xcr0);
  const x87: Gate = em || ts ? "nm" : "run";
  const mmx: Gate = em ? "ud" : ts ? "nm" : "run";
  const sse: Gate = em || (cr4 & CR4.OSFXSR) === 0 ? "ud" : ts ? "nm" : "run";
  const avxOn = protectedMode && !v86 && (cr4 & CR4.OSXSAVE) !== 0 && (xcr0 & 6) === 6;
  const avx: Gate = !avxOn ? "ud" : ts ? "nm" : "run";
  const fields = {
    bits,
    stackBits,
    user: cpl === 3,
    cpl,
    real,
    v86,
    long,
    flat: !real && bits !== 64 && isFlat(cpu),
    csBase: bits === 64 ? 0n : cpu.segmentBase(SegIndex.cs),
    csLimit: bits === 64 ? -1 : cpu.segment(SegIndex.cs, Seg.limit) >>> 0,
    alignCheck: cpl === 3 && (cr0 & CR0.AM) !== 0 && (eflags & EFLAGS.AC) !== 0,
    x87,
    mmx,
    sse,
    avx,
    osxsave: (cr4 & CR4.OSXSAVE) !== 0,
    ioAllowed: !protectedMode || (!v86 && cpl <= ((eflags >> 12) & 3)),
  } as const;
  const key = Object.values(fields).join();
  const known = table.get(key);
  if (known !== undefined) return known;
  if (table.size === MAX_MODES) table.clear();
  const mode: Mode = { id: table.size + 1, ...fields };
  table.set(key, mode);
  return mode;
}
