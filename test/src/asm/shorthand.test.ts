import { expect, test } from "bun:test";
import { nasm, nasmLines } from "./nasm.ts";
import { ours } from "./ours.ts";
import { SHORTHAND, SHORTHAND_DIFFERENCES } from "./shorthand.ts";

test.skipIf(!nasm)(
  `assemble() completes shorthand as NASM does${nasm ? "" : " (skipped: nasm is not installed)"}`,
  () => {
    const wrong: string[] = [];
    let equal = 0;
    for (const bits of [16, 32, 64] as const) {
      const oracle = nasmLines(SHORTHAND, `bits ${bits}`);
      const mine = ours(SHORTHAND, bits);
      SHORTHAND.forEach((text, i) => {
        const [theirs, we] = [oracle[i], mine[i]];
        if (!(theirs instanceof Uint8Array) || theirs.length === 0) return;
        if (we instanceof Uint8Array && we.toHex() === theirs.toHex()) equal++;
        else if (!SHORTHAND_DIFFERENCES.some(({ match }) => match.test(`${bits} ${text}`))) {
          wrong.push(`${bits} ${text}: ${theirs.toHex()}, we: ${we instanceof Uint8Array ? we.toHex() : we}`);
        }
      });
    }
    expect(wrong).toEqual([]);
    expect(equal).toBeGreaterThan(1000);
  },
  60_000,
);
