import { describe, expect, test } from "bun:test";
import { iced } from "../../../src/asm/iced.ts";
import { corpus, type Sample } from "./corpus.ts";
import { GNU_DIFFERENCES, INSTRUCTION_DIFFERENCES } from "./differences.ts";
import { gnuAs, gnuLines } from "./gnu.ts";
import { nasm, nasmLines } from "./nasm.ts";
import { ours } from "./ours.ts";

const MODES = [16, 32, 64] as const;
/** Every n-th sample of some 220,000; VMEXIT_CORPUS=1 takes them all. */
const STRIDE = Number(process.env.VMEXIT_CORPUS ?? 5);

function distinct(samples: Iterable<Sample>): Sample[] {
  const found = new Map<string, Sample>();
  for (const sample of samples) found.set(`${sample.bits} ${sample.text}`, sample);
  return [...found.values()].filter((_, i) => i % STRIDE === 0);
}

let chosen: Sample[] | undefined;
const samplesOf = (bits: 16 | 32 | 64): Sample[] => {
  chosen ??= distinct(corpus());
  return chosen.filter((sample) => sample.bits === bits);
};

const assembled = new Map<number, (Uint8Array | string)[]>();
function oursFor(bits: 16 | 32 | 64): (Uint8Array | string)[] {
  const found =
    assembled.get(bits) ??
    ours(
      samplesOf(bits).map(({ text }) => text),
      bits,
    );
  assembled.set(bits, found);
  return found;
}

/**
 * What the decoder's text does not say or say otherwise: targets count from where the instruction stands; STRICT and LEA's segment are not shown;
 * conversions from 32 bits ignore their rounding; ARPL's and LSL's registers have no size of their own; names differ for a few.
 */
const UNREADABLE =
  /\$|strict|^(lea|loadall|sal|arpl|lldt|ltr|ver[rw]|lmsw|lkgs|umov|x(crypt|sha|store)\w*|ccs_\w+|v?cvtu?(si2sd|dq2pd).*sae|aes\w+kl|(call|jmp) (\w\w$|r\d+w$|word))(?!\w)/;

/**
 * FWAIT is an instruction before another; MONTMUL and UD0 are encoded as NASM does, which the decoder takes for more or less;
 * POP CS is the 8086's.
 */
const UNDECODABLE = /^(fsave|fstenv|fstcw|fstsw|fclex|finit|montmul|ud0|pop cs)\b/;

/** What iced's decoder and formatter make of bytes; nothing when they are not one whole instruction. */
function read(bits: number, bytes: Uint8Array): string | undefined {
  const { Code, Decoder, DecoderOptions, Formatter, FormatterSyntax, MemorySizeOptions } = iced();
  const formatter = new Formatter(FormatterSyntax.Nasm);
  formatter.hexPrefix = "0x";
  formatter.hexSuffix = "";
  formatter.memorySizeOptions = MemorySizeOptions.Always;
  const decoder = new Decoder(bits, bytes, DecoderOptions.NoInvalidCheck);
  const instruction = decoder.decode();
  const whole = instruction.code !== Code.INVALID && instruction.length === bytes.length;
  const text = whole ? formatter.format(instruction) : undefined;
  for (const used of [formatter, decoder, instruction]) used.free();
  return text;
}

const show = (bytes: Uint8Array | string | undefined): string =>
  bytes instanceof Uint8Array ? bytes.toHex() : `refused: ${bytes}`;
const isBytes = (bytes: Uint8Array | string | undefined): bytes is Uint8Array =>
  bytes instanceof Uint8Array && bytes.length > 0;
const needsNasm = nasm ? "" : " (skipped: nasm is not installed)";

describe("assemble() on generated instructions", () => {
  test.skipIf(!nasm)(
    `assemble() gives NASM's bytes for at least 30,000 of them, listed differences aside${needsNasm}`,
    () => {
      let equal = 0;
      const unexpected: string[] = [];
      for (const bits of MODES) {
        const samples = samplesOf(bits);
        const oracle = nasmLines(
          samples.map(({ text }) => text),
          `bits ${bits}`,
        );
        const mine = oursFor(bits);
        samples.forEach(({ text }, i) => {
          if (!isBytes(oracle[i])) return; // what NASM lacks is checked against GNU as and the decoder
          const key = `${bits} ${text}`;
          if (show(oracle[i]) === show(mine[i])) equal++;
          else if (!INSTRUCTION_DIFFERENCES.some(({ match }) => match.test(key)))
            unexpected.push(`${key}: ${show(oracle[i])}, we: ${show(mine[i])}`);
        });
      }
      expect(unexpected).toEqual([]);
      expect(equal).toBeGreaterThan(30_000);
    },
    60_000,
  );

  test("assemble() takes every instruction of iced's tables in every mode it exists in", () => {
    const refused: string[] = [];
    for (const bits of MODES) {
      const mine = oursFor(bits);
      samplesOf(bits).forEach(({ text }, i) => {
        const key = `${bits} ${text}`;
        if (!isBytes(mine[i]) && !/^\d\d (movdir64b|enqcmds?)\b/.test(key)) refused.push(`${key}: ${show(mine[i])}`);
      });
    }
    expect(refused).toEqual([]);
  }, 60_000);

  test("assemble() encodes what iced's decoder reads back as the same instruction with the same operands", () => {
    const wrong: string[] = [];
    let checked = 0;
    for (const bits of MODES) {
      const samples = samplesOf(bits);
      const mine = oursFor(bits);
      const again: { text: string; i: number }[] = [];
      samples.forEach(({ text, form }, i) => {
        const bytes = mine[i];
        if (!isBytes(bytes) || form.rare || form.waits || UNDECODABLE.test(text)) return;
        const reading = read(bits, bytes);
        if (reading === undefined) wrong.push(`${bits} ${text}: ${show(bytes)} does not decode`);
        else if (!UNREADABLE.test(text)) again.push({ text: reading, i });
        checked++;
      });
      const texts = again.map(({ text }) => text);
      ours(texts, bits).forEach((bytes, k) => {
        const { text, i } = again[k]!;
        if (show(bytes) === show(mine[i]) || (isBytes(bytes) && read(bits, bytes) === text)) return;
        wrong.push(`${bits} ${samples[i]!.text}: ${show(mine[i])} reads "${text}", which is ${show(bytes)}`);
      });
    }
    expect(wrong).toEqual([]);
    expect(checked).toBeGreaterThan(30_000);
  }, 60_000);

  test.skipIf(!nasm || !gnuAs)(
    `assemble() gives GNU as's bytes for what NASM lacks or gets wrong${nasm && gnuAs ? "" : " (skipped: nasm or as is not installed)"}`,
    () => {
      let equal = 0;
      const unexpected: string[] = [];
      for (const bits of MODES) {
        const all = samplesOf(bits);
        const mine = oursFor(bits);
        const oracle = nasmLines(
          all.map(({ text }) => text),
          `bits ${bits}`,
        );
        const open = all.map((_, i) => i).filter((i) => show(oracle[i]) !== show(mine[i]));
        const second = gnuLines(
          open.map((i) => all[i]!.text),
          bits,
        );
        open.forEach((i, k) => {
          const key = `${bits} ${all[i]!.text}`;
          if (!isBytes(second[k]) || !isBytes(mine[i])) return;
          if (show(second[k]) === show(mine[i])) equal++;
          else if (!GNU_DIFFERENCES.some(({ match }) => match.test(key)))
            unexpected.push(`${key}: ${show(second[k])}, we: ${show(mine[i])}`);
        });
      }
      expect(unexpected).toEqual([]);
      expect(equal).toBeGreaterThan(1000);
    },
    60_000,
  );
});
