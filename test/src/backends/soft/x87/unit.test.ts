import { describe, expect, test } from "bun:test";
import { State } from "../../../../../src/backends/soft/state.ts";
import { X87State } from "../../../../../src/backends/soft/x87/state.ts";
import { X87Unit } from "../../../../../src/backends/soft/x87/unit.ts";

function machine() {
  const state = new X87State(new DataView(new ArrayBuffer(State.size)));
  state.initialize();
  return { state, unit: new X87Unit(state) };
}

const ONE = { se: 0x3fff, significand: 0x8000_0000_0000_0000n };
const FLD1 = 0xe8;
const FADDP = 0xc1;

describe("X87Unit", () => {
  test("pushes and pops through TOP and the tags", () => {
    const { state, unit } = machine();
    unit.register(0xd9, FLD1);
    unit.register(0xd9, FLD1);
    expect([state.top, state.tags]).toEqual([6, 0xc0]);
    unit.register(0xde, FADDP);
    expect([state.top, state.tags, state.read(0)]).toEqual([7, 0x80, { se: 0x4000, significand: ONE.significand }]);
  });

  test("answers a ninth push with the indefinite, C1 and a stack fault", () => {
    const { state, unit } = machine();
    for (let i = 0; i < 9; i++) unit.register(0xd9, FLD1);
    expect(state.read(0)).toEqual({ se: 0xffff, significand: 0xc000_0000_0000_0000n });
    expect(state.status & 0x241).toBe(0x241);
  });

  test("keeps the destination when an unmasked division by zero stops the instruction", () => {
    const { state, unit } = machine();
    state.control = 0x37b;
    unit.register(0xd9, FLD1);
    unit.load(0xd8, 6, 0n); // FDIV m32 of 0
    expect(state.read(0)).toEqual(ONE);
    expect(unit.pendingException).toBe(true);
    unit.loadControl(0x37f);
    expect(unit.pendingException).toBe(false);
  });

  test("yields the quiet NaN of ST(0) beside a signaling one in memory", () => {
    const { state, unit } = machine();
    const quiet = { se: 0xffff, significand: 0xc000_0000_0000_0000n };
    state.push(quiet);
    unit.load(0xdc, 0, 0x7ff0_0000_0000_0001n); // FADD m64
    expect(state.read(0)).toEqual(quiet);
    expect(state.status & 1).toBe(1);
  });

  test("a store holds its pop back until it is committed", () => {
    const { state, unit } = machine();
    unit.register(0xd9, FLD1);
    expect(unit.prepareStore(0xdd, 3)).toBe(0x3ff0_0000_0000_0000n);
    expect(state.top).toBe(7);
    unit.commitStore(0xdd, 3);
    expect([state.top, state.tags]).toEqual([0, 0]);
  });
});
