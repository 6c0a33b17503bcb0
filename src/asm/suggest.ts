/** Edit distance with transpositions, given up at `limit`. */
function distance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let best = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      row.push(cost);
      best = Math.min(best, cost);
    }
    if (best > limit) return limit + 1;
    before = previous;
    previous = row;
  }
  return previous[b.length]!;
}

const MAX_CANDIDATES = 8000;

/** Up to three known words that the unknown one may have been meant as, nearest first. */
function nearMisses(word: string, known: Iterable<string>): string[] {
  if (word.length > 40) return [];
  const wanted = word.toLowerCase();
  const limit = wanted.length <= 3 ? 1 : wanted.length <= 7 ? 2 : 3;
  const found: { candidate: string; away: number }[] = [];
  let looked = 0;
  for (const candidate of known) {
    if (++looked > MAX_CANDIDATES) break;
    const away = distance(wanted, candidate.toLowerCase(), limit);
    if (away <= limit) found.push({ candidate, away });
  }
  found.sort(
    (a, b) => a.away - b.away || a.candidate.length - b.candidate.length || (a.candidate < b.candidate ? -1 : 1),
  );
  return found.slice(0, 3).map(({ candidate }) => candidate);
}

/** `did you mean "mov"?`, or nothing when no known word is near. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const near = nearMisses(word, known);
  return near.length === 0 ? "" : `did you mean ${near.map((name) => `"${name}"`).join(" or ")}?`;
}
