import { expect, test } from "bun:test";
import { PostCode } from "../../../src/devices/post-code.ts";

test("PostCode reports each code and reads back the last", () => {
  const codes: number[] = [];
  const post = new PostCode({ onCode: (code) => codes.push(code) });
  const data = Uint8Array.of(0xff);
  post.read(0, data);
  expect(data[0]).toBe(0);
  post.write(0, Uint8Array.of(0x12));
  post.write(0, Uint8Array.of(0x34));
  post.read(0, data);
  expect(data[0]).toBe(0x34);
  expect(post.last).toBe(0x34);
  expect(codes).toEqual([0x12, 0x34]);
});
