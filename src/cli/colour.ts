const BOLD_RED = "\x1b[1;31m";
const DIM = "\x1b[2m";
const OFF = "\x1b[0m";

/** Whether stderr shows colours: a terminal, and nobody set NO_COLOR (no-color.org). */
export function stderrHasColour(): boolean {
  const { NO_COLOR } = process.env;
  return process.stderr.isTTY === true && (NO_COLOR === undefined || NO_COLOR === "");
}

/** The first line of a crash screen stands out, headings step back. */
export function colourCrash(lines: readonly string[], isColoured: boolean = stderrHasColour()): readonly string[] {
  if (!isColoured) return lines;
  return lines.map((line, index) => {
    if (index === 0) return `${BOLD_RED}${line}${OFF}`;
    return line.endsWith(":") ? `${DIM}${line}${OFF}` : line;
  });
}
