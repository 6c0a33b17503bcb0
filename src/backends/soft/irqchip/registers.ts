import type { MpState } from "../../../registers.ts";
import type { Cpu } from "../cpu.ts";
import type { Processor } from "../processor.ts";
import { SoftRegisters } from "../register-access.ts";
import type { VcpuInterrupts } from "./interrupts.ts";

/** Registers of a vCPU whose MP state follows HLT, INIT and startup. */
export class IrqchipRegisters extends SoftRegisters {
  readonly #interrupts: VcpuInterrupts;

  constructor(cpu: Cpu, processor: Processor, check: () => void, interrupts: VcpuInterrupts) {
    super(cpu, processor, check);
    this.#interrupts = interrupts;
  }

  override readMpState(): MpState {
    super.readMpState();
    return this.#interrupts.mpState;
  }

  override writeMpState(state: MpState): void {
    super.writeMpState(state);
    this.#interrupts.mpState = state;
  }
}
