import { expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import { Vm } from "../../../../../src/vm.ts";
import { randomFrom } from "./random.ts";
import { tickSource } from "./tick-source.ts";

const SEEDS = 12;
const STEPS = 150;
const PORTS = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61];

/** Any value to any register of every controller, interrupts on, handlers that say EOI or do not. */
function hostileProgram(seed: number): string {
  const random = randomFrom(seed);
  const any = () => random(0x1_0000) * 0x1_0000 + random(0x1_0000);
  const lines = ["bits 16", "org 0x1000", "again: sti"];
  for (let i = 0; i < STEPS; i++) {
    const address = random(2) ? 0xfee0_0000 + random(0x400) * (random(8) ? 16 : 1) : 0xfec0_0000 + random(3) * 16;
    switch (random(6)) {
      case 0:
        lines.push(`mov eax, [dword ${address}]`);
        break;
      case 1:
        lines.push(
          `mov dx, ${PORTS[random(PORTS.length)]}`,
          ["in al, dx", "in ax, dx", "in eax, dx"][random(3)] as string,
        );
        break;
      case 2:
        lines.push(`mov dx, ${PORTS[random(PORTS.length)]}`, `mov eax, ${any()}`);
        lines.push(["out dx, al", "out dx, ax", "out dx, eax"][random(3)] as string);
        break;
      case 3:
        lines.push(`mov word [dword ${address}], ${random(0x1_0000)}`);
        break;
      case 4:
        lines.push(random(4) ? "nop" : "hlt");
        break;
      default:
        lines.push(`mov dword [dword ${address}], ${any()}`);
    }
  }
  return [...lines, "jmp again", "handler: mov dword [dword 0xfee000b0], 0", "iret"].join("\n");
}

test(`${SEEDS} guests that write anything anywhere to the controllers throw nothing and keep to their deadline`, () => {
  using backend = openSoft();
  for (let seed = 1; seed <= SEEDS; seed++) {
    using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
    const vcpus = [vm.createVcpu(0), vm.createVcpu(1)];
    const program = assemble(hostileProgram(seed));
    vm.memory.write(0x1000, program.bytes);
    const handler = Number(program.symbols.get("handler"));
    for (let vector = 0; vector < 256; vector++) vm.memory.writeU32(vector * 4, handler);
    vcpus[0]?.enterMode("unreal16", { entry: 0x1000 });
    const start = performance.now();
    for (let turn = 0; turn < 4; turn++) for (const vcpu of vcpus) vcpu.run({ timeoutMs: 4 });
    // Eight turns of 4 ms: what is far beyond hangs.
    expect(performance.now() - start).toBeLessThan(4000);
  }
});

test("a vCPU that waits in HLT for timers does not let time run away from one that works", async () => {
  using backend = openSoft();
  using vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
  const boot = vm.createVcpu(0);
  const worker = vm.createVcpu(1);
  const program = assemble(`bits 16
        org 0x1000
        ${tickSource(1193)}
wait_for_it:
        sti
        hlt
        cmp byte [0x500], 0
        je wait_for_it
        mov ax, bx
        out 0x80, ax
        jmp $
tick:   inc bx
        mov al, 0x20
        out 0x20, al
        iret`);
  vm.memory.write(0x1000, program.bytes);
  vm.memory.writeU32(0x80, Number(program.symbols.get("tick")));
  vm.memory.write(
    0x3000,
    assemble("bits 16\n org 0x3000\n mov ecx, 3000000\nspin: dec ecx\n jnz spin\n mov byte [0x500], 1\n jmp $").bytes,
  );
  boot.enterMode("real16", { entry: 0x1000 });
  worker.enterMode("real16", { entry: 0x3000 });
  worker.registers.mpState = "runnable";
  let ticks = -1;
  await vm.run({
    timeoutMs: 4000,
    sliceMs: 3,
    onExit: (exit) => {
      if (exit.kind === "pioOut") ticks = (exit.data[0] as number) | ((exit.data[1] as number) << 8);
      return "stop";
    },
  });
  // Six million instructions are six ticks; turns of 3 ms in between add theirs. Skipping ahead would make thousands.
  expect(ticks).toBeGreaterThan(0);
  expect(ticks).toBeLessThan(500);
});
