import { expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import { createVm } from "../../../../src/index.ts";

const PROGRAM = asm.real16`
    cli
    out 0x70, al
    sti
    inc bx
    inc bx
    inc bx
    hlt
  handler:
    out 0x80, al
    iret`;

for (const [how, limits] of [
  ["run whole", {}],
  ["cut into single instructions", { maxInstructions: 1 }],
] as const) {
  test(`an interrupt that waits for STI is taken behind the one instruction in its shadow, ${how}`, () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x10000 });
    using vcpu = vm.createVcpu();
    vcpu.load(PROGRAM);
    vm.memory.writeU16(0x20 * 4, Number(PROGRAM.symbols.get("handler")));
    expect(vcpu.run()).toMatchObject({ kind: "pioOut", port: 0x70 });
    vcpu.interrupt(0x20);
    let exit = vcpu.run(limits);
    while (exit.kind === "interrupted") exit = vcpu.run(limits);
    expect(exit).toMatchObject({ kind: "pioOut", port: 0x80 });
    expect([vcpu.registers.rbx, vcpu.instructions]).toEqual([1n, 5]);
  });
}
