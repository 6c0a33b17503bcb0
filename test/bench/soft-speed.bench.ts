/**
 * How fast is the software CPU beside v86, QEMU's TCG and the host itself?
 *
 * The same C runs as a Multiboot guest on each and as a process of the host. Every pass is a fresh process of one engine
 * that runs all workloads; passes of the engines alternate. Times are of steady rounds, from the guest's OUT at the start
 * to its OUT at the end; checksums are compared with the host's. `--quick` makes one pass instead of three.
 */
import { hostLine } from "./report.ts";
import { type Bits, EXIT_STORM, EXITS_PER_STORM, Images, WORKLOADS } from "./soft/build.ts";
import { type EngineName, geometricMean, measure, Series } from "./soft/measure.ts";

const PASSES = Bun.argv.includes("--quick") ? 1 : 3;
/** No pass begins later than this after the start of a width: a busy machine gets fewer passes. */
const BUDGET_MS = 75_000;
const ENGINES: Readonly<Record<Bits, readonly EngineName[]>> = {
  32: ["native", "soft", "v86", "qemu"],
  64: ["native", "soft", "qemu"],
};

console.log(`soft-speed: ${hostLine()}`);
console.log(
  `medians of up to ${PASSES} passes, spread of soft in brackets; × is their time ÷ soft's: above 1 soft is faster`,
);
using images = new Images();
const speeds = new Map<EngineName, number[]>();
for (const bits of [32, 64] as const) report(bits, collect(bits));
for (const [engine, ratios] of speeds) {
  if (engine === "native") continue;
  console.log(`soft against ${engine}, all widths and workloads with checksums: × ${geometricMean(ratios).toFixed(2)}`);
}

function collect(bits: Bits): Series[] {
  const available = ENGINES[bits].filter((engine) => engine !== "qemu" || Bun.which("qemu-system-x86_64") !== null);
  const series = available.map((engine) => new Series(engine, bits));
  const [native, guest] = [images.native(bits), images.guest(bits)];
  const started = performance.now();
  for (let pass = 0; pass < PASSES && performance.now() - started < BUDGET_MS; pass++) {
    const order = pass % 2 === 0 ? series : series.toReversed();
    for (const one of order) one.passes.push(measure(one.engine, one.engine === "native" ? native : guest));
  }
  return series;
}

function report(bits: Bits, series: readonly Series[]): void {
  const of = (engine: EngineName) => series.find((one) => one.engine === engine);
  const [soft, native] = [of("soft") as Series, of("native") as Series];
  const others = series.filter((one) => one !== soft);
  console.log(
    `\n${bits}-bit, ms      ${"soft".padStart(8)} ${"".padEnd(16)} ${others.map(({ engine }) => `${engine.padStart(8)} ${"×".padStart(6)}`).join("  ")}`,
  );
  const ratios = new Map<Series, number[]>(others.map((one) => [one, []]));
  WORKLOADS.forEach((name, index) => {
    const ours = soft.milliseconds(index);
    const cells = others.map((one) => {
      const theirs = one.milliseconds(index);
      if (ours === undefined || theirs === undefined) return `${"-".padStart(8)} ${"".padStart(6)}`;
      const ratio = theirs.median / ours.median;
      if (index !== EXIT_STORM) ratios.get(one)?.push(ratio);
      return `${theirs.median.toFixed(2).padStart(8)} ${ratio.toFixed(ratio < 0.1 ? 3 : 2).padStart(6)}`;
    });
    const own = ours === undefined ? "-" : ours.median.toFixed(2);
    const spread = ours === undefined ? "" : `(${ours.min.toFixed(2)} to ${ours.max.toFixed(2)})`;
    console.log(
      `${name.padEnd(16)} ${own.padStart(8)} ${spread.padEnd(16)} ${cells.join("  ")}${verdict(index, native, series)}`,
    );
  });
  const means = others.map((one) => {
    const own = ratios.get(one) ?? [];
    speeds.set(one.engine, [...(speeds.get(one.engine) ?? []), ...own]);
    return `${"".padStart(8)} ${geometricMean(own).toFixed(3).padStart(6)}`;
  });
  console.log(`${"geometric mean, without exits".padEnd(42)} ${means.join("  ")}`);
  for (const one of series) {
    const storm = one.milliseconds(EXIT_STORM);
    if (storm !== undefined)
      console.log(`an OUT on ${one.engine}: ${((storm.median * 1e6) / EXITS_PER_STORM).toFixed(0)} ns`);
    const rss = one.passes.flatMap((pass) => (pass.rss === undefined ? [] : [pass.rss]));
    if (rss.length > 0)
      console.log(`resident at the end on ${one.engine}: ${(Math.max(...rss) / 2 ** 20).toFixed(0)} MiB`);
    for (const { failure } of one.passes) if (failure !== undefined) console.log(`${one.engine} ${failure}`);
  }
}

/** A word when an engine computed something else than the host. */
function verdict(index: number, native: Series, series: readonly Series[]): string {
  const expected = native.checksum(index) ?? series[1]?.checksum(index);
  const wrong = series.filter((one) => (one.checksum(index) ?? expected) !== expected);
  if (wrong.length > 0) process.exitCode = 1;
  return wrong.map((one) => `  WRONG on ${one.engine}: ${one.checksum(index)}, not ${expected}`).join("");
}
