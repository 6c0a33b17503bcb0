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
