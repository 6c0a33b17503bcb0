import { describe, expect, test } from "bun:test";
import { Bus } from "../../src/bus.ts";
import { dispatch } from "../../src/dispatch.ts";
import { DeviceError } from "../../src/errors.ts";
import type { Exit } from "../../src/exit.ts";

/** Both buses with one device each, at 0x100 to 0x107, that notes its accesses. */
function buses() {
  const log: string[] = [];
  const device = (name: string) => ({
    name,
    read: (offset: number, data: Uint8Array) => {
      log.push(`${name} read ${offset} ${data.length}`);
      data.fill(0x5a);
    },
    write: (offset: number, data: Uint8Array) => void log.push(`${name} write ${offset} ${data.join()}`),
  });
  const [pio, mmio] = [new Bus("pio"), new Bus("mmio")];
  pio.map(0x100, 8, device("port"));
  mmio.map(0x100, 8, device("memory"));
  return { pio, mmio, log };
}

const data = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => i);

describe("dispatch()", () => {
  test("hands each kind of access to its bus, string I/O element by element", () => {
    const target = buses();
    const accesses: Exit[] = [
      { kind: "pioOut", port: 0x101, size: 1, count: 3, data: data(3) },
      { kind: "pioIn", port: 0x102, size: 2, count: 2, data: data(4) },
      { kind: "mmioWrite", gpa: 0x103, data: data(3) },
      { kind: "mmioRead", gpa: 0x100, data: data(8) },
    ];
    for (const exit of accesses) expect(dispatch(exit, target)).toBe(true);
    expect(target.log).toEqual([
      "port write 1 0",
      "port write 1 1",
      "port write 1 2",
      "port read 2 2",
      "port read 2 2",
      "memory write 3 0,1,2",
      "memory read 0 8",
    ]);
    expect((accesses[1] as { data: Uint8Array }).data).toEqual(new Uint8Array(4).fill(0x5a));
  });

  test("leaves what no device claims, with data of a read all ones", () => {
    const target = buses();
    const read: Exit = { kind: "pioIn", port: 0x200, size: 2, count: 1, data: data(2) };
    const load: Exit = { kind: "mmioRead", gpa: 0x200, data: data(2) };
    for (const exit of [read, load]) {
      expect(dispatch(exit, target)).toBe(false);
      expect(exit.data).toEqual(Uint8Array.of(0xff, 0xff));
    }
    expect(dispatch({ kind: "pioOut", port: 0x200, size: 1, count: 1, data: data(1) }, target)).toBe(false);
    expect(dispatch({ kind: "mmioWrite", gpa: 0x200, data: data(1) }, target)).toBe(false);
  });

  test("leaves every exit that is no access", () => {
    const target = buses();
    const others: Exit[] = [
      { kind: "hlt" },
      { kind: "shutdown" },
      { kind: "interrupted", by: "timeout" },
      { kind: "unknown", reason: 1 },
    ];
    for (const exit of others) expect(dispatch(exit, target)).toBe(false);
    expect(target.log).toEqual([]);
  });

  const BROKEN: readonly [Exit, string][] = [
    [{ kind: "pioIn", port: 0x100, size: 1, count: 1, data: data(1) }, 'Device "broken" threw on a read of port 0x100'],
    [
      { kind: "pioOut", port: 0x107, size: 1, count: 1, data: data(1) },
      'Device "broken" threw on a write to port 0x107',
    ],
    [{ kind: "mmioRead", gpa: 0x100, data: data(1) }, 'Device "broken" threw on a read of GPA 0x100'],
    [{ kind: "mmioWrite", gpa: 0x100, data: data(1) }, 'Device "broken" threw on a write to GPA 0x100'],
  ];
  for (const [exit, message] of BROKEN) {
    test(`wraps what a device throws at ${exit.kind} in a DeviceError that names device and address`, () => {
      const cause = new Error("stuck");
      const broken = () => {
        throw cause;
      };
      const target = { pio: new Bus("pio"), mmio: new Bus("mmio") };
      for (const bus of [target.pio, target.mmio]) bus.map(0x100, 8, { name: "broken", read: broken, write: broken });
      expect(() => dispatch(exit, target)).toThrow(DeviceError);
      expect(() => dispatch(exit, target)).toThrow(message);
      expect(() => dispatch(exit, target)).toThrow(expect.objectContaining({ cause, device: "broken" }));
    });
  }

  test("a device that throws half-way through its answer leaves all ones", () => {
    const target = { pio: new Bus("pio"), mmio: new Bus("mmio") };
    target.pio.map(0x100, 1, {
      name: "broken",
      read: (_, bytes) => {
        bytes[0] = 1;
        throw new Error("stuck");
      },
      write: () => {},
    });
    const exit: Exit = { kind: "pioIn", port: 0x100, size: 2, count: 1, data: data(2) };
    expect(() => dispatch(exit, target)).toThrow(DeviceError);
    expect(exit.data).toEqual(Uint8Array.of(0xff, 0xff));
  });
});
