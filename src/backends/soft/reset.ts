import type { Cpu } from "./cpu.ts";
import { initializeX87 } from "./fpu-image.ts";
import { SegIndex, State } from "./state.ts";
import { setSegmentFields } from "./system/descriptors.ts";

/** State after RESET (Intel SDM Vol. 3A, "Processor State After Reset"). */
export function reset(cpu: Cpu): void {
  cpu.set64(State.cr0, 0x6000_0010n);
  cpu.set64(State.xcr0, 1n);
  cpu.set64(State.dr + 4 * 8, 0xffff_0ff0n);
  cpu.set64(State.dr + 5 * 8, 0x400n);
  cpu.set(State.mxcsr, 0x1f80);
  cpu.set(State.gdtLimit, 0xffff);
  cpu.set(State.idtLimit, 0xffff);
  cpu.eflags = 2;
  initializeX87(cpu.view);
  for (const index of [SegIndex.es, SegIndex.ss, SegIndex.ds, SegIndex.fs, SegIndex.gs]) {
    setSegmentFields(cpu, index, { selector: 0, base: 0n, limit: 0xffff, attributes: 0x93 });
  }
  setSegmentFields(cpu, SegIndex.cs, { selector: 0xf000, base: 0xffff_0000n, limit: 0xffff, attributes: 0x9b });
  setSegmentFields(cpu, SegIndex.ldt, { selector: 0, base: 0n, limit: 0xffff, attributes: 0x82 });
  setSegmentFields(cpu, SegIndex.tr, { selector: 0, base: 0n, limit: 0xffff, attributes: 0x8b });
  cpu.setGpr(2, 0x0006_06f0n);
  cpu.rip = 0xfff0n;
}
