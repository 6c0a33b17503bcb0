import { expect, test } from "bun:test";
import { Code, CodeExt, CpuidFeature, EncodingKind, Instruction, type Mnemonic } from "iced-x86";
import { createRegistry } from "../../../../../src/backends/soft/translate/registry.ts";
import { implementedFeatures } from "../../../../../src/backends/soft/vector/features.ts";
import { registerVector } from "../../../../../src/backends/soft/vector/register.ts";
import { registerX87 } from "../../../../../src/backends/soft/x87/register.ts";

/** Members of these features that are integer or system instructions, and so are the core's. */
const ELSEWHERE = /^(Prefetch|Sfence|Lfence|Mfence|Movnti|Xgetbv|Xsetbv|Crc32|Popcnt)/;

/** The feature's name in iced's tables, where it is not ours. */
const ICED_NAMES: Readonly<Record<string, readonly string[]>> = { FPU: ["FPU", "FPU387"] };

function everyCode(): { name: string; code: Code; mnemonic: Mnemonic; features: string[] }[] {
  const names = new Map(
    Object.entries(CpuidFeature).flatMap(([k, v]) => (typeof v === "number" ? [[v, k] as const] : [])),
  );
  return Object.entries(Code).flatMap(([name, code]) => {
    if (typeof code !== "number") return [];
    const raw = new Instruction();
    raw.code = code;
    const info = CodeExt.opCode(code);
    const { encoding } = info;
    const entry = { name, code, mnemonic: raw.mnemonic, features: [...raw.cpuidFeatures()].map((f) => names.get(f)!) };
    info.free();
    raw.free();
    return encoding === EncodingKind.Legacy || encoding === EncodingKind.VEX ? [entry] : [];
  });
}

test("implementedFeatures names only features of which every instruction is registered", () => {
  const registry = createRegistry();
  registerX87(registry);
  registerVector(registry);
  const codes = everyCode();
  const missing = implementedFeatures.flatMap((feature) => {
    const names = ICED_NAMES[feature.name] ?? [feature.name];
    const members = codes.filter((c) => c.features.some((f) => names.includes(f)));
    expect(`${feature.name}: ${members.length > 0}`).toBe(`${feature.name}: true`);
    return members.filter(
      (c) => !registry.codes.has(c.code) && !registry.mnemonics.has(c.mnemonic) && !ELSEWHERE.test(c.name),
    );
  });
  // These two need a feature of their own beside AVX.
  expect(missing.map((c) => c.name).filter((name) => !/^VEX_V(gf2p8|sm[34]|sha512)/.test(name))).toEqual([]);
});
