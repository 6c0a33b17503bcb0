import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { MODES } from "../boot/mode.ts";
import { BACKEND_NAMES, overrideCpuid } from "../index.ts";
import { CONSOLES, FORMATS, IRQCHIPS, type MachineSettings } from "./boot-plan.ts";
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
import { UsageError } from "./usage-error.ts";

// zod costs 12 ms to import: this file is loaded for --machine only.

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

const schema = z
  .strictObject({
    guest: z.string(),
    backend: z.enum(["auto", ...BACKEND_NAMES]),
    memory: quantity(parseSize, SIZE_FORM),
    mode: z.enum(MODES),
    format: z.enum(FORMATS),
    loadAddress: quantity(parseAddress, ADDRESS_FORM),
    entry: quantity(parseAddress, ADDRESS_FORM),
    stack: quantity(parseAddress, ADDRESS_FORM),
    commandLine: z.string(),
    modules: z.array(z.string()),
    timeout: quantity(parseDuration, `${DURATION_FORM}; a number means milliseconds`),
    maxExits: quantity(parseCount, COUNT_FORM).refine((count) => count > 0, { message: COUNT_FORM }),
    maxInstructions: quantity(parseCount, COUNT_FORM).refine((count) => count > 0, { message: COUNT_FORM }),
    cpuid: z.record(cpuidLeaf, cpuidValues.nullable()),
    irqchip: z.enum(IRQCHIPS),
    pit: z.boolean(),
    msrExits: z.boolean(),
    debugConsole: z.enum(CONSOLES),
  })
  .partial();

/** Settings of a machine description, and its guest. */
export type MachineFile = MachineSettings & { guest?: string };

/**
 * Reads a machine description. Paths in it are relative to it.
 *
 * @throws {UsageError} naming each wrong field, what it takes and what it got.
 */
export function readMachineFile(path: string): MachineFile {
  const value = parseJson(path);
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const [first = "", ...more] = parsed.error.issues.flatMap((issue) => describeIssue(issue, value));
    throw new UsageError(`Cannot use the machine description "${path}"`, [first, ...more].join("; "), "--machine");
  }
  const { guest, modules, ...settings } = parsed.data;
  const from = (file: string) => resolve(dirname(path), file);
  const found: Record<string, unknown> = { ...settings };
  if (guest !== undefined) found.guest = from(guest);
  if (modules !== undefined) found.modules = modules.map(from);
  return found;
}

function parseJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as { code?: string };
    const why = code === "ENOENT" ? "there is no such file" : `the system returned ${code}`;
    throw new UsageError(`Cannot read the machine description "${path}" as ${why}`, "check the path", "--machine");
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = (error as Error).message.replace(/^JSON Parse error: /, "");
    throw new UsageError(`Cannot read the machine description "${path}"`, `it is no JSON: ${why}`, "--machine");
  }
}

function isLeaf(key: string): boolean {
  try {
    overrideCpuid([], { [key]: {} });
    return true;
  } catch {
    return false;
  }
}

type Issue = z.core.$ZodIssue;

/** `memory: expected a size such as 64K, got "64Q"`. */
function describeIssue(issue: Issue, root: unknown): string[] {
  const path = issue.path.join(".");
  const at = (field: string) => [path, field].filter((part) => part !== "").join(".");
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => `${at(key)}: unknown field${suggestion(key, issue.path)}`);
    case "invalid_value":
      return [
        `${path}: expected ${issue.values.map((value) => JSON.stringify(value)).join(" or ")}, got ${show(root, issue.path)}`,
      ];
    case "invalid_type":
      return [`${path === "" ? "the file" : path}: expected ${article(issue.expected)}, got ${show(root, issue.path)}`];
    case "invalid_key":
      return [`${path}: expected ${issue.issues[0]?.message ?? "another key"}`];
    default:
      return [`${path}: expected ${issue.message}, got ${show(root, issue.path)}`];
  }
}

function suggestion(key: string, path: readonly PropertyKey[]): string {
  const known = path.length === 0 ? Object.keys(schema.shape) : ["eax", "ebx", "ecx", "edx"];
  const { didYouMean } = require("../asm/suggest.ts") as typeof import("../asm/suggest.ts");
  return `, ${didYouMean(key, known) || `known are ${known.join(", ")}`}`;
}

function article(type: string): string {
  if (type === "object" || type === "record") return "an object";
  return type === "array" ? "an array" : `a ${type}`;
}

/** The value that `path` leads to, in JSON, shortened. */
function show(root: unknown, path: readonly PropertyKey[]): string {
  let value = root;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}
