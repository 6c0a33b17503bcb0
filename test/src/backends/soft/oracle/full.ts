/** `bun test/src/backends/soft/oracle/full.ts [cases] [seed]`: the host processor against the software CPU, 2 million cases unless told otherwise. */
import { Comparison } from "./compare.ts";
import { unavailable } from "./native.ts";

const wanted = Number(process.argv[2] ?? 2_000_000);
const seed = Number(process.argv[3] ?? 1);
const reason = unavailable();
if (reason !== undefined) {
  console.error(`Cannot ask the host processor: ${reason}`);
  process.exit(1);
}
using comparison = new Comparison(seed);
const perEncoding = Number(process.argv[4] ?? 64);
const started = performance.now();
let mismatches = 0;
const broken = new Map<string, number>();
while (comparison.cases < wanted) {
  const before = comparison.cases;
  for (const form of comparison.forms) {
    if ((broken.get(form.name) ?? 0) > 2) continue;
    for (const m of comparison.check(form, 2, perEncoding)) {
      mismatches++;
      broken.set(form.name, (broken.get(form.name) ?? 0) + 1);
      console.log(`${form.name}: ${m.text}  ; ${m.bytes}\n  ${m.input}\n  ${m.differences.join("\n  ")}`);
    }
    if (comparison.cases >= wanted) break;
  }
  if (comparison.cases === before) break;
}
const seconds = (performance.now() - started) / 1000;
console.log(
  `${comparison.forms.length} forms, ${comparison.cases} cases (${comparison.faults} of them faults), ${mismatches} mismatches, ${seconds.toFixed(1)} s, seed ${seed}`,
);
process.exit(mismatches === 0 ? 0 : 1);
