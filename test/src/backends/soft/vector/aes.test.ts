import { expect, test } from "bun:test";
import { AES_OPERATIONS } from "../../../../../src/backends/soft/vector/aes.ts";

const block = (hex: string) => new Uint32Array(Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex")).buffer);
const hex = (value: Uint32Array) => Buffer.from(value.buffer).toString("hex");

function apply(operation: number, a: string, b: string, imm8 = 0): string {
  const out = new Uint32Array(4);
  AES_OPERATIONS[operation]!(block(a), block(b), imm8, out);
  return hex(out);
}

// FIPS 197, appendix B: the start of round 1, its result without the key, and the last round.
const ROUND1 = "193de3bea0f4e22b9ac68d2ae9f84808";
const ROUND1_KEY = "a0fafe1788542cb123a339392a6c7605";
const ROUND2 = "a49c7ff2689f352b6b5bea43026a5049";
const ROUND10 = "eb40f21e592e38848ba113e71bc342d2";
const ROUND10_KEY = "d014f9a8c9ee2589e13f0cc8b6630ca6";
const CIPHERTEXT = "3925841d02dc09fbdc118597196a0b32";

test("AESENC and AESENCLAST do the rounds of FIPS 197", () => {
  expect(apply(0, ROUND1, ROUND1_KEY)).toBe(ROUND2);
  expect(apply(1, ROUND10, ROUND10_KEY)).toBe(CIPHERTEXT);
});

test("AESDECLAST and AESDEC undo them", () => {
  const zero = "00".repeat(16);
  const afterKey = hex(block(CIPHERTEXT).map((word, i) => word ^ block(ROUND10_KEY)[i]!));
  expect(apply(3, afterKey, zero)).toBe(ROUND10);
  // The equivalent inverse cipher mixes the key's columns beforehand.
  const mixed = apply(4, zero, ROUND2);
  expect(apply(2, hex(block(apply(1, ROUND1, zero))), mixed)).toBe(
    apply(4, zero, hex(block(ROUND1).map((w, i) => w ^ block(ROUND2)[i]!))),
  );
});

test("AESKEYGENASSIST makes the first round key's words", () => {
  // FIPS 197, appendix A.1: w[3] = 09cf4f3c gives SubWord(RotWord) ^ Rcon = 8b84eb01 with Rcon 01.
  expect(apply(5, "00".repeat(16), "2b7e151628aed2a6abf7158809cf4f3c", 1).slice(24)).toBe("8b84eb01");
});
