import { expect, test } from "bun:test";
import {
  codeSegment,
  dataSegment,
  decodeDescriptor,
  encodeDescriptor,
  ldtSegment,
  nullSegment,
  realSegment,
  tssSegment,
} from "../../../src/boot/index.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).reverse().toString("hex");

test("encodeDescriptor() gives the flat descriptors that boot code has always written by hand", () => {
  expect(hex(encodeDescriptor(codeSegment({ bits: 64 })))).toBe("00af9b000000ffff");
  expect(hex(encodeDescriptor(codeSegment({ bits: 32 })))).toBe("00cf9b000000ffff");
  expect(hex(encodeDescriptor(codeSegment({ bits: 16 })))).toBe("00009b000000ffff");
  expect(hex(encodeDescriptor(dataSegment({ bits: 32 })))).toBe("00cf93000000ffff");
  expect(hex(encodeDescriptor(dataSegment({ bits: 32, dpl: 3 })))).toBe("00cff3000000ffff");
  expect(hex(encodeDescriptor(codeSegment({ bits: 64, dpl: 3 })))).toBe("00affb000000ffff");
});

test("encodeDescriptor() spreads a base over its three fields, four when wide", () => {
  expect(hex(encodeDescriptor(dataSegment({ bits: 32, base: 0x12345678 })))).toBe("12cf93345678ffff");
  const tss = tssSegment({ bits: 64, base: 0xffff800012345678n });
  expect(hex(encodeDescriptor(tss, { wide: true }))).toBe("00000000ffff800012008b3456780067");
});

test("decodeDescriptor() gives back the segment that was encoded", () => {
  const segments = [
    codeSegment({ bits: 64, selector: 8 }),
    codeSegment({ bits: 32, selector: 0x1b, dpl: 3, conforming: true, executeOnly: true }),
    dataSegment({ bits: 16, base: 0xfedc_ba98, limit: 0x12345 }),
    dataSegment({ bits: 32, readOnly: true, expandDown: true }),
    tssSegment({ bits: 16, base: 0x8100 }),
    ldtSegment({ base: 0x9000, limit: 0x1f }),
  ];
  for (const segment of segments) {
    expect(decodeDescriptor(encodeDescriptor(segment), segment.selector)).toEqual(segment);
  }
  const wide = tssSegment({ bits: 64, base: 0xffff_ffff_8000_0000n });
  expect(decodeDescriptor(encodeDescriptor(wide, { wide: true }))).toEqual(wide);
});

test("decodeDescriptor() marks a descriptor that is not present as unusable", () => {
  expect(decodeDescriptor(new Uint8Array(8))).toEqual({ ...nullSegment(), s: 0 });
});

test("encodeDescriptor() refuses a limit that no granularity can hold and a base that is too wide", () => {
  const odd = { ...dataSegment({ bits: 32 }), limit: 0xfffffffe };
  expect(() => encodeDescriptor(odd)).toThrow("low 12 bits");
  expect(() => encodeDescriptor({ ...odd, g: 0 })).toThrow(RangeError);
  expect(() => encodeDescriptor(tssSegment({ bits: 64, base: 1n << 32n }))).toThrow("base");
  expect(() => decodeDescriptor(new Uint8Array(7))).toThrow(RangeError);
});

test("realSegment() takes its base from the selector", () => {
  expect(realSegment(0xf000, { code: true })).toMatchObject({ base: 0xf0000n, limit: 0xffff, type: 11, s: 1, g: 0 });
  expect(realSegment(0, { limit: 0xffffffff })).toMatchObject({ g: 1, type: 3 });
});
