import { join } from "node:path";
import { spreadOf } from "../report.ts";
import { type Bits, EXIT_STORM, ROUNDS, WARM_UP_ROUNDS, WORKLOADS } from "./build.ts";

export type EngineName = "native" | "soft" | "v86" | "qemu";

/** One process of one engine: nanoseconds of a steady round and checksum by workload, in order; what is missing failed. */
export interface Pass {
  readonly nanoseconds: readonly number[];
  readonly checksums: readonly string[];
  /** Resident bytes at the end, where the engine tells. */
  readonly rss: number | undefined;
  readonly failure: string | undefined;
}

const TIMEOUT_MS = 60_000;

/** Runs every workload in a fresh process. */
export function measure(engine: EngineName, image: string): Pass {
  const command =
    engine === "native" ? [image] : [process.execPath, join(import.meta.dir, `engine-${engine}.ts`), image];
  const { stdout, stderr, exitCode, signalCode } = Bun.spawnSync(command, {
    stdout: "pipe",
    stderr: "pipe",
    timeout: TIMEOUT_MS,
  });
  const lines = stdout.toString().trim().split("\n");
  const rss = lines.find((line) => line.startsWith("rss "));
  const failed = lines.find((line) => line.startsWith("failed "));
  const rounds = lines.map((line) => /^(?:\d+ )?(\d+) ([0-9a-f]{8})$/.exec(line)).filter((match) => match !== null);
  const nanoseconds: number[] = [];
  const checksums: string[] = [];
  for (let index = 0; (index + 1) * ROUNDS <= rounds.length; index++) {
    const own = rounds.slice(index * ROUNDS, (index + 1) * ROUNDS);
    const steady = own.slice(WARM_UP_ROUNDS).map((match) => Number(match[1]));
    nanoseconds.push(spreadOf(steady).median);
    checksums.push([...new Set(own.map((match) => match[2]))].join("/"));
  }
  const expected = engine === "native" ? EXIT_STORM : WORKLOADS.length;
  const short = nanoseconds.length < expected;
  return {
    nanoseconds,
    checksums,
    rss: rss === undefined ? undefined : Number(rss.slice(4)),
    failure: short
      ? `stopped in "${WORKLOADS[nanoseconds.length]}" (status ${exitCode ?? signalCode}): ${(failed ?? stderr.toString().trim().split("\n").at(-1) ?? "").slice(0, 200)}`
      : undefined,
  };
}

/** All passes of one engine at one width. */
export class Series {
  readonly engine: EngineName;
  readonly bits: Bits;
  readonly passes: Pass[] = [];

  constructor(engine: EngineName, bits: Bits) {
    this.engine = engine;
    this.bits = bits;
  }

  /** Milliseconds of one workload over the passes; undefined when none got there. */
  milliseconds(workload: number): { min: number; median: number; max: number } | undefined {
    const values = this.passes.map((pass) => pass.nanoseconds[workload]).filter((value) => value !== undefined);
    if (values.length === 0) return undefined;
    const { min, median, max } = spreadOf(values);
    return { min: min / 1e6, median: median / 1e6, max: max / 1e6 };
  }

  checksum(workload: number): string | undefined {
    const all = new Set(this.passes.map((pass) => pass.checksums[workload]).filter((sum) => sum !== undefined));
    return all.size === 0 ? undefined : [...all].join("/");
  }
}

/** Geometric mean; NaN of nothing. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
