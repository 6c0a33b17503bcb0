import type { Random } from "../oracle/random.ts";
import { LAYOUT } from "./layout.ts";

export type Width = 16 | 32 | 64;

const NAMES = ["ax", "cx", "dx", "bx", "si", "di", "bp"] as const;
const hex = (value: number): string => `0x${value.toString(16)}`;

/** A register of the natural width, not the stack pointer. */
export function register(r: Random, bits: Width): string {
  const name = r.pick(NAMES);
  return bits === 16 ? name : bits === 32 ? `e${name}` : r.chance(3) ? `r${8 + r.below(8)}` : `r${name}`;
}

/** A word of the data page: always there, always writable. */
function memory(r: Random, bits: Width): string {
  // The 16-bit program reaches its data with 32-bit addresses only where limits allow it: it has its own below 64 KiB.
  return bits === 16
    ? `[${hex(0x3800 + r.below(0x200))}]`
    : bits === 32
      ? `[${hex(LAYOUT.data + r.below(0x200))}]`
      : `[abs ${hex(LAYOUT.data + r.below(0x200))}]`;
}

const number = (r: Random, bits: Width): string =>
  r.chance(3) ? hex(r.below(0x80)) : hex(bits === 16 ? r.below(0x10000) : r.u32() >>> (bits === 64 ? 1 : 0));

/** One instruction that leaves no flag undefined and cannot fault. */
export function integer(r: Random, bits: Width): string {
  const a = register(r, bits);
  const b = register(r, bits);
  const word = bits === 16 ? "word" : bits === 32 ? "dword" : "qword";
  const pieces: readonly (() => string)[] = [
    () => `mov ${a}, ${number(r, bits)}`,
    () => `${r.pick(ALU)} ${a}, ${b}`,
    () => `${r.pick(ALU)} ${a}, ${number(r, bits)}`,
    () => `${r.pick(ALU)} ${a}, ${memory(r, bits)}`,
    () => `${r.pick(ALU)} ${memory(r, bits)}, ${a}`,
    () => `${r.pick(["inc", "dec", "neg", "not"])} ${a}`,
    () => `${r.pick(["inc", "dec", "neg", "not"])} ${word} ${memory(r, bits)}`,
    () => `xchg ${a}, ${b}`,
    () => `xadd ${memory(r, bits)}, ${a}`,
    () => `cmpxchg ${memory(r, bits)}, ${a}`,
    () => `cmov${r.pick(CONDITIONS)} ${a}, ${b}`,
    () => `set${r.pick(CONDITIONS)} ${r.pick(["al", "bh", "cl", "dh"])}`,
    () => `lea ${a}, ${bits === 16 ? "[bx + si + 5]" : `[${b} + 0x1234]`}`,
    () => `push ${a}\n  pop ${b}`,
    () =>
      bits === 64
        ? "pushfq\n  pop rax\n  and ah, ~1"
        : bits === 32
          ? "pushfd\n  pop eax\n  and ah, ~1"
          : "pushf\n  pop ax\n  and ah, ~1",
    () => r.pick(["clc", "stc", "cmc", "cld", "lahf", "cbw", "cwd", "cwde", "cdq"]),
    () => `movzx ${bits === 16 ? r.pick(["ax", "cx"]) : r.pick(["eax", "ecx"])}, ${r.pick(["bl", "dh"])}`,
  ];
  return r.pick(pieces)();
}

const ALU = ["add", "sub", "adc", "sbb", "cmp", "xor", "and", "or", "mov", "test"].filter((op) => op !== "test");
const CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/** Pieces of more than one instruction: branches, loops, calls, strings. `label` is unique in the program. */
export function control(r: Random, bits: Width, label: string): string {
  const c = bits === 16 ? "cx" : bits === 32 ? "ecx" : "rcx";
  const [si, di] = bits === 16 ? ["si", "di"] : bits === 32 ? ["esi", "edi"] : ["rsi", "rdi"];
  const data = bits === 16 ? 0x3800 : LAYOUT.data;
  const count = 1 + r.below(5);
  const pieces: readonly (() => string)[] = [
    () => `  j${r.pick(CONDITIONS)} ${label}\n  ${integer(r, bits)}\n${label}:`,
    () =>
      `  mov ${c}, ${count}\n${label}:\n  ${integer(r, bits).replace(/\b[er]?cx\b|\bcl\b/g, (name) => (name === "cl" ? "al" : name.replace("c", "a")))}\n  loop ${label}`,
    () => `  call ${label}\n  jmp ${label}_end\n${label}:\n  ${integer(r, bits)}\n  ret\n${label}_end:`,
    () =>
      `  mov ${c}, ${count}\n  mov ${si}, ${hex(data + r.below(0x80))}\n  mov ${di}, ${hex(data + 0x100 + r.below(0x40))}\n  ${r.pick(["cld", "std"])}\n  ${r.pick(["rep movsb", "rep stosw", "rep movsd", "repe cmpsb", "repne scasb", "rep lodsb"])}\n  cld`,
    () => `  enter ${8 * (1 + r.below(3))}, ${r.below(2)}\n  ${integer(r, bits)}\n  leave`,
    () => `  mov ${r.pick(["al", "ah"])}, ${r.below(256)}\n  sahf`,
  ];
  return r.pick(pieces)();
}
