import { expect, test } from "bun:test";
import type { BootPlan } from "../../../src/cli/boot-plan.ts";
import { assembleGuest } from "../../../src/cli/source-guest.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";
import { GuestError } from "../../../src/errors.ts";
import { Scratch, skipped, vmexit, whyNoKvm } from "./vmexit-process.ts";

const PLAN: BootPlan = { guest: "/src/g.asm", trace: "off", stats: false, json: false };
const assembled = (lines: string[], plan: Partial<BootPlan> = {}) =>
  assembleGuest(new TextEncoder().encode(lines.join("\n")), { ...PLAN, ...plan });

test("assembleGuest() goes where its org says, else to the load address, else to 0x1000", () => {
  expect(assembled(["org 0x2000", "hlt"]).loadAddress).toBe(0x2000);
  expect(assembled(["hlt"], { loadAddress: 0x3000 }).loadAddress).toBe(0x3000);
  expect(assembled(["hlt"]).loadAddress).toBe(0x1000);
  expect(() => assembled(["org 0x2000", "hlt"], { loadAddress: 0x3000 })).toThrow(UsageError);
});

test("assembleGuest() begins in the width of the mode", () => {
  expect(assembled(["mov eax, 1"], { mode: "prot32" }).bytes).toEqual(Uint8Array.of(0xb8, 1, 0, 0, 0));
  expect(assembled(["mov eax, 1"]).bytes[0]).toBe(0x66);
});

test("assembleGuest() leaves a boot sector and a format with its own address to the loader", () => {
  const sector = ["org 0x7c00", "hlt", "times 510-($-$$) db 0", "dw 0xaa55"];
  expect(assembled(sector).loadAddress).toBe(undefined);
  expect(assembled(["org 0x100", "ret"], { format: "com" }).loadAddress).toBe(undefined);
});

test("assembleGuest() gives file and line of an address, and the labels that lie in the program", () => {
  const { sourceLine, symbols } = assembled(["COM1 equ 0x3f8", "start:", "  nop", ".end: hlt"]);
  expect([0x1000n, 0x1001n, 0x1002n].map(sourceLine)).toEqual(["g.asm:3", "g.asm:4", undefined]);
  expect(symbols.map(({ name, address }) => [name, address])).toEqual([
    ["start", 0x1000n],
    ["start.end", 0x1001n],
  ]);
});

test("assembleGuest() tells every mistake with its line", () => {
  const attempt = () => assembled(["mvo ax, 1", "nop", "hlt 5"]);
  expect(attempt).toThrow(GuestError);
  expect(attempt).toThrow(/g\.asm:1:1: error: .*g\.asm:3:/s);
});

test.skipIf(whyNoKvm !== undefined)(
  `vmexit boot of a source file runs it, and traces and crash screens name its lines${skipped}`,
  async () => {
    using scratch = new Scratch();
    const path = scratch.write("g.asm", "start:\n  mov al, 'A'\n  out 0xe9, al\nforever:\n  jmp forever\n");
    const { status, stdout, stderr } = await vmexit(["boot", path, "--trace=asm", "--timeout", "100ms"]);
    expect({ status, stdout }).toEqual({ status: 124, stdout: "A" });
    expect(stderr).toContain("; out 0xe9, al  g.asm:3\n");
    expect(stderr).toContain("Code at RIP <forever>, g.asm:5, 16-bit real mode:\n");
    expect(stderr).toContain("jmp short 0x1004 <forever>\n");
  },
);
