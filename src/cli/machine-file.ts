import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { MachineSettings } from "./boot-plan.ts";
import { type Issue, MACHINE, SETTINGS } from "./machine-schema.ts";
import { DURATION_FORM } from "./quantity.ts";
import { UsageError } from "./usage-error.ts";

/** Settings of a machine description, and its guest. */
export type MachineFile = MachineSettings & { guest?: string };

/**
 * Reads a machine description. Paths in it are relative to it.
 *
 * @throws {UsageError} naming each wrong field, what it takes and what it got.
 */
export function readMachineFile(path: string): MachineFile {
  const value = parseJson(path);
  const parsed = MACHINE.safeParse(value);
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
      return [`${path}: expected ${issue.message}${inJson(issue.message)}, got ${show(root, issue.path)}`];
  }
}

/** What only a description can say. */
function inJson(form: string): string {
  return form === DURATION_FORM ? "; a number means milliseconds" : "";
}

function suggestion(key: string, path: readonly PropertyKey[]): string {
  const known = path.length === 0 ? [...SETTINGS, "guest"] : ["eax", "ebx", "ecx", "edx"];
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
