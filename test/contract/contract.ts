import { cpuContract } from "./cpu.contract.ts";
import type { Engine } from "./engine.ts";
import { interruptsContract } from "./interrupts.contract.ts";
import { lifecycleContract } from "./lifecycle.contract.ts";
import { limitsContract } from "./limits.contract.ts";
import { memoryContract } from "./memory.contract.ts";
import { pioContract } from "./pio.contract.ts";

/** What every backend has to do, stated once. */
export function contract(engine: Engine): void {
  pioContract(engine);
  memoryContract(engine);
  cpuContract(engine);
  limitsContract(engine);
  interruptsContract(engine);
  lifecycleContract(engine);
}
