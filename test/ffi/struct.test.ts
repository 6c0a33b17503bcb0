import { describe, expect, test } from "bun:test";
import {
  array,
  bytes,
  bytesOf,
  flexible,
  i8,
  i16,
  i32,
  i64,
  nested,
  plainOf,
  ptr,
  struct,
  structs,
  u8,
  u16,
  u32,
  u64,
  u64n,
  type View,
} from "../../ffi/struct.ts";

const Entry = struct("entry", 16, { index: u32(0), data: u64(8) });
const List = struct("list", 8, { count: u32(0), entries: flexible(8, Entry) });
const Io = struct("run.io", 16, { port: u16(2), data_offset: u64n(8) });
const Mmio = struct("run.mmio", 24, { phys_addr: u64n(0), data: bytes(8, 8), len: u32(16) });
const Run = struct("run", 64, {
  reason: u32(8),
  small: u8(12),
  signed: i8(13),
  half: i16(14),
  io: nested(32, Io),
  mmio: nested(32, Mmio),
});
type Run = View<typeof Run>;

describe("struct()", () => {
  test("reads and writes every scalar kind little-endian at its offset", () => {
    const All = struct("all", 48, {
      a: u8(0),
      b: i8(1),
      c: u16(2),
      d: i16(4),
      e: u32(8),
      f: i32(12),
      g: u64(16),
      h: i64(24),
      i: ptr(32),
      j: u64n(40),
    });
    const view = All.alloc();
    Object.assign(view, {
      a: 0x1ff,
      b: -1,
      c: 0xabcd,
      d: -2,
      e: 0xffff_ffff,
      f: -3,
      g: 2n ** 64n - 1n,
      h: -4n,
      i: 0x7fff_1234_5678,
      j: 2 ** 52 + 1,
    });
    expect(plainOf(view)).toEqual({
      a: 0xff,
      b: -1,
      c: 0xabcd,
      d: -2,
      e: 0xffff_ffff,
      f: -3,
      g: 2n ** 64n - 1n,
      h: -4n,
      i: 0x7fff_1234_5678,
      j: 2 ** 52 + 1,
    });
    const raw = new DataView(bytesOf(view).buffer);
    expect(raw.getUint16(2, true)).toBe(0xabcd);
    expect(raw.getBigUint64(40, true)).toBe(2n ** 52n + 1n);
    expect(raw.getBigUint64(32, true)).toBe(0x7fff_1234_5678n);
  });

  test("u64n keeps every exact integer below 2^53", () => {
    const One = struct("one", 8, { value: u64n(0) });
    const view = One.alloc();
    for (const value of [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x8000_0000_0000, Number.MAX_SAFE_INTEGER]) {
      view.value = value;
      expect(view.value).toBe(value);
    }
  });

  test("offsets names nested members by dotted path and struct arrays by their first element", () => {
    const Both = struct("both", 80, { run: nested(0, Run), list: structs(64, 1, Entry) });
    expect(Both.offsets["run.io.port"]).toEqual({ offset: 34, size: 2 });
    expect(Both.offsets["list[0].data"]).toEqual({ offset: 72, size: 8 });
    expect(Both.offsets.list).toEqual({ offset: 64, size: 16 });
  });

  test("throws RangeError at the first use when a member ends past the struct", () => {
    const Short = struct("short", 8, { x: u64(4) });
    expect(() => Short.alloc()).toThrow(RangeError);
    expect(() => Short.view(new Uint8Array(16))).toThrow(RangeError);
  });
});

describe("view()", () => {
  test("overlapping nested structs are one union: both see the same bytes", () => {
    const run: Run = Run.alloc();
    run.io.port = 0x3f8;
    run.io.data_offset = 0x1000;
    expect(run.mmio.phys_addr).toBe(0x3f8 * 0x10000);
    expect(run.mmio.data[1]).toBe(0x10);
    expect(run.io).toBe(run.io);
  });

  test("honours the byte offset of the call and of the Uint8Array", () => {
    const memory = new Uint8Array(256);
    Run.view(memory.subarray(64), 32).reason = 0xdead;
    expect(new DataView(memory.buffer).getUint32(64 + 32 + 8, true)).toBe(0xdead);
  });

  test("throws RangeError when the bytes are fewer than sizeof", () => {
    expect(() => Run.view(new Uint8Array(63))).toThrow(RangeError);
    expect(() => Run.view(new Uint8Array(64), 1)).toThrow(RangeError);
    expect(() => Run.view(new Uint8Array(64), -1)).toThrow(RangeError);
  });

  test("gives a flexible array member as many whole elements as there is room for", () => {
    const list = List.view(new Uint8Array(8 + 16 * 2 + 15));
    expect(list.entries).toHaveLength(2);
    expect(List.view(new Uint8Array(8)).entries).toHaveLength(0);
  });
});

describe("alloc()", () => {
  test("makes room for the flexible elements, and bytesOf() covers them", () => {
    const list = List.alloc(3);
    list.count = 3;
    list.entries[2]!.data = 7n;
    expect(bytesOf(list)).toHaveLength(8 + 3 * 16);
    expect(new DataView(bytesOf(list).buffer).getBigUint64(8 + 32 + 8, true)).toBe(7n);
  });

  test("places a flexible array of scalars that starts before the padded end of the struct", () => {
    const Mask = struct("mask", 4, { len: u32(0), sigset: flexible(4, u8) });
    expect(bytesOf(Mask.alloc(8))).toHaveLength(12);
    expect(Mask.alloc(8).sigset).toHaveLength(8);
  });

  test("throws RangeError when elements are asked of a struct without a flexible member", () => {
    expect(() => Entry.alloc(1)).toThrow(RangeError);
  });

  test("gives arrays in place as typed arrays of the element kind", () => {
    const Words = struct("words", 32, { a: array(0, 4, u32), b: array(16, 2, u64) });
    const view = Words.alloc();
    view.a.set([1, 2, 3, 4]);
    view.b[1] = 2n ** 63n;
    expect(new Uint32Array(bytesOf(view).buffer)[2]).toBe(3);
    expect(new BigUint64Array(bytesOf(view).buffer)[3]).toBe(2n ** 63n);
  });
});
