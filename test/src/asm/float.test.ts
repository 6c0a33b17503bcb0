import { describe, expect, test } from "bun:test";
import { encodeFloat, parseFloatLiteral, specialFloat } from "../../../src/asm/float.ts";
import { randomFrom } from "./programs.ts";

function encoded(text: string, size: number): string {
  return encodeFloat(parseFloatLiteral(text)!, size, false).toHex();
}

function reference(value: number, size: 4 | 8): string {
  const view = new DataView(new ArrayBuffer(8));
  if (size === 4) view.setFloat32(0, value, true);
  else view.setFloat64(0, value, true);
  return new Uint8Array(view.buffer, 0, size).toHex();
}

describe("encodeFloat()", () => {
  test("encodeFloat() rounds decimal literals as the host's IEEE 754 double does, denormals and overflow included", () => {
    const random = randomFrom(7);
    for (let i = 0; i < 3000; i++) {
      const text = `${random(1e9)}.${random(1e9)}${random(1e9)}e${random(640) - 330}`;
      expect(`${text} ${encoded(text, 8)}`).toBe(`${text} ${reference(Number(text), 8)}`);
    }
  });

  test("encodeFloat() rounds once: single precision is not rounded through double", () => {
    // 1 + 2^-24 + 2^-54 is above the midpoint of two singles; as a double it would be the midpoint itself.
    expect(encoded("1.00000005960464483091156", 4)).toBe("0100803f");
    expect(reference(Number("1.00000005960464483091156"), 4)).toBe("0000803f");
  });

  test("encodeFloat() stores the integer bit of the x87 format", () => {
    expect(encoded("1.0", 10)).toBe("0000000000000080ff3f");
    expect(encoded("0x1.8p3", 10)).toBe("00000000000000c00240");
  });

  test("specialFloat() makes a quiet NaN quiet in every size", () => {
    expect([2, 4, 8, 10, 16].map((size) => specialFloat("qnan", size, false).toHex())).toEqual([
      "007e",
      "0000c07f",
      "000000000000f87f",
      "00000000000000c0ff7f",
      "0000000000000000000000000080ff7f",
    ]);
  });
});
