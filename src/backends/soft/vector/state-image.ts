import { State, Vector } from "../state.ts";
import type { Helper, HelperCpu, StateView } from "../translate/context.ts";
import { X87State } from "../x87/state.ts";
import { OFFSET } from "./special-helpers.ts";

/** How FXSAVE and the XSAVE family lay out their first 512 bytes: pointers of 64 bits, and sixteen XMM registers or eight. */
interface ImageFormat {
  readonly wide: boolean;
  readonly registers: 8 | 16;
}

/** State components of XSAVE by their bit in XCR0. */
const X87 = 1;
const SSE = 2;
const AVX = 4;

/** Bits of MXCSR that exist. */
const MXCSR_MASK = 0xffff;
const MXCSR_DEFAULT = 0x1f80;
const LEGACY_BYTES = 512;
/** Where the header ends and the AVX component starts, in either format. */
const AVX_OFFSET = 576;
const XSAVE_BYTES = 832;
const COMPACTED = 1n << 63n;

/** Intel SDM Vol. 1, "Legacy Region of an XSAVE Area": FCW to FDP, then ST(0) to ST(7). */
function writeX87(view: StateView, out: DataView, format: ImageFormat): void {
  const s = new X87State(view);
  out.setUint16(0, s.control, true);
  out.setUint16(2, s.status, true);
  out.setUint8(4, s.tags);
  out.setUint8(5, 0);
  out.setUint16(6, view.getUint16(State.fop, true), true);
  for (const [at, pointer, selector] of [
    [8, State.fip, State.fipSelector],
    [16, State.fdp, State.fdpSelector],
  ] as const) {
    if (format.wide) out.setBigUint64(at, view.getBigUint64(pointer, true), true);
    else {
      out.setUint32(at, view.getUint32(pointer, true), true);
      out.setUint32(at + 4, view.getUint16(selector, true), true);
    }
  }
  for (let i = 0; i < 8; i++) {
    const { se, significand } = s.read(i);
    out.setBigUint64(32 + 16 * i, significand, true);
    out.setBigUint64(40 + 16 * i, BigInt(se), true);
  }
}

function readX87(view: StateView, image: DataView, format: ImageFormat): void {
  const s = new X87State(view);
  s.control = (image.getUint16(0, true) & 0x1f7f) | 0x40;
  s.status = image.getUint16(2, true);
  s.tags = image.getUint8(4);
  s.summarize();
  view.setUint32(State.fop, image.getUint16(6, true) & 0x7ff, true);
  for (const [at, pointer, selector] of [
    [8, State.fip, State.fipSelector],
    [16, State.fdp, State.fdpSelector],
  ] as const) {
    const value = format.wide ? image.getBigUint64(at, true) : BigInt(image.getUint32(at, true));
    view.setBigUint64(pointer, value, true);
    view.setUint32(selector, format.wide ? 0 : image.getUint16(at + 4, true), true);
  }
  for (let i = 0; i < 8; i++) {
    const significand = image.getBigUint64(32 + 16 * i, true);
    s.writePhysical((s.top + i) & 7, { se: image.getUint16(40 + 16 * i, true), significand });
  }
}

function initializeX87(view: StateView): void {
  const s = new X87State(view);
  s.initialize();
  for (let i = 0; i < 8; i++) s.writePhysical(i, { se: 0, significand: 0n });
}

/** 16 bytes of every register, `half` 1 for the upper ones of YMM. */
function registerBytes(view: StateView, register: number, half: 0 | 1): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + State.vector0 + register * State.vectorBytes + 16 * half, 16);
}

function writeRegisters(view: StateView, image: Uint8Array, at: number, half: 0 | 1, count: number): void {
  for (let i = 0; i < count; i++) image.set(registerBytes(view, i, half), at + 16 * i);
}

function readRegisters(view: StateView, image: Uint8Array | undefined, at: number, half: 0 | 1, count: number): void {
  for (let i = 0; i < count; i++) {
    const register = registerBytes(view, i, half);
    if (image) register.set(image.subarray(at + 16 * i, at + 16 * i + 16));
    else register.fill(0);
  }
}

/** Components that are not in their initial state. */
function inUse(view: StateView, format: ImageFormat): number {
  const s = new X87State(view);
  const zero = (half: 0 | 1) =>
    Array.from({ length: format.registers }, (_, i) => registerBytes(view, i, half)).every((r) =>
      r.every((b) => b === 0),
    );
  const pointers = [State.fip, State.fdp].some((at) => view.getBigUint64(at, true) !== 0n);
  const stack = Array.from({ length: 8 }, (_, i) => s.readPhysical(i)).some((r) => r.se !== 0 || r.significand !== 0n);
  const x87 = s.control !== 0x37f || s.status !== 0 || s.tags !== 0 || pointers || stack;
  const sse = !zero(0) || view.getUint32(State.mxcsr, true) !== MXCSR_DEFAULT;
  return (x87 ? X87 : 0) | (sse ? SSE : 0) | (zero(1) ? 0 : AVX);
}

function viewOf(image: Uint8Array): DataView {
  return new DataView(image.buffer, image.byteOffset, image.byteLength);
}

function formatFrom(wide: number, registers: number): ImageFormat {
  return { wide: wide !== 0, registers: registers === 16 ? 16 : 8 };
}

function offsetOf(cpu: HelperCpu): bigint {
  return cpu.view.getBigUint64(OFFSET, true);
}

/** FXSAVE leaves the last 96 bytes, and what eight registers do not fill, as they are. */
const fxsave: Helper = (cpu, segment, wide, registers) => {
  const format = formatFrom(wide!, registers!);
  // What is left as it is must be there all the same.
  if (!cpu.checkWrite(segment!, offsetOf(cpu) + BigInt(LEGACY_BYTES - 1), 1)) return 1;
  const image = new Uint8Array(160 + 16 * format.registers);
  const out = viewOf(image);
  writeX87(cpu.view, out, format);
  out.setUint32(24, cpu.view.getUint32(State.mxcsr, true), true);
  out.setUint32(28, MXCSR_MASK, true);
  writeRegisters(cpu.view, image, 160, 0, format.registers);
  return cpu.writeMemory(segment!, offsetOf(cpu), image) ? 0 : 1;
};

const fxrstor: Helper = (cpu, segment, wide, registers) => {
  const format = formatFrom(wide!, registers!);
  const image = new Uint8Array(LEGACY_BYTES);
  if (!cpu.readMemory(segment!, offsetOf(cpu), image)) return 1;
  const data = viewOf(image);
  const mxcsr = data.getUint32(24, true);
  if (mxcsr & ~MXCSR_MASK) return cpu.raise(Vector.GP, 0);
  readX87(cpu.view, data, format);
  cpu.view.setUint32(State.mxcsr, mxcsr, true);
  readRegisters(cpu.view, image, 160, 0, format.registers);
  return 0;
};

/** Variants of XSAVE, as their helper's last argument. */
export const XSAVE = 0;
export const XSAVEOPT = 1;
export const XSAVEC = 2;

function requested(cpu: HelperCpu, mask: number): number {
  return Number(cpu.view.getBigUint64(State.xcr0, true) & 7n) & mask;
}

/** Intel SDM Vol. 1, "Operation of XSAVE", "… XSAVEOPT", "… XSAVEC". */
const xsave: Helper = (cpu, segment, flags, mask, variant) => {
  const { view } = cpu;
  const format = formatFrom(flags! & 1, flags! & 2 ? 16 : 8);
  const wanted = requested(cpu, mask!);
  const used = inUse(view, format);
  const base = offsetOf(cpu);
  const header = new Uint8Array(variant === XSAVEC ? 64 : 8);
  if (variant !== XSAVEC && !cpu.readMemory(segment!, base + 512n, header)) return 1;
  const bits = viewOf(header);
  const kept = variant === XSAVEC ? 0n : bits.getBigUint64(0, true) & ~BigInt(wanted);
  bits.setBigUint64(0, kept | BigInt(wanted & used), true);
  if (variant === XSAVEC) bits.setBigUint64(8, COMPACTED | BigInt(wanted), true);
  const written = variant === XSAVE ? wanted : wanted & used;
  const pieces: [number, Uint8Array][] = [];
  const image = new Uint8Array(XSAVE_BYTES);
  const out = viewOf(image);
  writeX87(view, out, format);
  out.setUint32(24, view.getUint32(State.mxcsr, true), true);
  out.setUint32(28, MXCSR_MASK, true);
  writeRegisters(view, image, 160, 0, format.registers);
  writeRegisters(view, image, AVX_OFFSET, 1, format.registers);
  const piece = (from: number, to: number) => pieces.push([from, image.subarray(from, to)]);
  if (written & X87) {
    piece(0, 24);
    piece(32, 160);
  }
  if (variant === XSAVEC ? written & SSE : wanted & (SSE | AVX)) piece(24, 32);
  if (written & SSE) piece(160, 160 + 16 * format.registers);
  if (written & AVX) piece(AVX_OFFSET, AVX_OFFSET + 16 * format.registers);
  pieces.push([LEGACY_BYTES, header.subarray(0, variant === XSAVEC ? 16 : 8)]);
  for (const [at, bytes] of pieces) if (!cpu.writeMemory(segment!, base + BigInt(at), bytes)) return 1;
  return 0;
};

/** Intel SDM Vol. 1, "Operation of XRSTOR": standard and compacted form. */
const xrstor: Helper = (cpu, segment, flags, mask) => {
  const { view } = cpu;
  const format = formatFrom(flags! & 1, flags! & 2 ? 16 : 8);
  const wanted = requested(cpu, mask!);
  const base = offsetOf(cpu);
  const image = new Uint8Array(XSAVE_BYTES);
  if (!cpu.readMemory(segment!, base, image.subarray(0, AVX_OFFSET))) return 1;
  const data = viewOf(image);
  const present = data.getBigUint64(LEGACY_BYTES, true);
  const layout = data.getBigUint64(LEGACY_BYTES + 8, true);
  const compacted = (layout & COMPACTED) !== 0n;
  const allowed = view.getBigUint64(State.xcr0, true);
  const reserved = image.subarray(LEGACY_BYTES + (compacted ? 16 : 8), compacted ? AVX_OFFSET : LEGACY_BYTES + 24);
  const components = layout & ~COMPACTED;
  const invalid = compacted
    ? (components & ~allowed) !== 0n || (present & ~components) !== 0n
    : (present & ~allowed) !== 0n;
  if (invalid || reserved.some((b) => b !== 0)) return cpu.raise(Vector.GP, 0);
  const loaded = wanted & Number(present & 7n);
  if (loaded & AVX && !cpu.readMemory(segment!, base + BigInt(AVX_OFFSET), image.subarray(AVX_OFFSET))) return 1;
  const fromImage = compacted ? (loaded & SSE) !== 0 : (wanted & (SSE | AVX)) !== 0;
  const mxcsr = fromImage ? data.getUint32(24, true) : MXCSR_DEFAULT;
  if (mxcsr & ~MXCSR_MASK) return cpu.raise(Vector.GP, 0);
  if (fromImage || (compacted && wanted & SSE)) view.setUint32(State.mxcsr, mxcsr, true);
  if (loaded & X87) readX87(view, data, format);
  else if (wanted & X87) initializeX87(view);
  if (wanted & SSE) readRegisters(view, loaded & SSE ? image : undefined, 160, 0, format.registers);
  if (wanted & AVX) readRegisters(view, loaded & AVX ? image : undefined, AVX_OFFSET, 1, format.registers);
  return 0;
};

/** By name, for `Registry.helpers`. */
export const IMAGE_HELPERS: Readonly<Record<string, Helper>> = {
  "sse.fxsave": fxsave,
  "sse.fxrstor": fxrstor,
  "sse.xsave": xsave,
  "sse.xrstor": xrstor,
};
