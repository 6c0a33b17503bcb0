import { expect, test } from "bun:test";
import { callGate, decodeGate, interruptGate, taskGate, trapGate } from "../../../src/boot/index.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).reverse().toString("hex");

test("interruptGate() encodes the 16-, 32- and 64-bit forms", () => {
  expect(hex(interruptGate({ bits: 16, selector: 8, offset: 0x1234 }))).toBe("0000860000081234");
  expect(hex(interruptGate({ bits: 32, selector: 8, offset: 0x12345678, dpl: 3 }))).toBe("1234ee0000085678");
  const long = interruptGate({ bits: 64, selector: 8, offset: 0xffff_8000_1234_5678n, ist: 2 });
  expect(hex(long)).toBe("00000000ffff800012348e0200085678");
});

test("trapGate() and callGate() differ from an interrupt gate in type, and a call gate counts parameters", () => {
  expect(decodeGate(trapGate({ bits: 32, selector: 8, offset: 1 })).type).toBe(15);
  expect(decodeGate(trapGate({ bits: 16, selector: 8, offset: 1 })).type).toBe(7);
  expect(decodeGate(callGate({ bits: 32, selector: 8, offset: 1, parameters: 31 }))).toEqual({
    type: 12,
    selector: 8,
    offset: 1n,
    dpl: 0,
    present: true,
    extra: 31,
  });
  expect(decodeGate(callGate({ bits: 16, selector: 8, offset: 1 }))).toMatchObject({ type: 4, extra: 0 });
  expect(() => callGate({ bits: 32, selector: 8, offset: 1, parameters: 32 })).toThrow("parameters");
  expect(decodeGate(new Uint8Array(8)).present).toBe(false);
});

test("taskGate() holds a TSS selector and no offset", () => {
  expect(decodeGate(taskGate({ selector: 0x28, dpl: 3 }))).toMatchObject({
    type: 5,
    selector: 0x28,
    offset: 0n,
    dpl: 3,
  });
});

test("decodeGate() gives back a 64-bit offset", () => {
  const offset = 0xffff_ffff_8123_4567n;
  expect(decodeGate(interruptGate({ bits: 64, selector: 0x10, offset })).offset).toBe(offset);
  expect(() => decodeGate(new Uint8Array(12))).toThrow(RangeError);
});

test("gates refuse what their width cannot hold", () => {
  expect(() => interruptGate({ bits: 32, selector: 8, offset: 1n << 32n })).toThrow("32-bit gate");
  expect(() => interruptGate({ bits: 16, selector: 8, offset: 0x10000 })).toThrow(RangeError);
  expect(() => interruptGate({ bits: 32, selector: 8, offset: 0, ist: 1 })).toThrow("IST");
  expect(() => callGate({ bits: 64, selector: 8, offset: 0, parameters: 1 })).toThrow("parameters");
});
