import { extended, lanes, type Random } from "./random.ts";

/** Offsets in an XSAVE image (Intel SDM Vol. 1, "XSAVE-Managed State"); the words at 464 are Linux's own. */
export const Image = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  mxcsr: 24,
  mxcsrMask: 28,
  st: 32,
  xmm: 160,
  magic1: 464,
  extendedSize: 468,
  features: 472,
  xstateSize: 480,
  xstateBv: 512,
  ymm: 576,
  size: 832,
} as const;

const MAGIC1 = 0x4650_5853;
export const MAGIC2 = 0x4650_5845;

const PRECISION = [0x000, 0x200, 0x300, 0x300, 0x300];

/** How much of the state is left to chance. */
export interface FpuTaste {
  /** Registers of the stack are often empty, exceptions often unmasked, one may be pending. */
  readonly x87: boolean;
}

/** Writes a random state as an image that rt_sigreturn takes. */
export function randomFpu(r: Random, image: Uint8Array, taste: FpuTaste): void {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  image.fill(0, 0, Image.size);
  const masks = taste.x87 && r.chance(4) ? r.below(64) : 0x3f;
  const control = taste.x87 ? 0x40 | masks | r.pick(PRECISION) | (r.chance(2) ? 0 : r.below(4) << 10) : 0x37f;
  const raised = r.below(64) & (r.chance(8) ? 0x3f : masks);
  const pending = raised & ~masks ? 0x8080 : 0;
  view.setUint16(Image.fcw, control, true);
  view.setUint16(Image.fsw, raised | pending | (r.below(8) << 11) | (r.u32() & 0x4700), true);
  view.setUint8(Image.ftw, r.chance(3) ? r.below(256) : 0xff);
  for (let i = 0; i < 8; i++) {
    const { se, significand } = extended(r);
    view.setBigUint64(Image.st + 16 * i, significand, true);
    view.setUint16(Image.st + 16 * i + 8, se, true);
  }
  view.setUint32(Image.mxcsr, mxcsr(r), true);
  for (let i = 0; i < 16; i++) lanes(r, image.subarray(Image.xmm + 16 * i, Image.xmm + 16 * i + 16));
  for (let i = 0; i < 16; i++) lanes(r, image.subarray(Image.ymm + 16 * i, Image.ymm + 16 * i + 16));
  view.setUint32(Image.magic1, MAGIC1, true);
  view.setUint32(Image.extendedSize, Image.size + 4, true);
  view.setUint32(Image.features, 7, true);
  view.setUint32(Image.xstateSize, Image.size, true);
  view.setUint32(Image.xstateBv, 7, true);
}

/** Tests of masked operations should not all be disturbed by flags that are set before. */
function mxcsr(r: Random): number {
  if (r.chance(3)) return 0x1f80 | (r.chance(2) ? 0x20 : r.below(64));
  const any = r.u32() & 0xffff;
  return r.chance(2) ? any : any | 0x1f80;
}

/** What XSAVE leaves out as it is in its initial state (XSTATE_BV) is written out. */
export function completeImage(image: Uint8Array): void {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const present = view.getUint32(Image.xstateBv, true);
  if ((present & 7) === 7) return;
  if ((present & 1) === 0) {
    image.fill(0, 0, Image.mxcsr);
    image.fill(0, Image.st, Image.xmm);
    view.setUint16(Image.fcw, 0x37f, true);
  }
  if ((present & 2) === 0) image.fill(0, Image.xmm, Image.xmm + 256);
  if ((present & 4) === 0) image.fill(0, Image.ymm, Image.size);
}
