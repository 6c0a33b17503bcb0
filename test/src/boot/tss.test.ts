import { expect, test } from "bun:test";
import { buildTss16, buildTss32, buildTss64, ioPermissionMap, TSS16, TSS32, TSS64 } from "../../../src/boot/index.ts";

const view = (bytes: Uint8Array) => new DataView(bytes.buffer);

test("buildTss64() puts RSP0, IST1 and the I/O map base where the processor reads them", () => {
  const tss = view(buildTss64({ rsp0: 0xffff_8000_0000_8000n, ist1: 0x7000 }));
  expect(tss.byteLength).toBe(104);
  expect(tss.getBigUint64(4, true)).toBe(0xffff_8000_0000_8000n);
  expect(tss.getBigUint64(36, true)).toBe(0x7000n);
  expect(tss.getUint16(102, true)).toBe(104);
});

test("buildTss32() and buildTss16() place stacks and registers", () => {
  const tss = view(buildTss32({ esp0: 0x8000, ss0: 0x10, eip: 0x1234, gs: 0x23 }));
  expect([tss.getUint32(4, true), tss.getUint16(8, true), tss.getUint32(32, true), tss.getUint16(92, true)]).toEqual([
    0x8000, 0x10, 0x1234, 0x23,
  ]);
  const small = view(buildTss16({ sp0: 0x1000, ldt: 0x28 }));
  expect([small.byteLength, small.getUint16(2, true), small.getUint16(42, true)]).toEqual([44, 0x1000, 0x28]);
});

test("buildTss32() refuses a value wider than its field and a field it does not have", () => {
  expect(() => buildTss32({ ss0: 0x10000 })).toThrow("16 bits");
  // @ts-expect-error: no such field
  expect(() => buildTss32({ rsp0: 1 })).toThrow("rsp0");
});

test("ioPermissionMap() clears the bits of allowed ports and ends in a byte of ones", () => {
  const map = ioPermissionMap([{ first: 0xe9, count: 1 }]);
  expect(map.length).toBe(31);
  expect(map[0xe9 >>> 3]).toBe(0xff & ~(1 << 1));
  expect(map.at(-1)).toBe(0xff);
  expect(ioPermissionMap([{ first: 0, count: 65536 }]).length).toBe(8193);
  expect(() => ioPermissionMap([{ first: 0xffff, count: 2 }])).toThrow(RangeError);
});

test("buildTss64() puts an I/O map right behind the segment's fixed part", () => {
  const tss = buildTss64({}, ioPermissionMap([{ first: 0, count: 8 }]));
  expect([...tss.subarray(104)]).toEqual([0x00, 0xff]);
});

test("TSS16, TSS32 and TSS64 are laid out as the manual draws them: slots of 2, 4 and 8 bytes in order", () => {
  expect(Object.values(TSS16) as unknown).toEqual(Array.from({ length: 22 }, (_, slot) => [slot * 2, 2]));
  const selectors = ["link", "ss0", "ss1", "ss2", "es", "cs", "ss", "ds", "fs", "gs", "ldt"];
  const { trap, ioMapBase, ...slots } = TSS32;
  expect([trap, ioMapBase] as unknown).toEqual([
    [100, 2],
    [102, 2],
  ]);
  expect(Object.values(slots) as unknown).toEqual(
    Object.keys(slots).map((name, slot) => [slot * 4, selectors.includes(name) ? 2 : 4]),
  );
  const stacks = ["rsp0", "rsp1", "rsp2"].map((name, slot) => [name, [4 + slot * 8, 8]]);
  const ists = Array.from({ length: 7 }, (_, slot) => [`ist${slot + 1}`, [36 + slot * 8, 8]]);
  expect(Object.entries(TSS64) as unknown).toEqual([...stacks, ...ists, ["ioMapBase", [102, 2]]]);
});
