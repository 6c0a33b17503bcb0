import type { Register } from "iced-x86";
import { iced } from "./iced.ts";

/** Register classes as bits, so that an operand kind can accept several. */
export const RegisterClass = {
  r8: 1 << 0,
  r16: 1 << 1,
  r32: 1 << 2,
  r64: 1 << 3,
  segment: 1 << 4,
  control: 1 << 5,
  debug: 1 << 6,
  test: 1 << 7,
  fpu: 1 << 8,
  mmx: 1 << 9,
  xmm: 1 << 10,
  ymm: 1 << 11,
  zmm: 1 << 12,
  mask: 1 << 13,
  bound: 1 << 14,
  tile: 1 << 15,
} as const;

export interface NamedRegister {
  /** Lower case, NASM's spelling. */
  readonly name: string;
  readonly code: Register;
  /** One bit of RegisterClass. */
  readonly cls: number;
  readonly number: number;
  /** Width in bytes, as a memory operand of the same width would have. */
  readonly bytes: number;
}

const GPR8 = "al cl dl bl ah ch dh bh spl bpl sil dil r8b r9b r10b r11b r12b r13b r14b r15b".split(" ");
const LEGACY = "ax cx dx bx sp bp si di".split(" ");
const HIGH = [8, 9, 10, 11, 12, 13, 14, 15];

let table: Map<string, NamedRegister> | undefined;

function build(): Map<string, NamedRegister> {
  const { Register } = iced();
  const found = new Map<string, NamedRegister>();
  const put = (name: string, code: Register, cls: number, number: number, bytes: number) =>
    found.set(name, { name, code, cls, number, bytes });
  GPR8.forEach((name, i) => {
    // ah..bh share the numbers of spl..dil; the REX prefix tells them apart.
    put(name, Register.AL + i, RegisterClass.r8, i < 8 ? i : i - 4, 1);
  });
  for (let n = 8; n < 16; n++) put(`r${n}l`, Register.R8L + n - 8, RegisterClass.r8, n, 1);
  const family = (names: string[], first: Register, cls: number, bytes: number) =>
    names.forEach((name, i) => {
      put(name, first + i, cls, i, bytes);
    });
  const run = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
  family([...LEGACY, ...HIGH.map((n) => `r${n}w`)], Register.AX, RegisterClass.r16, 2);
  family([...LEGACY.map((n) => `e${n}`), ...HIGH.map((n) => `r${n}d`)], Register.EAX, RegisterClass.r32, 4);
  family([...LEGACY.map((n) => `r${n}`), ...HIGH.map((n) => `r${n}`)], Register.RAX, RegisterClass.r64, 8);
  family("es cs ss ds fs gs".split(" "), Register.ES, RegisterClass.segment, 2);
  family(run("cr", 16), Register.CR0, RegisterClass.control, 8);
  family(run("dr", 16), Register.DR0, RegisterClass.debug, 8);
  family(run("tr", 8), Register.TR0, RegisterClass.test, 4);
  family(run("st", 8), Register.ST0, RegisterClass.fpu, 10);
  family(run("mm", 8), Register.MM0, RegisterClass.mmx, 8);
  family(run("xmm", 32), Register.XMM0, RegisterClass.xmm, 16);
  family(run("ymm", 32), Register.YMM0, RegisterClass.ymm, 32);
  family(run("zmm", 32), Register.ZMM0, RegisterClass.zmm, 64);
  family(run("k", 8), Register.K0, RegisterClass.mask, 8);
  family(run("bnd", 4), Register.BND0, RegisterClass.bound, 16);
  family(run("tmm", 8), Register.TMM0, RegisterClass.tile, 1024);
  return found;
}

/** Every register by its NASM name. `r8l` is the alias of `r8b`. */
export function registers(): ReadonlyMap<string, NamedRegister> {
  table ??= build();
  return table;
}

const byClass = new Map<number, NamedRegister>();

/** The register of a class with a number, such as the 32-bit half of RAX. */
export function registerOf(cls: number, number: number): NamedRegister {
  if (byClass.size === 0) {
    for (const register of registers().values()) {
      const key = register.cls * 64 + register.number;
      if (!byClass.has(key)) byClass.set(key, register);
    }
  }
  const found = byClass.get(cls * 64 + number);
  if (!found) throw new RangeError(`Cannot find register ${number} of class ${cls}`);
  return found;
}

/** The general register of the given width with the given number. */
export function generalRegister(number: number, cls: number): Register {
  const { Register } = iced();
  const first = cls === RegisterClass.r64 ? Register.RAX : cls === RegisterClass.r32 ? Register.EAX : Register.AX;
  return (first + number) as Register;
}
