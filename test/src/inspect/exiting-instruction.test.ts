import { expect, test } from "bun:test";
import { arrayMemory } from "../../../src/boot/physical-memory.ts";
import type { Exit } from "../../../src/exit.ts";
import { instructionOf } from "../../../src/inspect/exiting-instruction.ts";
import { type FakeState, fakeRegisters } from "./fake-registers.ts";

const FLAT32 = { controls: { cr0: 1n }, segments: { cs: { db: 1 as const } } };

/** The instruction found when `code` lies at 0x1000 and the exit left RIP behind its first `retired` bytes. */
function found(code: number[], retired: number, exit: Exit, state: FakeState = {}) {
  const memory = arrayMemory(new Uint8Array(0x2000));
  memory.write(0x1000, Uint8Array.from(code));
  const registers = fakeRegisters({ ...state, gprs: { ...state.gprs, rip: BigInt(0x1000 + retired) } });
  const instruction = instructionOf(exit, registers, memory);
  return instruction && `${instruction.ip.toString(16)} ${instruction.text}`;
}

const out = (port: number, size: 1 | 2 | 4): Exit => ({
  kind: "pioOut",
  port,
  size,
  count: 1,
  data: new Uint8Array(size),
});
const store = (gpa: number, bytes: number): Exit => ({ kind: "mmioWrite", gpa, data: new Uint8Array(bytes) });

test("instructionOf() a read is the instruction at RIP, which still waits", () => {
  const exit: Exit = { kind: "pioIn", port: 0x60, size: 1, count: 1, data: new Uint8Array(1) };
  expect(found([0xe4, 0x60, 0xf4], 0, exit)).toBe("1000 in al, 0x60");
});

test("instructionOf() an OUT is the instruction before RIP", () => {
  const dx = { gprs: { rdx: 0x3f8n } };
  expect(found([0xba, 0xf8, 0x03, 0xee], 4, out(0x3f8, 1), dx)).toBe("1003 out dx, al");
  expect(found([0x66, 0xef], 2, out(0x3f8, 4), dx)).toBe("1000 out dx, eax");
});

test("instructionOf() an OUT with its port inside is not taken for one through DX", () => {
  expect(found([0xe6, 0xee], 2, out(0xee, 1))).toBe("1000 out 0xee, al");
  expect(found([0xe6, 0x80, 0xe7, 0x81], 4, out(0x81, 2))).toBe("1002 out 0x81, ax");
});

test("instructionOf() a REP OUTS under way is the instruction at RIP", () => {
  expect(found([0x90, 0xf3, 0x6e, 0xf4], 1, out(0x10, 1), { gprs: { rdx: 0x10n } })).toBe("1001 rep outsb");
});

test("instructionOf() a store is the one that writes so many bytes to that address", () => {
  // mov [ebx+0x100], al: its last two bytes read as add [eax], al.
  const code = [0x88, 0x83, 0x00, 0x01, 0x00, 0x00];
  const state = { ...FLAT32, gprs: { rbx: 0xd0000000n } };
  expect(found(code, 6, store(0xd0000100, 1), state)).toBe("1000 mov [ebx+0x100], al");
});

test("instructionOf() a store through a real-mode segment adds the segment's base", () => {
  const segments = { ds: { base: 0xb8000n } };
  expect(found([0xa2, 0x02, 0x00], 3, store(0xb8002, 1), { segments })).toBe("1000 mov [2], al");
});

test("instructionOf() a string store does not ask for the address, which has moved on", () => {
  expect(found([0xab], 1, store(0xb8000, 2))).toBe("1000 stosw");
});

test("instructionOf() is undefined where nothing is mapped", () => {
  const registers = fakeRegisters({ gprs: { rip: 0x9000n } });
  expect(instructionOf({ kind: "shutdown" }, registers, arrayMemory(new Uint8Array(0x1000)))).toBe(undefined);
});
