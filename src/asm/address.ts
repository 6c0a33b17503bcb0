import { Complaint } from "./diagnostics.ts";
import { ABSOLUTE, type AddressSum, evaluateAddress, type Scope, type Value } from "./expression.ts";
import type { Bits } from "./forms.ts";
import { add, fitsEither, fitsSigned, low32, toUnsigned } from "./integer.ts";
import type { MemoryOperand } from "./operand.ts";
import { type NamedRegister, RegisterClass } from "./registers.ts";
import type { Place } from "./source.ts";

/** An effective address ready to encode. */
export interface Address {
  readonly base: NamedRegister | undefined;
  readonly index: NamedRegister | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  readonly displacement: Value;
  readonly addressBits: Bits;
  /** Bytes wanted for the displacement: 0 none, 1 for disp8 where it fits, else the full width. */
  readonly displacementBytes: number;
  readonly ripRelative: boolean;
  /** A note about a displacement that does not fit. */
  readonly overflow: boolean;
}

const VECTOR = RegisterClass.xmm | RegisterClass.ymm | RegisterClass.zmm;
const GENERAL = RegisterClass.r16 | RegisterClass.r32 | RegisterClass.r64;

interface Chosen {
  base: NamedRegister | undefined;
  index: NamedRegister | undefined;
  scale: number;
}

/** Decides which register is base and which index, as NASM's process_ea does from its hints. */
function chooseRegisters(sum: AddressSum, nosplit: boolean): Chosen {
  const terms = sum.terms.filter(({ factor }) => factor !== 0);
  for (const { register, place } of terms) {
    if ((register.cls & (GENERAL | VECTOR)) === 0) {
      throw new Complaint(
        `Register "${register.name}" cannot be part of an address`,
        place,
        "use a 16-, 32- or 64-bit general register",
      );
    }
  }
  const [first, second, third] = terms;
  if (third)
    throw new Complaint(
      "An address has at most two registers",
      third.place,
      "write [base + index*scale + displacement]",
    );
  if (!first) return { base: undefined, index: undefined, scale: 1 };
  if (!second) return chooseOne(first.register, first.factor, sum, nosplit);
  const vector = terms.find(({ register }) => (register.cls & VECTOR) !== 0);
  let index = vector ?? terms.find(({ factor }) => factor !== 1) ?? second;
  let base = index === first ? second : first;
  if (base.factor !== 1)
    throw new Complaint("Only one register of an address can be scaled", base.place, "write [base + index*scale]");
  const hinted = sum.first;
  const canSwap = index.factor === 1 && !vector;
  if (canSwap && hinted?.multiplied && hinted.register === base.register) [base, index] = [index, base];
  if (canSwap && isStackPointer(index.register)) [base, index] = [index, base];
  return { base: base.register, index: index.register, scale: index.factor };
}

function isStackPointer({ cls, number }: NamedRegister): boolean {
  return number === 4 && (cls & (RegisterClass.r32 | RegisterClass.r64)) !== 0;
}

function chooseOne(register: NamedRegister, factor: number, sum: AddressSum, nosplit: boolean): Chosen {
  if ((register.cls & VECTOR) !== 0) return { base: undefined, index: register, scale: factor };
  const multiplied = sum.first?.multiplied ?? false;
  if (factor === 1) {
    if (multiplied && nosplit && !isStackPointer(register)) return { base: undefined, index: register, scale: 1 };
    return { base: register, index: undefined, scale: 1 };
  }
  const split = (factor === 2 && !nosplit) || factor === 3 || factor === 5 || factor === 9;
  if (split && !isStackPointer(register)) return { base: register, index: register, scale: factor - 1 };
  return { base: undefined, index: register, scale: factor };
}

function check16(chosen: Chosen, place: Place): Chosen {
  const numbers = [chosen.base, chosen.index].filter((r) => r !== undefined);
  const isBase = (r: NamedRegister) => r.number === 3 || r.number === 5;
  const isIndex = (r: NamedRegister) => r.number === 6 || r.number === 7;
  const hint = "16-bit addresses are made of one of bx, bp and one of si, di";
  if (chosen.scale !== 1) throw new Complaint("A 16-bit address cannot scale a register", place, hint);
  const base = numbers.find(isBase);
  const index = numbers.find(isIndex);
  const found = (base ? 1 : 0) + (index ? 1 : 0);
  if (found !== numbers.length) throw new Complaint("These registers do not make a 16-bit address", place, hint);
  return base ? { base, index, scale: 1 } : { base: index, index: undefined, scale: 1 };
}

function widthOf({ cls }: NamedRegister): Bits {
  return cls === RegisterClass.r16 ? 16 : cls === RegisterClass.r32 ? 32 : 64;
}

function addressBitsOf(operand: MemoryOperand, chosen: Chosen, bits: Bits, wanted: Bits | undefined): Bits {
  const registers = [chosen.base, chosen.index].filter((r) => r !== undefined && (r.cls & GENERAL) !== 0);
  const widths = new Set(registers.map((r) => widthOf(r!)));
  if (widths.size > 1) throw new Complaint("The registers of an address differ in size", operand.place);
  const [width] = widths;
  if (width !== undefined) return width;
  if (operand.displacementSize === 2) return 16;
  if (operand.displacementSize === 4 && bits !== 64) return 32;
  if (wanted) return wanted;
  return bits;
}

/** What surrounds an address: the mode, an address-size prefix, and whether DEFAULT REL is in force. */
export interface AddressContext {
  readonly bits: Bits;
  readonly addressPrefix: Bits | undefined;
  readonly defaultRelative: boolean;
}

/**
 * Turns a memory operand into base, index, scale and displacement.
 *
 * @throws {Complaint} when no such address exists in the mode.
 */
export function resolveAddress(operand: MemoryOperand, scope: Scope, context: AddressContext): Address {
  const { bits } = context;
  const sum = evaluateAddress(operand.expression, scope);
  let chosen = chooseRegisters(sum, operand.nosplit);
  if (operand.split) {
    const split = evaluateAddress(operand.split, scope);
    const [term] = split.terms;
    if (!term || split.terms.length > 1)
      throw new Complaint("Expected one index register after the comma", operand.place);
    sum.value = { ...sum.value, value: add(sum.value.value, split.value.value) };
    chosen = { base: chosen.base, index: term.register, scale: term.factor };
  }
  const addressBits = addressBitsOf(operand, chosen, bits, context.addressPrefix);
  if (operand.displacementSize === 8 && bits !== 64)
    throw new Complaint(`${bits}-bit code has no 64-bit addresses`, operand.place);
  if (addressBits === 16 && bits === 64)
    throw new Complaint("64-bit code has no 16-bit addresses", operand.place, "use 32- or 64-bit registers");
  if (addressBits === 64 && bits !== 64) throw new Complaint(`${bits}-bit code has no 64-bit addresses`, operand.place);
  if (addressBits === 16) chosen = check16(chosen, operand.place);
  const { base, index, scale } = chosen;
  if (scale !== 1 && scale !== 2 && scale !== 4 && scale !== 8) {
    throw new Complaint(`An index cannot be scaled by ${scale}`, operand.place, "the scale is 1, 2, 4 or 8");
  }
  if (index && isStackPointer(index)) throw new Complaint(`Register "${index.name}" cannot be an index`, operand.place);
  const bare = !base && !index;
  const displacement = sum.value;
  const ripRelative =
    bits === 64 && bare && isRelative(operand, context) && !(displacement.known && displacement.section === ABSOLUTE);
  const overflow = displacement.known && !fits(displacement, addressBits, bare, operand.displacementSize);
  const displacementBytes = displacementSize(operand, displacement, addressBits, chosen);
  return { base, index, scale, displacement, addressBits, displacementBytes, ripRelative, overflow };
}

function isRelative(operand: MemoryOperand, context: AddressContext): boolean {
  if (operand.relative !== undefined) return operand.relative;
  if (!context.defaultRelative || operand.displacementSize === 8) return false;
  const segment = operand.segment?.name;
  return segment !== "fs" && segment !== "gs";
}

function fits({ value }: Value, addressBits: Bits, bare: boolean, wanted: number): boolean {
  if (wanted === 8) return true;
  if (wanted === 1) return fitsSigned(value, 8);
  if (addressBits === 64) return fitsSigned(value, 32) || (bare && toUnsigned(value) > 0xffffffff7fffffffn);
  return fitsEither(value, addressBits);
}

function displacementSize(
  operand: MemoryOperand,
  displacement: Value,
  addressBits: Bits,
  { base, index }: Chosen,
): number {
  const full = addressBits / 8;
  if (!base) return index ? Math.min(full, 4) : full;
  if (operand.displacementSize === 1) return 1;
  if (operand.displacementSize !== 0) return Math.min(full, 4);
  if (!displacement.known || displacement.section !== ABSOLUTE) return Math.min(full, 4);
  const wrapped = addressBits === 16 ? (low32(displacement.value) << 16) >> 16 : low32(displacement.value);
  if (wrapped === 0) return 0;
  if (wrapped >= -128 && wrapped <= 127) return 1;
  return Math.min(full, 4);
}
