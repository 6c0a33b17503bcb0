import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { guest, Scratch, vmexit } from "./vmexit-process.ts";

test("vmexit asm writes the binary that a committed guest is", async () => {
  using scratch = new Scratch();
  const output = `${scratch.path}/hello.bin`;
  const source = guest("hello").replace(/bin$/, "asm");
  expect(await vmexit(["asm", source, "-o", output])).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(readFileSync(output)).toEqual(readFileSync(guest("hello")));
});

test("vmexit asm gives status 1 for wrong source, 64 for wrong usage, 66 where it may not write", async () => {
  using scratch = new Scratch();
  const wrong = scratch.write("wrong.asm", "mvo ax, 1\n");
  const right = scratch.write("right.asm", "hlt\n");
  const runs = [[wrong], ["--bogus"], [right, "-o", `${scratch.path}/no/such/folder.bin`]];
  const statuses = await Promise.all(runs.map(async (args) => (await vmexit(["asm", ...args])).status));
  expect(statuses).toEqual([1, 64, 66]);
});
