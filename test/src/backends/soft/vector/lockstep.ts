import { State } from "../../../../../src/backends/soft/state.ts";
import { X87State } from "../../../../../src/backends/soft/x87/state.ts";
import { FLAGS, FXSAVE, GPR, MEMORY, type NativeOracle, YMM } from "./oracle/native.ts";
import { double, extended, type Random, single } from "./oracle/random.ts";
import { GUEST, type StraightRunner } from "./oracle/straight.ts";

/** Bytes of memory operand that are set and compared. */
const OPERAND = 128;
/** Bytes of the x87 part of an FXSAVE image that carry state (not the error pointers). */
const ARITHMETIC_FLAGS = 0x8d5;

/** One case: everything an instruction may read. */
export interface VectorCase {
  ymm: Uint8Array;
  gpr: BigUint64Array;
  memory: Uint8Array;
  mxcsr: number;
  flags: number;
  /** x87 in its physical order, for MMX. */
  registers: { se: number; significand: bigint }[];
  status: number;
  tags: number;
  /** General registers that hold the address of the memory operand, beside R14. */
  pointers: readonly number[];
}

export type Mxcsr = "default" | "any";

/** Fills 32 bytes with lanes of one kind. */
function fill(r: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = r.below(10);
  for (let i = 0; i < bytes.length; i += 8) {
    if (kind < 3) view.setBigUint64(i, double(r), true);
    else if (kind < 6) {
      view.setUint32(i, single(r), true);
      view.setUint32(i + 4, single(r), true);
    } else if (kind === 6)
      for (let j = 0; j < 8; j++) bytes[i + j] = r.pick([0, 0xff, 0x80, 0x7f, 1, 0x41, 0x61, r.below(256)]);
    else if (kind === 7)
      for (let j = 0; j < 4; j++)
        view.setUint16(
          i + 2 * j,
          r.pick([0, 0xffff, 0x8000, 0x7fff, 1, 0x7c00, 0x7e01, 0x7c01, 0x400, 0x3ff, r.below(65536)]),
          true,
        );
    else if (kind === 8)
      for (let j = 0; j < 2; j++)
        view.setUint32(i + 4 * j, r.pick([0, 0xffffffff, 0x80000000, 0x7fffffff, r.below(100), r.u32()]), true);
    else view.setBigUint64(i, r.u64(), true);
  }
}

export function randomCase(r: Random, mxcsr: Mxcsr): VectorCase {
  const ymm = new Uint8Array(512);
  for (let i = 0; i < 16; i++) fill(r, ymm.subarray(32 * i, 32 * i + 32));
  const memory = new Uint8Array(OPERAND);
  for (let i = 0; i < OPERAND; i += 32) fill(r, memory.subarray(i, i + 32));
  const gpr = new BigUint64Array(16);
  for (let i = 0; i < 16; i++) gpr[i] = r.chance(3) ? BigInt(r.below(64)) : r.u64();
  const any = mxcsr === "any" ? r.u32() & 0xffff : 0;
  const control =
    mxcsr === "default" || r.chance(3) ? 0x1f80 | (r.chance(2) ? 0x20 : r.below(64)) : r.chance(2) ? any : any | 0x1f80;
  // Tests of masked operations should not all be disturbed by flags that are set before.
  return {
    ymm,
    gpr,
    memory,
    mxcsr: control,
    flags: r.u32() & ARITHMETIC_FLAGS,
    registers: Array.from({ length: 8 }, () => extended(r)),
    status: (r.below(8) << 11) | (r.u32() & 0x4700),
    tags: r.below(256),
    pointers: [],
  };
}

export interface VectorOutcome {
  fault: boolean;
  ymm: string[];
  gpr: string[];
  memory: string;
  mxcsr: string;
  flags: number;
  x87: string;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const GPR_INDEXES = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13];
const hexes = (values: Uint8Array) =>
  Array.from({ length: values.length / 32 }, (_, i) => hex(values.subarray(32 * i, 32 * i + 32)));

/** A register as text; a pointer as its distance from the memory operand. */
function relative(value: bigint, pointer: boolean, base: bigint): string {
  return pointer ? `memory${value - base}` : value.toString(16);
}

export function runNative(oracle: NativeOracle, c: VectorCase, instruction: Uint8Array): VectorOutcome {
  const { view, block } = oracle;
  block.fill(0, 0, 512);
  view.setUint16(FXSAVE, 0x37f, true);
  view.setUint16(FXSAVE + 2, c.status, true);
  view.setUint8(FXSAVE + 4, c.tags);
  view.setUint32(FXSAVE + 24, c.mxcsr, true);
  const top = (c.status >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const v = c.registers[(top + i) & 7]!;
    view.setBigUint64(FXSAVE + 32 + 16 * i, v.significand, true);
    view.setUint16(FXSAVE + 40 + 16 * i, v.se, true);
  }
  block.set(c.ymm, YMM);
  for (let i = 0; i < 16; i++) view.setBigUint64(GPR + 8 * i, c.gpr[i]!, true);
  view.setBigUint64(FLAGS, BigInt(c.flags) | 2n, true);
  for (const i of c.pointers) view.setBigUint64(GPR + 8 * i, oracle.address(MEMORY), true);
  block.set(c.memory, MEMORY);
  const ok = oracle.run(instruction);
  const status = view.getUint16(FXSAVE + 2, true);
  const after = (status >> 11) & 7;
  const x87: string[] = [status.toString(16), view.getUint8(FXSAVE + 4).toString(16)];
  for (let i = 0; i < 8; i++) {
    const at = FXSAVE + 32 + 16 * ((i - after) & 7);
    x87.push(`${view.getUint16(at + 8, true).toString(16)}:${view.getBigUint64(at, true).toString(16)}`);
  }
  return {
    fault: !ok,
    ymm: hexes(block.subarray(YMM, YMM + 512)),
    gpr: GPR_INDEXES.map((i) =>
      relative(view.getBigUint64(GPR + 8 * i, true), c.pointers.includes(i), oracle.address(MEMORY)),
    ),
    memory: hex(block.subarray(MEMORY, MEMORY + OPERAND)),
    mxcsr: view.getUint32(FXSAVE + 24, true).toString(16),
    flags: view.getUint32(FLAGS, true) & ARITHMETIC_FLAGS,
    x87: x87.join(" "),
  };
}

export function runSoft(runner: StraightRunner, c: VectorCase, run: () => void): VectorOutcome {
  const { view, bytes } = runner;
  const s = new X87State(view);
  s.control = 0x37f;
  s.status = c.status;
  s.tags = c.tags;
  c.registers.forEach((v, i) => {
    s.writePhysical(i, v);
  });
  for (let i = 0; i < 16; i++) {
    bytes.set(c.ymm.subarray(32 * i, 32 * i + 32), State.vector0 + State.vectorBytes * i);
    view.setBigUint64(State.gpr + 8 * i, c.gpr[i]!, true);
  }
  view.setBigUint64(State.gpr + 8 * 14, BigInt(GUEST), true);
  view.setUint32(State.mxcsr, c.mxcsr, true);
  view.setUint32(State.eflags, c.flags, true);
  view.setInt32(State.vector, -1, true);
  // CR4: OSFXSR, OSXMMEXCPT, OSXSAVE.
  view.setBigUint64(State.cr4, 0x40600n, true);
  view.setBigUint64(State.xcr0, 7n, true);
  for (const i of c.pointers) view.setBigUint64(State.gpr + 8 * i, BigInt(GUEST), true);
  bytes.set(c.memory, GUEST);
  run();
  const x87 = [s.status.toString(16), s.tags.toString(16)];
  for (let i = 0; i < 8; i++) {
    const v = s.readPhysical(i);
    x87.push(`${v.se.toString(16)}:${v.significand.toString(16)}`);
  }
  return {
    fault: view.getInt32(State.vector, true) !== -1,
    ymm: Array.from({ length: 16 }, (_, i) => {
      const at = State.vector0 + State.vectorBytes * i;
      return hex(bytes.subarray(at, at + 32));
    }),
    gpr: GPR_INDEXES.map((i) =>
      relative(view.getBigUint64(State.gpr + 8 * i, true), c.pointers.includes(i), BigInt(GUEST)),
    ),
    memory: hex(bytes.subarray(GUEST, GUEST + OPERAND)),
    mxcsr: view.getUint32(State.mxcsr, true).toString(16),
    flags: view.getUint32(State.eflags, true) & ARITHMETIC_FLAGS,
    x87: x87.join(" "),
  };
}

/** What differs, as text: empty when nothing does. */
export function differences(host: VectorOutcome, soft: VectorOutcome): string[] {
  const found: string[] = [];
  for (const key of Object.keys(host) as (keyof VectorOutcome)[]) {
    const a = host[key];
    const b = soft[key];
    if (Array.isArray(a) && Array.isArray(b)) {
      a.forEach((value, i) => {
        if (value !== b[i]) found.push(`${key}[${i}] host ${value} soft ${b[i]}`);
      });
    } else if (a !== b) found.push(`${key} host ${a} soft ${b}`);
  }
  return found;
}
