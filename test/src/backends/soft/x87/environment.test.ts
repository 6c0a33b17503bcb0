import { describe, expect, test } from "bun:test";
import { State } from "../../../../../src/backends/soft/state.ts";
import { loadEnvironment, storeEnvironment } from "../../../../../src/backends/soft/x87/environment.ts";
import { X87State } from "../../../../../src/backends/soft/x87/state.ts";

describe("x87 environments", () => {
  const formats = [
    { bytes: 14, real: false },
    { bytes: 14, real: true },
    { bytes: 28, real: false },
    { bytes: 28, real: true },
  ] as const;

  test.each(formats)("storeEnvironment() and loadEnvironment() are inverse: $bytes bytes, real $real", (format) => {
    const view = new DataView(new ArrayBuffer(State.size));
    const s = new X87State(view);
    s.control = 0x27f;
    s.status = 0x3800;
    s.tags = 0x81;
    view.setBigUint64(State.fip, format.bytes === 14 ? 0x1234n : 0x12345678n, true);
    view.setBigUint64(State.fdp, format.bytes === 14 ? 0x4321n : 0x0bcd4321n, true);
    if (!format.real) view.setUint32(State.fipSelector, 0x33, true);
    if (format.real || format.bytes === 28) view.setUint32(State.fop, 0x5c1, true);
    const image = storeEnvironment(view, format);
    expect(image.length).toBe(format.bytes);
    const other = new DataView(new ArrayBuffer(State.size));
    loadEnvironment(other, image, format);
    expect(storeEnvironment(other, format)).toEqual(image);
    expect(other.getBigUint64(State.fip, true)).toBe(view.getBigUint64(State.fip, true));
    expect(new X87State(other).tags).toBe(0x81);
  });

  test("storeEnvironment() joins selector and offset in the real-mode format", () => {
    const view = new DataView(new ArrayBuffer(State.size));
    view.setUint32(State.fipSelector, 0xf000, true);
    view.setBigUint64(State.fip, 0x1234n, true);
    const image = new DataView(storeEnvironment(view, { bytes: 14, real: true }).buffer);
    expect([image.getUint16(6, true), image.getUint16(8, true)]).toEqual([0x1234, 0xf000]);
  });
});
