import { State } from "../state.ts";
import type { HelperCpu } from "../translate/context.ts";
import { X87State } from "./state.ts";

/** The four layouts of the x87 environment (Intel SDM Vol. 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE"). */
export interface EnvironmentFormat {
  readonly bytes: 14 | 28;
  readonly real: boolean;
}

/** The environment as FNSTENV writes it. */
export function storeEnvironment(view: DataView, format: EnvironmentFormat): Uint8Array {
  const s = new X87State(view);
  const fip = Number(view.getBigUint64(State.fip, true) & 0xffff_ffffn);
  const fdp = Number(view.getBigUint64(State.fdp, true) & 0xffff_ffffn);
  const fop = view.getUint32(State.fop, true) & 0x7ff;
  // Real and virtual-8086 mode have linear addresses in their format.
  const linear = (offset: number, selector: number) => (offset + view.getUint16(selector, true) * 16) >>> 0;
  const fields = format.real
    ? realFields(linear(fip, State.fipSelector), linear(fdp, State.fdpSelector), fop, format.bytes)
    : protectedFields(view, fip, fdp, fop, format.bytes);
  const image = new Uint8Array(format.bytes);
  const out = new DataView(image.buffer);
  [s.control, s.status, s.fullTags, ...fields].forEach((value, i) => {
    if (format.bytes === 14) out.setUint16(i * 2, value, true);
    else out.setUint32(i * 4, i < 3 || i === 6 ? (value | 0xffff_0000) >>> 0 : value, true);
  });
  return image;
}

/** FIP, selector (and opcode), FDP, selector. */
function protectedFields(view: DataView, fip: number, fdp: number, fop: number, bytes: 14 | 28): number[] {
  const cs = view.getUint16(State.fipSelector, true);
  const ds = view.getUint16(State.fdpSelector, true);
  return [fip, bytes === 28 ? cs | (fop << 16) : cs, fdp, ds];
}

/** Real and virtual-8086 mode hold 20-bit (or 32-bit) linear addresses in pieces. */
function realFields(fip: number, fdp: number, fop: number, bytes: 14 | 28): number[] {
  if (bytes === 14) return [fip, ((fip >>> 4) & 0xf000) | fop, fdp, (fdp >>> 4) & 0xf000];
  return [fip & 0xffff, (((fip >>> 4) & 0xffff000) | fop) >>> 0, fdp & 0xffff, (fdp >>> 4) & 0xffff000];
}

/** Loads what `storeEnvironment` laid out. */
export function loadEnvironment(view: DataView, image: Uint8Array, format: EnvironmentFormat): void {
  const data = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const field = (i: number) => (format.bytes === 14 ? data.getUint16(i * 2, true) : data.getUint32(i * 4, true));
  const s = new X87State(view);
  s.control = (field(0) & 0x1f7f) | 0x40;
  s.status = field(1) & 0xffff;
  s.fullTags = field(2) & 0xffff;
  s.summarize();
  const [ip, code, dp, data2] = [field(3), field(4), field(5), field(6)];
  const high = (value: number) => (format.bytes === 14 ? (value & 0xf000) << 4 : (value & 0xffff000) << 4) >>> 0;
  const fip = format.real ? (ip & 0xffff) + high(code) : ip;
  const fdp = format.real ? (dp & 0xffff) + high(data2) : dp;
  view.setBigUint64(State.fip, BigInt(fip), true);
  view.setBigUint64(State.fdp, BigInt(fdp), true);
  view.setUint32(State.fipSelector, format.real ? 0 : code & 0xffff, true);
  view.setUint32(State.fdpSelector, format.real ? 0 : data2 & 0xffff, true);
  if (format.real) view.setUint32(State.fop, code & 0x7ff, true);
  else view.setUint32(State.fop, format.bytes === 28 ? (code >>> 16) & 0x7ff : 0, true);
}

function formatFrom(bytes: number, real: number): EnvironmentFormat {
  return { bytes: bytes === 14 ? 14 : 28, real: real !== 0 };
}

function offsetFrom(view: DataView): bigint {
  return view.getBigUint64(State.scratch, true);
}

/** Helpers: the operand's offset lies in State.scratch; arguments are the segment, the bytes of the environment, and whether the mode is real. */
export function fnstenv(cpu: HelperCpu, segment: number, bytes: number, real: number): number {
  const image = storeEnvironment(cpu.view, formatFrom(bytes, real));
  if (!cpu.writeMemory(segment, offsetFrom(cpu.view), image, bytes % 28 === 0 ? 4 : 2)) return 1;
  const s = new X87State(cpu.view);
  s.control |= 0x3f;
  s.summarize();
  return 0;
}

export function fldenv(cpu: HelperCpu, segment: number, bytes: number, real: number): number {
  const image = new Uint8Array(bytes);
  if (!cpu.readMemory(segment, offsetFrom(cpu.view), image, bytes % 28 === 0 ? 4 : 2)) return 1;
  loadEnvironment(cpu.view, image, formatFrom(bytes, real));
  return 0;
}

export function fnsave(cpu: HelperCpu, segment: number, bytes: number, real: number): number {
  const image = new Uint8Array(bytes + 80);
  image.set(storeEnvironment(cpu.view, formatFrom(bytes, real)));
  const out = new DataView(image.buffer);
  const s = new X87State(cpu.view);
  for (let i = 0; i < 8; i++) {
    const { se, significand } = s.read(i);
    out.setBigUint64(bytes + 10 * i, significand, true);
    out.setUint16(bytes + 10 * i + 8, se, true);
  }
  if (!cpu.writeMemory(segment, offsetFrom(cpu.view), image, bytes % 28 === 0 ? 4 : 2)) return 1;
  s.initialize();
  return 0;
}

export function frstor(cpu: HelperCpu, segment: number, bytes: number, real: number): number {
  const image = new Uint8Array(bytes + 80);
  if (!cpu.readMemory(segment, offsetFrom(cpu.view), image, bytes % 28 === 0 ? 4 : 2)) return 1;
  loadEnvironment(cpu.view, image, formatFrom(bytes, real));
  const data = new DataView(image.buffer);
  const s = new X87State(cpu.view);
  for (let i = 0; i < 8; i++) {
    const significand = data.getBigUint64(bytes + 10 * i, true);
    s.writePhysical((s.top + i) & 7, { se: data.getUint16(bytes + 10 * i + 8, true), significand });
  }
  return 0;
}
