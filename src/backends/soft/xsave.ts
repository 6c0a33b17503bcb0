import type { Cpu } from "./cpu.ts";
import {
  Area,
  type ImageFormat,
  initializeX87,
  loadVectors,
  loadX87,
  MXCSR_MASK,
  storeVectors,
  storeX87,
} from "./fpu-image.ts";
import { State } from "./state.ts";

const FORMAT: ImageFormat = { wide: true, registers: 16 };
/** Components by their bit in XSTATE_BV. */
const X87 = 1n;
const SSE = 2n;
const AVX = 4n;

/** The vCPU's x87, SSE and AVX state as an XSAVE image; every component is marked as in use. */
export function readXsaveImage(cpu: Cpu): Uint8Array {
  const image = new Uint8Array(Area.size);
  const view = new DataView(image.buffer);
  storeX87(cpu.view, view, FORMAT);
  view.setUint32(Area.mxcsr, cpu.get(State.mxcsr), true);
  view.setUint32(Area.mxcsrMask, MXCSR_MASK, true);
  storeVectors(cpu.view, image, 0, FORMAT.registers);
  storeVectors(cpu.view, image, 1, FORMAT.registers);
  view.setBigUint64(Area.header, X87 | SSE | AVX, true);
  return image;
}

/**
 * Loads an XSAVE image. Components that its header leaves out go to their initial state.
 *
 * @throws {RangeError} when it is shorter than legacy region and header.
 */
export function writeXsaveImage(cpu: Cpu, image: Uint8Array): void {
  if (image.length < Area.ymm)
    throw new RangeError(`An XSAVE image has at least ${Area.ymm} bytes, not ${image.length}`);
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const components = view.getBigUint64(Area.header, true);
  const has = (component: bigint) => (components & component) !== 0n;
  if (has(X87)) loadX87(cpu.view, view, FORMAT);
  else initializeX87(cpu.view);
  if (has(SSE | AVX)) cpu.set(State.mxcsr, view.getUint32(Area.mxcsr, true) & MXCSR_MASK);
  loadVectors(cpu.view, has(SSE) ? image : undefined, 0, FORMAT.registers);
  const upper = has(AVX) && image.length >= Area.size;
  loadVectors(cpu.view, upper ? image : undefined, 1, FORMAT.registers);
}
