import { describe, expect, test } from "bun:test";
import * as iced from "iced-x86";
import { Decoder, memorySizeBytes, newInstruction } from "../../../../../src/backends/soft/decoder/iced.ts";

const PROPERTIES = [
  "code",
  "conditionCode",
  "encoding",
  "farBranch16",
  "farBranch32",
  "farBranchSelector",
  "flowControl",
  "hasLockPrefix",
  "hasRepPrefix",
  "hasRepnePrefix",
  "immediate16",
  "immediate8",
  "immediate8_2nd",
  "ip",
  "isCallFar",
  "isCallFarIndirect",
  "isCallNear",
  "isInvalid",
  "isJmpFar",
  "isJmpFarIndirect",
  "isJmpShortOrNear",
  "isVsib",
  "length",
  "memoryBase",
  "memoryDisplSize",
  "memoryDisplacement",
  "memoryIndex",
  "memoryIndexScale",
  "memorySegment",
  "memorySize",
  "mnemonic",
  "nearBranchTarget",
  "nextIP",
  "op0Kind",
  "op0Register",
  "opCount",
  "stackPointerIncrement",
] as const;

const IMMEDIATES: ReadonlySet<number> = new Set([
  iced.OpKind.Immediate8,
  iced.OpKind.Immediate8_2nd,
  iced.OpKind.Immediate16,
  iced.OpKind.Immediate32,
  iced.OpKind.Immediate64,
  iced.OpKind.Immediate8to16,
  iced.OpKind.Immediate8to32,
  iced.OpKind.Immediate8to64,
  iced.OpKind.Immediate32to64,
]);

/** Every property of an instruction, by iced's own class or by ours. */
function describeInstruction(i: iced.Instruction | ReturnType<typeof newInstruction>): Record<string, unknown> {
  const operands = Array.from({ length: i.opCount }, (_, operand) => ({
    kind: i.opKind(operand),
    register: i.opKind(operand) === iced.OpKind.Register ? i.opRegister(operand) : undefined,
    immediate: IMMEDIATES.has(i.opKind(operand)) ? i.immediate(operand) : undefined,
  }));
  const { opCode, groupIndex } = i.opCode;
  return { ...Object.fromEntries(PROPERTIES.map((name) => [name, i[name]])), operands, opCode, groupIndex };
}

describe("Decoder", () => {
  test.each([{ bits: 16 }, { bits: 32 }, { bits: 64 }] as const)(
    "reads 3000 random $bits-bit instructions as iced's own class does",
    ({ bits }) => {
      const theirs = new iced.Instruction();
      const ours = newInstruction();
      let seed: number = bits;
      const bytes = Uint8Array.from({ length: 4096 }, () => {
        seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
        return seed >>> 24;
      });
      // Real programs are dense in these.
      for (let i = 0; i < bytes.length; i += 7)
        bytes[i] = [0x0f, 0x66, 0xf3, 0xc5, 0xc4, 0x48, 0xe8][(i / 7) % 7] as number;
      const reference = new iced.Decoder(bits, bytes, iced.DecoderOptions.None);
      using decoder = new Decoder(bits, bytes);
      for (let at = 0; at < 3000; at++) {
        const ip = BigInt.asUintN(bits, 0x7fff_ffff_f000n + BigInt(at));
        reference.position = at;
        reference.ip = ip;
        reference.decodeOut(theirs);
        decoder.seek(at, ip);
        decoder.decode(ours);
        const expected = describeInstruction(theirs);
        const got = describeInstruction(ours);
        if (!Bun.deepEquals(got, expected)) expect({ at, ...got }).toEqual({ at, ...expected });
      }
      reference.free();
      theirs.free();
    },
  );

  test("goes on behind what it decoded, and code can be set", () => {
    using decoder = new Decoder(32, Uint8Array.of(0x90, 0xb0, 0x2a));
    const i = newInstruction();
    decoder.seek(0, 0x1000n);
    decoder.decode(i);
    decoder.decode(i);
    expect([i.ip, i.length, i.immediate8]).toEqual([0x1001n, 2, 0x2a]);
    i.code = iced.Code.Nopd;
    expect(i.mnemonic).toBe(iced.Mnemonic.Nop);
  });

  test("gives pages back: 50,000 of them would be 200 MiB", () => {
    const page = new Uint8Array(4096);
    const make = () => {
      for (let i = 0; i < 50_000; i++) new Decoder(64, page)[Symbol.dispose]();
    };
    make();
    const before = process.memoryUsage().rss;
    make();
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
  });
});

test("memorySizeBytes() agrees with iced for every size", () => {
  for (const size of Object.values(iced.MemorySize)) {
    if (typeof size === "number") expect(memorySizeBytes(size)).toBe(iced.MemorySizeExt.size(size));
  }
});
