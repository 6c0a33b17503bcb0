import type { Exit } from "../exit.ts";
import { msrLabel } from "../msrs.ts";
import { hex } from "./format.ts";

/** Exits of one reason and place. */
export interface ExitCount {
  readonly kind: Exit["kind"];
  /** The port, the GPA's page or the MSR, in words; empty for exits without a place. */
  readonly place: string;
  readonly count: number;
  /** Payload bytes. */
  readonly bytes: number;
  /** Milliseconds from the exit before (or the start) to these: entering the guest, its own work, and the exit. */
  readonly ms: number;
}

interface Row {
  count: number;
  bytes: number;
  ms: number;
}

/** Rows kept apart: a guest may touch 65,536 ports and more MMIO pages than that. */
const MAX_ROWS = 4096;
const PAGE = 4096;

/** Counts exits by reason and port, MMIO page or MSR. Give `record` to `vm.observe()`. */
export class ExitStats {
  readonly #rows = new Map<Exit["kind"], Map<number, Row>>();
  #rowCount = 0;
  #last: number;

  /** @param now The clock, in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#last = now();
  }
  readonly #now: () => number;

  readonly record = (exit: Exit): void => {
    // The end of a time slice is no exit of the guest's.
    if (exit.kind === "interrupted") return;
    const now = this.#now();
    const row = this.#row(exit.kind, placeOf(exit));
    row.count++;
    row.ms += now - this.#last;
    if ("data" in exit && exit.data instanceof Uint8Array) row.bytes += exit.data.length;
    this.#last = now;
  };

  /** All rows, the most frequent first. */
  counts(): ExitCount[] {
    const found: ExitCount[] = [];
    for (const [kind, places] of this.#rows) {
      for (const [place, row] of places) found.push({ kind, place: placeLabel(kind, place), ...row });
    }
    return found.toSorted((a, b) => b.count - a.count || b.ms - a.ms);
  }

  #row(kind: Exit["kind"], place: number): Row {
    const places = this.#rows.get(kind) ?? new Map<number, Row>();
    if (places.size === 0) this.#rows.set(kind, places);
    const key = places.has(place) || this.#rowCount < MAX_ROWS ? place : OTHER;
    const known = places.get(key);
    if (known !== undefined) return known;
    const row: Row = { count: 0, bytes: 0, ms: 0 };
    places.set(key, row);
    this.#rowCount++;
    return row;
  }
}

const NOWHERE = -1;
const OTHER = -2;

function placeOf(exit: Exit): number {
  switch (exit.kind) {
    case "pioIn":
    case "pioOut":
      return exit.port;
    case "mmioRead":
    case "mmioWrite":
      return exit.gpa - (exit.gpa % PAGE);
    case "rdmsr":
    case "wrmsr":
      return exit.msr;
    default:
      return NOWHERE;
  }
}

function placeLabel(kind: Exit["kind"], place: number): string {
  if (place === NOWHERE) return "";
  if (place === OTHER) return "other";
  if (kind === "pioIn" || kind === "pioOut") return `port ${hex(place)}`;
  return kind === "rdmsr" || kind === "wrmsr" ? msrLabel(place) : `page ${hex(place)}`;
}

/** A table for people, one row per line, a line of totals last. */
export function formatStats(counts: readonly ExitCount[]): string[] {
  const total = counts.reduce(
    (sum, row) => ({ count: sum.count + row.count, bytes: sum.bytes + row.bytes, ms: sum.ms + row.ms }),
    {
      count: 0,
      bytes: 0,
      ms: 0,
    },
  );
  const line = (count: number | string, ms: number | string, bytes: number | string, what: string) =>
    `${String(count).padStart(10)} ${(typeof ms === "number" ? ms.toFixed(3) : ms).padStart(12)} ${String(bytes).padStart(10)}  ${what}`;
  return [
    line("exits", "ms", "bytes", "reason"),
    ...counts.map(({ kind, place, count, ms, bytes }) => line(count, ms, bytes, `${kind} ${place}`.trimEnd())),
    line(total.count, total.ms, total.bytes, "total"),
  ];
}
