import type { Random } from "../oracle/random.ts";

/** Bytes that reach instructions which random ones rarely do: an opcode each, written by hand, operands random. */
const SNIPPETS: readonly ((r: Random) => readonly number[])[] = [
  // A counted loop over what comes before: blocks that run more than once, entered in the middle.
  (r) => [0xe2, 0x100 - r.below(40)],
  (r) => [0x70 | r.below(16), r.below(256)],
  (r) => [0xeb, r.below(256)],
  (r) => [0xe8, ...near(r)],
  (r) => [0xe9, ...near(r)],
  () => [0xc3],
  // Stores next to the running code: mov byte [near], imm through a register, and string stores with a small count.
  (r) => [0x88, 0x05, ...near(r)],
  (r) => [0xc6, 0x40 | r.below(8), r.below(256), r.below(256)],
  (r) => [0xb9, r.below(64), 0, 0, 0, 0xf3, r.pick([0xa4, 0xa5, 0xaa, 0xab])],
  (r) => [r.pick([0xf2, 0xf3]), r.pick([0xa4, 0xa6, 0xa7, 0xaa, 0xac, 0xae])],
  (r) => [0xbf, r.below(256), 0x10 | r.below(8), 0, 0],
  (r) => [0xbe, r.below(256), 0x10 | r.below(8), 0, 0],
  // Ports, interrupts and flags.
  (r) => [r.pick([0xe4, 0xe5, 0xe6, 0xe7]), r.below(256)],
  // Words that PIC and PIT know, and a PIT that ticks soon.
  (r) => [0xb0, r.pick(CONTROL_WORDS), r.pick([0xe4, 0xe6, 0xe6]), r.pick([0x20, 0x21, 0xa0, 0xa1, 0x40, 0x43, 0x61])],
  (r) => [0xb0, 0x34, 0xe6, 0x43, 0xb0, r.below(256), 0xe6, 0x40, 0xb0, r.below(4), 0xe6, 0x40, 0xfb, 0xf4],
  (r) => [r.pick([0xec, 0xed, 0xee, 0xef, 0x6c, 0x6e])],
  (r) => [0xcd, r.below(48)],
  (r) => [r.pick([0xcc, 0xce, 0xcf, 0xf1, 0xfa, 0xfb, 0xfc, 0xfd, 0x9c, 0x9d, 0xf4])],
  // Segments, tables, far transfers.
  (r) => [0x66, 0xb8, r.pick(SELECTORS), 0, 0x8e, 0xc0 | (r.below(6) << 3)],
  (r) => [0x8e, r.below(256), r.below(256), r.below(256)],
  (r) => [0x0f, 0x00, r.below(256), r.below(256)],
  (r) => [0x0f, 0x01, r.below(256), r.below(256), r.below(256)],
  (r) => [r.pick([0x9a, 0xea]), r.below(256), 0x10 | r.below(8), 0, 0, r.pick(SELECTORS), 0],
  (r) => [0x6a, r.pick(SELECTORS), 0x68, r.below(256), 0x10 | r.below(8), 0, 0, 0xcb],
  (r) => [0x9c, 0x6a, r.pick(SELECTORS), 0x68, r.below(256), 0x10 | r.below(8), 0, 0, 0xcf],
  // Control, debug and model-specific registers, with values that change a few bits.
  (r) => [0x0f, 0x20, 0xc0 | r.below(64), 0x0f, 0xba, 0xf8 | r.below(8), r.below(32), 0x0f, 0x22, 0xc0 | r.below(64)],
  (r) => [0x0f, r.pick([0x21, 0x23]), 0xc0 | r.below(64)],
  (r) => [0xb9, ...r.pick(MSRS), r.pick([0x0f, 0x0f, 0x90]), r.pick([0x30, 0x32])],
  (r) => [0x0f, r.pick([0x05, 0x07, 0x34, 0x35, 0x06, 0x08, 0x09, 0x0b, 0x31, 0xa2, 0xaa])],
  // x87, SSE, XSAVE forms with a memory operand.
  (r) => [0xd8 | r.below(8), r.below(256), r.below(256)],
  (r) => [0x0f, r.pick([0xae, 0xc7]), r.below(256), r.below(256)],
  (r) => [r.pick([0x66, 0xf2, 0xf3, 0x90]), 0x0f, 0x10 + r.below(0x70), r.below(256), r.below(256)],
  (r) => [0xc5, r.below(256), r.below(256), r.below(256)],
  (r) => [0xc4, r.below(256), r.below(256), r.below(256), r.below(256)],
];

/** Those of the mode's own GDT, some with another ring, some that are no segments. */
const SELECTORS = [0, 0x08, 0x0b, 0x10, 0x13, 0x18, 0x1b, 0x23, 0x2b, 0x33, 0x38, 0x40, 0x48, 0x50, 0x0c, 0x78];
const CONTROL_WORDS = [0x11, 0x20, 4, 1, 0, 0x34, 0x30, 0xff, 8, 0xb];
const MSRS = [
  [0x80, 0, 0, 0xc0],
  [0x81, 0, 0, 0xc0],
  [0x82, 0, 0, 0xc0],
  [0x84, 0, 0, 0xc0],
  [0x00, 1, 0, 0xc0],
  [0x01, 1, 0, 0xc0],
  [0x74, 1, 0, 0],
  [0x75, 1, 0, 0],
  [0x76, 1, 0, 0],
  [0x10, 0, 0, 0],
  [0x1b, 0, 0, 0],
  [0x77, 2, 0, 0],
  [0x99, 9, 9, 9],
];
const PREFIXES = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

function near(r: Random): number[] {
  const distance = r.below(256) - 128;
  const fill = distance < 0 ? 0xff : 0;
  return [distance & 0xff, fill, fill, fill];
}

/** One instruction-shaped piece: prefixes, an opcode of one to three bytes, ModRM and a few operand bytes. */
function shaped(r: Random, bits: 16 | 32 | 64): number[] {
  const bytes: number[] = [];
  while (r.chance(5)) bytes.push(r.pick(PREFIXES));
  if (bits === 64 && r.chance(2)) bytes.push(0x40 | r.below(16));
  const map = r.below(8);
  if (map >= 6) bytes.push(0x0f);
  if (map === 7 && r.chance(3)) bytes.push(r.pick([0x38, 0x3a]));
  bytes.push(r.below(256));
  // Register forms and [reg+disp8] more often than the rest: they reach memory that exists.
  bytes.push(r.chance(3) ? r.below(256) : r.pick([0xc0, 0x40]) | r.below(64));
  for (let i = r.below(5); i > 0; i--) bytes.push(r.chance(2) ? 0 : r.below(256));
  return bytes;
}

/** `length` bytes of code that mostly decodes: random bytes, random instructions and pieces that change the system. */
export function soup(r: Random, bits: 16 | 32 | 64, length: number): Uint8Array {
  const code = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const kind = r.below(10);
    const piece =
      kind < 2
        ? Array.from({ length: 1 + r.below(6) }, () => r.below(256))
        : kind < 7
          ? shaped(r, bits)
          : r.pick(SNIPPETS)(r);
    code.set(piece.slice(0, length - at), at);
    at += piece.length;
  }
  return code;
}
