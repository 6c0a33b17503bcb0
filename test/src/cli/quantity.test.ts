import { expect, test } from "bun:test";
import { formatSize, parseCount, parseDuration, parseSize } from "../../../src/cli/quantity.ts";

test("parseSize() takes plain bytes, binary units in either case, and hexadecimal", () => {
  const found = ["65536", "64K", "64k", "64KiB", "64KB", "2M", "1G", "0x1000"].map(parseSize);
  expect(found).toEqual([65536, 65536, 65536, 65536, 65536, 2 ** 21, 2 ** 30, 4096]);
});

test("parseSize() refuses fractions, signs, unknown units and what a number cannot hold", () => {
  const found = ["", "K", "1.5M", "-1", "64Q", "0x", "0xfg", "1e6", "99999999T", "1 2"].map(parseSize);
  expect(found).toEqual(new Array(10).fill(undefined));
});

test("parseDuration() needs a unit, and takes none for no limit", () => {
  const found = ["500ms", "10s", "1.5s", "2m", "1h", "none"].map(parseDuration);
  expect(found).toEqual([500, 10_000, 1500, 120_000, 3_600_000, Number.POSITIVE_INFINITY]);
  expect(["10", "s", "-1s", "1 d", ""].map(parseDuration)).toEqual(new Array(5).fill(undefined));
});

test("parseCount() refuses zero", () => {
  expect(["1", "1_000_000", "0", "-1", "1.5", "_1"].map(parseCount)).toEqual([
    1,
    1_000_000,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("formatSize() chooses the largest unit and keeps one digit of a fraction", () => {
  expect([1, 512, 4096, 5000, 2 ** 20, 1.5 * 2 ** 30, 2 ** 40].map(formatSize)).toEqual([
    "1 byte",
    "512 bytes",
    "4 KiB",
    "4.9 KiB",
    "1 MiB",
    "1.5 GiB",
    "1 TiB",
  ]);
});
