import { expect, test } from "bun:test";
import { Decoder, DecoderOptions, Formatter, FormatterSyntax, Mnemonic } from "iced-x86";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { registerVector } from "../../../../../src/backends/soft/vector/register.ts";
import { encodeForm, prepareCase, type VectorForm, vectorForms } from "./forms.ts";
import { differences, randomCase, runNative, runSoft, type VectorOutcome } from "./lockstep.ts";
import { hostFlags, NativeOracle, unavailable } from "./oracle/native.ts";
import { Random } from "./oracle/random.ts";
import { StraightRunner } from "./oracle/straight.ts";

/** Encodings per form, and cases per encoding. `VMEXIT_ORACLE_CASES=100 bun test test/src/backends/soft/vector` is the full run: 2 million cases. */
const FULL = Number(process.env.VMEXIT_ORACLE_CASES ?? 0);
const ENCODINGS = FULL ? 10 : 1;
const CASES = FULL || 8;
const SEED = Number(process.env.VMEXIT_ORACLE_SEED ?? 1);
const TIMEOUT_MS = FULL ? 3_600_000 : 60_000;
const missing = unavailable();
const suffix = missing ? ` (skipped: ${missing})` : "";

/** Instructions that move whole images, which `state-image.test.ts` covers. */
const IMAGES = /^(Fx|Xs|Xr)/;
/** MXCSR from memory: random bits would be a #GP. */
const CONTROL = /^V?[Ll]dmxcsr/;
/** Approximations: the manual bounds their error by 1.5 × 2^-12, and every processor has its own table. */
const APPROXIMATE = /^V?(R|r)(cp|sqrt)[ps]s/;

/** What the host does not have must not be run on it: by Linux's name of the flag. */
const HOST_NEEDS: readonly (readonly [RegExp, string])[] = [
  [/^Vf(n?m(add|sub)|maddsub|msubadd)/, "fma"],
  [/^Vcvtp(h2ps|s2ph)/, "f16c"],
  [/^V?(A|a)es/, "aes"],
  [/^V?(P|p)clmul/, "pclmulqdq"],
  [/^(Vp|Vgather|Vbroadcasti|Vinserti|Vextracti|Vperm2i|Vmpsadbw|Vmovntdqa)/, "avx2"],
];

function runnable(form: VectorForm, flags: ReadonlySet<string>): boolean {
  const name = Mnemonic[form.mnemonic]!;
  const ymm = form.kinds[0]?.startsWith("ymm") ?? false;
  if (ymm && /^Vaes/.test(name) && !flags.has("vaes")) return false;
  if (ymm && /^Vpclmul/.test(name) && !flags.has("vpclmulqdq")) return false;
  return HOST_NEEDS.every(([pattern, flag]) => !pattern.test(name) || flags.has(flag));
}

function assembly(bytes: Uint8Array): string {
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  return formatter.format(decoder.decode());
}

const number = new DataView(new ArrayBuffer(4));

function approximatelyEqual(a: string, b: string): boolean {
  for (let i = 0; i < a.length; i += 8) {
    const values = [a, b].map((text) => {
      number.setUint32(
        0,
        Number.parseInt(
          text
            .slice(i, i + 8)
            .match(/../g)!
            .reverse()
            .join(""),
          16,
        ),
      );
      return number.getFloat32(0);
    });
    const [x, y] = values as [number, number];
    if (!Object.is(x, y) && !(Math.abs(x - y) <= 2 * 1.5 * 2 ** -12 * Math.abs(x))) return false;
  }
  return true;
}

/** Empties what may differ: an approximation close enough to the host's is taken for it. */
function reconcile(name: string, host: VectorOutcome, soft: VectorOutcome): VectorOutcome {
  if (!APPROXIMATE.test(name)) return soft;
  return { ...soft, ymm: soft.ymm.map((value, i) => (approximatelyEqual(host.ymm[i]!, value) ? host.ymm[i]! : value)) };
}

test.skipIf(missing !== undefined)(
  `vector forms leave the same registers, MXCSR, flags and memory as the host processor${suffix}`,
  () => {
    const registry = createRegistry();
    registerVector(registry);
    const host = new NativeOracle();
    const soft = new StraightRunner(registry);
    const flags = hostFlags();
    for (const form of vectorForms(registry)) {
      const name = Mnemonic[form.mnemonic]!;
      if (IMAGES.test(name) || CONTROL.test(name) || !runnable(form, flags)) continue;
      const random = new Random(SEED);
      for (let e = 0; e < ENCODINGS; e++) {
        const bytes = encodeForm(form, random);
        if (!bytes) continue;
        const run = soft.translate(bytes)!;
        for (let i = 0; i < CASES; i++) {
          const c = randomCase(random, "any");
          prepareCase(form, c, random);
          const expected = runNative(host, c, bytes);
          const actual = reconcile(name, expected, runSoft(soft, c, run));
          const found = differences(expected, actual);
          if (found.length > 0)
            expect(
              `${assembly(bytes)} with MXCSR ${c.mxcsr.toString(16)} (seed ${SEED}, encoding ${e}, case ${i}): ${found.join("; ")}`,
            ).toBe(`${assembly(bytes)}`);
        }
      }
    }
  },
  TIMEOUT_MS,
);
