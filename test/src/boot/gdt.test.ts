import { expect, test } from "bun:test";
import { buildGdt, callGate, codeSegment, dataSegment, decodeDescriptor, tssSegment } from "../../../src/boot/index.ts";

test("buildGdt() puts entries behind the null descriptor and names their selectors with RPL = DPL", () => {
  const gdt = buildGdt({ code: codeSegment({ bits: 32 }), user: dataSegment({ bits: 32, dpl: 3 }) });
  expect(gdt.selectors).toEqual({ code: 0x08, user: 0x13 });
  expect(gdt.bytes.length).toBe(24);
  expect(gdt.bytes.subarray(0, 8)).toEqual(new Uint8Array(8));
  expect(decodeDescriptor(gdt.bytes.subarray(16, 24)).dpl).toBe(3);
  expect(gdt.at(0x8000)).toEqual({ base: 0x8000n, limit: 23 });
});

test("buildGdt() gives system descriptors two places in long mode only, and undefined keeps a place", () => {
  const entries = { gap: undefined, tss: tssSegment({ bits: 64, base: 0x1000 }), code: codeSegment({ bits: 64 }) };
  expect(buildGdt(entries, { bits: 64 }).selectors).toEqual({ gap: 8, tss: 0x10, code: 0x20 });
  expect(buildGdt(entries, { bits: 32 }).selectors).toEqual({ gap: 8, tss: 0x10, code: 0x18 });
});

test("buildGdt() takes call gates as they are", () => {
  const gate = callGate({ bits: 32, selector: 8, offset: 0x1234, dpl: 3, parameters: 2 });
  const gdt = buildGdt({ code: codeSegment({ bits: 32 }), gate });
  expect(gdt.selectors.gate).toBe(0x13);
  expect(gdt.bytes.subarray(16)).toEqual(gate);
});

test("buildGdt() refuses more places than a selector can name", () => {
  const entries = (length: number) =>
    Object.fromEntries(Array.from({ length }, (_, index) => [`e${index}`, undefined]));
  expect(buildGdt(entries(8191)).at(0).limit).toBe(0xffff);
  expect(() => buildGdt(entries(8192))).toThrow("8193 places");
});
