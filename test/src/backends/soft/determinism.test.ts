import { describe, expect, test } from "bun:test";
import { assemble } from "../../../../src/asm/index.ts";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import type { Exit, ExitKind } from "../../../../src/exit.ts";
import { Host } from "../../../../src/host.ts";
import { createVm, type Vcpu } from "../../../../src/index.ts";

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

/** Drives a vCPU to its first exit that is none of stepping or slicing. */
type Drive = (vcpu: Vcpu) => Exit;
const HOWS: readonly (readonly [string, Drive])[] = [
  ["run whole", (vcpu) => vcpu.run({ timeoutMs: 10_000 })],
  ["cut into single instructions", (vcpu) => until("interrupted", () => vcpu.run({ maxInstructions: 1 }))],
  ["cut into sevens", (vcpu) => until("interrupted", () => vcpu.run({ maxInstructions: 7 }))],
  ["stepped by a debugger", (vcpu) => until("debug", () => step(vcpu))],
];

function step(vcpu: Vcpu): Exit {
  vcpu.debug({ singleStep: true });
  return vcpu.run();
}

function until(passed: ExitKind, run: () => Exit): Exit {
  for (;;) {
    const exit = run();
    if (exit.kind !== passed) return exit;
  }
}

for (const [how, drive] of HOWS) {
  describe(`a guest that is ${how}`, () => {
    test("sees a page-table entry it has changed at the next access, INVLPG or not", () => {
      const program = assemble(`bits 32
        org 0x1000
        mov edi, cr3
        mov edi, [edi]
        and edi, 0xfffff000
        mov byte [0x5000], "a"
        mov byte [0x6000], "b"
        mov al, [0x5000]
        mov edx, [edi + 6 * 4]
        mov [edi + 5 * 4], edx        ; 0x5000 leads to 0x6000 now
        mov ah, [0x5000]
        mov byte [0x5000], "c"
        mov bl, [0x6000]
        mov edx, [edi + 3 * 4]
        jmp first
      first:
        mov [edi + 2 * 4], edx        ; 0x2000 leads to 0x3000: the code that runs is another from here on
        jmp 0x2000
        times 0x2000 - ($ - $$ + 0x1000) nop
        mov dl, "2"
        hlt
        times 0x3000 - ($ - $$ + 0x1000) nop
        mov dl, "3"
        hlt`);
      using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
      using vcpu = vm.createVcpu();
      vm.memory.write(0x1000, program.bytes);
      vcpu.enterMode("paged32", { entry: 0x1000, pageBytes: 0x1000 });
      expect(drive(vcpu)).toEqual({ kind: "hlt" });
      const { rax, rbx, rdx } = vcpu.registers;
      const text = [rax, rax >> 8n, rbx, rdx].map((value) => String.fromCharCode(Number(value & 0xffn))).join("");
      expect([text, vcpu.instructions]).toEqual(["abc3", 17]);
    });

    test("goes on under its own feet when it maps the page it runs on anew", () => {
      const page = "add edi, 4\n mov [edi], edx\n mov al, NAME\n hlt\n align 64\n";
      const program = assemble(`bits 32
        org 0x1000
        mov edi, cr3
        mov edi, [edi]
        and edi, 0xfffff000
        mov edx, [edi + 3 * 4]
        add edi, 4
        jmp 0x2000
        times 0x2000 - ($ - $$ + 0x1000) nop
        ${page.replace("NAME", '"x"')}
        times 0x3000 - ($ - $$ + 0x1000) nop
        ${page.replace("NAME", '"y"')}`);
      using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
      using vcpu = vm.createVcpu();
      vm.memory.write(0x1000, program.bytes);
      vcpu.enterMode("paged32", { entry: 0x1000, pageBytes: 0x1000 });
      expect(drive(vcpu)).toEqual({ kind: "hlt" });
      expect([vcpu.registers.rax & 0xffn, vcpu.instructions]).toEqual([BigInt("y".charCodeAt(0)), 10]);
    });

    test("reports what an interrupt's frame writes to MMIO in front of the handler's first instruction", () => {
      using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
      using vcpu = vm.createVcpu();
      vm.memory.write(0x1000, assemble("bits 32\n org 0x1000\n sti\n nop\n hlt").bytes);
      vm.memory.write(0x3000, assemble("bits 32\n org 0x3000\n inc eax\n inc eax\n hlt").bytes);
      vcpu.enterMode("prot32", { entry: 0x1000, stack: 0x50010, handlers: { 32: 0x3000 } });
      vcpu.interrupt(0x20);
      const seen: unknown[] = [];
      for (let exit = drive(vcpu); exit.kind === "mmioWrite"; exit = drive(vcpu)) {
        seen.push([exit.data.length, vcpu.registers.rip, vcpu.instructions]);
      }
      expect(seen).toEqual([
        [8, 0x3000n, 2],
        [4, 0x3000n, 2],
      ]);
    });
  });
}

test("maxInstructions ends a run in front of an instruction that faults, not behind its fault", () => {
  const program = assemble(`bits 32
    org 0x1000
    push dword 2
    push dword 0x8
    push dword 0x700000
    iretd`);
  for (const slice of [1, 4]) {
    using vm = createVm({ backend: "soft", memoryBytes: 0x40000 });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, program.bytes);
    vcpu.enterMode("paged32", { entry: 0x1000, pageBytes: 0x1000, handlers: { 14: 0x3000 } });
    for (let done = 0; done < 4; done += slice) vcpu.run({ maxInstructions: slice });
    expect([vcpu.instructions, vcpu.registers.rip, vcpu.registers.cr2]).toEqual([4, 0x700000n, 0n]);
  }
});

/** Two numbers of RDRAND and one of RDSEED on each of two vCPUs. */
function randomNumbers(seed: bigint | number | undefined): bigint[] {
  const program = assemble("bits 32\n org 0x1000\n rdrand eax\n rdrand ebx\n rdseed ecx\n hlt");
  using vm = createVm({ backend: "soft", memoryBytes: 0x20000, ...(seed === undefined ? {} : { seed }) });
  return [0, 1].flatMap((id) => {
    const vcpu = vm.createVcpu(id);
    vm.memory.write(0x1000, program.bytes);
    vcpu.enterMode("prot32", { entry: 0x1000 });
    vcpu.run();
    return [vcpu.registers.rax, vcpu.registers.rbx, vcpu.registers.rcx];
  });
}

test("RDRAND and RDSEED give the same numbers for the same seed, others for another one and on another vCPU", () => {
  expect(randomNumbers(7)).toEqual(randomNumbers(7n));
  expect(randomNumbers(undefined)).toEqual(randomNumbers(undefined));
  const all = [undefined, 1, 7, (1n << 64n) - 1n].flatMap(randomNumbers);
  expect(new Set(all).size).toBe(all.length);
});

test("instructions that call a helper in the middle of a block count once: RDTSC, CPUID, RDRAND, MOV from CR0", () => {
  const program = assemble(
    "bits 32\n org 0x1000\n rdtsc\n xor eax, eax\n cpuid\n rdrand ebx\n mov eax, cr0\n rdtsc\n hlt",
  );
  for (const slice of [1, 3, 100]) {
    using vm = createVm({ backend: "soft", memoryBytes: 0x20000 });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, program.bytes);
    vcpu.enterMode("prot32", { entry: 0x1000 });
    until("interrupted", () => vcpu.run({ maxInstructions: slice }));
    expect([vcpu.registers.rax, vcpu.instructions]).toEqual([5n, 7]);
  }
});
