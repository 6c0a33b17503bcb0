/** One line of source as read, with what is needed to point at it. */
export interface SourceLine {
  readonly file: string;
  /** 1-based. */
  readonly number: number;
  readonly text: string;
  /** The macro or repetition this line was expanded for, outermost last. */
  readonly expandedFrom: Expansion | undefined;
}

/** Says which macro a line came out of, and where it was invoked. */
export interface Expansion {
  readonly what: string;
  readonly at: SourceLine;
  /** The line was not made by a macro but read from a file that `at` includes. */
  readonly include: boolean;
}

/** A place in a source: `column` is 1-based. */
export interface Place {
  readonly line: SourceLine;
  readonly column: number;
  /** Characters to underline, at least 1. */
  readonly width: number;
}

/** The line that a reader wrote for this one: where the outermost macro was used. */
export function writtenLine(line: SourceLine): SourceLine {
  let written = line;
  while (written.expandedFrom && !written.expandedFrom.include) written = written.expandedFrom.at;
  return written;
}

/** Splits a text into its lines, whatever ends them. */
export function sourceLines(file: string, text: string): SourceLine[] {
  const parts = text.split(/\r\n|\n|\r/);
  if (parts.length > 1 && parts[parts.length - 1] === "") parts.pop();
  return parts.map((part, index) => ({ file, number: index + 1, text: part, expandedFrom: undefined }));
}
