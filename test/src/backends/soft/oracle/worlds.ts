import { BASE, SLOT } from "./layout.ts";

/** One descriptor of the local table, as `struct user_desc` has it. */
export interface LocalSegment {
  readonly base: number;
  /** Highest offset. */
  readonly limit: number;
  readonly big: boolean;
  readonly kind: "data" | "expandDown" | "code";
  /** Data that may not be written, code that may not be read. */
  readonly restricted?: boolean;
  readonly absent?: boolean;
}

export const LOCAL: readonly LocalSegment[] = [
  { base: BASE, limit: 0xffff, big: false, kind: "code" },
  { base: BASE, limit: 0x5fff, big: false, kind: "data" },
  { base: BASE, limit: 0xffff, big: true, kind: "data" },
  { base: BASE + 0x100, limit: 0xfeff, big: true, kind: "data" },
  { base: BASE, limit: 0x3fff, big: false, kind: "expandDown" },
  { base: BASE, limit: 0xffff, big: true, kind: "data", restricted: true },
  { base: BASE, limit: 0xffff, big: true, kind: "code", restricted: true },
  { base: BASE, limit: 0xffff, big: true, kind: "data", absent: true },
  { base: BASE, limit: 0xffff, big: true, kind: "code" },
];

/** Selector of a local segment, with RPL 3. */
export const local = (index: number): number => (index << 3) | 7;

/** Linux's own: __USER32_CS, __USER_DS, __USER_CS. */
export const CODE32 = 0x23;
export const FLAT = 0x2b;
export const CODE64 = 0x33;

/** A mode with its segments; ES, CS, SS, DS, FS, GS as x86 numbers them. */
export interface World {
  readonly name: string;
  readonly bits: 16 | 32 | 64;
  readonly selectors: readonly [es: number, cs: number, ss: number, ds: number, fs: number, gs: number];
  /** Base of each segment. FS and GS of 64-bit mode are set by arch_prctl(2). */
  readonly bases: readonly bigint[];
  /** Bits of the stack pointer that count. */
  readonly stackBits: 16 | 32 | 64;
  /** Whether modify_ldt(2) must have worked. */
  readonly needsLocal: boolean;
}

function world(name: string, bits: 16 | 32, selectors: World["selectors"]): World {
  const segment = (selector: number) => ((selector & 4) === 0 ? undefined : LOCAL[selector >> 3]);
  return {
    name,
    bits,
    selectors,
    bases: selectors.map((s) => BigInt(segment(s)?.base ?? 0)),
    stackBits: segment(selectors[2])?.big === false ? 16 : 32,
    needsLocal: selectors.some((s) => (s & 4) !== 0),
  };
}

export const WORLDS: readonly World[] = [
  {
    name: "64-bit",
    bits: 64,
    selectors: [FLAT, CODE64, FLAT, FLAT, 0, 0],
    bases: [0n, 0n, 0n, 0n, BigInt(BASE + 0x4100), BigInt(BASE - 0x100)],
    stackBits: 64,
    needsLocal: false,
  },
  world("32-bit", 32, [FLAT, CODE32, FLAT, FLAT, FLAT, FLAT]),
  world("32-bit with bases", 32, [local(3), CODE32, local(2), local(2), local(4), local(5)]),
  world("32-bit with a 16-bit stack", 32, [FLAT, local(8), local(1), local(2), local(8), local(3)]),
  world("16-bit", 16, [local(3), local(0), local(1), local(2), local(4), local(5)]),
  world("16-bit with a 32-bit stack", 16, [FLAT, local(0), local(2), local(1), local(3), FLAT]),
];

/** Selectors worth loading: valid, null, not present, of the wrong type or privilege, beyond the table. */
export const SELECTORS: readonly number[] = [
  FLAT,
  FLAT,
  CODE32,
  CODE64,
  ...LOCAL.map((_, i) => local(i)),
  local(1) & ~3,
  FLAT & ~3,
  0,
  1,
  3,
  0x10,
  0x18,
  0x48,
  0xfff3,
  local(40),
];
/** Those of code. */
export const CODE_SELECTORS: readonly number[] = [CODE32, CODE64, local(0), local(8), local(6)];

/** Base of the segment that a selector names. */
export function baseOf(selector: number): bigint {
  return BigInt((selector & 4) === 0 ? 0 : (LOCAL[selector >> 3]?.base ?? 0));
}

/** Offset in CS of the instruction under test. */
export function slotOffset(world: World): bigint {
  return BigInt(SLOT) - (world.bases[1] as bigint);
}
