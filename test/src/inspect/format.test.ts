import { expect, test } from "bun:test";
import type { Exit } from "../../../src/exit.ts";
import { exceptionName, formatExit, formatPayload } from "../../../src/inspect/format.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test.each<[Exit, string]>([
  [{ kind: "pioOut", port: 0x3f8, size: 1, count: 1, data: bytes("H") }, 'pioOut port=0x3f8 size=1 data=48 "H"'],
  [{ kind: "pioIn", port: 0x60, size: 2, count: 3, data: new Uint8Array(6) }, "pioIn port=0x60 size=2 count=3"],
  [{ kind: "mmioWrite", gpa: 0xd0000000, data: Uint8Array.of(1, 2) }, "mmioWrite gpa=0xd0000000 size=2 data=01 02"],
  [{ kind: "mmioRead", gpa: 0xd0000000, data: new Uint8Array(4) }, "mmioRead gpa=0xd0000000 size=4"],
  [
    { kind: "rdmsr", msr: 0xc0000080, reason: "filter", value: 0n, error: false },
    "rdmsr msr=EFER (0xc0000080) reason=filter",
  ],
  [
    { kind: "wrmsr", msr: 0x12340, reason: "unknown", value: 16n, error: false },
    "wrmsr msr=0x12340 value=0x10 reason=unknown",
  ],
  [{ kind: "memoryFault", flags: 8n, gpa: 0x1000, bytes: 4096 }, "memoryFault flags=0x8 gpa=0x1000 bytes=4096"],
  [{ kind: "hlt" }, "hlt"],
  [{ kind: "exception", exception: 14, errorCode: 2 }, "exception #PF (14) errorCode=0x2"],
  [{ kind: "unknown", reason: 99 }, "unknown reason=99"],
  [
    { kind: "systemEvent", type: 2, name: "reset", data: [1n, 0xffn] },
    'systemEvent type=2 name="reset" data=[0x1, 0xff]',
  ],
  [
    { kind: "internalError", suberror: 1, name: "emulation", data: [], instruction: Uint8Array.of(0x0f, 0x0b) },
    'internalError suberror=1 name="emulation" data=[] instruction=0f 0b',
  ],
])("formatExit(%p) is %p", (exit, line) => {
  expect(formatExit(exit)).toBe(line);
});

test("formatPayload() shows text only when all of it is text, with line ends escaped", () => {
  expect(formatPayload(bytes('a"\r\n\t'))).toBe('61 22 0d 0a 09 "a"\\r\\n\\t"');
  expect(formatPayload(Uint8Array.of(0x61, 0x00))).toBe("61 00");
  expect(formatPayload(new Uint8Array(0))).toBe("");
});

test("formatPayload() cuts after 16 bytes and says how many there were", () => {
  expect(formatPayload(new Uint8Array(40))).toBe(`${"00 ".repeat(15)}00 … (40 bytes)`);
});

test("exceptionName() knows the reserved and the user's vectors by number only", () => {
  expect([0, 8, 9, 13, 15, 21, 32].map(exceptionName)).toEqual([
    "#DE (0)",
    "#DF (8)",
    "vector 9",
    "#GP (13)",
    "vector 15",
    "#CP (21)",
    "vector 32",
  ]);
});
