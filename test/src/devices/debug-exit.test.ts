import { describe, expect, test } from "bun:test";
import { DebugExit, debugExitStatus } from "../../../src/devices/debug-exit.ts";
import { findQemu } from "./qtest.ts";

test("DebugExit reports what was written in 1, 2 or 4 bytes at any of its ports, and reads zero", () => {
  const values: number[] = [];
  const device = new DebugExit({ onExit: (value) => values.push(value) });
  device.write(0, Uint8Array.of(0x10));
  device.write(1, Uint8Array.of(0x34, 0x12));
  device.write(0, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  expect(values).toEqual([0x10, 0x1234, 0xffffffff]);
  const data = Uint8Array.of(0xff, 0xff);
  device.read(0, data);
  expect(data).toEqual(new Uint8Array(2));
});

test("debugExitStatus() is (value << 1) | 1 in eight bits, so never 0", () => {
  expect([0, 1, 0x10, 0x7f, 0x80, 0xffffffff].map(debugExitStatus)).toEqual([1, 3, 33, 255, 1, 255]);
});

describe("debugExitStatus() against QEMU", () => {
  const { path, skip } = findQemu();
  test.skipIf(path === undefined)(
    `is the status its process ends with for a 16-bit 0x1234 at the second port${skip}`,
    async () => {
      const args = ["-M", "isapc", "-nodefaults", "-display", "none", "-S", "-qtest", "stdio", "-qtest-log", "none"];
      const qemu = Bun.spawn([path!, ...args, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"], {
        stdin: new Blob(["outw 0xf5 0x1234\n"]),
        stdout: "ignore",
        stderr: "ignore",
      });
      expect(await qemu.exited).toBe(debugExitStatus(0x1234));
    },
  );
});
