import { resolveAddress } from "./address.ts";
import { emitBranch, isBranch } from "./branch.ts";
import { Complaint } from "./diagnostics.ts";
import { encode } from "./encoder.ts";
import { constant, evaluate, type Scope } from "./expression.ts";
import type { Bits, Form } from "./forms.ts";
import { fitsEither, fitsSigned } from "./integer.ts";
import { canNarrowMove, type Demands, type Resolved, selectForm } from "./match.ts";
import { explainMismatch, explainSizes } from "./mismatch.ts";
import { mnemonic } from "./mnemonics.ts";
import type { Operand, RegisterOperand } from "./operand.ts";
import { type Prefixes, prefixBytes } from "./prefixes.ts";
import { RegisterClass, registerOf } from "./registers.ts";
import type { ImmediateKind } from "./slots.ts";
import type { Place } from "./source.ts";
import { operandVariants } from "./variants.ts";

/** One instruction as parsed. */
export interface InstructionStatement {
  readonly kind: "instruction";
  /** Lower case. */
  readonly name: string;
  readonly prefixes: Readonly<Prefixes>;
  readonly operands: readonly Operand[];
  readonly place: Place;
  /** Its encoding, once that is known to depend on nothing but these. */
  cache: { bits: Bits; defaultRelative: boolean; bytes: Uint8Array } | undefined;
}

/** What an instruction is assembled against. */
export interface InstructionContext {
  readonly scope: Scope;
  readonly bits: Bits;
  readonly address: number | bigint;
  readonly section: number;
  readonly defaultRelative: boolean;
  warn(message: string, place: Place): void;
  /** Reports an error for a statement whose length is settled all the same. */
  fail(complaint: Complaint): void;
}

const UNDECORATED = { mask: undefined, zeroing: false, broadcast: 0, rounding: undefined } as const;

function immediateOperand(value: number, place: Place): Operand {
  const expression = { op: "constant", value: constant(value) } as const;
  return { kind: "immediate", expression, size: 0, strict: false, reach: undefined, place, ...UNDECORATED };
}

function resolve(operand: Operand, context: InstructionContext, prefixes: Readonly<Prefixes>): Resolved {
  const { scope, bits, defaultRelative } = context;
  const none = { value: undefined, segment: undefined, address: undefined };
  switch (operand.kind) {
    case "register":
      if (bits !== 64 && isLongOnly(operand)) {
        const why = `Register "${operand.register.name}" exists only in 64-bit code`;
        throw new Complaint(why, operand.place, `this is ${bits}-bit code; see the bits directive`);
      }
      return { operand, ...none };
    case "immediate":
      return { operand, ...none, value: evaluate(operand.expression, scope) };
    case "far":
      return { operand, ...none, value: evaluate(operand.offset, scope), segment: evaluate(operand.segment, scope) };
    case "memory": {
      const address = resolveAddress(operand, scope, { bits, addressPrefix: prefixes.addressSize, defaultRelative });
      if (bits !== 64 && [address.base, address.index].some((r) => r !== undefined && r.number > 7)) {
        throw new Complaint(
          "Registers 8 to 31 exist only in 64-bit code",
          operand.place,
          `this is ${bits}-bit code; see the bits directive`,
        );
      }
      return { operand, ...none, address };
    }
  }
}

function isLongOnly({ register }: RegisterOperand): boolean {
  const { cls, number, name } = register;
  if (cls === RegisterClass.r64) return true;
  if (cls === RegisterClass.control) return number > 8;
  return number > 7 || (cls === RegisterClass.r8 && /^(spl|bpl|sil|dil)$/.test(name));
}

function demandsOf(prefixes: Readonly<Prefixes>, bits: Bits, forms: readonly Form[], operands: number): Demands {
  const { operandSize, addressSize, encoding } = prefixes;
  const sized =
    operandSize !== undefined && forms.some((f) => f.operandSize === operandSize && f.slots.length === operands);
  const addressed = addressSize !== undefined && forms.some((f) => f.addressSize === addressSize);
  return {
    bits,
    operandSize: sized ? operandSize : undefined,
    addressSize: addressed ? addressSize : undefined,
    encoding,
  };
}

const LEGACY_PREFIXES = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3]);

function hasPrefix(bytes: Uint8Array, wanted: number): boolean {
  for (const byte of bytes) {
    if (byte === wanted) return true;
    if (!LEGACY_PREFIXES.has(byte)) return false;
  }
  return false;
}

/** Adds o16/o32 and a16/a32 bytes that the chosen form did not need by itself. */
function withSizePrefixes(front: number[], bytes: Uint8Array, prefixes: Readonly<Prefixes>, bits: Bits): Uint8Array {
  const extra = [...front];
  const other = (size: Bits | undefined) =>
    size !== undefined && (bits === 16 ? size === 32 : bits === 32 ? size === 16 : size === 16);
  if (other(prefixes.operandSize) && !hasPrefix(bytes, 0x66)) extra.push(0x66);
  const narrow = bits === 64 ? prefixes.addressSize === 32 : other(prefixes.addressSize);
  if (narrow && !hasPrefix(bytes, 0x67)) extra.push(0x67);
  if (extra.length === 0) return bytes;
  const whole = new Uint8Array(extra.length + bytes.length);
  whole.set(extra);
  whole.set(bytes, extra.length);
  return whole;
}

/** Bits that a number must fit in for each kind of immediate. */
const WARNING_BITS: Readonly<Record<ImmediateKind, number>> = {
  imm4: 4,
  imm8: 8,
  one: 8,
  imm8sex16: 16,
  imm8sex32: 32,
  imm8sex64: 32,
  imm16: 16,
  imm32: 32,
  imm32sex64: 32,
  imm64: 64,
};

function warnAboutSizes(form: Form, operands: readonly Resolved[], context: InstructionContext): void {
  operands.forEach((resolved, i) => {
    const { operand, value, address } = resolved;
    if (address?.overflow) context.warn("Displacement does not fit its size and is cut", operand.place);
    const slot = form.slots[i];
    if (!value?.known || !slot?.immediate || operand.kind === "far") return;
    const width = WARNING_BITS[slot.immediate];
    const fits = slot.immediate.endsWith("sex64") ? fitsSigned(value.value, width) : fitsEither(value.value, width);
    if (!fits) context.warn(`Number ${value.value} does not fit ${width} bits and is cut`, operand.place);
  });
}

/** Mnemonics whose unsized memory operand NASM gives the size of the mode, or the smallest. */
const DEFAULT_SIZED =
  /^(call|jmp|[ls][gi]dt|f(n?save|n?stenv|ldenv|rstor)|lss|lfs|lgs|lds|les|bndmov|v?cvtsi2s[sd]|vcvtt?pd2(ps|dq))$/;

function choose(
  statement: InstructionStatement,
  forms: readonly Form[],
  operands: Resolved[],
  context: InstructionContext,
): { form: Form; operands: Resolved[] } {
  const { name, prefixes, place } = statement;
  let ambiguous: Form[] | undefined;
  for (const variant of operandVariants(name, operands)) {
    const demands = demandsOf(prefixes, context.bits, forms, variant.length);
    const { form, others } = selectForm(name, forms, variant, demands);
    if (!form) continue;
    if (others.length === 0 || DEFAULT_SIZED.test(name)) return { form, operands: variant };
    // MOV [x], DWORD 5: the number says the size of the memory.
    const named = variant.find(({ operand }) => operand.kind === "immediate" && operand.size > 0)?.operand.size;
    const sized = [form, ...others].find((candidate) => candidate.memoryBytes === named);
    if (sized && !sized.slots.some(({ immediate }) => immediate === "one")) return { form: sized, operands: variant };
    ambiguous ??= [form, ...others];
  }
  if (ambiguous) throw explainSizes(name, ambiguous, operands);
  throw explainMismatch(name, forms, operands, context.bits, place);
}

/** Destinations that the processor zero-extends anyway, so that NASM spares the REX.W prefix. */
const ZERO_EXTENDED = /^(sldt|vmovmskp[sd]|vpextr[bw]|vpmovmskb|pextrb|vextractps)$/;

function narrowed(operand: Resolved): Resolved {
  if (operand.operand.kind !== "register") return operand;
  const register = registerOf(RegisterClass.r32, operand.operand.register.number);
  return { ...operand, operand: { ...operand.operand, register } };
}

function narrowMove(statement: InstructionStatement, operands: Resolved[], context: InstructionContext): Resolved[] {
  const [to, from] = operands;
  if (to?.operand.kind !== "register" || to.operand.register.cls !== RegisterClass.r64) return operands;
  if (ZERO_EXTENDED.test(statement.name) && context.bits === 64) return [narrowed(to), ...operands.slice(1)];
  if (statement.name !== "mov" || !from) return operands;
  const fromSegment = from.operand.kind === "register" && from.operand.register.cls === RegisterClass.segment;
  const small = from.operand.kind === "immediate" && canNarrowMove(from.operand, from.value!);
  if (fromSegment) return [narrowed(to), from];
  return small ? [narrowed(to), { ...from, operand: { ...from.operand, size: 0 } }] : operands;
}

/** FADD without operands is FADDP, which pops. */
function fullName({ name, operands }: InstructionStatement): string {
  return operands.length === 0 && /^f(add|mul|subr?|divr?)$/.test(name) ? `${name}p` : name;
}

/** The operands, with what the mnemonic implies: the predicate of CMPEQPS, the base of AAM and AAD. */
function writtenOperands(
  { name, operands, place }: InstructionStatement,
  predicate: number | undefined,
): readonly Operand[] {
  const implied = operands.length === 0 && /^aa[dm]$/.test(name) ? 10 : predicate;
  return implied === undefined ? operands : [...operands, immediateOperand(implied, place)];
}

/** An encoded instruction, and whether its bytes depend on where it stands. */
export interface Assembled {
  readonly bytes: Uint8Array;
  readonly relative: boolean;
}

/**
 * Assembles one instruction at an address.
 *
 * @throws {Complaint} when no form takes the operands or an expression cannot be evaluated.
 */
export function assembleInstruction(statement: InstructionStatement, context: InstructionContext): Assembled {
  const { prefixes, place } = statement;
  const name = fullName(statement);
  const found = mnemonic(name, context.bits)!;
  if (prefixes.operandSize === 64 && context.bits !== 64) throw new Complaint("o64 exists only in 64-bit code", place);
  if (found.forms.length === 0) {
    const modes = ([16, 32, 64] as const).filter((bits) => (mnemonic(name, bits)?.forms.length ?? 0) > 0);
    const hint =
      modes.length === 0 ? "no mode of this assembler has it" : `it exists in ${modes.join("- and ")}-bit code`;
    throw new Complaint(`Instruction "${name}" does not exist in ${context.bits}-bit code`, place, hint);
  }
  const written = writtenOperands(statement, found.predicate);
  const resolved = written.map((operand) => resolve(operand, context, prefixes));
  if (isBranch(found.forms, resolved)) {
    return { bytes: emitBranch(statement, found.forms, resolved, context), relative: true };
  }
  const { form, operands } = choose(statement, found.forms, narrowMove(statement, resolved, context), context);
  const front = prefixBytes(prefixes, statement.operands);
  warnAboutSizes(form, operands, context);
  const { bits } = context;
  const address =
    typeof context.address === "number" ? context.address + front.length : context.address + BigInt(front.length);
  try {
    const options = { bits, address, addressPrefix: prefixes.addressSize, preventVex2: prefixes.preventVex2 };
    const relative = operands.some((o) => o.address?.ripRelative);
    const encoded = encode(form, operands, options);
    const waits = form.waits && front.length > 0;
    const bytes = withSizePrefixes(
      waits ? [0x9b, ...front] : front,
      waits ? encoded.subarray(1) : encoded,
      prefixes,
      bits,
    );
    return { bytes, relative };
  } catch (error) {
    if (!(error instanceof Complaint)) throw error;
    throw new Complaint(`Cannot encode "${name}" with these operands`, place, reasonOf(error, operands));
  }
}

function reasonOf(error: Complaint, operands: readonly Resolved[]): string {
  const high = operands.find(({ operand }) => operand.kind === "register" && /^[abcd]h$/.test(operand.register.name));
  if (high?.operand.kind !== "register") return error.hint;
  return `${high.operand.register.name} cannot be used together with a REX prefix, which another operand needs`;
}
