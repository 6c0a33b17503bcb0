import type { Cpu } from "../cpu.ts";
import { reset } from "../reset.ts";
import { SegIndex, State } from "../state.ts";
import { setSegmentFields } from "../system/descriptors.ts";

/** What INIT leaves alone: x87, MMX, SSE and AVX state (Intel SDM Vol. 3A, "Processor State After Reset"). */
const KEPT: readonly (readonly [from: number, to: number])[] = [
  [State.x87, State.fdp + 8],
  [State.vector0, State.vector0 + 32 * State.vectorBytes],
  [State.xcr0, State.xcr0 + 8],
];

/** INIT: the state after RESET, but for what the numeric units hold. MSRs keep their values. */
export function initialise(cpu: Cpu): void {
  const bytes = new Uint8Array(cpu.view.buffer, cpu.view.byteOffset, State.scratch);
  const kept = KEPT.map(([from, to]) => bytes.slice(from, to));
  const budget = cpu.get(State.budget);
  bytes.fill(0);
  reset(cpu);
  for (const [i, [from]] of KEPT.entries()) bytes.set(kept[i] as Uint8Array, from);
  cpu.set(State.budget, budget);
  cpu.pending = undefined;
  cpu.shadow = undefined;
  cpu.nmiBlocked = false;
  cpu.flushTlb();
  cpu.changeMode();
  cpu.debugChanged();
}

/** The startup IPI: real mode at page `vector`. */
export function startup(cpu: Cpu, vector: number): void {
  setSegmentFields(cpu, SegIndex.cs, {
    selector: vector << 8,
    base: BigInt(vector << 12),
    limit: 0xffff,
    attributes: 0x9b,
  });
  cpu.rip = 0n;
  cpu.flushTlb();
  cpu.changeMode();
}
