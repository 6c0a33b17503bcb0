import { describe, expect, test } from "bun:test";
import {
  CONTROL_NAMES,
  DEBUG_NAMES,
  GPR_NAMES,
  type RegisterAccess,
  Registers,
  RFLAGS,
  RIP,
  SEGMENT_NAMES,
  type Segment,
  TABLE_NAMES,
} from "../../src/registers.ts";

const XSTATE_BV = 512;

/** Registers over plain values, with every call noted. */
function fake(xsaveBytes = 4096) {
  const values = new Map<string, unknown>();
  const log: string[] = [];
  const read = (name: string) => {
    log.push(`read ${name}`);
    return values.get(name);
  };
  const write = (name: string, value: unknown) => {
    log.push(`write ${name}`);
    values.set(name, value);
  };
  values.set("xsave", new Uint8Array(xsaveBytes));
  const access = {
    readGpr: (index: number) => read(`gpr ${index}`),
    writeGpr: (index: number, value: bigint) => write(`gpr ${index}`, value),
    readXsave: () => (read("xsave") as Uint8Array).slice(),
    writeXsave: (image: Uint8Array) => write("xsave", image),
    readEvents: () => read("events"),
    writeEvents: (events: unknown) => write("events", events),
    readMpState: () => read("mp"),
    writeMpState: (state: unknown) => write("mp", state),
    ...Object.fromEntries(
      ["Segment", "Table", "Control", "Debug", "Msr"].flatMap((kind) => [
        [`read${kind}`, (name: string | number) => read(`${kind} ${name}`)],
        [`write${kind}`, (name: string | number, value: unknown) => write(`${kind} ${name}`, value)],
      ]),
    ),
  } as unknown as RegisterAccess;
  return { registers: new Registers(access), values, log, image: () => values.get("xsave") as Uint8Array };
}

describe("Registers", () => {
  test("each name reaches its own place of the backend, and no other", () => {
    const { registers, values, log } = fake();
    const places = [
      ...GPR_NAMES.map((name, i) => [name, `gpr ${i}`]),
      ...SEGMENT_NAMES.map((name) => [name, `Segment ${name}`]),
      ...TABLE_NAMES.map((name) => [name, `Table ${name}`]),
      ...CONTROL_NAMES.map((name) => [name, `Control ${name}`]),
      ...DEBUG_NAMES.map((name) => [name, `Debug ${name}`]),
    ] as [keyof Registers & string, string][];
    expect(places.length).toBe(18 + 8 + 2 + 8 + 6);
    for (const [i, [name, place]] of places.entries()) {
      log.length = 0;
      (registers as unknown as Record<string, unknown>)[name] = BigInt(i);
      expect([registers[name], values.get(place), log]).toEqual([
        BigInt(i),
        BigInt(i),
        [`write ${place}`, `read ${place}`],
      ]);
    }
  });

  test("RIP and RFLAGS are where their indices say", () => {
    expect([GPR_NAMES[RIP], GPR_NAMES[RFLAGS]]).toEqual(["rip", "rflags"]);
  });

  test("set() writes what it is given and gprs() reads all 18 by name", () => {
    const { registers, log } = fake();
    registers.set({ rax: 1n, cr3: 2n, dr7: 3n });
    expect(log).toEqual(["write gpr 0", "write Control cr3", "write Debug dr7"]);
    GPR_NAMES.forEach((name, i) => {
      registers[name] = BigInt(i);
    });
    expect(registers.gprs()).toEqual(Object.fromEntries(GPR_NAMES.map((name, i) => [name, BigInt(i)])) as never);
  });

  test("MSRs go by name or number", () => {
    const { registers, values } = fake();
    registers.setMsr("LSTAR", 5n);
    expect([registers.msr(0xc0000082), values.get(`Msr ${0xc0000082}`)]).toEqual([5n, 5n]);
  });

  test("events and MP state are handed on", () => {
    const { registers, values } = fake();
    registers.mpState = "halted";
    const events = { nmi: { masked: true } } as never;
    registers.events = events;
    expect([registers.mpState, registers.events, values.get("mp")]).toEqual(["halted", events, "halted"]);
  });
});

describe("Registers on an XSAVE image", () => {
  test("XMMi lies at 160 + 16 i and marks the SSE component", () => {
    const { registers, image } = fake();
    for (let i = 0; i < 16; i++) registers.setXmm(i, new Uint8Array(16).fill(i + 1));
    for (let i = 0; i < 16; i++) expect(image()[160 + 16 * i + 15]).toBe(i + 1);
    expect([image()[XSTATE_BV], registers.xmm(9)]).toEqual([2, new Uint8Array(16).fill(10)]);
    expect([image()[159], image()[160 + 256]]).toEqual([0, 0]);
  });

  test("YMMi's upper half lies at 576 + 16 i, is zero until AVX is marked, and marks SSE and AVX", () => {
    const { registers, image } = fake();
    image().fill(0xee, 576, 576 + 256);
    expect(registers.ymm(3)).toEqual(new Uint8Array(32));
    const value = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
    registers.setYmm(3, value);
    expect([image()[160 + 48], image()[576 + 48], image()[XSTATE_BV]]).toEqual([1, 17, 6]);
    expect(registers.ymm(3)).toEqual(value);
    // What lay there while AVX was not marked is not state.
    expect(registers.ymm(4)).toEqual(new Uint8Array(32));
  });

  test("ST(i) is 10 bytes at 32 + 16 i and marks the x87 component", () => {
    const { registers, image } = fake();
    registers.setSt(2, new Uint8Array(10).fill(7));
    expect([...image().subarray(63, 75)]).toEqual([0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    expect(image()[XSTATE_BV]).toBe(1);
  });

  test("fpu gathers control, status, tags and MXCSR", () => {
    const { registers, image } = fake();
    registers.fpu = { fcw: 0x37f, fsw: 0x1234, ftw: 0x81, mxcsr: 0xdead1f80 };
    expect(registers.fpu).toEqual({ fcw: 0x37f, fsw: 0x1234, ftw: 0x81, mxcsr: 0xdead1f80 });
    expect([...image().subarray(0, 6)]).toEqual([0x7f, 0x03, 0x34, 0x12, 0x81, 0]);
    expect(image()[XSTATE_BV]).toBe(3);
  });

  test("other components' marks stay", () => {
    const { registers, image } = fake();
    image()[XSTATE_BV] = 0xe0;
    registers.setXmm(0, new Uint8Array(16));
    expect(image()[XSTATE_BV]).toBe(0xe2);
  });

  test("indices and lengths that are none are refused, and an engine without AVX says so", () => {
    const { registers, log } = fake(576);
    for (const index of [-1, 16, 0.5, Number.NaN]) {
      expect(() => registers.xmm(index)).toThrow(RangeError);
      expect(() => registers.setXmm(index, new Uint8Array(16))).toThrow(RangeError);
      expect(() => registers.ymm(index)).toThrow(RangeError);
    }
    for (const index of [-1, 8]) expect(() => registers.st(index)).toThrow(RangeError);
    expect(() => registers.setXmm(0, new Uint8Array(32))).toThrow("pass 16");
    expect(() => registers.setSt(0, new Uint8Array(16))).toThrow("pass 10");
    expect(() => registers.ymm(0)).toThrow("No AVX state");
    expect(() => registers.setYmm(0, new Uint8Array(32))).toThrow("No AVX state");
    expect(log.filter((line) => line.startsWith("write"))).toEqual([]);
  });

  test("a segment assigned back is what was read, changed", () => {
    const { registers, values } = fake();
    values.set("Segment ds", { selector: 1, base: 2n } as Segment);
    registers.ds = { ...registers.ds, base: 3n };
    expect(values.get("Segment ds")).toEqual({ selector: 1, base: 3n });
  });
});
