import { describe, expect, test } from "bun:test";
import { type AsmError, asm } from "../../../src/asm/index.ts";

describe("asm", () => {
  test("asm.real16, asm.prot32 and asm.long64 assemble at 0x1000 in their mode", () => {
    const tags = [asm.real16, asm.prot32, asm.long64];
    expect(tags.map((tag) => tag`here: mov eax, here`.bytes.toHex())).toEqual([
      "66b800100000",
      "b800100000",
      "b800100000",
    ]);
    expect(tags.map((tag) => tag`nop`.origin)).toEqual([0x1000, 0x1000, 0x1000]);
    expect(tags.map((tag) => tag`nop`.bits)).toEqual([16, 32, 64]);
  });

  test("asm() takes mode and origin, and ORG overrides the origin", () => {
    expect(asm({ bits: 32, origin: 0x100000 })`x: dd x`.bytes.toHex()).toBe("00001000");
    expect(
      asm({ bits: 16 })`org 0x7c00
      dw $`.bytes.toHex(),
    ).toBe("007c");
  });

  test("asm interpolates numbers and bigints as they are", () => {
    expect(asm.long64`dq ${5}, ${-1}, ${0xfee00000}, ${2n ** 63n}, ${-1n}, ${1.5}`.bytes.toHex()).toBe(
      "0500000000000000" +
        "ffffffffffffffff" +
        "0000e0fe00000000" +
        "0000000000000080" +
        "ffffffffffffffff" +
        "000000000000f83f",
    );
  });

  test("asm interpolates text: labels, registers, lines", () => {
    const label = "entry";
    const { bytes, symbols } = asm.real16`
      ${label}: mov ${"ax"}, ${label}
      ${["nop", "hlt"].join("\n")}
    `;
    expect(bytes.toHex()).toBe("b8001090f4");
    expect(symbols.get("entry")).toBe(0x1000n);
  });

  test("asm interpolates bytes and programs, on a line of their own and among values", () => {
    const inner = asm.real16`hlt`;
    expect(
      asm.real16`
      ${new Uint8Array([1, 2])}
      db 0xff, ${[3, 4, -1]}, ${inner}
      data: ${inner}
      dw ${new Uint8Array([5])}
    `.bytes.toHex(),
    ).toBe("0102ff0304fff4f40500");
  });

  test("asm refuses values that are neither", () => {
    expect(() => asm.real16`db ${[256]}`).toThrow(RangeError);
    expect(() => asm.real16`db ${undefined as unknown as number}`).toThrow(TypeError);
  });

  test("asm leaves the escapes of back-quoted strings to the assembler", () => {
    expect(asm.real16`db \`a\n\x41\``.bytes.toHex()).toBe("610a41");
  });

  test("asm throws AsmError with the line of the template", () => {
    try {
      asm.real16`
        nop
        moov ax, 1
      `;
      expect.unreachable();
    } catch (error) {
      expect((error as AsmError).diagnostics[0]).toMatchObject({ file: "<asm>", line: 3, column: 9 });
    }
  });
});
