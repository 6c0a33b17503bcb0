import type { Stop, Trace } from "./trace.ts";

/** Where two traces part. */
export interface Divergence {
  /** Index into the first trace, and into the second, of the first stops that differ. */
  readonly at: readonly [number, number];
  /** What differs there: name, first value, second value. */
  readonly fields: readonly { readonly name: string; readonly values: readonly [string, string] }[];
}

/**
 * Engines need not stop behind every instruction, and may stop within one (REP): so many stops are passed over. The
 * first one is the software CPU, which stops everywhere; KVM on AMD comes back to its senses only after a handler.
 */
const PASS_OVER = [300, 2] as const;
const PASS_OVER_SAME_PLACE = 400;

/** How many stops of each that the other does not make are passed over to find the next one that both make. */
export interface Tolerance {
  readonly passOver: readonly [number, number];
}

/**
 * Holds two traces against each other: each stop of one must be found in the other, apart from those that only one
 * engine makes. Undefined when they agree to the end of the shorter, ends and memory included.
 */
export function diverge(
  first: Trace,
  second: Trace,
  { passOver }: Tolerance = { passOver: PASS_OVER },
): Divergence | undefined {
  let [i, j] = [0, 0];
  while (i < first.stops.length && j < second.stops.length) {
    if (same(first.stops[i] as Stop, second.stops[j] as Stop)) {
      i++;
      j++;
      continue;
    }
    const skip = meeting(first.stops, second.stops, [i, j], passOver);
    if (skip === undefined) {
      // One of them may have ended in the instruction where the other still stops.
      if (first.stops.length - i <= 1 || second.stops.length - j <= 1) break;
      return nearest(first.stops, second.stops, [i, j], passOver);
    }
    i += skip[0];
    j += skip[1];
  }
  if (first.end === undefined || second.end === undefined) return undefined;
  if (first.end !== second.end) {
    return { at: [i, j], fields: [{ name: "end", values: [first.end, second.end] }] };
  }
  if (first.end !== "hlt") return undefined;
  const at = first.memory.findIndex((byte, index) => byte !== second.memory[index]);
  if (at < 0) return undefined;
  const values = [first.memory[at], second.memory[at]].map((byte) => hex(BigInt(byte as number))) as [string, string];
  return { at: [i, j], fields: [{ name: `memory at offset ${hex(BigInt(at))} of log and data`, values }] };
}

export function same(a: Stop, b: Stop): boolean {
  for (const [name, value] of a) if ((b.get(name) ?? value) !== value) return false;
  return true;
}

/** How far each has to go for the next stop that both make. */
function meeting(
  a: readonly Stop[],
  b: readonly Stop[],
  [i, j]: readonly [number, number],
  passOver: Tolerance["passOver"],
): [number, number] | undefined {
  for (let skipA = 0; skipA <= passOver[0] && i + skipA < a.length; skipA++) {
    for (let skipB = 0; skipB <= passOver[1]; skipB++) {
      const [x, y] = [a[i + skipA], b[j + skipB]];
      if (x !== undefined && y !== undefined && same(x, y)) return [skipA, skipB];
    }
  }
  // A repeated string instruction: one engine stays at its address for many stops.
  const onwards = (stops: readonly Stop[], from: number): number => {
    let n = 0;
    while (n < PASS_OVER_SAME_PLACE && stops[from + n + 1]?.get("rip") === stops[from]?.get("rip")) n++;
    return n + 1;
  };
  const [x, y] = [onwards(a, i), onwards(b, j)];
  if (y > 1 && b[j + y] !== undefined && same(a[i] as Stop, b[j + y] as Stop)) return [0, y];
  if (x > 1 && a[i + x] !== undefined && same(a[i + x] as Stop, b[j] as Stop)) return [x, 0];
  return undefined;
}

/** Of the stops that could be the same one, the pair that differs least. */
function nearest(
  a: readonly Stop[],
  b: readonly Stop[],
  [i, j]: readonly [number, number],
  passOver: Tolerance["passOver"],
): Divergence {
  let best: Divergence = { at: [i, j], fields: differences(a[i] as Stop, b[j] as Stop) };
  for (let x = i; x <= i + Math.min(passOver[0], a.length); x++) {
    for (let y = j; y <= j + passOver[1]; y++) {
      const [left, right] = [a[x], b[y]];
      if (left === undefined || right === undefined || left.get("rip") !== right.get("rip")) continue;
      const fields = differences(left, right);
      if (fields.length < best.fields.length || best.fields.some(({ name }) => name === "rip"))
        best = { at: [x, y], fields };
    }
  }
  return best;
}

function differences(a: Stop, b: Stop): Divergence["fields"] {
  const fields: { name: string; values: [string, string] }[] = [];
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other !== undefined && other !== value) fields.push({ name, values: [hex(value), hex(other)] });
  }
  return fields;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
