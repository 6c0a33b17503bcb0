import type { SourceLine } from "./source.ts";
import type { SourceMap, SourceRange } from "./sourcemap.ts";

const BYTES_PER_ROW = 8;

/** Formats addresses, bytes and source side by side, the main file first, then files it included that put bytes in the output. */
export function formatListing(
  lines: readonly SourceLine[],
  map: SourceMap,
  read: (range: SourceRange) => Uint8Array,
): string {
  const byLine = new Map<string, SourceRange[]>();
  for (const range of map.ranges) {
    const key = `${range.file}\0${range.line}`;
    const group = byLine.get(key);
    if (group) group.push(range);
    else byLine.set(key, [range]);
  }
  const main = lines[0]?.file ?? "";
  const rows = lines.flatMap((line) => lineRows(line, byLine.get(`${line.file}\0${line.number}`) ?? [], read));
  let file = main;
  for (const range of map.ranges) {
    if (range.file === main) continue;
    if (range.file !== file) rows.push("", `; ${range.file}`);
    ({ file } = range);
    rows.push(...lineRows({ file, number: range.line, text: range.text, expandedFrom: undefined }, [range], read));
  }
  return `${rows.join("\n")}\n`;
}

function hexAddress(address: number): string {
  const unsigned = address < 0 ? BigInt.asUintN(64, BigInt(address)) : address;
  return unsigned.toString(16).toUpperCase().padStart(8, "0");
}

function lineRows(
  line: SourceLine,
  ranges: readonly SourceRange[],
  read: (range: SourceRange) => Uint8Array,
): string[] {
  const number = String(line.number).padStart(6);
  const text = line.text.replace(/\ue000(\d+)\ue001/g, "$${$1}");
  const rows: string[] = [];
  for (const range of ranges) {
    const bytes = read(range);
    for (let at = 0; at === 0 || at < bytes.length; at += BYTES_PER_ROW) {
      const address = hexAddress(range.address + at);
      const hex = bytes
        .subarray(at, at + BYTES_PER_ROW)
        .toHex()
        .toUpperCase()
        .padEnd(BYTES_PER_ROW * 2 + 2);
      rows.push(`${rows.length === 0 ? number : "      "} ${address} ${hex}${rows.length === 0 ? text : ""}`.trimEnd());
      if (at >= BYTES_PER_ROW * 15) {
        rows.push(`                ... ${bytes.length - at - BYTES_PER_ROW} more bytes`);
        break;
      }
    }
  }
  return rows.length > 0 ? rows : [`${number}                             ${text}`.trimEnd()];
}
