/**
 * `bun test/src/backends/soft/oracle/full.ts [cases] [seed] [pattern]`: the host processor against the software CPU, over
 * every form of every unit in every mode; 2 million cases unless told otherwise. `pattern` picks forms by name.
 */
import { Comparison } from "./compare.ts";
import { UNITS } from "./forms.ts";
import { unavailable } from "./host.ts";
import type { Mismatch } from "./mismatch.ts";

const wanted = Number(process.argv[2] ?? 2_000_000);
const seed = Number(process.argv[3] ?? 1);
const pattern = new RegExp(process.argv[4] ?? "");
/** Mismatches printed of one form. */
const PRINTED = 2;
const reason = unavailable();
if (reason !== undefined) {
  console.error(`Cannot ask the host processor: ${reason}`);
  process.exit(1);
}
using comparison = new Comparison(seed);
const started = performance.now();
const broken = new Map<string, number>();

function print(m: Mismatch): void {
  const seen = broken.get(m.form) ?? 0;
  broken.set(m.form, seen + 1);
  if (seen < PRINTED)
    console.log(`${m.form}, ${m.world}: ${m.text}  ; ${m.bytes}\n  ${m.input}\n  ${m.differences.join("\n  ")}`);
}

const forms = comparison.list.forms.filter((f) => pattern.test(f.name));
while (comparison.cases < wanted) {
  const before = comparison.cases;
  const left = forms.filter((f) => (broken.get(`${f.name} (${f.unit})`) ?? 0) < 4 * PRINTED);
  for (const m of comparison.check(left, { encodings: 2, count: 16 })) print(m);
  if (process.argv[4] === undefined) for (const m of comparison.checkSequences({ sequences: 8000, count: 8 })) print(m);
  if (comparison.cases === before) break;
}

if (comparison.host.noLocal !== undefined)
  console.log(`16-bit code and segments with a base were left out: ${comparison.host.noLocal}`);
for (const unit of [...UNITS, "sequence"] as const)
  for (const bits of [16, 32, 64]) {
    const count = comparison.counts.get(`${unit} ${bits}-bit`);
    if (count === undefined) continue;
    const faults = [...count.faults].sort(([a], [b]) => a - b).map(([vector, n]) => `#${vector}: ${n}`);
    const number = forms.filter((f) => f.unit === unit && f.bits === bits).length;
    console.log(
      `${unit}, ${bits}-bit: ${number} forms, ${count.cases} cases, ${count.mismatches} mismatches; exceptions ${faults.join(", ")}`,
    );
  }
for (const [why, names] of comparison.list.excluded) console.log(`left out, ${names.length} forms: ${why}`);
if (comparison.unencodable.size > 0) console.log(`no encoding: ${[...comparison.unencodable].join(", ")}`);
for (const death of comparison.deaths.slice(0, 20)) console.log(`the worker died at ${death}`);
const seconds = (performance.now() - started) / 1000;
const mismatches = [...comparison.counts.values()].reduce((sum, c) => sum + c.mismatches, 0);
console.log(
  `${forms.length} forms, ${comparison.cases} cases, ${mismatches} mismatches in ${broken.size} forms, ${seconds.toFixed(1)} s, seed ${seed}`,
);
process.exit(mismatches === 0 && comparison.deaths.length === 0 ? 0 : 1);
