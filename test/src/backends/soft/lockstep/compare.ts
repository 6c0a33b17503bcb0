import { disassemble } from "../../../../../src/inspect/disassemble.ts";
import { type Divergence, diverge } from "./align.ts";
import { build, type Generation, generate, type LockstepMode, type Program } from "./program.ts";
import type { Trace } from "./trace.ts";

/** An engine as lockstep sees it: runs a program step by step. Undefined when it cannot run this one. */
export type Tracer = (program: Program) => Trace | undefined | Promise<Trace | undefined>;

export interface Mismatch {
  readonly statements: readonly string[];
  readonly program: Program;
  readonly traces: readonly [Trace, Trace];
  readonly divergence: Divergence;
}

/** Where the two engines part on these statements, if they do. */
export async function compareOn(
  mode: LockstepMode,
  statements: readonly string[],
  engines: readonly [Tracer, Tracer],
): Promise<Mismatch | undefined> {
  const program = build(mode, statements);
  if (program === undefined) return undefined;
  const traces = [await engines[0](program), await engines[1](program)] as const;
  const [first, second] = traces;
  if (first === undefined || second === undefined) return undefined;
  const divergence = diverge(first, second);
  return divergence === undefined ? undefined : { statements, program, traces: [first, second], divergence };
}

/** Drops statements as long as the engines still disagree in the same fields. */
export async function minimise(
  mode: LockstepMode,
  mismatch: Mismatch,
  engines: readonly [Tracer, Tracer],
): Promise<Mismatch> {
  const wanted = mismatch.divergence.fields[0]?.name;
  let best = mismatch;
  for (let size = Math.ceil(best.statements.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < best.statements.length; ) {
      const shorter = best.statements.toSpliced(from, size);
      const found = shorter.length === 0 ? undefined : await compareOn(mode, shorter, engines);
      if (found !== undefined && found.divergence.fields[0]?.name === wanted) best = found;
      else from += size;
    }
  }
  return best;
}

/** Generates, compares, and on a mismatch minimises. Undefined when the engines agree. */
export async function lockstep(
  mode: LockstepMode,
  options: Generation & { seed: number },
  engines: readonly [Tracer, Tracer],
): Promise<Mismatch | undefined> {
  const mismatch = await compareOn(mode, generate(options.seed, mode, options), engines);
  return mismatch === undefined ? undefined : minimise(mode, mismatch, engines);
}

/** A mismatch for people: the program, the instruction at which the engines parted, what differs. */
export function report(mode: LockstepMode, mismatch: Mismatch, names: readonly [string, string]): string {
  const { program, traces, divergence, statements } = mismatch;
  const [i, j] = divergence.at;
  const lines = [`${mode}:`, ...statements.map((text) => text), "; the engines part at"];
  for (const [which, index] of [i, j].entries()) {
    const { stops, end } = traces[which] as Trace;
    for (let back = 2; back >= 0; back--) {
      const stop = stops[index - back];
      if (stop === undefined) continue;
      const rip = stop.get("rip") as bigint;
      const linear = rip + (stop.get("cs.base") ?? 0n);
      lines.push(`;   ${names[which]} stop ${index - back}: ${linear.toString(16)} ${at(program, linear, stop)}`);
    }
    if (stops[index] === undefined) lines.push(`;   ${names[which]}: ${end ?? "cut short"}`);
  }
  for (const { name, values } of divergence.fields) {
    lines.push(`;   ${name}: ${names[0]} ${values[0]}, ${names[1]} ${values[1]}`);
  }
  return lines.join("\n");
}

function at(program: Program, linear: bigint, stop: ReadonlyMap<string, bigint>): string {
  const address = Number(linear);
  const piece = program.pieces.find(({ gpa, bytes }) => address >= gpa && address < gpa + bytes.length);
  if (piece === undefined) return "?";
  const cs = Number(stop.get("cs") ?? 0n);
  const vm86 = ((stop.get("rflags") ?? 0n) & 0x20000n) !== 0n;
  const natural =
    program.mode === "real16" || vm86 ? 16 : program.mode === "long64" && cs !== 0x18 && cs !== 0x23 ? 64 : 32;
  const bits = cs === 0x38 && program.mode !== "real16" ? 16 : natural;
  const code = piece.bytes.subarray(address - piece.gpa, address - piece.gpa + 15);
  return disassemble(code, { bits, ip: linear, count: 1 })[0]?.text ?? "?";
}
