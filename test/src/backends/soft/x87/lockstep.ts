import { State } from "../../../../../src/backends/soft/state.ts";
import { X87State } from "../../../../../src/backends/soft/x87/state.ts";
import { FLAGS, FXSAVE, GPR, MEMORY, type NativeOracle } from "../vector/oracle/native.ts";
import { double, extended, type Random, single } from "../vector/oracle/random.ts";
import { GUEST, type StraightRunner } from "../vector/oracle/straight.ts";

/** x87 state and operands of one case. Registers are physical. */
export interface X87Case {
  control: number;
  status: number;
  tags: number;
  registers: { se: number; significand: bigint }[];
  memory: Uint8Array;
  flags: number;
  rax: bigint;
}

const PRECISION = [0x000, 0x200, 0x300, 0x300, 0x300];

/** A case without a pending exception. `masked` of four cases have every exception masked. */
export function randomCase(r: Random, bytes: number): X87Case {
  const masks = r.chance(4) ? r.below(64) : 0x3f;
  const control = 0x40 | masks | r.pick(PRECISION) | (r.chance(2) ? 0 : r.below(4) << 10);
  const status = (r.below(64) & masks) | (r.below(8) << 11) | (r.u32() & 0x4700);
  const registers = Array.from({ length: 8 }, () => extended(r));
  const memory = new Uint8Array(16);
  const view = new DataView(memory.buffer);
  view.setBigUint64(0, r.u64(), true);
  view.setBigUint64(8, r.u64(), true);
  if (bytes === 4 && r.chance(2)) view.setUint32(0, single(r), true);
  if (bytes === 8 && r.chance(2)) view.setBigUint64(0, double(r), true);
  if (bytes === 10) {
    const v = extended(r);
    view.setBigUint64(0, v.significand, true);
    view.setUint16(8, v.se, true);
  }
  return {
    control,
    status,
    tags: r.chance(3) ? r.below(256) : 0xff,
    registers,
    memory,
    flags: r.u32() & 0x8d5,
    rax: r.u64(),
  };
}

/** FBLD of digits above nine is undefined: keep to digits. */
export function packedDecimal(r: Random, memory: Uint8Array): void {
  for (let i = 0; i < 9; i++) memory[i] = r.below(10) | (r.below(10) << 4);
  memory[9] = r.below(2) << 7;
}

/** What an instruction left behind. */
export interface X87Outcome {
  control: number;
  status: number;
  tags: number;
  registers: string[];
  memory: string;
  flags: number;
  rax: bigint;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const text = (v: { se: number; significand: bigint }) =>
  `${v.se.toString(16).padStart(4, "0")}:${v.significand.toString(16).padStart(16, "0")}`;

export function runNative(oracle: NativeOracle, c: X87Case, instruction: Uint8Array): X87Outcome {
  const { view, block } = oracle;
  block.fill(0, 0, 512);
  view.setUint16(FXSAVE, c.control, true);
  const pending = c.status & ~c.control & 0x3f ? 0x8080 : 0;
  view.setUint16(FXSAVE + 2, c.status | pending, true);
  view.setUint8(FXSAVE + 4, c.tags);
  view.setUint32(FXSAVE + 24, 0x1f80, true);
  const top = (c.status >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const v = c.registers[(top + i) & 7]!;
    view.setBigUint64(FXSAVE + 32 + 16 * i, v.significand, true);
    view.setUint16(FXSAVE + 40 + 16 * i, v.se, true);
  }
  block.set(c.memory, MEMORY);
  view.setBigUint64(GPR, c.rax, true);
  view.setBigUint64(FLAGS, BigInt(c.flags) | 2n, true);
  oracle.run(instruction);
  const status = view.getUint16(FXSAVE + 2, true);
  const after = (status >> 11) & 7;
  const registers: string[] = [];
  for (let i = 0; i < 8; i++) {
    const at = FXSAVE + 32 + 16 * ((i - after) & 7);
    registers.push(text({ significand: view.getBigUint64(at, true), se: view.getUint16(at + 8, true) }));
  }
  return {
    control: view.getUint16(FXSAVE, true),
    status,
    tags: view.getUint8(FXSAVE + 4),
    registers,
    memory: hex(block.subarray(MEMORY, MEMORY + 16)),
    flags: view.getUint32(FLAGS, true) & 0x8d5,
    rax: view.getBigUint64(GPR, true),
  };
}

export function runSoft(runner: StraightRunner, c: X87Case, run: () => void): X87Outcome {
  const { view, bytes } = runner;
  const s = new X87State(view);
  s.control = c.control;
  s.status = c.status;
  s.tags = c.tags;
  s.summarize();
  c.registers.forEach((v, i) => {
    s.writePhysical(i, v);
  });
  bytes.set(c.memory, GUEST);
  view.setBigUint64(State.gpr, c.rax, true);
  view.setBigUint64(State.gpr + 14 * 8, BigInt(GUEST), true);
  view.setUint32(State.eflags, c.flags, true);
  run();
  return {
    control: s.control,
    status: s.status,
    tags: s.tags,
    registers: Array.from({ length: 8 }, (_, i) => text(s.readPhysical(i))),
    memory: hex(bytes.subarray(GUEST, GUEST + 16)),
    flags: view.getUint32(State.eflags, true) & 0x8d5,
    rax: view.getBigUint64(State.gpr, true),
  };
}

export function describeCase(c: X87Case): string {
  const top = (c.status >> 11) & 7;
  const st = Array.from(
    { length: 8 },
    (_, i) => text(c.registers[(top + i) & 7]!) + ((c.tags >> ((top + i) & 7)) & 1 ? "" : "(empty)"),
  );
  return `fcw ${c.control.toString(16)} fsw ${c.status.toString(16)} ST ${st.slice(0, 3).join(" ")} memory ${hex(c.memory.subarray(0, 10))}`;
}
