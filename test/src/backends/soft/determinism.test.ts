import { expect, test } from "bun:test";
import { assemble } from "../../../../src/asm/index.ts";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import { Host } from "../../../../src/host.ts";

const PROGRAM = assemble(`bits 32
org 0x1000
  mov ecx, 500
  xor eax, eax
top:
  add eax, ecx
  rol eax, 3
  push eax
  pop ebx
  dec ecx
  jnz top
  mov esi, 0x1000
  mov edi, 0x8000
  mov ecx, 700
  rep movsb
  rdtsc
  hlt`);

/** Runs in slices of `slice` instructions; where it ended, in how many instructions, and what it computed. */
function outcome(slice: number | undefined): unknown {
  using host = new Host(openSoft());
  using vm = host.createVm({ memoryBytes: 0x20000 });
  using vcpu = vm.createVcpu(0);
  vm.memory.write(0x1000, PROGRAM.bytes);
  vcpu.enterMode("prot32", { entry: 0x1000 });
  vcpu.registers.rsp = 0x7000n;
  for (;;) {
    const exit = vcpu.run(slice === undefined ? { timeoutMs: 10_000 } : { maxInstructions: slice });
    if (exit.kind === "interrupted" && exit.by === "maxInstructions") continue;
    const { rax, rbx, rdx, rip } = vcpu.registers;
    return { kind: exit.kind, rax, rbx, rdx, rip, instructions: vcpu.instructions };
  }
}

test("the same guest retires the same instructions and reads the same clock, however its run is sliced", () => {
  const whole = outcome(undefined);
  for (const slice of [1, 7, 64, 65, 1000]) expect(outcome(slice)).toEqual(whole);
});
