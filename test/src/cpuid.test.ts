import { describe, expect, test } from "bun:test";
import { type CpuidOverrides, overrideCpuid } from "../../src/cpuid.ts";

const TABLE = [
  { leaf: 1, eax: 1, ebx: 2, ecx: 3, edx: 4 },
  { leaf: 7, subleaf: 0, eax: 5, ebx: 6, ecx: 7, edx: 8 },
  { leaf: 7, subleaf: 1, eax: 9, ebx: 10, ecx: 11, edx: 12 },
];

describe("overrideCpuid()", () => {
  test("changes only the registers named, and never the table it is given", () => {
    const before = structuredClone(TABLE);
    expect(overrideCpuid(TABLE, { 1: { ecx: 0x80000000 } })[0]).toEqual({
      leaf: 1,
      eax: 1,
      ebx: 2,
      ecx: 0x80000000,
      edx: 4,
    });
    expect(TABLE).toEqual(before);
  });

  test("takes leaves in decimal and hexadecimal, and as a numeric key", () => {
    for (const key of ["7.1", "0x7.0x1", " 7.1 "]) {
      expect(overrideCpuid(TABLE, { [key]: { eax: 0 } })[2]?.eax).toBe(0);
    }
    expect(overrideCpuid(TABLE, { 1: { eax: 0 } })[0]?.eax).toBe(0);
  });

  test("a leaf without sub-leaf changes the first entry of that leaf", () => {
    const changed = overrideCpuid(TABLE, { 7: { eax: 0 } });
    expect(changed.map(({ eax }) => eax)).toEqual([1, 0, 9]);
  });

  test("adds what is not there, zero where nothing is said", () => {
    const added = overrideCpuid(TABLE, { "0x40000000": { ebx: 0xffffffff }, "0xd.2": { eax: 1 } });
    expect(added.slice(3)).toEqual([
      { leaf: 0x40000000, eax: 0, ebx: 0xffffffff, ecx: 0, edx: 0 },
      { leaf: 0xd, subleaf: 2, eax: 1, ebx: 0, ecx: 0, edx: 0 },
    ]);
  });

  test("null removes one sub-leaf, or the leaf with all of them", () => {
    expect(overrideCpuid(TABLE, { "7.0": null }).map(({ eax }) => eax)).toEqual([1, 9]);
    expect(overrideCpuid(TABLE, { 7: null }).map(({ eax }) => eax)).toEqual([1]);
  });

  for (const key of ["", "x", "7.", ".1", "-1", "1.2.3", "0x100000000", "7.0x100000000", "1e3", "07h"]) {
    test(`refuses "${key}" as a leaf`, () => {
      expect(() => overrideCpuid(TABLE, { [key]: { eax: 0 } })).toThrow(RangeError);
    });
  }

  for (const value of [-1, 1.5, 0x100000000, Number.NaN]) {
    test(`refuses ${value} as a register's value, naming register and leaf`, () => {
      expect(() => overrideCpuid(TABLE, { "7.1": { edx: value } })).toThrow(/edx of CPUID leaf 7\.1/);
    });
  }

  test("refuses a register that CPUID has not", () => {
    expect(() => overrideCpuid(TABLE, { 1: { rax: 1 } } as CpuidOverrides)).toThrow('"rax"');
  });
});
