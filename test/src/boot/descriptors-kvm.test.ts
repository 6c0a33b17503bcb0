import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import type { BackendVcpu } from "../../../src/backend.ts";
import {
  buildGdt,
  buildIdt,
  buildTss32,
  buildTss64,
  callGate,
  codeSegment,
  dataSegment,
  enterMode,
  interruptGate,
  ioPermissionMap,
  type Mode,
  type ModeOptions,
  SELECTORS,
  taskGate,
  tssSegment,
} from "../../../src/boot/index.ts";
import { GuestMemory } from "../../../src/memory.ts";
import { GPR_NAMES, type GprName } from "../../../src/registers.ts";
import { noHardware, withKvm } from "./host-kvm.ts";

/** Runs `code` at 0x1000 in 64 KiB after `prepare` and hands the stopped vCPU on. */
function run<T>(
  mode: Mode,
  code: number[],
  use: (vcpu: BackendVcpu, end: string) => T,
  options: ModeOptions & { prepare?: (vcpu: BackendVcpu, memory: GuestMemory) => void } = {},
): T {
  const { prepare, ...modeOptions } = options;
  return withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 0x10000 });
    using vcpu = vm.createVcpu(0);
    enterMode(vcpu.registers, memory, mode, modeOptions);
    memory.write(0x1000, Uint8Array.from(code));
    prepare?.(vcpu, memory);
    vcpu.setDeadline(performance.now() + 5000);
    const exit = vcpu.run();
    return use(vcpu, exit.kind === "pioOut" ? `out ${exit.port.toString(16)}` : exit.kind);
  });
}

const gpr = (vcpu: BackendVcpu, name: GprName) => vcpu.registers.readGpr(GPR_NAMES.indexOf(name));

const TASK = {
  eip: 0x3000,
  eflags: 2,
  eax: 0xa0,
  ecx: 0xc1,
  edx: 0xd2,
  ebx: 0xb3,
  esp: 0x7004,
  ebp: 0x7005,
  esi: 0x7006,
  edi: 0x7007,
};

/** GDT with the modes' own first places, then the TSS of another task, and a task gate to it. */
function taskGdt() {
  return buildGdt({
    code: codeSegment({ bits: 32 }),
    data: dataSegment({ bits: 32 }),
    own: tssSegment({ bits: 32, base: 0x8100 }),
    other: tssSegment({ bits: 32, base: 0x5000, available: true }),
    gate: taskGate({ selector: 0x20 }),
  });
}

for (const [what, selector] of [
  ["its TSS", 0x20],
  ["a task gate", 0x28],
] as const) {
  test.skipIf(noHardware !== "")(
    `buildTss32() makes a task that a jump through ${what} starts with all its registers${noHardware}`,
    () => {
      const code = [0xea, 0, 0, 0, 0, selector, 0];
      const seen = run(
        "prot32",
        code,
        (vcpu, end) => [
          end,
          ...(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const).map((name) => Number(gpr(vcpu, name))),
          vcpu.registers.readSegment("fs").selector,
          vcpu.registers.readSegment("tr").selector,
        ],
        {
          prepare: (vcpu, memory) => {
            const gdt = taskGdt();
            memory.write(0x4000, gdt.bytes);
            vcpu.registers.writeTable("gdt", gdt.at(0x4000));
            vcpu.registers.writeSegment("tr", tssSegment({ bits: 32, base: 0x8100, selector: gdt.selectors.own }));
            memory.write(0x5000, buildTss32({ ...TASK, cs: 8, ss: 0x10, ds: 0x10, es: 0x10, fs: 0x10, gs: 0x10 }));
            memory.write(0x3000, Uint8Array.of(0xe6, 0x77)); // out 0x77, al
          },
        },
      );
      expect(seen).toEqual(["out 77", 0xa0, 0xc1, 0xd2, 0xb3, 0x7004, 0x7005, 0x7006, 0x7007, 0x10, 0x20]);
    },
  );
}

test.skipIf(noHardware !== "")(`enterMode() sets handlers that interrupts reach in prot32${noHardware}`, () => {
  // int 0x30 in ring 0; the handler at 0x3000 writes to port 0x77.
  const end = run("prot32", [0xcd, 0x30, 0xf4], (_, kind) => kind, {
    handlers: { 48: 0x3000 },
    prepare: (_, memory) => memory.write(0x3000, Uint8Array.of(0xe6, 0x77)),
  });
  expect(end).toBe("out 77");
});

test.skipIf(noHardware !== "")(
  `enterMode() sets handlers that ring 3 reaches in long64, on the stack of the TSS${noHardware}`,
  () => {
    // ud2 in ring 3; the handler runs in ring 0 on RSP0.
    const seen = run(
      "long64-ring3",
      [0x0f, 0x0b],
      (vcpu, end) => [end, vcpu.registers.readSegment("cs").selector, gpr(vcpu, "rsp")],
      { handlers: { 6: 0x3000 }, prepare: (_, memory) => memory.write(0x3000, Uint8Array.of(0xe6, 0x77)) },
    );
    expect(seen).toEqual(["out 77", SELECTORS.kernelCode, 0x8000n - 5n * 8n]);
  },
);

const noAmd = noHardware || (existsSync("/sys/module/kvm_amd") ? "" : " [skipped: VMX demands a busy TSS]");
test.skipIf(noAmd !== "")(`ioPermissionMap() opens just the allowed ports to ring 3${noAmd}`, () => {
  const tss = buildTss64({ rsp0: 0x8000 }, ioPermissionMap([{ first: 0x77, count: 1 }]));
  const use = (port: number) =>
    run("long64-ring3", [0xe6, port, 0xf4], (_, end) => end, {
      gprs: { rflags: 2n },
      handlers: { 13: 0x3000 },
      prepare: (vcpu, memory) => {
        memory.write(0x8100, tss);
        memory.write(0x3000, Uint8Array.of(0xf4));
        // Not busy: QEMU, when it plays the host, reads the map of no other.
        const tr = tssSegment({
          bits: 64,
          base: 0x8100,
          selector: SELECTORS.tss,
          limit: tss.length - 1,
          available: true,
        });
        vcpu.registers.writeSegment("tr", tr);
      },
    });
  expect([0x76, 0x77, 0x78].map(use)).toEqual(["hlt", "out 77", "hlt"]);
});

test.skipIf(noHardware !== "")(`callGate() leads to its offset, whatever the call says${noHardware}`, () => {
  // call far 0x18:0x9999; at 0x3000: out 0x77, al. Within ring 0: a change of rings is fatal to QEMU when it plays the host.
  const seen = run("prot32", [0x9a, 0x99, 0x99, 0, 0, 0x18, 0], (vcpu, end) => [end, gpr(vcpu, "rsp")], {
    prepare: (vcpu, memory) => {
      const gdt = buildGdt({
        code: codeSegment({ bits: 32 }),
        data: dataSegment({ bits: 32 }),
        gate: callGate({ bits: 32, selector: 8, offset: 0x3000 }),
      });
      memory.write(0x4000, gdt.bytes);
      vcpu.registers.writeTable("gdt", gdt.at(0x4000));
      memory.write(0x3000, Uint8Array.of(0xe6, 0x77));
    },
  });
  expect(seen).toEqual(["out 77", 0x8000n - 8n]);
});

test.skipIf(noHardware !== "")(`interruptGate() switches to the stack its IST names${noHardware}`, () => {
  const rsp = run("long64", [0x0f, 0x0b], (vcpu, end) => [end, gpr(vcpu, "rsp")], {
    prepare: (vcpu, memory) => {
      const gate = interruptGate({ bits: 64, selector: SELECTORS.kernelCode, offset: 0x3000, ist: 2 });
      const idt = buildIdt({ 6: gate }, { bits: 64, vectors: 32 });
      memory.write(0x4000, idt.bytes);
      vcpu.registers.writeTable("idt", idt.at(0x4000));
      memory.write(0x8100, buildTss64({ ist2: 0x6000 }));
      memory.write(0x3000, Uint8Array.of(0xe6, 0x77));
    },
  });
  expect(rsp).toEqual(["out 77", 0x6000n - 40n]);
});
