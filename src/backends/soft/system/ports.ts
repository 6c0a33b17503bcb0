import type { PioSize } from "../../../exit.ts";
import { CR4, EFLAGS } from "../control-bits.ts";
import type { Cpu } from "../cpu.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import { INFO_SEGMENT_SHIFT, INFO_USER } from "../translate/access-info.ts";

/** Elements of one REP INS exit at most. */
const MAX_ELEMENTS = 1024;

/** The I/O permission bitmap of a 32- or 64-bit TSS (Intel SDM Vol. 1, "I/O Permission Bit Map"). */
function allowed(cpu: Cpu, port: number, bytes: number): boolean {
  if (cpu.mode.ioAllowed) return true;
  const attributes = cpu.attributes(SegIndex.tr);
  const limit = cpu.segment(SegIndex.tr, Seg.limit) >>> 0;
  const deny = (): boolean => {
    cpu.raise(Vector.GP, 0);
    return false;
  };
  if ((attributes & 8) === 0 || limit < 0x67) return deny();
  const base = cpu.segmentBase(SegIndex.tr);
  const map = cpu.access.readSystem(base + 0x66n, 2);
  if (map === undefined) return false;
  const at = Number(map) + (port >> 3);
  if (at + 1 > limit) return deny();
  const bits = cpu.access.readSystem(base + BigInt(at), 2);
  if (bits === undefined) return false;
  return ((Number(bits) >> (port & 7)) & ((1 << bytes) - 1)) === 0 || deny();
}

/** Notes I/O breakpoints. False when the instruction must be executed on its own for that. */
function watched(cpu: Cpu, port: number, bytes: number): boolean {
  const watchpoints = cpu.access.watchpoints;
  if (watchpoints === undefined || watchpoints.ports.length === 0 || (cpu.cr4 & CR4.DE) === 0) return true;
  const hit = watchpoints.matchPort(port, bytes);
  if (hit !== 0 && !cpu.stepping) {
    cpu.pending = { kind: "retry" };
    return false;
  }
  watchpoints.note(hit);
  return true;
}

/** AL, AX or EAX. The low half of RAX alone where the rest stays: a BigInt costs more than all of an IN. */
function setAccumulator(cpu: Cpu, bytes: number, data: Uint8Array): void {
  let value = 0;
  for (let i = 0; i < bytes; i++) value |= (data[i] as number) << (i * 8);
  if (bytes === 4) cpu.setGpr32(0, value);
  else cpu.set(State.gpr, (cpu.gpr32(0) & (bytes === 2 ? ~0xffff : ~0xff)) | value);
}

export function portIn(cpu: Cpu, wide: number, size: number): number {
  const port = wide & 0xffff;
  if (!allowed(cpu, port, size) || !watched(cpu, port, size)) return 1;
  const data = cpu.portData(size);
  for (let i = 0; i < size; i++) data[i] = 0xff;
  const exit = { kind: "pioIn" as const, port, size: size as PioSize, count: 1, data };
  const { i32 } = cpu;
  const low = i32[State.rip >> 2] as number;
  const high = i32[(State.rip >> 2) + 1] as number;
  cpu.resume = () => {
    setAccumulator(cpu, size, answer(exit.data, size));
    i32[State.rip >> 2] = low;
    i32[(State.rip >> 2) + 1] = high;
    cpu.retired++;
    return true;
  };
  return cpu.offer(exit);
}

export function portOut(cpu: Cpu, wide: number, size: number): number {
  const port = wide & 0xffff;
  if (!allowed(cpu, port, size) || !watched(cpu, port, size)) return 1;
  const data = cpu.portData(size);
  const value = cpu.gpr32(0);
  data[0] = value;
  if (size > 1) data[1] = value >>> 8;
  if (size > 2) {
    data[2] = value >>> 16;
    data[3] = value >>> 24;
  }
  return cpu.offer({ kind: "pioOut", port, size: size as PioSize, count: 1, data });
}

/** The caller's answer, which may be an array put in the place of the exit's own; what is missing reads all ones. */
export function answer(data: Uint8Array, bytes: number): Uint8Array {
  if (data.length === bytes) return data;
  const whole = new Uint8Array(bytes).fill(0xff);
  whole.set(data.subarray(0, bytes));
  return whole;
}

interface PortString {
  readonly bytes: number;
  readonly addressBits: number;
  readonly segment: number;
  readonly input: boolean;
  readonly repeat: boolean;
}

function masked(cpu: Cpu, register: number, bits: number): bigint {
  return BigInt.asUintN(bits, cpu.gpr(register));
}

function writeMasked(cpu: Cpu, register: number, bits: number, value: bigint): void {
  const low = BigInt.asUintN(bits, value);
  cpu.setGpr(register, bits === 16 ? (cpu.gpr(register) & ~0xffffn) | low : low);
}

/** Moves the index, takes `elements` off the counter, and goes behind the instruction when nothing is left. */
function finishString(cpu: Cpu, s: PortString, elements: number, here: bigint, next: bigint): void {
  const index = s.input ? 7 : 6;
  const down = (cpu.get(State.eflags) & EFLAGS.DF) !== 0;
  const move = BigInt(elements * s.bytes) * (down ? -1n : 1n);
  writeMasked(cpu, index, s.addressBits, masked(cpu, index, s.addressBits) + move);
  if (s.repeat) {
    const left = masked(cpu, 1, s.addressBits) - BigInt(elements);
    writeMasked(cpu, 1, s.addressBits, left);
    cpu.rip = left === 0n ? next : here;
  } else cpu.rip = next;
}

/** INS as one exit for as many elements as fit the page, OUTS as one exit per element: as KVM does. */
export function portString(cpu: Cpu, bytes: number, addressBits: number, segment: number, mode: number): number {
  const s: PortString = { bytes, addressBits, segment, input: (mode & 1) !== 0, repeat: (mode & 2) !== 0 };
  const next = cpu.rip;
  const here = cpu.instructionRip;
  const port = cpu.gpr32(2) & 0xffff;
  const count = s.repeat ? masked(cpu, 1, addressBits) : 1n;
  if (!allowed(cpu, port, bytes)) return 1;
  if (count === 0n) return 0;
  if (!watched(cpu, port, bytes)) return 1;
  return s.input ? portStringIn(cpu, s, port, count, here, next) : portStringOut(cpu, s, port, here, next);
}

function portStringIn(cpu: Cpu, s: PortString, port: number, count: bigint, here: bigint, next: bigint): number {
  const offset = masked(cpu, 7, s.addressBits);
  const down = (cpu.get(State.eflags) & EFLAGS.DF) !== 0;
  const room = Math.floor((4096 - Number((offset + cpu.segmentBase(SegIndex.es)) & 0xfffn)) / s.bytes);
  const most = down ? 1 : Math.min(MAX_ELEMENTS, Math.max(room, 1));
  const elements = count < BigInt(most) ? Number(count) : most;
  const linear = cpu.code64 ? offset : (offset + cpu.segmentBase(SegIndex.es)) & 0xffff_ffffn;
  // Faults come before the device is asked.
  if (!cpu.code64) {
    for (const at of [offset, offset + BigInt((elements - 1) * s.bytes)]) {
      const info = s.bytes | (SegIndex.es << INFO_SEGMENT_SHIFT) | (1 << 16);
      if (cpu.access.checkSegment(Number(at & 0xffff_ffffn), info) !== 0) return 1;
    }
  }
  const info = s.bytes | (SegIndex.es << INFO_SEGMENT_SHIFT) | (cpu.mode.user ? INFO_USER : 0) | (1 << 16);
  const low = Number(linear & 0xffff_ffffn) | 0;
  if (cpu.access.checkRange(low, Number(linear >> 32n) | 0, info) !== 0) return 1;
  const data = new Uint8Array(elements * s.bytes).fill(0xff);
  const exit = { kind: "pioIn" as const, port, size: s.bytes as PioSize, count: elements, data };
  cpu.exits.push(exit);
  cpu.pending = { kind: "exit" };
  cpu.resume = () => {
    const stepping = cpu.stepping;
    cpu.stepping = true;
    cpu.access.startInstruction();
    const done = cpu.access.writeLinear(linear, answer(exit.data, data.length), info & ~(0xff | (1 << 16)));
    cpu.stepping = stepping;
    if (!done) return false;
    finishString(cpu, s, elements, here, next);
    cpu.retired += elements;
    return true;
  };
  return 1;
}

function portStringOut(cpu: Cpu, s: PortString, port: number, here: bigint, next: bigint): number {
  const data = cpu.portData(s.bytes);
  if (!cpu.readMemory(s.segment, masked(cpu, 6, s.addressBits), data)) return 1;
  cpu.exits.push({ kind: "pioOut", port, size: s.bytes as PioSize, count: 1, data });
  finishString(cpu, s, 1, here, next);
  return 0;
}
