import type { Cpu } from "./cpu.ts";
import { State } from "./state.ts";

/** Offsets in the standard XSAVE format (Intel SDM Vol. 1, "XSAVE Area"). */
const AREA = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  mask: 28,
  st: 32,
  xmm: 160,
  header: 512,
  ymm: 576,
  size: 832,
};
const MXCSR_MASK = 0xffff;

/** The vCPU's x87, SSE and AVX state as an XSAVE image; every component is marked as in use. */
export function readXsaveImage(cpu: Cpu): Uint8Array {
  const image = new Uint8Array(AREA.size);
  const view = new DataView(image.buffer);
  const top = cpu.get(State.top) & 7;
  view.setUint16(AREA.fcw, cpu.get(State.fcw), true);
  view.setUint16(AREA.fsw, (cpu.get(State.fsw) & ~0x3800) | (top << 11), true);
  view.setUint8(AREA.ftw, cpu.get(State.ftw));
  view.setUint16(AREA.fop, cpu.get(State.fop), true);
  view.setBigUint64(AREA.fip, cpu.get64(State.fip), true);
  view.setBigUint64(AREA.fdp, cpu.get64(State.fdp), true);
  view.setUint32(AREA.mxcsr, cpu.get(State.mxcsr), true);
  view.setUint32(AREA.mask, MXCSR_MASK, true);
  const state = new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, State.size);
  for (let i = 0; i < 8; i++) {
    const from = State.x87 + ((top + i) & 7) * 16;
    image.set(state.subarray(from, from + 10), AREA.st + i * 16);
  }
  for (let i = 0; i < 16; i++) {
    const from = State.vector0 + i * State.vectorBytes;
    image.set(state.subarray(from, from + 16), AREA.xmm + i * 16);
    image.set(state.subarray(from + 16, from + 32), AREA.ymm + i * 16);
  }
  view.setBigUint64(AREA.header, 7n, true);
  return image;
}

/** Loads an XSAVE image. Components that its header leaves out go to their initial state. */
export function writeXsaveImage(cpu: Cpu, image: Uint8Array): void {
  if (image.length < AREA.header + 64)
    throw new RangeError(`An XSAVE image has at least 576 bytes, not ${image.length}`);
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const components = view.getBigUint64(AREA.header, true);
  const state = new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, State.size);
  if ((components & 1n) !== 0n) {
    const fsw = view.getUint16(AREA.fsw, true);
    const top = (fsw >> 11) & 7;
    cpu.set(State.fcw, view.getUint16(AREA.fcw, true));
    cpu.set(State.fsw, fsw & ~0x3800);
    cpu.set(State.top, top);
    cpu.set(State.ftw, view.getUint8(AREA.ftw));
    cpu.set(State.fop, view.getUint16(AREA.fop, true) & 0x7ff);
    cpu.set64(State.fip, view.getBigUint64(AREA.fip, true));
    cpu.set64(State.fdp, view.getBigUint64(AREA.fdp, true));
    for (let i = 0; i < 8; i++) {
      const to = State.x87 + ((top + i) & 7) * 16;
      state.set(image.subarray(AREA.st + i * 16, AREA.st + i * 16 + 10), to);
      state.fill(0, to + 10, to + 16);
    }
  } else resetX87(cpu);
  if ((components & 6n) !== 0n) cpu.set(State.mxcsr, view.getUint32(AREA.mxcsr, true) & MXCSR_MASK);
  for (let i = 0; i < 16; i++) {
    const to = State.vector0 + i * State.vectorBytes;
    if ((components & 2n) !== 0n) state.set(image.subarray(AREA.xmm + i * 16, AREA.xmm + i * 16 + 16), to);
    else state.fill(0, to, to + 16);
    const upper = AREA.ymm + i * 16;
    if ((components & 4n) !== 0n && image.length >= upper + 16) state.set(image.subarray(upper, upper + 16), to + 16);
    else state.fill(0, to + 16, to + 32);
  }
}

/** The x87 unit as FNINIT leaves it. */
export function resetX87(cpu: Cpu): void {
  cpu.set(State.fcw, 0x37f);
  for (const offset of [State.fsw, State.ftw, State.top, State.fop, State.fipSelector, State.fdpSelector])
    cpu.set(offset, 0);
  cpu.set64(State.fip, 0n);
  cpu.set64(State.fdp, 0n);
  cpu.i32.fill(0, State.x87 >> 2, (State.x87 + 128) >> 2);
}
