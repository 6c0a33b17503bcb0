import { expect, test } from "bun:test";
import { arrayMemory } from "../../../src/boot/physical-memory.ts";
import { Bus } from "../../../src/bus.ts";
import type { Exit } from "../../../src/exit.ts";
import { Tracer } from "../../../src/inspect/trace.ts";
import { fakeRegisters } from "./fake-registers.ts";

function traced(options: { code?: number[] } = {}) {
  const lines: string[] = [];
  let clock = 100;
  const memory = arrayMemory(new Uint8Array(0x2000));
  if (options.code) memory.write(0x1000, Uint8Array.from(options.code));
  const tracer = new Tracer({
    write: (line) => lines.push(line),
    now: () => clock,
    ...(options.code ? { disassemble: memory } : {}),
  });
  const vcpu = { id: 0, access: fakeRegisters({ gprs: { rip: 0x1002n } }) };
  const exit = (value: Exit) => {
    clock += 1.5;
    tracer.record(value, vcpu);
  };
  return { lines, tracer, exit, vcpu };
}

test("Tracer.record() writes time, RIP, reason and payload", () => {
  const { lines, exit } = traced();
  exit({ kind: "pioOut", port: 0xe9, size: 1, count: 1, data: Uint8Array.of(0x41) });
  exit({ kind: "hlt" });
  expect(lines).toEqual(['     1.500 00001002 pioOut port=0xe9 size=1 data=41 "A"', "     3.000 00001002 hlt"]);
});

test("Tracer.record() adds the instruction when it may read memory", () => {
  const { lines, exit } = traced({ code: [0xe6, 0x80] });
  exit({ kind: "pioOut", port: 0x80, size: 1, count: 1, data: Uint8Array.of(1) });
  expect(lines[0]).toEndWith("data=01  ; out 0x80, al");
});

test("Tracer.device() completes the line of a read with the answer, all elements of a string read", () => {
  const { lines, tracer, exit } = traced();
  const bus = new Bus("pio");
  let next = 1;
  bus.map(0x60, 1, tracer.device({ name: "counter", read: (_, data) => data.fill(next++), write: () => {} }));
  const data = new Uint8Array(3);
  exit({ kind: "pioIn", port: 0x60, size: 1, count: 3, data });
  expect(lines).toEqual([]);
  bus.read(0x60, data, 1);
  expect(lines).toEqual(["     1.500 00001002 pioIn port=0x60 size=1 count=3 -> 01 02 03"]);
});

test("Tracer.end() tells that no device answered; so does the exit that follows", () => {
  const { lines, tracer, exit } = traced();
  const read: Exit = { kind: "mmioRead", gpa: 0xd0000000, data: new Uint8Array(4) };
  exit(read);
  exit(read);
  tracer.end();
  expect(lines.map((line) => line.slice(-18))).toEqual(
    ["-> ff (no device)", "-> ff (no device)"].map((end) => ` ${end}`),
  );
});

test("Tracer.record() names the vCPU beside the first", () => {
  const { lines, tracer, vcpu } = traced();
  tracer.record({ kind: "hlt" }, { ...vcpu, id: 2 });
  expect(lines[0]).toContain(" cpu2 00001002 hlt");
});

test("Tracer.record() leaves time slices out", () => {
  const { lines, exit } = traced();
  exit({ kind: "interrupted", by: "timeout" });
  expect(lines).toEqual([]);
});
