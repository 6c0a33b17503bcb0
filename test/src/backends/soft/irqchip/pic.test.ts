import { expect, test } from "bun:test";
import { PicPair } from "../../../../../src/backends/soft/irqchip/pic.ts";

function ready(icw4 = 1): PicPair {
  const pics = new PicPair();
  for (const [port, base] of [
    [0x20, 0x20],
    [0xa0, 0x28],
  ] as const) {
    pics.writePort(port, 0x11);
    for (const value of [base, 4, icw4]) pics.writePort(port + 1, value);
  }
  return pics;
}

test("PicPair.acknowledge() gives vector 7 and no service when a level went away before it", () => {
  const pics = ready();
  pics.writePort(0x4d0, 0x20);
  pics.setIrq(5, true);
  expect(pics.output).toBe(true);
  pics.setIrq(5, false);
  expect([pics.output, pics.acknowledge(), pics.master.state().ISR]).toEqual([false, 0x27, 0]);
});

test("PicPair.acknowledge() gives the slave's vector 15 when the slave's request went away, with the master in service", () => {
  const pics = ready();
  pics.writePort(0x4d1, 0x02);
  pics.setIrq(9, true);
  pics.setIrq(9, false);
  expect([pics.acknowledge(), pics.master.state().ISR, pics.slave.state().ISR]).toEqual([0x2f, 4, 0]);
});

test("PicPair takes one slave request after the other, though the slave's output never fell in between", () => {
  const pics = ready(3);
  pics.setIrq(8, true);
  pics.setIrq(9, true);
  expect([pics.acknowledge(), pics.acknowledge(), pics.output]).toEqual([0x28, 0x29, false]);
});

test("Pic8259 rotates on automatic EOI, so that a line just served comes last", () => {
  const pics = ready(3);
  pics.writePort(0x20, 0x80);
  for (const irq of [3, 4]) pics.setIrq(irq, true);
  expect(pics.acknowledge()).toBe(0x23);
  pics.setIrq(3, false);
  pics.setIrq(3, true);
  expect([pics.acknowledge(), pics.acknowledge()]).toEqual([0x24, 0x23]);
});

test("Pic8259 in special mask mode lets lower priorities past a masked line in service", () => {
  const pics = ready();
  pics.setIrq(1, true);
  pics.acknowledge();
  pics.setIrq(6, true);
  expect(pics.output).toBe(false);
  pics.writePort(0x21, 0x02);
  pics.writePort(0x20, 0x68);
  expect([pics.output, pics.acknowledge()]).toEqual([true, 0x26]);
});

test("Pic8259 keeps ELCR bits of timer, keyboard, cascade, clock and FPU clear", () => {
  const pics = new PicPair();
  pics.writePort(0x4d0, 0xff);
  pics.writePort(0x4d1, 0xff);
  expect([pics.readPort(0x4d0), pics.readPort(0x4d1)]).toEqual([0xf8, 0xde]);
});
