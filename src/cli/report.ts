import { findSymbol } from "../boot/guest-plan.ts";
import { STATUS } from "../exit-status.ts";
import { crashScreen } from "../inspect/crash.ts";
import { hex } from "../inspect/format.ts";
import { formatStats } from "../inspect/stats.ts";
import type { BootPlan } from "./boot-plan.ts";
import { colourCrash } from "./colour.ts";
import type { Ended, Machine } from "./session.ts";

/** Prints what there is to say about a run that ended: trace, statistics, crash screen, result object. */
export async function reportEnd(ended: Ended, plan: BootPlan, machine: Machine): Promise<void> {
  const { isAbnormal, watch, stdout } = ended;
  watch?.end();
  const counts = watch?.counts;
  if (!stdout.isAtLineStart && process.stderr.isTTY) console.error();
  if (counts !== undefined && !plan.json) console.error(formatStats(counts).join("\n"));
  const screen = isAbnormal ? screenOf(ended, machine) : undefined;
  if (screen !== undefined) console.error(colourCrash(screen).join("\n"));
  if (ended.status === STATUS.io) {
    console.error(`vmexit: Cannot write to standard output: the system returned ${stdout.failure}`);
  }
  if (plan.json) {
    const object = {
      ...resultObject(ended, plan, machine),
      console: watch?.console.text,
      ...(watch?.console.truncated ? { consoleTruncated: true } : {}),
      ...(counts === undefined ? {} : { stats: counts }),
      ...(screen === undefined ? {} : { crash: screen }),
    };
    stdout.text(`${JSON.stringify(object, jsonValue)}\n`);
    await stdout.end();
  }
}

function screenOf({ result, ring, limit, notes }: Ended, { vm, guest, sourceLine }: Machine): string[] {
  const count = `${ring.count} ${ring.count === 1 ? "exit" : "exits"}`;
  const symbol = (address: bigint) => {
    const found = findSymbol(guest.symbols, address);
    if (found === undefined) return undefined;
    return found.offset === 0n ? found.symbol.name : `${found.symbol.name}+${hex(found.offset)}`;
  };
  return crashScreen(result.outcome, {
    registers: result.vcpu.access,
    memory: vm.memory,
    exits: ring.last(),
    faults: result.vcpu.faultChain,
    notes,
    summary: `after ${count} in ${time(result.elapsedMs)}, on ${vm.backend.name}`,
    ...(limit === undefined ? {} : { limit }),
    ...(sourceLine === undefined ? {} : { sourceLine }),
    ...(guest.symbols.length === 0 ? {} : { symbol }),
  });
}

function resultObject(
  { result, status, ring }: Ended,
  plan: BootPlan,
  { vm, guest }: Machine,
): Record<string, unknown> {
  const { registers } = result.vcpu;
  return {
    status,
    outcome: result.outcome,
    guest: plan.guest,
    format: guest.format,
    mode: guest.mode,
    backend: vm.backend.name,
    exits: ring.count,
    elapsedMs: Number(result.elapsedMs.toFixed(3)),
    lastExit: ring.last(1)[0]?.exit,
    registers: registers.gprs(),
  };
}

/** Registers as hexadecimal text, bytes as a list of numbers. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return hex(value);
  return value instanceof Uint8Array ? Array.from(value) : value;
}

function time(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
