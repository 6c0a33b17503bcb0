import { GPR_NAMES } from "../../../../../src/registers.ts";
import type { Encoded } from "./encode.ts";
import { Image } from "./fpu-state.ts";
import { Record } from "./layout.ts";
import type { Outcome } from "./tolerances.ts";

/** One disagreement, as small as it could be made. */
export interface Mismatch {
  readonly form: string;
  readonly world: string;
  /** Assembly. */
  readonly text: string;
  readonly bytes: string;
  readonly input: string;
  readonly differences: readonly string[];
}

const GPR = GPR_NAMES.slice(0, 16);
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"];
const ARITHMETIC = [0x800, 0x80, 0x40, 0x10, 4, 1, 0x400, 0x4_0000];

interface Field {
  readonly name: string;
  readonly at: number;
  readonly bytes: number;
}

/** Every field of a record that is compared. */
const FIELDS: readonly Field[] = [
  ...GPR.map((name, i) => ({ name, at: Record.gpr + 8 * i, bytes: 8 })),
  { name: "rip", at: Record.rip, bytes: 8 },
  { name: "flags", at: Record.rflags, bytes: 8 },
  { name: "exception", at: Record.vector, bytes: 4 },
  { name: "error code", at: Record.error, bytes: 4 },
  { name: "cr2", at: Record.cr2, bytes: 8 },
  ...SEGMENTS.map((name, i) => ({ name, at: Record.selectors + 2 * i, bytes: 2 })),
  { name: "fs base", at: Record.fsBase, bytes: 8 },
  { name: "gs base", at: Record.gsBase, bytes: 8 },
  { name: "fcw", at: Record.image + Image.fcw, bytes: 2 },
  { name: "fsw", at: Record.image + Image.fsw, bytes: 2 },
  { name: "ftw", at: Record.image + Image.ftw, bytes: 1 },
  { name: "mxcsr", at: Record.image + Image.mxcsr, bytes: 4 },
  ...Array.from({ length: 8 }, (_, i) => ({ name: `st${i}`, at: Record.image + Image.st + 16 * i, bytes: 10 })),
  ...Array.from({ length: 16 }, (_, i) => ({ name: `xmm${i}`, at: Record.image + Image.xmm + 16 * i, bytes: 16 })),
  ...Array.from({ length: 16 }, (_, i) => ({
    name: `ymm${i}[255:128]`,
    at: Record.image + Image.ymm + 16 * i,
    bytes: 16,
  })),
];

/** A little-endian field as a number. */
function hex(record: Uint8Array, { at, bytes }: Field): string {
  const text = Buffer.from(record.subarray(at, at + bytes))
    .reverse()
    .toString("hex");
  return `0x${text.replace(/^0+(?=.)/, "")}`;
}

/** Makes registers, flags and the patch smaller as long as the disagreement stays. */
export function minimise(e: Encoded, input: Uint8Array, differs: (input: Uint8Array) => boolean): void {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const attempt = (change: () => void, from: number, to: number): boolean => {
    const old = input.slice(from, to);
    change();
    if (Buffer.compare(old, input.subarray(from, to)) === 0) return false;
    if (differs(input)) return true;
    input.set(old, from);
    return false;
  };
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === e.memory?.base || i === e.memory?.index) continue;
    const at = Record.gpr + 8 * i;
    const value = view.getBigUint64(at, true);
    for (const smaller of [0n, 1n, value & 0xffn])
      if (attempt(() => view.setBigUint64(at, smaller, true), at, at + 8)) break;
  }
  const flags = Record.rflags;
  for (const bit of ARITHMETIC)
    attempt(() => view.setUint32(flags, view.getUint32(flags, true) & ~bit, true), flags, flags + 4);
  if (view.getUint32(Record.fpu, true) === 0) return;
  const simple = (offset: number, value: number, bytes: 1 | 2 | 4) =>
    attempt(
      () => {
        for (let i = 0; i < bytes; i++) input[Record.image + offset + i] = (value >> (8 * i)) & 0xff;
      },
      Record.image + offset,
      Record.image + offset + bytes,
    );
  simple(Image.mxcsr, 0x1f80, 4);
  simple(Image.fsw, 0, 2);
  simple(Image.fcw, 0x37f, 2);
  simple(Image.ftw, 0xff, 1);
  const zero = (at: number) => attempt(() => input.fill(0, at, at + 16), at, at + 16);
  for (const [first, count] of [
    [Image.st, 8],
    [Image.xmm, 16],
    [Image.ymm, 16],
  ] as const)
    for (let i = 0; i < count; i++) zero(Record.image + first + 16 * i);
}

/** What differs, in words. */
export function describeDifferences(
  e: Encoded,
  input: Uint8Array,
  outcomes: readonly [host: Outcome, soft: Outcome],
  data: number,
): Mismatch {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const used = view.getUint32(Record.fpu, true) !== 0;
  const given = FIELDS.filter(({ at }) => at < Record.vector || (used && at >= Record.image))
    .filter((f) => input.subarray(f.at, f.at + f.bytes).some((b) => b !== 0))
    .map((f) => `${f.name}=${hex(input, f)}`);
  const patch = view.getUint32(Record.patchBytes, true);
  if (patch > 0) {
    const bytes = Buffer.from(input.subarray(Record.patch, Record.patch + Math.min(patch, 32))).toString("hex");
    given.push(`[0x${(data + view.getUint32(Record.patchAt, true)).toString(16)}]=${bytes}`);
  }
  return {
    form: `${e.form.name} (${e.form.unit})`,
    world: e.world.name,
    text: e.way === "whole" ? e.text : `${e.text} (in ${e.way})`,
    bytes: Buffer.from(e.bytes.subarray(0, e.length)).toString("hex"),
    input: given.join(" "),
    differences: differences(...outcomes, data),
  };
}

function differences(host: Outcome, soft: Outcome, data: number): string[] {
  const found: string[] = [];
  for (const f of FIELDS) {
    const [theirs, mine] = [hex(host.record, f), hex(soft.record, f)];
    if (theirs !== mine) found.push(`${f.name}: host ${theirs}, soft ${mine}`);
  }
  const at = host.data.findIndex((b, i) => b !== soft.data[i]);
  if (at >= 0) {
    const part = ({ data: bytes }: Outcome) => Buffer.from(bytes.subarray(at, at + 16)).toString("hex");
    found.push(`[0x${(data + at).toString(16)}]: host ${part(host)}, soft ${part(soft)}`);
  }
  return found;
}
