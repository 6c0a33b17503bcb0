import { expect, test } from "bun:test";
import { AcpiPower } from "../../../src/devices/acpi-power.ts";

function build(s5?: number) {
  const events: (string | number)[] = [];
  const device = new AcpiPower({
    onPowerOff: () => events.push("off"),
    onSleep: (sleepType) => events.push(sleepType),
    ...(s5 === undefined ? {} : { s5 }),
  });
  const read = () => {
    const data = Uint8Array.of(0xff, 0xff);
    device.read(0, data);
    return data[0]! | (data[1]! << 8);
  };
  return { device, events, read };
}

test("AcpiPower turns off on SLP_EN with SLP_TYP 0, as 0x2000 to port 0x604 does on QEMU", () => {
  const { device, events } = build();
  device.write(0, Uint8Array.of(0x00, 0x20));
  expect(events).toEqual(["off"]);
});

test("AcpiPower turns off by a byte write to the upper half", () => {
  const { device, events } = build();
  device.write(1, Uint8Array.of(0x20));
  expect(events).toEqual(["off"]);
});

test("AcpiPower reports another sleep type, and does nothing for SLP_TYP without SLP_EN", () => {
  const { device, events } = build(5);
  device.write(0, Uint8Array.of(0x00, 0x14)); // SLP_TYP 5 alone
  device.write(0, Uint8Array.of(0x00, 0x24)); // SLP_TYP 1, SLP_EN
  device.write(0, Uint8Array.of(0x00, 0x34)); // SLP_TYP 5, SLP_EN
  expect(events).toEqual([1, "off"]);
});

test("AcpiPower reads SCI_EN set and SLP_EN clear, whatever was written", () => {
  const { device, read } = build();
  expect(read()).toBe(0x0001);
  device.write(0, Uint8Array.of(0xfe, 0xff));
  expect(read()).toBe(0xc3ff);
});

test("AcpiPower answers an access that reaches beyond its register for its own bytes only", () => {
  const { device, events } = build();
  const data = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
  device.read(1, data);
  expect(data).toEqual(Uint8Array.of(0x00, 0xff, 0xff, 0xff));
  device.write(1, Uint8Array.of(0x00, 0x20));
  expect(events).toEqual([]);
});
