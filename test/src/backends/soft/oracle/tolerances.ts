import type { Encoded } from "./encode.ts";
import type { Opcode } from "./forms.ts";
import { Image } from "./fpu-state.ts";
import { DATA, DATA_BYTES, Record } from "./layout.ts";

/** What one side left behind: a record and the data. */
export interface Outcome {
  readonly record: Uint8Array;
  readonly view: DataView;
  readonly data: Uint8Array;
}

/** Something the manual leaves to the processor: `accept` takes the host's answer for the guest's where it may be either. */
export interface Tolerance {
  readonly reason: string;
  readonly matches: (opcode: Opcode) => boolean;
  readonly accept: (e: Encoded, host: Outcome, soft: Outcome, target: number) => void;
}

const words =
  (pattern: RegExp) =>
  ({ word }: Opcode) =>
    pattern.test(word);

const number = new DataView(new ArrayBuffer(4));
function float(bits: number): number {
  number.setUint32(0, bits);
  return number.getFloat32(0);
}

function approximations(_e: Encoded, host: Outcome, soft: Outcome): void {
  for (let at: number = Image.xmm; at < Image.size; at += 4) {
    if (at === Image.xmm + 256) at = Image.ymm;
    const [a, b] = [host, soft].map(({ view }) => float(view.getUint32(Record.image + at, true))) as [number, number];
    if (Math.abs(a - b) <= 2 * 1.5 * 2 ** -12 * Math.abs(a))
      soft.view.setUint32(Record.image + at, host.view.getUint32(Record.image + at, true), true);
  }
}

/** An extended encoding as a number that grows by one with each unit in the last place. */
function ordinal(view: DataView, at: number): bigint {
  const head = view.getUint16(at + 8, true);
  const magnitude = (BigInt(head & 0x7fff) << 63n) + (view.getBigUint64(at, true) & 0x7fff_ffff_ffff_ffffn);
  return head & 0x8000 ? -magnitude : magnitude;
}

const C1 = 0x200;

function takeC1(_e: Encoded, host: Outcome, soft: Outcome): void {
  const at = Record.image + Image.fsw;
  const theirs = host.view.getUint16(at, true);
  soft.view.setUint16(at, (soft.view.getUint16(at, true) & ~C1) | (theirs & C1), true);
}

function transcendental(e: Encoded, host: Outcome, soft: Outcome): void {
  takeC1(e, host, soft);
  for (let i = 0; i < 8; i++) {
    const at = Record.image + Image.st + 16 * i;
    const distance = ordinal(host.view, at) - ordinal(soft.view, at);
    if (distance <= 1n && distance >= -1n) soft.record.set(host.record.subarray(at, at + 10), at);
  }
}

/** Copies parts of the memory operand, as offset and length. */
function memory(parts: (e: Encoded) => readonly (readonly [number, number])[]): Tolerance["accept"] {
  return (e, host, soft, target) => {
    for (const [offset, length] of parts(e)) {
      const at = target - DATA + offset;
      const from = Math.max(at, 0);
      const to = Math.min(at + length, DATA_BYTES);
      if (from < to) soft.data.set(host.data.subarray(from, to), from);
    }
  };
}

const GENERAL_PROTECTION = 13;
const STACK_FAULT = 12;
const PAGE_FAULT = 14;
const ALIGNMENT = 17;

/** Which of two exceptions with error code 0 goes first, for an operand that is misaligned and reaches beyond its segment. */
function eitherException(_e: Encoded, host: Outcome, soft: Outcome, target: number): void {
  const [theirs, mine] = [host, soft].map(({ view }) => view.getUint32(Record.vector, true)) as [number, number];
  const segment = (vector: number) => vector === GENERAL_PROTECTION || vector === STACK_FAULT;
  const either = (vector: number) => segment(vector) || vector === ALIGNMENT;
  // Addresses that are not canonical have lost their low bits as numbers.
  const aligned = target < Number.MAX_SAFE_INTEGER && target % 64 === 0;
  if (aligned || !either(theirs) || !either(mine)) return;
  if (soft.view.getUint32(Record.error, true) === 0) soft.view.setUint32(Record.vector, theirs, true);
}

/** A call whose push faults, to where nobody may go. */
function callFault(_e: Encoded, host: Outcome, soft: Outcome): void {
  const [theirs, mine] = [host, soft].map(({ view }) => view.getUint32(Record.vector, true)) as [number, number];
  if (mine !== GENERAL_PROTECTION || (theirs !== STACK_FAULT && theirs !== PAGE_FAULT)) return;
  for (const field of [Record.vector, Record.error]) soft.view.setUint32(field, host.view.getUint32(field, true), true);
  soft.view.setBigUint64(Record.cr2, host.view.getBigUint64(Record.cr2, true), true);
}

/** #AC instead of #GP. */
function alignmentFault(_e: Encoded, host: Outcome, soft: Outcome): void {
  const vectors = [host, soft].map(({ view }) => view.getUint32(Record.vector, true));
  if (vectors[0] === ALIGNMENT && vectors[1] === GENERAL_PROTECTION)
    soft.view.setUint32(Record.vector, ALIGNMENT, true);
}

const IMAGES = words(/^(Fnstenv|Fldenv|Fnsave|Frstor|Fxsave|Fxrstor|Xsave|Xrstor)/);
/** Bytes that images of the state have at most. */
const IMAGE_BYTES = 832;

/** Where in an image the page fault comes, and what is stored before it. */
function imageFault(_e: Encoded, host: Outcome, soft: Outcome, target: number): void {
  const [theirs, mine] = [host, soft].map(({ view }) =>
    view.getUint32(Record.vector, true) === PAGE_FAULT ? Number(view.getBigUint64(Record.cr2, true)) : -1,
  ) as [number, number];
  if (theirs < target || mine < target || Math.max(theirs, mine) >= target + IMAGE_BYTES) return;
  soft.view.setBigUint64(Record.cr2, BigInt(theirs), true);
  const at = Math.max(target - DATA, 0);
  const end = Math.min(at + IMAGE_BYTES, DATA_BYTES);
  if (at < end) soft.data.set(host.data.subarray(at, end), at);
}

/** MM, AMD's own bit of MXCSR, in what lay where no hint reached. */
function misalignedBit(_e: Encoded, host: Outcome, soft: Outcome): void {
  if ((host.view.getUint32(Record.image + Image.mxcsr, true) & 0x2_0000) === 0) return;
  soft.record.set(host.record.subarray(0, Record.image + Image.size), 0);
  soft.data.set(host.data);
}

/** Registers that were loaded before a fault. */
function partialLoad(_e: Encoded, host: Outcome, soft: Outcome): void {
  const faulted = (o: Outcome) => [PAGE_FAULT, STACK_FAULT].includes(o.view.getUint32(Record.vector, true));
  if (faulted(host) && faulted(soft)) soft.record.set(host.record.subarray(0, Record.rip), 0);
}

/** Masked moves: any byte of the operand that lies on the page. */
function operandFault(_e: Encoded, host: Outcome, soft: Outcome, target: number): void {
  const [theirs, mine] = [host, soft].map(({ view }) =>
    view.getUint32(Record.vector, true) === PAGE_FAULT ? Number(view.getBigUint64(Record.cr2, true)) : -1,
  ) as [number, number];
  const inside = (at: number) => at >= target && at < target + 32;
  if (inside(theirs) && inside(mine) && Math.floor(theirs / 4096) === Math.floor(mine / 4096))
    soft.view.setBigUint64(Record.cr2, BigInt(theirs), true);
}

/** LAR: bits 16 to 19 of the result. */
function rights(e: Encoded, host: Outcome, soft: Outcome): void {
  const [target] = e.registers;
  if (target === undefined || target.bits < 32) return;
  const at = Record.gpr + 8 * target.number + 2;
  soft.view.setUint8(at, (soft.view.getUint8(at) & 0xf0) | (host.view.getUint8(at) & 0xf));
}

export const TOLERANCES: readonly Tolerance[] = [
  {
    reason: "approximations: the relative error is at most 1.5 × 2^-12, every processor has its own table",
    matches: words(/^V?(rcp|rsqrt)[ps]s$/i),
    accept: approximations,
  },
  {
    reason:
      "transcendental instructions: the error is below one unit in the last place; C1 tells which neighbour it was",
    matches: words(/^(F2xm1|Fyl2x|Fptan|Fpatan|Fyl2xp1|Fsincos|Fsin|Fcos)$/),
    accept: transcendental,
  },
  {
    reason: "FCOMI and its kind: the manual says that C1 is cleared, some processors leave it",
    matches: words(/^Fu?comip?$/),
    accept: takeC1,
  },
  {
    reason: "instruction and data pointers of the x87 unit: saved only with a pending exception by some processors",
    matches: words(/^Fn(stenv|save)$/),
    accept: memory(({ form }) => (/m(28|108)byte/.test(form.opcode.name) ? [[12, 16]] : [[6, 8]])),
  },
  {
    reason: "pointers and MXCSR_MASK in a state image: the processor's own",
    matches: words(/^(Fxsave|Xsave)/),
    accept: memory(() => [
      [6, 18],
      [28, 4],
    ]),
  },
  {
    reason: "state images: which word of them meets the page fault, and what has been stored by then",
    matches: IMAGES,
    accept: imageFault,
  },
  {
    reason:
      'misaligned images where alignment is checked: "signaling of #AC is not guaranteed and may vary with implementation"',
    matches: words(/^(Fxsave|Fxrstor|Xsave|Xrstor)/),
    accept: alignmentFault,
  },
  {
    reason:
      "vectors and images misaligned and beyond the segment's limit: the manuals do not order #GP(0), #SS(0) and #AC(0)",
    matches: (opcode) => opcode.kinds.some((k) => /^[xy]mm/.test(k)) || IMAGES(opcode),
    accept: eitherException,
  },
  {
    reason: "masked moves: CR2 may be any byte of the operand on the page",
    matches: words(/maskmov/i),
    accept: operandFault,
  },
  {
    reason: "CALL to an address that is not canonical, with a push that faults: AMD pushes first",
    matches: words(/^Call$/),
    accept: callFault,
  },
  {
    reason: "POPA that faults: AMD has loaded some registers by then",
    matches: words(/^Popad?$/),
    accept: partialLoad,
  },
  {
    reason: "MXCSR.MM: AMD has it, Intel reserves it",
    matches: words(/^(V?ldmxcsr|Fxrstor|Fxrstor64|Xrstor|Xrstor64)$/i),
    accept: misalignedBit,
  },
  { reason: 'LAR: "bits 19:16 are undefined"', matches: words(/^Lar$/), accept: rights },
];
