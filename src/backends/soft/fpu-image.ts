import { State } from "./state.ts";
import type { StateView } from "./translate/context.ts";

/** Offsets in an XSAVE area (Intel SDM Vol. 1, "XSAVE Area"); FXSAVE's is its first 512 bytes. */
export const Area = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  mxcsrMask: 28,
  /** ST(0) to ST(7), or MM0 to MM7: 16 bytes each, of which ten count. */
  st: 32,
  xmm: 160,
  legacyBytes: 512,
  /** XSTATE_BV, then XCOMP_BV. */
  header: 512,
  /** Upper halves of YMM0 to YMM15, in the standard and in the compacted format. */
  ymm: 576,
  size: 832,
} as const;

/** Bits of MXCSR that exist, and those after a reset. */
export const MXCSR_MASK = 0xffff;
export const MXCSR_DEFAULT = 0x1f80;

/** Pointers of 64 bits, or of 32 with a selector; sixteen XMM registers, or the eight that exist outside 64-bit mode. */
export interface ImageFormat {
  readonly wide: boolean;
  readonly registers: 8 | 16;
}

const POINTERS = [
  [Area.fip, State.fip, State.fipSelector],
  [Area.fdp, State.fdp, State.fdpSelector],
] as const;
const EXCEPTIONS = 0x3f;
/** ES and B: an exception is raised and not masked. */
const SUMMARY = 0x8080;

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** The x87 component: FCW to FDP, then the registers from ST(0) up. */
export function storeX87(view: StateView, out: DataView, format: ImageFormat): void {
  const top = view.getUint8(State.top) & 7;
  out.setUint16(Area.fcw, view.getUint16(State.fcw, true), true);
  out.setUint16(Area.fsw, (view.getUint16(State.fsw, true) & ~0x3800) | (top << 11), true);
  out.setUint16(Area.ftw, view.getUint8(State.ftw), true);
  out.setUint16(Area.fop, view.getUint16(State.fop, true), true);
  for (const [at, pointer, selector] of POINTERS) {
    if (format.wide) out.setBigUint64(at, view.getBigUint64(pointer, true), true);
    else {
      out.setUint32(at, view.getUint32(pointer, true), true);
      out.setUint32(at + 4, view.getUint16(selector, true), true);
    }
  }
  const [state, image] = [bytesOf(view), bytesOf(out)];
  for (let i = 0; i < 8; i++) {
    const from = State.x87 + ((top + i) & 7) * 16;
    image.set(state.subarray(from, from + 10), Area.st + 16 * i);
  }
}

/** What `storeX87` stored. ES follows from the exceptions and their masks, as in the processor. */
export function loadX87(view: StateView, from: DataView, format: ImageFormat): void {
  const control = (from.getUint16(Area.fcw, true) & 0x1f7f) | 0x40;
  const status = from.getUint16(Area.fsw, true);
  const top = (status >> 11) & 7;
  const pending = (status & ~control & EXCEPTIONS) !== 0 ? SUMMARY : 0;
  view.setUint32(State.fcw, control, true);
  view.setUint32(State.fsw, (status & ~(0x3800 | SUMMARY)) | pending, true);
  view.setUint32(State.top, top, true);
  view.setUint32(State.ftw, from.getUint8(Area.ftw), true);
  view.setUint32(State.fop, from.getUint16(Area.fop, true) & 0x7ff, true);
  for (const [at, pointer, selector] of POINTERS) {
    const value = format.wide ? from.getBigUint64(at, true) : BigInt(from.getUint32(at, true));
    view.setBigUint64(pointer, value, true);
    view.setUint32(selector, format.wide ? 0 : from.getUint16(at + 4, true), true);
  }
  const [state, image] = [bytesOf(view), bytesOf(from)];
  for (let i = 0; i < 8; i++) {
    const to = State.x87 + ((top + i) & 7) * 16;
    state.set(image.subarray(Area.st + 16 * i, Area.st + 16 * i + 10), to);
    state.fill(0, to + 10, to + 16);
  }
}

/** The x87 unit as after a reset: FNINIT, and empty registers of zeros. */
export function initializeX87(view: StateView): void {
  view.setUint32(State.fcw, 0x37f, true);
  for (const at of [State.fsw, State.ftw, State.top, State.fop, State.fipSelector, State.fdpSelector])
    view.setUint32(at, 0, true);
  view.setBigUint64(State.fip, 0n, true);
  view.setBigUint64(State.fdp, 0n, true);
  bytesOf(view).fill(0, State.x87, State.x87 + 128);
}

/** 16 bytes of a vector register: XMM, or with `half` 1 the upper half of YMM. */
export function vectorBytes(view: StateView, register: number, half: 0 | 1): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + State.vector0 + register * State.vectorBytes + 16 * half, 16);
}

/** The SSE (`half` 0) or AVX component. */
export function storeVectors(view: StateView, image: Uint8Array, half: 0 | 1, count: number): void {
  const at = half === 0 ? Area.xmm : Area.ymm;
  for (let i = 0; i < count; i++) image.set(vectorBytes(view, i, half), at + 16 * i);
}

/** Without an image: zeros, the initial state. */
export function loadVectors(view: StateView, image: Uint8Array | undefined, half: 0 | 1, count: number): void {
  const at = half === 0 ? Area.xmm : Area.ymm;
  for (let i = 0; i < count; i++) {
    const register = vectorBytes(view, i, half);
    if (image) register.set(image.subarray(at + 16 * i, at + 16 * i + 16));
    else register.fill(0);
  }
}
