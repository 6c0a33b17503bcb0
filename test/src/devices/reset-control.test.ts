import { expect, test } from "bun:test";
import { ResetControl } from "../../../src/devices/reset-control.ts";

function build() {
  const resets: string[] = [];
  const device = new ResetControl({ onReset: (kind) => resets.push(kind) });
  const read = () => {
    const data = Uint8Array.of(0xff);
    device.read(0, data);
    return data[0];
  };
  return { device, resets, read };
}

test("ResetControl resets when RST_CPU is written, as far as SYS_RST and FULL_RST say", () => {
  const { device, resets } = build();
  for (const value of [0x04, 0x06, 0x0e]) device.write(0, Uint8Array.of(value));
  expect(resets).toEqual(["cpu", "system", "powerCycle"]);
});

test("ResetControl keeps SYS_RST without a reset, as Linux writes 0x02 before 0x06, and never keeps RST_CPU", () => {
  const { device, resets, read } = build();
  device.write(0, Uint8Array.of(0x02));
  expect(resets).toEqual([]);
  expect(read()).toBe(0x02);
  device.write(0, Uint8Array.of(0xff));
  expect(read()).toBe(0x0a);
});
