import { VmmError } from "../errors.ts";
import type { Place } from "./source.ts";

/** One thing the assembler has to say about one place in a source. */
export interface Diagnostic {
  readonly severity: "error" | "warning";
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  /** 1-based. */
  readonly column: number;
  /** Sentence case, no final period. */
  readonly message: string;
  /** What to do about it, or what was expected instead; empty when the message says it all. */
  readonly hint: string;
  /** The source line with a caret under the place, two lines. */
  readonly excerpt: string;
  /** Macros the line came out of, innermost first: `in macro "putc" used at boot.asm:12`. */
  readonly trail: readonly string[];
}

/** Thrown inside the assembler to give up on one statement; the assembler collects it and goes on with the next. */
export class Complaint extends Error {
  override name = "Complaint";
  readonly place: Place | undefined;
  readonly hint: string;
  /** The whole assembly ends with it, not just the statement. */
  readonly fatal: boolean = false;

  constructor(message: string, place?: Place, hint = "") {
    super(message);
    this.place = place;
    this.hint = hint;
  }
}

/** Thrown to end an assembly that has found too much wrong to go on. */
export class TooMuch extends Complaint {
  override name = "TooMuch";
  override readonly fatal = true;
}

/** Formats a diagnostic as `file:line:column: error: message`, the excerpt, and the hint. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const { file, line, column, severity, message, hint, excerpt, trail } = diagnostic;
  const lines = [`${file}:${line}:${column}: ${severity}: ${message}`, excerpt];
  if (hint !== "") lines.push(`  = ${hint}`);
  return [...lines, ...trail.map((step) => `  ${step}`)].join("\n");
}

const EXCERPT_WIDTH = 160;
const MAX_TEXT = 600;

/** Cuts what a source made too long to read. */
function brief(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT / 2)} ... ${text.slice(-MAX_TEXT / 4)}` : text;
}

/** Builds a diagnostic for a place. Long lines are cut around the caret so that no source can make a report unreadable. */
export function diagnosticAt(severity: "error" | "warning", place: Place, message: string, hint: string): Diagnostic {
  const { line } = place;
  const trail: string[] = [];
  for (let from = line.expandedFrom; from && trail.length < 8; from = from.at.expandedFrom) {
    trail.push(`in ${from.what}${from.include ? "," : " used"} at ${from.at.file}:${from.at.number}`);
  }
  const column = Math.max(1, Math.min(place.column, line.text.length + 1));
  const start = column > EXCERPT_WIDTH - 20 ? column - 80 : 0;
  const shown = line.text
    .slice(start, start + EXCERPT_WIDTH)
    .replace(/[\t\v\f\0]/g, " ")
    .replaceAll("\ue000", "{")
    .replaceAll("\ue001", "}");
  const width = Math.max(1, Math.min(place.width, shown.length - (column - 1 - start)));
  const gutter = String(line.number).padStart(5);
  const excerpt = `${gutter} | ${shown}\n      | ${" ".repeat(column - 1 - start)}${"^".repeat(width)}`;
  return {
    severity,
    file: line.file,
    line: line.number,
    column,
    message: brief(message),
    hint: brief(hint),
    excerpt,
    trail,
  };
}

/** A source that does not assemble. Carries every error found, in source order. */
export class AsmError extends VmmError {
  override name = "AsmError";
  /** At least one, errors only. */
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    const [first] = diagnostics;
    const count = diagnostics.length;
    super(`Cannot assemble ${first?.file ?? "the source"} for ${count === 1 ? "one error" : `${count} errors`}`, {
      remedy: `correct ${count === 1 ? "the line" : "each line"} below\n${diagnostics.map(formatDiagnostic).join("\n")}`,
    });
    this.diagnostics = diagnostics;
  }
}
