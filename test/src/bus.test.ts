import { describe, expect, test } from "bun:test";
import { BUS_ADDRESSES, Bus } from "../../src/bus.ts";
import type { Device } from "../../src/device.ts";
import { BusError } from "../../src/errors.ts";

/** Remembers every access, and answers a read with the low byte of each offset. */
class Recorder implements Device {
  readonly name: string;
  readonly accesses: string[] = [];

  constructor(name: string) {
    this.name = name;
  }

  read(offset: number, data: Uint8Array): void {
    this.accesses.push(`read ${offset}+${data.length}`);
    for (let i = 0; i < data.length; i++) data[i] = offset + i;
  }

  write(offset: number, data: Uint8Array): void {
    this.accesses.push(`write ${offset} ${[...data]}`);
  }
}

function busError(act: () => unknown): BusError {
  try {
    act();
  } catch (error) {
    if (error instanceof BusError) return error;
    throw error;
  }
  throw new Error("Nothing was thrown");
}

describe("Bus.map()", () => {
  test("gives the device back, typed, so that 'using' can hold the mapping", () => {
    const bus = new Bus("pio");
    const device = new Recorder("a");
    {
      using mapping = bus.map(0x3f8, 8, device);
      expect(mapping.device.accesses).toEqual([]);
      expect(mapping).toMatchObject({ bus: "pio", start: 0x3f8, length: 8, offset: 0 });
      expect(bus.mappings).toHaveLength(1);
    }
    expect(bus.mappings).toHaveLength(0);
    expect(bus.write(0x3f8, new Uint8Array(1))).toBe(false);
  });

  test("takes ranges that touch, up to the last address of either bus", () => {
    for (const name of ["pio", "mmio"] as const) {
      const bus = new Bus(name);
      const end = BUS_ADDRESSES[name];
      bus.map(end - 8, 4, new Recorder("low"));
      bus.map(end - 4, 4, new Recorder("high"));
      bus.map(0, 1, new Recorder("first"));
      expect(bus.find(end - 5)?.device.name).toBe("low");
      expect(bus.find(end - 4)?.device.name).toBe("high");
      expect(bus.find(end - 1)?.device.name).toBe("high");
      expect(bus.mappings.map((mapping) => mapping.device.name)).toEqual(["first", "low", "high"]);
    }
  });

  test("refuses a range that is empty, leaves the bus or is no whole number", () => {
    const bus = new Bus("pio");
    for (const [start, length] of [
      [0, 0],
      [0, -1],
      [0, 0.5],
      [0.5, 1],
      [-1, 2],
      [0xffff, 2],
      [0x10000, 1],
      [Number.NaN, 1],
    ]) {
      const error = busError(() => bus.map(start!, length!, new Recorder("UART")));
      expect(error).toMatchObject({ bus: "pio", device: "UART", other: undefined });
    }
    expect(bus.mappings).toHaveLength(0);
  });

  test("refuses every kind of overlap and names both devices", () => {
    const bus = new Bus("mmio");
    bus.map(0x1000, 0x100, new Recorder("first"));
    for (const [start, length] of [
      [0x1000, 0x100],
      [0xfff, 2],
      [0x10ff, 1],
      [0x1010, 4],
      [0xf00, 0x400],
    ]) {
      const error = busError(() => bus.map(start!, length!, new Recorder("second")));
      expect(error).toMatchObject({ bus: "mmio", device: "second", other: "first" });
      expect(error.message).toContain('"first" is at 0x1000-0x10ff');
    }
  });

  test("disposing twice is harmless and leaves a later device of the same range alone", () => {
    const bus = new Bus("pio");
    const old = bus.map(0x80, 1, new Recorder("old"));
    old[Symbol.dispose]();
    bus.map(0x80, 1, new Recorder("new"));
    old[Symbol.dispose]();
    expect(bus.find(0x80)?.device.name).toBe("new");
  });

  test("lets one device have two ranges, told apart by offset", () => {
    const bus = new Bus("pio");
    const device = new Recorder("keyboard controller");
    bus.map(0x60, 1, device);
    bus.map(0x64, 1, device, { offset: 4 });
    expect(bus.write(0x64, Uint8Array.of(0xfe))).toBe(true);
    expect(bus.write(0x60, Uint8Array.of(1))).toBe(true);
    expect(device.accesses).toEqual(["write 4 254", "write 0 1"]);
  });
});

describe("Bus.read() and Bus.write()", () => {
  test("answer all ones and false where no device is", () => {
    const bus = new Bus("pio");
    bus.map(0x10, 4, new Recorder("a"));
    for (const port of [0x0f, 0x14, 0xffff]) {
      const data = new Uint8Array(4);
      expect(bus.read(port, data)).toBe(false);
      expect(data).toEqual(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
      expect(bus.write(port, data)).toBe(false);
    }
  });

  test("preset the data to all ones for a device that fills nothing", () => {
    const bus = new Bus("pio");
    bus.map(0x10, 1, { name: "silent", read() {}, write() {} });
    const data = new Uint8Array(2);
    expect(bus.read(0x10, data)).toBe(true);
    expect(data).toEqual(Uint8Array.of(0xff, 0xff));
  });

  test("hand an access that straddles two devices, whole, to the owner of its first byte", () => {
    const bus = new Bus("pio");
    const config = new Recorder("PCI configuration");
    const reset = new Recorder("reset control");
    bus.map(0xcf8, 1, config);
    bus.map(0xcf9, 1, reset);
    bus.write(0xcf8, Uint8Array.of(0, 6, 0, 0x80));
    bus.read(0xcf8, new Uint8Array(4));
    expect(config.accesses).toEqual(["write 0 0,6,0,128", "read 0+4"]);
    expect(reset.accesses).toEqual([]);
  });

  test("hand a string instruction's elements one by one to the same offset", () => {
    const bus = new Bus("pio");
    const device = new Recorder("a");
    bus.map(0x60, 4, device);
    bus.write(0x61, Uint8Array.of(1, 2, 3, 4, 5, 6), 2);
    const data = new Uint8Array(4);
    bus.read(0x62, data, 2);
    expect(device.accesses).toEqual(["write 1 1,2", "write 1 3,4", "write 1 5,6", "read 2+2", "read 2+2"]);
    expect(data).toEqual(Uint8Array.of(2, 3, 2, 3));
  });

  test("stay sound when a handler throws, and when it unmaps itself and maps another", () => {
    const bus = new Bus("pio");
    const failing = bus.map(0x10, 1, {
      name: "failing",
      read() {},
      write() {
        throw new Error("broken");
      },
    });
    expect(() => bus.write(0x10, new Uint8Array(1))).toThrow("broken");
    failing[Symbol.dispose]();
    const later = new Recorder("later");
    const first = bus.map(0x10, 1, {
      name: "first",
      read() {},
      write() {
        first[Symbol.dispose]();
        bus.map(0x10, 1, later);
      },
    });
    bus.write(0x10, Uint8Array.of(1));
    bus.write(0x10, Uint8Array.of(2));
    expect(later.accesses).toEqual(["write 0 2"]);
  });

  test("find the same owner as a linear search, whatever is mapped and unmapped in between", () => {
    const bus = new Bus("mmio");
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * below);
    };
    const live: { start: number; length: number; mapping: Disposable; device: Recorder }[] = [];
    for (let step = 0; step < 3000; step++) {
      const start = random(256) * 2 ** 40;
      const length = (1 + random(3)) * 2 ** 40;
      const device = new Recorder(`${step}`);
      const overlaps = live.some((one) => start < one.start + one.length && one.start < start + length);
      if (random(4) === 0 && live.length > 0) live.splice(random(live.length), 1)[0]!.mapping[Symbol.dispose]();
      else if (!overlaps) live.push({ start, length, mapping: bus.map(start, length, device), device });
      const address = random(260) * 2 ** 40 + random(2);
      const owner = live.find((one) => address >= one.start && address < one.start + one.length);
      expect(bus.find(address)?.device).toBe(owner?.device as Recorder);
    }
  });
});
