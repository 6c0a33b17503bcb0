import { expect, test } from "bun:test";
import { checkSegments, findFree } from "../../../src/boot/guest-plan.ts";
import { arrayMemory, findSymbol, type GuestPlan, type GuestSegment, placeGuest } from "../../../src/boot/index.ts";
import { GuestError } from "../../../src/errors.ts";

const at = (gpa: number, bytes: number, data = new Uint8Array(0)): GuestSegment => ({
  what: `piece at ${gpa}`,
  field: "p_paddr",
  gpa,
  data,
  bytes,
});

function plan(segments: GuestSegment[]): GuestPlan {
  return { file: "g", format: "flat", segments, mode: "real16", entry: 0n, gprs: {}, map: [], symbols: [] };
}

test("checkSegments() lets segments touch each other and the end of memory, and no more", () => {
  const check = (...segments: GuestSegment[]) => checkSegments("g", segments, 0x3000);
  expect(() => check(at(0x2000, 0x1000), at(0x1000, 0x1000))).not.toThrow();
  expect(() => check(at(0x1000, 0x1001), at(0x2000, 1))).toThrow(GuestError);
  expect(() => check(at(0x2000, 0x1001))).toThrow("memory ends at 0x3000");
  // Nothing overlaps a segment without bytes.
  expect(() => check(at(0x1000, 0x1000), at(0x1800, 0))).not.toThrow();
});

test("placeGuest() clears exactly the bytes behind the data, in pieces of any size", () => {
  for (const bytes of [1, 2, 0x10000, 0x10001, 0x20001]) {
    const memory = arrayMemory(0x40000);
    memory.bytes.fill(0xaa);
    placeGuest(plan([at(0x1000, bytes, Uint8Array.of(7))]), memory);
    expect(memory.bytes[0x1000]).toBe(7);
    expect(memory.read(0x1001, bytes - 1).every((byte) => byte === 0)).toBe(true);
    expect([memory.bytes[0xfff], memory.bytes[0x1000 + bytes]]).toEqual([0xaa, 0xaa]);
  }
});

test("findFree() returns the lowest page-aligned gap, whatever the order of what is taken", () => {
  const taken = [at(0x6000, 0x1000), at(0x1001, 0x1fff), at(0x4000, 0x10)];
  const find = (bytes: number, from: number, to = 0x9000) => findFree(bytes, taken, { from, to });
  expect(find(0x1000, 0)).toBe(0);
  expect(find(0x1001, 0)).toBe(0);
  expect(find(0x1002, 0)).toBe(0x7000);
  expect(find(0x1000, 1)).toBe(0x3000);
  expect(find(0x1001, 1)).toBe(0x7000);
  expect(find(0x1000, 0x4000)).toBe(0x5000);
  expect(find(0x2000, 0x4000)).toBe(0x7000);
  expect(find(0x2001, 0x4000)).toBeUndefined();
});

test("findSymbol() takes the nearest symbol at or below an address, as far as its size reaches", () => {
  const symbol = (name: string, address: bigint, bytes: number) => ({
    name,
    address,
    bytes,
    kind: "function" as const,
  });
  const symbols = [symbol("a", 0x10n, 4), symbol("b", 0x20n, 0), symbol("c", 0x30n, 1), symbol("d", 0x40n, 8)];
  const name = (address: bigint) => {
    const found = findSymbol(symbols, address);
    return found && `${found.symbol.name}+${found.offset}`;
  };
  expect([0xfn, 0x10n, 0x13n, 0x14n].map(name)).toEqual([undefined, "a+0", "a+3", undefined]);
  expect([0x20n, 0x2fn, 0x30n, 0x31n]).toSatisfy((all: bigint[]) => all.map(name).join() === "b+0,b+15,c+0,");
  expect([name(0x47n), name(0x48n), findSymbol([], 0n)]).toEqual(["d+7", undefined, undefined]);
});
