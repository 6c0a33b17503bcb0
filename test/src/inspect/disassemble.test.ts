import { expect, test } from "bun:test";
import { disassemble } from "../../../src/inspect/disassemble.ts";

const listing = (bytes: number[], bits: 16 | 32 | 64, ip = 0n) =>
  disassemble(Uint8Array.from(bytes), { bits, ip }).map(({ text }) => text);

test("disassemble() decodes by the width of the code, in NASM's syntax", () => {
  const code = [0xb8, 0x34, 0x12, 0x00, 0x00];
  expect(listing(code, 16)).toEqual(["mov ax, 0x1234", "add [bx+si], al"]);
  expect(listing(code, 32)).toEqual(["mov eax, 0x1234"]);
  expect(listing([0x48, 0x89, 0xd8], 64)).toEqual(["mov rax, rbx"]);
});

test("disassemble() shows where a jump goes from the instruction pointer given", () => {
  expect(listing([0xeb, 0xfe], 16, 0x1000n)).toEqual(["jmp short 0x1000"]);
});

test("disassemble() marks what is no instruction, or not whole, as bad and goes on", () => {
  expect(listing([0xff, 0xff, 0xf4], 32)).toEqual(["(bad)", "hlt"]);
  expect(listing([0xf4, 0xb8, 0x01], 32)).toEqual(["hlt", "(bad)"]);
});

test("disassemble() stops after `count` and keeps each instruction's bytes and address", () => {
  const found = disassemble(Uint8Array.of(0xb0, 0x2a, 0xe6, 0x80, 0xf4), { bits: 16, ip: 0x7c00n, count: 2 });
  expect(found).toEqual([
    { ip: 0x7c00n, bytes: Uint8Array.of(0xb0, 0x2a), text: "mov al, 0x2a" },
    { ip: 0x7c02n, bytes: Uint8Array.of(0xe6, 0x80), text: "out 0x80, al" },
  ]);
});

test("disassemble() names the target of a call when it has a symbol", () => {
  const symbol = (address: bigint) => (address === 0x10n ? "print" : undefined);
  const found = disassemble(Uint8Array.of(0xe8, 0x0b, 0, 0, 0, 0xeb, 0xfe), { bits: 32, ip: 0n, symbol });
  expect(found.map(({ text }) => text)).toEqual(["call 0x10 <print>", "jmp short 5"]);
});
