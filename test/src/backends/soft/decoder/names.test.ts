import { expect, test } from "bun:test";
import * as iced from "iced-x86";
import * as names from "../../../../../src/backends/soft/decoder/names.ts";

/** A name to number table without the way back that TypeScript's enumerations have. */
const forward = (enumeration: object) =>
  Object.fromEntries(Object.entries(enumeration).filter(([, value]) => typeof value === "number"));

const PAIRS: readonly (readonly [string, object, object])[] = [
  ["Mnemonic", iced.Mnemonic, names.Mnemonic],
  ["Register", iced.Register, names.Register],
  ["OpKind", iced.OpKind, names.OpKind],
  ["FlowControl", iced.FlowControl, names.FlowControl],
  ["ConditionCode", iced.ConditionCode, names.ConditionCode],
  ["EncodingKind", iced.EncodingKind, names.EncodingKind],
  ["MemorySize", iced.MemorySize, names.MemorySize],
];

test.each(PAIRS)("%s is the enumeration of the iced-x86 that is installed", (_, theirs, ours) => {
  // iced keeps old names of some values beside the new ones.
  expect(forward(theirs)).toMatchObject(ours);
  expect(new Set(Object.values(ours))).toEqual(new Set(Object.values(forward(theirs))));
});

test("Code has iced's value for every form that the software CPU names", () => {
  expect(forward(iced.Code)).toMatchObject(names.Code);
});
