import { expect, test } from "bun:test";
import { copyExit, type ExitOf } from "../../src/exit.ts";

test("copyExit() keeps data when the memory behind the exit is written over", () => {
  const page = Uint8Array.of(1, 2, 3, 4);
  const exit: ExitOf<"pioOut"> = { kind: "pioOut", port: 1, size: 2, count: 1, data: page.subarray(1, 3) };
  const copy = copyExit(exit);
  page.fill(9);
  expect(copy).toEqual({ kind: "pioOut", port: 1, size: 2, count: 1, data: Uint8Array.of(2, 3) });
  expect([copy.data.byteOffset, copy.data.buffer.byteLength]).toEqual([0, 2]);
});

test("copyExit() copies data words, arguments and instruction bytes", () => {
  const error: ExitOf<"internalError"> = {
    kind: "internalError",
    suberror: 1,
    name: "emulation failure",
    data: [1n],
    instruction: Uint8Array.of(0x90),
  };
  const call: ExitOf<"hypercall"> = { kind: "hypercall", number: 1n, args: [1n, 2n], longMode: true, result: 0n };
  const [errorCopy, callCopy] = [copyExit(error), copyExit(call)];
  error.data[0] = 5n;
  error.instruction[0] = 0xcc;
  call.args[0] = 5n;
  expect([errorCopy.data, errorCopy.instruction, callCopy.args]).toEqual([[1n], Uint8Array.of(0x90), [1n, 2n]]);
});

test("copyExit() makes a value of its own even where nothing is shared", () => {
  const exit: ExitOf<"rdmsr"> = { kind: "rdmsr", msr: 1, reason: "filter", value: 0n, error: false };
  const copy = copyExit(exit);
  exit.value = 7n;
  expect(copy.value).toBe(0n);
});
