import { describe, expect, test } from "bun:test";
import { assemble } from "../../../../src/asm/index.ts";
import { decodeInFlight, encodeInFlight } from "../../../../src/backends/soft/in-flight.ts";
import { copyExit, type Exit } from "../../../../src/exit.ts";
import { createVm } from "../../../../src/index.ts";

test("decodeInFlight() gives back what encodeInFlight() took, bytes and bigints included", () => {
  const state = {
    restart: true,
    transfers: [{ gpa: 0xd0000000, bytes: 4, write: false, exit: { data: Uint8Array.of(1, 2, 255, 4) } }],
    exits: [{ kind: "debug", exception: 1, pc: 1n << 63n, dr6: 0n, dr7: 0x400n }] satisfies Exit[],
  };
  expect(decodeInFlight(encodeInFlight(state))).toEqual(state);
});

const MEMORY = 0x20000;

/** The exits of a program, each answered with its number. `move`: onto a new machine behind every exit. */
function outcome(source: string, { move }: { move: boolean }): unknown {
  using vms = new DisposableStack();
  let vm = vms.use(createVm({ backend: "soft", memoryBytes: MEMORY }));
  let vcpu = vm.createVcpu();
  vm.memory.write(0x1000, assemble(`bits 32\norg 0x1000\n${source}\nhlt`).bytes);
  vcpu.enterMode("prot32", { entry: 0x1000 });
  const exits: Exit[] = [];
  for (;;) {
    const exit = vcpu.run({ maxInstructions: 1000 });
    if ("data" in exit && exit.data instanceof Uint8Array && exit.kind !== "mmioWrite")
      exit.data.fill(exits.length + 1);
    exits.push(copyExit(exit));
    if (exit.kind === "hlt" || exits.length > 20) break;
    if (!move) continue;
    const state = vcpu.saveState();
    const memory = vm.memory.read(0, MEMORY);
    vm = vms.use(createVm({ backend: "soft", memoryBytes: MEMORY }));
    vm.memory.write(0, memory);
    vcpu = vm.createVcpu();
    vcpu.restoreState(state);
  }
  return { exits, gprs: vcpu.registers.gprs(), instructions: vcpu.instructions, memory: vm.memory.read(0, MEMORY) };
}

describe("a vCPU that is saved and restored elsewhere behind every exit", () => {
  const sources: Readonly<Record<string, string>> = {
    "port input": "in al, 0x60\n in eax, 0x61\n add eax, 1",
    "an MMIO load": "mov eax, [0xd0000000]\n add eax, [0xd0000010]",
    "a load and a store in one instruction": "inc dword [0xd0000000]\n push dword [0xd0000020]\n mov eax, 5",
    "a copy from MMIO to MMIO": "mov esi, 0xd0000000\n mov edi, 0xd0000100\n mov ecx, 3\n rep movsd\n mov eax, ecx",
    "one access of several exits": "fld tword [0xd0000000]\n fstp tword [0xd0000100]\n movdqu xmm0, [0xd0000200]",
    "an MSR left to the script": "mov ecx, 0x10\n rdmsr",
  };
  for (const [what, source] of Object.entries(sources)) {
    test(`goes on as if nothing had happened: ${what}`, () => {
      const setup = "mov eax, cr4\n or eax, 0x600\n mov cr4, eax\n xor eax, eax\n";
      const whole = outcome(setup + source, { move: false });
      expect(whole).toMatchObject({ exits: expect.arrayContaining([{ kind: "hlt" }]) });
      expect(outcome(setup + source, { move: true })).toEqual(whole);
    });
  }
});
