import { expect, test } from "bun:test";
import { MSRS, type MsrName, msrIndex, msrLabel } from "../../src/msrs.ts";

test("MSRS gives each index one name, so that msrLabel() and msrIndex() are each other's reverse", () => {
  const indices = Object.values(MSRS);
  expect(new Set(indices).size).toBe(indices.length);
  for (const [name, index] of Object.entries(MSRS)) {
    expect(msrLabel(index)).toBe(`${name} (0x${index.toString(16)})`);
    expect(msrIndex(name as MsrName)).toBe(index);
  }
});

test("msrIndex() takes any number, and refuses a name it does not know", () => {
  expect(msrIndex(0x12345678)).toBe(0x12345678);
  for (const name of ["EFERR", "toString", "__proto__", "efer"]) {
    expect(() => msrIndex(name as MsrName)).toThrow(RangeError);
  }
});

test("msrLabel() gives the number alone where there is no name", () => {
  expect(msrLabel(0xdead)).toBe("0xdead");
});
