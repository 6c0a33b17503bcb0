import {
  Area,
  type ImageFormat,
  initializeX87,
  loadVectors,
  loadX87,
  MXCSR_DEFAULT,
  MXCSR_MASK,
  storeVectors,
  storeX87,
  vectorBytes,
} from "../fpu-image.ts";
import { State, Vector } from "../state.ts";
import type { Helper, HelperCpu, StateView } from "../translate/context.ts";
import { X87State } from "../x87/state.ts";
import { OFFSET } from "./special-helpers.ts";

/** State components of XSAVE by their bit in XCR0. */
const X87 = 1;
const SSE = 2;
const AVX = 4;

const COMPACTED = 1n << 63n;

/** Components that are not in their initial state. */
function inUse(view: StateView, format: ImageFormat): number {
  const s = new X87State(view);
  const zero = (half: 0 | 1) =>
    Array.from({ length: format.registers }, (_, i) => vectorBytes(view, i, half)).every((r) =>
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
  if (!cpu.checkWrite(segment!, offsetOf(cpu) + BigInt(Area.legacyBytes - 1), 1)) return 1;
  const image = new Uint8Array(Area.xmm + 16 * format.registers);
  const out = viewOf(image);
  storeX87(cpu.view, out, format);
  out.setUint32(Area.mxcsr, cpu.view.getUint32(State.mxcsr, true), true);
  out.setUint32(Area.mxcsrMask, MXCSR_MASK, true);
  storeVectors(cpu.view, image, 0, format.registers);
  return cpu.writeMemory(segment!, offsetOf(cpu), image) ? 0 : 1;
};

const fxrstor: Helper = (cpu, segment, wide, registers) => {
  const format = formatFrom(wide!, registers!);
  const image = new Uint8Array(Area.legacyBytes);
  if (!cpu.readMemory(segment!, offsetOf(cpu), image)) return 1;
  const data = viewOf(image);
  const mxcsr = data.getUint32(Area.mxcsr, true);
  if (mxcsr & ~MXCSR_MASK) return cpu.raise(Vector.GP, 0);
  loadX87(cpu.view, data, format);
  cpu.view.setUint32(State.mxcsr, mxcsr, true);
  loadVectors(cpu.view, image, 0, format.registers);
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
  // What is read here is written later, so that a fault is one of writing; the area of what is not in use must be there too.
  if (!cpu.checkWrite(segment!, base + BigInt(Area.header), header.length)) return 1;
  if (wanted & AVX && !cpu.checkWrite(segment!, base + BigInt(Area.size - 1), 1)) return 1;
  if (variant !== XSAVEC && !cpu.readMemory(segment!, base + BigInt(Area.header), header)) return 1;
  const bits = viewOf(header);
  const kept = variant === XSAVEC ? 0n : bits.getBigUint64(0, true) & ~BigInt(wanted);
  bits.setBigUint64(0, kept | BigInt(wanted & used), true);
  if (variant === XSAVEC) bits.setBigUint64(8, COMPACTED | BigInt(wanted), true);
  const written = variant === XSAVE ? wanted : wanted & used;
  const pieces: [number, Uint8Array][] = [];
  const image = new Uint8Array(Area.size);
  const out = viewOf(image);
  storeX87(view, out, format);
  out.setUint32(Area.mxcsr, view.getUint32(State.mxcsr, true), true);
  out.setUint32(Area.mxcsrMask, MXCSR_MASK, true);
  storeVectors(view, image, 0, format.registers);
  storeVectors(view, image, 1, format.registers);
  const piece = (from: number, to: number) => pieces.push([from, image.subarray(from, to)]);
  if (written & X87) {
    piece(0, Area.mxcsr);
    piece(Area.st, Area.xmm);
  }
  if (variant === XSAVEC ? written & SSE : wanted & (SSE | AVX)) piece(Area.mxcsr, Area.st);
  if (written & SSE) piece(Area.xmm, Area.xmm + 16 * format.registers);
  if (written & AVX) piece(Area.ymm, Area.ymm + 16 * format.registers);
  pieces.push([Area.header, header.subarray(0, variant === XSAVEC ? 16 : 8)]);
  for (const [at, bytes] of pieces) if (!cpu.writeMemory(segment!, base + BigInt(at), bytes)) return 1;
  return 0;
};

/** Intel SDM Vol. 1, "Operation of XRSTOR": standard and compacted form. */
const xrstor: Helper = (cpu, segment, flags, mask) => {
  const { view } = cpu;
  const format = formatFrom(flags! & 1, flags! & 2 ? 16 : 8);
  const wanted = requested(cpu, mask!);
  const base = offsetOf(cpu);
  const image = new Uint8Array(Area.size);
  if (!cpu.readMemory(segment!, base, image.subarray(0, Area.ymm))) return 1;
  const data = viewOf(image);
  const present = data.getBigUint64(Area.header, true);
  const layout = data.getBigUint64(Area.header + 8, true);
  const compacted = (layout & COMPACTED) !== 0n;
  const allowed = view.getBigUint64(State.xcr0, true);
  const reserved = image.subarray(Area.header + (compacted ? 16 : 8), compacted ? Area.ymm : Area.header + 24);
  const components = layout & ~COMPACTED;
  const invalid = compacted
    ? (components & ~allowed) !== 0n || (present & ~components) !== 0n
    : (present & ~allowed) !== 0n;
  if (invalid || reserved.some((b) => b !== 0)) return cpu.raise(Vector.GP, 0);
  const loaded = wanted & Number(present & 7n);
  if (loaded & AVX && !cpu.readMemory(segment!, base + BigInt(Area.ymm), image.subarray(Area.ymm))) return 1;
  const fromImage = compacted ? (loaded & SSE) !== 0 : (wanted & (SSE | AVX)) !== 0;
  const mxcsr = fromImage ? data.getUint32(Area.mxcsr, true) : MXCSR_DEFAULT;
  if (mxcsr & ~MXCSR_MASK) return cpu.raise(Vector.GP, 0);
  if (fromImage || (compacted && wanted & SSE)) view.setUint32(State.mxcsr, mxcsr, true);
  if (loaded & X87) loadX87(view, data, format);
  else if (wanted & X87) initializeX87(view);
  if (wanted & SSE) loadVectors(view, loaded & SSE ? image : undefined, 0, format.registers);
  if (wanted & AVX) loadVectors(view, loaded & AVX ? image : undefined, 1, format.registers);
  return 0;
};

/** By name, for `Registry.helpers`. */
export const IMAGE_HELPERS: Readonly<Record<string, Helper>> = {
  "sse.fxsave": fxsave,
  "sse.fxrstor": fxrstor,
  "sse.xsave": xsave,
  "sse.xrstor": xrstor,
};
