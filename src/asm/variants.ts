import type { Resolved } from "./match.ts";
import { type NamedRegister, RegisterClass, registerOf, registers } from "./registers.ts";

const DUPLICABLE = /^(v|imul$)/;
const IMPLICIT_XMM0 = /^(blendvp[sd]|pblendvb|sha256rnds2)$/;
/** Instructions whose registers are fixed and may be written out all the same. */
const WRITTEN_OUT = /^(monitorx?|mwaitx?|invlpga|vmrun|vmload|vmsave|skinit|clzero|umonitor|xcrypt.*|rdpru)$/;
const FPU_POP = /^f(add|mul|subr?|divr?)p$/;
const FPU_TWO = /^f(add|mul|subr?|divr?)$/;

function registerOperand(
  like: Resolved | undefined,
  register: NamedRegister,
  place: Resolved["operand"]["place"],
): Resolved {
  const plain = { mask: undefined, zeroing: false, broadcast: 0, rounding: undefined } as const;
  const operand = {
    kind: "register",
    register,
    size: 0,
    to: false,
    place: like?.operand.place ?? place,
    ...plain,
  } as const;
  return { operand, value: undefined, segment: undefined, address: undefined };
}

function fpuVariants(name: string, operands: readonly Resolved[]): Resolved[][] {
  const st = (n: number) => registerOperand(operands[0], registers().get(`st${n}`)!, NOWHERE);
  const [only] = operands;
  if (operands.length === 0) {
    if (FPU_TWO.test(name) || FPU_POP.test(name)) return [[st(1), st(0)]];
    return [[st(1)], [st(0), st(1)]];
  }
  if (operands.length !== 1 || only!.operand.kind !== "register") return [];
  if (only!.operand.register.cls !== RegisterClass.fpu) return [];
  const toStack: Resolved[] = [only!, st(0)];
  const fromStack: Resolved[] = [st(0), only!];
  return only!.operand.to || FPU_POP.test(name) ? [toStack, fromStack] : [fromStack, toStack];
}

function bothRegisters(operands: readonly Resolved[]): boolean {
  return operands.every(({ operand }) => operand.kind === "register");
}

function isAccumulator({ operand }: Resolved): boolean {
  return operand.kind === "register" && operand.register.number === 0 && operand.register.name !== "al";
}

function withRegister(resolved: Resolved, number: number, cls: number): Resolved {
  if (resolved.operand.kind !== "register") return resolved;
  return { ...resolved, operand: { ...resolved.operand, register: registerOf(cls, number) } };
}

/** Sources of which only the low bits count may be written at another size: LAR EAX, BX and PINSRB XMM0, AL, 1. */
function resizedSource(name: string, operands: readonly Resolved[]): Resolved[] | undefined {
  const at = name.startsWith("vpinsr") ? 2 : 1;
  const source = operands[at]?.operand;
  const target = operands[0]!.operand;
  if (source?.kind !== "register" || target.kind !== "register") return undefined;
  const { cls, number } = source.register;
  if (cls > RegisterClass.r64) return undefined;
  const wanted = /^v?pinsr[bw]$/.test(name) ? RegisterClass.r32 : /^(lar|lsl)$/.test(name) ? target.register.cls : 0;
  if (wanted === 0 || wanted === cls || wanted > RegisterClass.r64) return undefined;
  return operands.map((operand, i) => (i === at ? withRegister(operand, number, wanted) : operand));
}

const NOWHERE = { line: { file: "", number: 0, text: "", expandedFrom: undefined }, column: 1, width: 1 };

/**
 * The operand lists that an instruction may stand for, as written first: NASM lets a source leave out or swap operands
 * where nothing is lost by it.
 */
export function* operandVariants(name: string, operands: Resolved[]): Generator<Resolved[]> {
  const [first, second, third] = operands;
  const swapped = operands.length === 2 && /^(xchg|test|fxch)$/.test(name) ? [second!, first!] : undefined;
  // XCHG puts its first register in ModRM.reg, unless the second is the accumulator, which needs no ModRM.
  if (swapped && name === "xchg" && bothRegisters(operands) && !isAccumulator(second!)) yield swapped;
  yield operands;
  if (swapped) yield swapped;
  const resized = second && resizedSource(name, operands);
  if (resized) yield resized;
  if (name === "rdpid" && first?.operand.kind === "register") {
    yield [withRegister(first, first.operand.register.number, RegisterClass.r64)];
  }
  if (name.startsWith("f")) yield* fpuVariants(name, operands);
  if (IMPLICIT_XMM0.test(name) && third?.operand.kind === "register" && third.operand.register.name === "xmm0")
    yield [first!, second!];
  if (WRITTEN_OUT.test(name) && operands.every(({ operand }) => operand.kind === "register")) yield [];
  if (DUPLICABLE.test(name) && first?.operand.kind === "register" && operands.length >= 2)
    yield [first, ...operands].map(bare);
}

/** A duplicated destination carries its mask once. */
function bare(resolved: Resolved, index: number): Resolved {
  if (index !== 1 || resolved.operand.kind !== "register") return resolved;
  return { ...resolved, operand: { ...resolved.operand, mask: undefined, zeroing: false } };
}
