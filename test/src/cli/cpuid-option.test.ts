import { expect, test } from "bun:test";
import { parseCpuidOption } from "../../../src/cli/cpuid-option.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";

test("parseCpuidOption() gives overrides by leaf, joining what is said of one leaf", () => {
  expect(parseCpuidOption(["7.0:ebx=0,ecx=0x10", "7.0:ebx=3", "0x80000008:none"])).toEqual({
    "7.0": { ebx: 3, ecx: 16 },
    "0x80000008": null,
  });
});

test.each([
  ["foo", "7.0:ebx=0"],
  [":eax=1", "7.0:ebx=0"],
  ["7:exx=1", '"exx"'],
  ["7:eax", '"eax"'],
  ["7:eax=0x1ffffffff", "0xffffffff"],
  ["zz:eax=1", '"zz"'],
  ["7:", '""'],
])("parseCpuidOption() refuses %p and its remedy tells of %p", (text, told) => {
  const attempt = () => parseCpuidOption([text]);
  expect(attempt).toThrow(UsageError);
  expect(attempt).toThrow(told);
});
