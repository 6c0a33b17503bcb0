import { describe, expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import type { ModeOptions } from "../../../../../src/boot/mode.ts";
import { createVm, type Vcpu, type Vm } from "../../../../../src/index.ts";

function start(vm: Vm, id: number, at: number, source: string, options: ModeOptions = {}): Vcpu {
  const vcpu = vm.createVcpu(id);
  vm.memory.write(at, assemble(`bits 32\norg ${at}\n${source}`).bytes);
  vcpu.enterMode("paged32", { entry: at, pageBytes: 0x1000, ...options });
  return vcpu;
}

const SPIN = "again: mov al, 1\n mov ebx, [0x6000]\n jmp again";
const bound = { maxInstructions: 1000 };

describe("several processors of one guest", () => {
  test("one sees at once what another writes into the code that it runs", () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
    const first = start(vm, 0, 0x1000, SPIN);
    const second = start(vm, 1, 0x3000, "mov byte [0x1001], 7\n hlt", { stack: 0x7000 });
    first.run(bound);
    expect(first.registers.rax & 0xffn).toBe(1n);
    expect(second.run(bound)).toEqual({ kind: "hlt" });
    first.run(bound);
    expect(first.registers.rax & 0xffn).toBe(7n);
  });

  test("one sees at once what another writes into the page tables that it uses", () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
    const first = start(vm, 0, 0x1000, SPIN);
    vm.memory.writeU32(0x6000, 0x11111111);
    vm.memory.writeU32(0x7000, 0x22222222);
    const second = start(
      vm,
      1,
      0x3000,
      "mov edi, cr3\n mov edi, [edi]\n and edi, 0xfffff000\n mov eax, [edi + 7 * 4]\n mov [edi + 6 * 4], eax\n hlt",
    );
    first.run(bound);
    expect(first.registers.rbx).toBe(0x11111111n);
    expect(second.run(bound)).toEqual({ kind: "hlt" });
    first.run(bound);
    expect(first.registers.rbx).toBe(0x22222222n);
  });

  test("vm.run() lets them take turns: each waits for what the other stores", async () => {
    using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
    const turn = (mine: number, next: number) => `mov ecx, 5
      wait: cmp dword [0x6000], ${mine}
      jne wait
      inc dword [0x6010]
      mov dword [0x6000], ${next}
      loop wait
      hlt`;
    start(vm, 0, 0x1000, turn(0, 1));
    start(vm, 1, 0x3000, turn(1, 0), { stack: 0x7000 });
    const result = await vm.run({ timeoutMs: 10_000 });
    expect(result.outcome.kind).not.toBe("timeout");
    expect(vm.memory.readU32(0x6010)).toBe(10);
  });
});

test("an NMI waits while another one is handled, until IRET", () => {
  using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
  const vcpu = start(vm, 0, 0x1000, "out 1, al\n nop\n out 4, al\n hlt", { handlers: { 2: 0x3000 } });
  vm.memory.write(0x3000, assemble("bits 32\norg 0x3000\n out 2, al\n nop\n out 3, al\n iretd").bytes);
  const ports: number[] = [];
  for (let exit = vcpu.run(bound); exit.kind === "pioOut"; exit = vcpu.run(bound)) {
    ports.push(exit.port);
    // The first while nothing is handled, the second inside its handler.
    if (ports.length <= 2) vcpu.nmi();
  }
  expect(ports).toEqual([1, 2, 3, 2, 3, 4]);
});
