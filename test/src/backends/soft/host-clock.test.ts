import { expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import { createVm, type Vcpu } from "../../../../src/index.ts";
import { tickSource } from "./irqchip/tick-source.ts";

const READ_TWICE = asm.real16`
    rdtsc
    mov ebx, eax
    out 0x80, al
    rdtsc
    hlt`;

/** The differences of time-stamp counters over an exit that the host takes `milliseconds` for. */
function ticks(clock: "instructions" | "host" | undefined, milliseconds: number): number {
  using vm = createVm({ backend: "soft", memoryBytes: 0x10000, ...(clock === undefined ? {} : { clock }) });
  using vcpu = vm.createVcpu();
  vcpu.load(READ_TWICE);
  vcpu.run();
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
  vcpu.run();
  const { rax, rbx } = vcpu.registers;
  return Number(BigInt.asUintN(32, rax - rbx));
}

test('RDTSC counts instructions by default, and the host\'s nanoseconds with { clock: "host" }', () => {
  expect([ticks(undefined, 2), ticks("instructions", 0)]).toEqual([3, 3]);
  expect(ticks("host", 2)).toBeGreaterThanOrEqual(2_000_000);
});

test("WRMSR moves the time-stamp counter of either clock, and a restored vCPU goes on from where it was saved", () => {
  for (const clock of ["instructions", "host"] as const) {
    using vm = createVm({ backend: "soft", memoryBytes: 0x10000, clock });
    using vcpu = vm.createVcpu();
    vcpu.registers.setMsr(0x10, 1n << 40n);
    const state = vcpu.saveState();
    vcpu.registers.setMsr(0x10, 1n << 50n);
    expect(vcpu.registers.msr(0x10)).toBeGreaterThanOrEqual(1n << 50n);
    vcpu.restoreState(state);
    const restored = vcpu.registers.msr(0x10);
    expect(restored >= 1n << 40n && restored < 1n << 50n).toBe(true);
  }
});

/** Three ticks of the PIT at 1000 Hz, each waited for: in HLT, or by looking. */
const TICKS = (wait: string) => asm.real16`
    mov word [0x80], tick
    ${tickSource(1193)}
    xor bx, bx
    sti
  again:
    ${wait}
    cmp bx, 3
    jb again
    out 0x80, al
  tick:
    inc bx
    mov al, 0x20
    out 0x20, al
    iret`;

function untilOut(vcpu: Vcpu): string {
  const exit = vcpu.run({ timeoutMs: 10_000 });
  return exit.kind === "pioOut" ? `port ${exit.port}` : exit.kind;
}

for (const wait of ["hlt", "nop"]) {
  test(`the PIT follows the host's clock too: three ticks of a millisecond in ${wait} are not over sooner`, () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x10000, irqchip: "full", pit: true, clock: "host" });
    using vcpu = vm.createVcpu();
    vcpu.load(TICKS(wait));
    const started = performance.now();
    expect(untilOut(vcpu)).toBe("port 128");
    expect(performance.now() - started).toBeGreaterThan(2.9);
  });
}
