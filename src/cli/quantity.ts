// Sizes, durations and addresses as people write them. Each function gives undefined for what is none: the caller
// knows where it came from and says so.

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

export const SIZE_FORM = "a size such as 64K, 2M, 1G or 0x10000";
export const DURATION_FORM = 'a time such as 500ms, 10s or 2m, or "none"';
export const ADDRESS_FORM = "an address such as 0x7c00 or 1M";
export const COUNT_FORM = "a whole number of 1 or more";

/** Bytes: `64K`, `64KiB`, `65536`, `0x10000`. */
export function parseSize(text: string): number | undefined {
  const match = /^(?:(0x[0-9a-f]+)|(\d+)([kmgt]?)(?:i?b)?)$/i.exec(text.trim());
  if (match === null) return undefined;
  return safe(match[1] === undefined ? Number(match[2]) * UNITS[match[3]!.toLowerCase()]! : Number(match[1]));
}

/** Milliseconds: `500ms`, `1.5s`, `2m`, `1h`; `none` is Infinity. */
export function parseDuration(text: string): number | undefined {
  if (text === "none") return Number.POSITIVE_INFINITY;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/i.exec(text.trim());
  return match === null ? undefined : Number(match[1]) * MILLISECONDS[match[2]!.toLowerCase()]!;
}

/** An address, in the forms of a size. */
export function parseAddress(text: string): number | undefined {
  return parseSize(text);
}

/** A whole number above 0, `_` between digits allowed. */
export function parseCount(text: string): number | undefined {
  const value = /^\d[\d_]*$/.test(text) ? safe(Number(text.replaceAll("_", ""))) : undefined;
  return value === 0 ? undefined : value;
}

/** A size as people read it: `1 MiB`, `512 bytes`. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ["TiB", 2 ** 40],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes >= factor) return `${Number((bytes / factor).toFixed(bytes % factor === 0 ? 0 : 1))} ${unit}`;
  }
  return bytes === 1 ? "1 byte" : `${bytes} bytes`;
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}
