import { z } from "zod";
import { MODES } from "../boot/mode.ts";
import { BACKEND_NAMES, overrideCpuid } from "../index.ts";
import { CLOCKS, CONSOLES, FORMATS, IRQCHIPS } from "./boot-plan.ts";
import {
  ADDRESS_FORM,
  COUNT_FORM,
  DURATION_FORM,
  parseAddress,
  parseCount,
  parseDuration,
  parseSize,
  SIZE_FORM,
} from "./quantity.ts";

// zod costs 9 ms to load, twice what Bun itself takes: this file is for when there is something to check.

/** A whole number, or text that `parse` understands. */
function quantity(parse: (text: string) => number | undefined, form: string) {
  return z.unknown().transform((value, context) => {
    const found = typeof value === "number" ? value : typeof value === "string" ? parse(value) : undefined;
    if (found !== undefined && (found === Number.POSITIVE_INFINITY || (Number.isSafeInteger(found) && found >= 0))) {
      return found;
    }
    context.addIssue({ code: "custom", message: form, input: value });
    return z.NEVER;
  });
}

const word32 = quantity(parseAddress, "a number from 0 to 0xffffffff, or text such as 0x10").refine(
  (value) => value <= 0xffffffff,
  { message: "a number from 0 to 0xffffffff" },
);
const cpuidValues = z.strictObject({ eax: word32, ebx: word32, ecx: word32, edx: word32 }).partial();
const cpuidLeaf = z.string().refine(isLeaf, { message: "a leaf such as 0x80000008 or 7.0" });

const settings = z
  .strictObject({
    backend: z.enum(["auto", ...BACKEND_NAMES]),
    memory: quantity(parseSize, SIZE_FORM),
    mode: z.enum(MODES),
    format: z.enum(FORMATS),
    loadAddress: quantity(parseAddress, ADDRESS_FORM),
    entry: quantity(parseAddress, ADDRESS_FORM),
    stack: quantity(parseAddress, ADDRESS_FORM),
    commandLine: z.string(),
    modules: z.array(z.string()),
    timeout: quantity(parseDuration, DURATION_FORM),
    maxExits: quantity(parseCount, COUNT_FORM).refine((count) => count > 0, { message: COUNT_FORM }),
    maxInstructions: quantity(parseCount, COUNT_FORM).refine((count) => count > 0, { message: COUNT_FORM }),
    cpuid: z.record(cpuidLeaf, cpuidValues.nullable()),
    irqchip: z.enum(IRQCHIPS),
    pit: z.boolean(),
    msrExits: z.boolean(),
    clock: z.enum(CLOCKS),
    seed: quantity(parseAddress, "a whole number such as 7 or 0x1234"),
    debugConsole: z.enum(CONSOLES),
  })
  .partial();

function isLeaf(key: string): boolean {
  try {
    overrideCpuid([], { [key]: {} });
    return true;
  } catch {
    return false;
  }
}

/** Names of what can be said about a machine. */
export const SETTINGS: readonly string[] = Object.keys(settings.shape);

/** Settings as options give them, numbers as text. */
export const OPTIONS = settings;

/** A machine description: settings, and the guest if it names one. */
export const MACHINE = settings.extend({ guest: z.string().optional() });

export type Issue = z.core.$ZodIssue;
