import type { Encoded } from "./encode.ts";
import { Record } from "./layout.ts";

/** Bits of RFLAGS. */
const CF = 1;
const PF = 4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;

/** What the manual leaves undefined, by mnemonic in iced's spelling; Intel SDM Vol. 2, "Flags Affected". */
export interface UndefinedFlags {
  readonly words: RegExp;
  readonly flags: number;
  /** The manual's words. */
  readonly reason: string;
}

export const UNDEFINED_FLAGS: readonly UndefinedFlags[] = [
  { words: /^(And|Or|Xor|Test)$/, flags: AF, reason: "The state of the AF flag is undefined" },
  { words: /^(Mul|Imul)$/, flags: SF | ZF | AF | PF, reason: "The SF, ZF, AF, and PF flags are undefined" },
  {
    words: /^(Div|Idiv)$/,
    flags: CF | OF | SF | ZF | AF | PF,
    reason: "The CF, OF, SF, ZF, AF, and PF flags are undefined",
  },
  { words: /^(Bsf|Bsr)$/, flags: CF | OF | SF | AF | PF, reason: "The CF, OF, SF, AF, and PF flags are undefined" },
  { words: /^(Bt|Bts|Btr|Btc)$/, flags: OF | SF | AF | PF, reason: "The OF, SF, AF, and PF flags are undefined" },
  { words: /^(Lzcnt|Tzcnt)$/, flags: OF | SF | AF | PF, reason: "OF, SF, PF, and AF flags are undefined" },
  { words: /^(Andn|Blsi|Blsr|Blsmsk|Bzhi)$/, flags: AF | PF, reason: "AF and PF flags are undefined" },
  { words: /^Bextr$/, flags: AF | SF | PF, reason: "AF, SF, and PF are undefined" },
  { words: /^(Aaa|Aas)$/, flags: OF | SF | ZF | PF, reason: "The OF, SF, ZF, and PF flags are undefined" },
  { words: /^(Daa|Das)$/, flags: OF, reason: "The OF flag is undefined" },
  { words: /^(Aam|Aad)$/, flags: OF | AF | CF, reason: "The OF, AF, and CF flags are undefined" },
];

const SHIFT = /^(Shl|Sal|Shr|Sar)$/;
const DOUBLE_SHIFT = /^(Shld|Shrd)$/;
const ROTATE = /^(Rol|Ror|Rcl|Rcr)$/;

/**
 * Flags of one case that the manual leaves undefined. Shifts: AF always; OF "is undefined for shifts of more than one
 * bit"; CF "is undefined for SHL and SHR when the count is greater than or equal to the size of the destination".
 */
export function undefinedFlags(e: Encoded, input: DataView, finished: boolean): number {
  if (e.sequence !== undefined) return finished ? e.sequence.atEnd : e.sequence.ever;
  const { word } = e.form.opcode;
  const known = UNDEFINED_FLAGS.find((u) => u.words.test(word));
  if (known !== undefined) return known.flags;
  const shift = SHIFT.test(word);
  const double = DOUBLE_SHIFT.test(word);
  if (!shift && !double && !ROTATE.test(word)) return 0;
  const bits = operandBits(e);
  const count = shiftCount(e, input) & (bits === 64 ? 63 : 31);
  if (count === 0) return 0;
  const overflow = count === 1 ? 0 : OF;
  if (double) return overflow | AF | (count > bits ? CF | SF | ZF | PF : 0);
  if (!shift) return overflow;
  return overflow | AF | (word !== "Sar" && count >= bits ? CF : 0);
}

/** Bits of the destination, from the form's name: `Shl_rm16_CL`. */
export function operandBits({ form }: Encoded): number {
  return Number(/_r?m(\d+)/.exec(form.opcode.name)?.[1] ?? 0);
}

/** The count as encoded: CL, an immediate, or 1. */
export function shiftCount(e: Encoded, input: DataView): number {
  if (e.form.opcode.kinds.includes("cl")) return input.getUint8(Record.gpr + 8);
  return e.immediate;
}
