import { expect, test } from "bun:test";
import { Bus } from "../../../src/bus.ts";
import { KeyboardController } from "../../../src/devices/keyboard-controller.ts";

function build() {
  const bus = new Bus("pio");
  const counts = { resets: 0 };
  const controller = new KeyboardController({
    onReset: () => {
      counts.resets++;
    },
  });
  bus.map(0x60, 1, controller);
  bus.map(0x64, 1, controller, { offset: 4 });
  const inb = (port: number) => {
    const data = new Uint8Array(1);
    bus.read(port, data);
    return data[0]!;
  };
  const outb = (port: number, value: number) => bus.write(port, Uint8Array.of(value));
  return { inb, outb, counts };
}

test("KeyboardController resets on a pulse of the reset line, 0xfe, and on no pulse without it, 0xff", () => {
  const { outb, counts } = build();
  outb(0x64, 0xff);
  outb(0x64, 0xf1);
  expect(counts.resets).toBe(0);
  outb(0x64, 0xfe);
  outb(0x64, 0xf0);
  expect(counts.resets).toBe(2);
});

test("KeyboardController is always ready for a command: status bit 1 is clear", () => {
  const { inb, outb } = build();
  expect(inb(0x64) & 0x03).toBe(0);
  outb(0x64, 0xd1);
  expect(inb(0x64) & 0x03).toBe(0);
});

test("KeyboardController passes its self-test and sets the system flag", () => {
  const { inb, outb } = build();
  expect(inb(0x64) & 0x04).toBe(0);
  outb(0x64, 0xaa);
  expect(inb(0x64) & 0x05).toBe(0x05);
  expect(inb(0x60)).toBe(0x55);
  expect(inb(0x64) & 0x01).toBe(0);
});

test("KeyboardController keeps the command byte", () => {
  const { inb, outb } = build();
  outb(0x64, 0x60);
  outb(0x60, 0x47);
  outb(0x64, 0x20);
  expect(inb(0x60)).toBe(0x47);
  outb(0x64, 0xad);
  outb(0x64, 0xa7);
  outb(0x64, 0x20);
  expect(inb(0x60)).toBe(0x77);
});

test("KeyboardController shows A20 in the output port, and resets when that port's bit 0 is cleared", () => {
  const { inb, outb, counts } = build();
  outb(0x64, 0xd0);
  expect(inb(0x60) & 0x03).toBe(0x03);
  outb(0x64, 0xd1);
  outb(0x60, 0x01);
  outb(0x64, 0xd0);
  expect(inb(0x60) & 0x03).toBe(0x01);
  expect(counts.resets).toBe(0);
  outb(0x64, 0xd1);
  outb(0x60, 0x02);
  expect(counts.resets).toBe(1);
});

test("KeyboardController drops data that no command asked for", () => {
  const { inb, outb } = build();
  outb(0x60, 0xff);
  expect(inb(0x64) & 0x01).toBe(0);
});

test("KeyboardController tells by status bit 3 whether the last write was a command", () => {
  const { inb, outb } = build();
  outb(0x64, 0xd1);
  expect(inb(0x64) & 0x08).toBe(0x08);
  outb(0x60, 0x03);
  expect(inb(0x64) & 0x08).toBe(0);
});

test("KeyboardController takes one data byte per command, and none once another command came", () => {
  const { inb, outb } = build();
  const commandByte = () => {
    outb(0x64, 0x20);
    return inb(0x60);
  };
  outb(0x64, 0x60);
  outb(0x60, 0x11);
  outb(0x60, 0x22);
  expect(commandByte()).toBe(0x11);
  outb(0x64, 0x60);
  outb(0x64, 0xae);
  outb(0x60, 0x33);
  expect(commandByte()).toBe(0x01);
});

test("KeyboardController passes its port tests, and echoes what commands 0xd2 and 0xd3 feed it", () => {
  const { inb, outb } = build();
  for (const command of [0xa9, 0xab]) {
    outb(0x64, command);
    expect([inb(0x64) & 0x01, inb(0x60)]).toEqual([1, 0x00]);
  }
  for (const command of [0xd2, 0xd3]) {
    outb(0x64, command);
    outb(0x60, command);
    expect([inb(0x64) & 0x01, inb(0x60)]).toEqual([1, command]);
  }
});
