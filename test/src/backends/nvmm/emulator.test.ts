import { describe, expect, test } from "bun:test";
import { asm, type Program } from "../../../../src/asm/index.ts";
import type { Backend } from "../../../../src/backend.ts";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import type { Mode } from "../../../../src/boot/mode.ts";
import type { Exit } from "../../../../src/exit.ts";
import { Vm } from "../../../../src/vm.ts";
import { missing, openRig, skipped } from "./peers.ts";

/** Instructions with an operand in unbacked memory at ebx + 4, at DS:ESI or ES:EDI; KVM's own emulator is the oracle. */
const INSTRUCTIONS = [
  "mov [ebx+4], al",
  "mov [ebx+4], cx",
  "mov [ebx+4], edx",
  "mov byte [ebx+4], 0x7f",
  "mov dword [ebx+4], 0x12345678",
  "mov ah, [ebx+4]",
  "mov cx, [ebx+4]",
  "mov eax, [ebx+4]",
  "mov [0x100004], eax",
  "mov eax, [0x100004]",
  "movzx eax, byte [ebx+4]",
  "movsx ecx, byte [ebx+4]",
  "movsx edx, word [ebx+4]",
  "movzx cx, byte [ebx+4]",
  "add [ebx+4], al",
  "add eax, [ebx+4]",
  "add dword [ebx+4], -1",
  "adc [ebx+4], cx",
  "adc edx, [ebx+4]",
  "sub [ebx+4], edx",
  "sub cl, [ebx+4]",
  "sbb [ebx+4], al",
  "sbb eax, [ebx+4]",
  "and [ebx+4], eax",
  "and cl, [ebx+4]",
  "or byte [ebx+4], 0x81",
  "or edx, [ebx+4]",
  "xor [ebx+4], cx",
  "xor ah, [ebx+4]",
  "cmp [ebx+4], al",
  "cmp eax, [ebx+4]",
  "cmp word [ebx+4], 0x7fff",
  "test [ebx+4], edx",
  "test byte [ebx+4], 0x80",
  "inc byte [ebx+4]",
  "inc dword [ebx+4]",
  "dec word [ebx+4]",
  "neg dword [ebx+4]",
  "not byte [ebx+4]",
  "xchg [ebx+4], ecx",
  "xchg [ebx+4], ah",
  "xadd [ebx+4], edx",
  "cmpxchg [ebx+4], ecx",
  "bt dword [ebx+4], 5",
  "bts word [ebx+4], 3",
  "btr dword [ebx+4], 31",
  "btc dword [ebx+4], 0",
  "shl dword [ebx+4], 1",
  "shl byte [ebx+4], cl",
  "shr word [ebx+4], 3",
  "sar dword [ebx+4], 4",
  "rol byte [ebx+4], 3",
  "ror dword [ebx+4], 1",
  "imul eax, [ebx+4]",
  "imul cx, [ebx+4], 0x123",
  "imul edx, [ebx+4], -5",
  "sete [ebx+4]",
  "setnz [ebx+4]",
  "setb [ebx+4]",
  "setg [ebx+4]",
  "setle [ebx+4]",
  "cmovb eax, [ebx+4]",
  "cmovns ecx, [ebx+4]",
  "push dword [ebx+4]",
  "pop dword [ebx+4]",
  "push word [ebx+4]",
  "mov esp, ebx\npop ecx",
  "mov esp, ebx\npop esp",
  "mov esp, ebx\npush edx",
  "stosb",
  "stosw",
  "stosd",
  "lodsb",
  "lodsd",
  "movsb",
  "movsd",
  "cmpsb",
  "cmpsd",
  "scasb",
  "scasw",
  "rep stosb",
  "rep lodsb",
  "rep movsb",
  "repe cmpsb",
  "repne scasb",
  "mov ax, ds",
  "mov [ebx+4], ds",
  "lock add [ebx+4], eax",
  "mov eax, [ebx+ecx*4]",
  "mov [ebx+ecx*8+0x20], dl",
] as const;

const RFLAGS_STATUS = 0x8d5n;
/** KVM's emulator shifts natively: AF after a shift, and OF after one by more than 1, are the processor's own affair. */
const UNDEFINED: readonly [RegExp, bigint][] = [
  [/^(shl|shr|sar)/, 0x810n],
  [/^(rol|ror)/, 0x800n],
  [/^imul/, 0xd4n],
  [/^(bt|bts|btr|btc) /, 0x894n],
  [/^(and|or|xor|test) /, 0x10n],
];

interface Outcome {
  exits: unknown[];
  registers: Record<string, bigint>;
  stack: Uint8Array;
}

/** Runs one instruction in 32-bit protected mode with registers from a seed; loads are answered from the seed too. */
function execute(backend: Backend, program: Program, seed: number): Outcome {
  using vm = new Vm(backend, { memoryBytes: 0x20000 });
  const vcpu = vm.createVcpu();
  vm.memory.write(0x1000, program.bytes);
  const mode: Mode = "prot32";
  vcpu.enterMode(mode, { entry: 0x1000 });
  const { registers } = vcpu;
  const random = (n: number) => BigInt(Math.imul(seed * 31 + n, 0x9e3779b1) >>> 0);
  registers.set({ rax: random(1), rcx: random(2) & 0x3n, rdx: random(3), rbx: 0x100000n });
  registers.set({ rsi: 0x100010n, rdi: 0x100020n, rsp: 0x8000n, rbp: 0x7000n });
  registers.rflags = 2n | (random(4) & RFLAGS_STATUS);
  const exits: unknown[] = [];
  let loads = 0;
  for (;;) {
    const exit: Exit = vcpu.run({ timeoutMs: 5000 });
    if (exit.kind === "mmioRead") {
      const value = random(5 + loads++);
      for (const i of exit.data.keys()) exit.data[i] = Number((value >> BigInt(8 * (i % 4))) & 0xffn);
    }
    exits.push({ ...exit, data: "data" in exit ? [...exit.data].map(String) : [] });
    if (exit.kind !== "mmioRead" && exit.kind !== "mmioWrite") break;
  }
  return { exits, registers: registers.gprs(), stack: vm.memory.read(0x7ff0, 0x20) };
}

describe(`vmexit's emulator on NVMM${skipped}`, () => {
  if (missing !== undefined) {
    test.skip("needs the peer", () => {});
    return;
  }
  const { backend } = openRig("netbsd", "emulator", { mmio: "emulator" });
  using _ = openKvm(); // refused here rather than in every test

  test.each(INSTRUCTIONS)("%s does what KVM's emulator does: loads, stores, registers, flags", (source) => {
    using kvm = openKvm();
    const program = asm.prot32`${""}
      ${source}
      hlt`;
    for (let seed = 1; seed <= 2; seed++) {
      const expected = execute(kvm, program, seed);
      const actual = execute(backend, program, seed);
      const undefinedFlags = UNDEFINED.filter(([pattern]) => pattern.test(source.replace(/^lock /, "")));
      const mask = undefinedFlags.reduce((all, [, bits]) => all | bits, 0n);
      for (const { registers } of [expected, actual])
        registers.rflags = (registers.rflags as bigint) & ~mask & ~0x10000n;
      expect({ seed, ...actual }).toEqual({ seed, ...expected });
    }
  });
});
