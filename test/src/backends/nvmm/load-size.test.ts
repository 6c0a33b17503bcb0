import { expect, test } from "bun:test";
import { asm, type Program } from "../../../../src/asm/index.ts";
import { type CodeBits, plainLoadBytes } from "../../../../src/backends/nvmm/load-size.ts";

const ASSEMBLERS = { 16: asm.real16, 32: asm.prot32, 64: asm.long64 } as const;

function assemble(bits: CodeBits, source: string): Program {
  return ASSEMBLERS[bits]`${""}
    ${source}`;
}

test.each([
  [16, "mov al, [es:0xfff0]", 1],
  [16, "mov bx, [si]", 2],
  [16, "mov ebx, [si]", 4],
  [32, "mov eax, [0x100000]", 4],
  [32, "mov cx, [ebx+4]", 2],
  [32, "movzx eax, byte [ebx]", 1],
  [32, "movsx eax, word [fs:ebx]", 2],
  [64, "mov rax, [rbx]", 8],
  [64, "mov r9d, [rbx+r8*4]", 4],
  [64, "mov r9w, [rel 0x1234]", 2],
  [64, "movzx r10d, word [rbx]", 2],
  [64, "movsx rax, byte [rbx]", 1],
] as const)("plainLoadBytes() in %d-bit code of %s is %d", (bits, source, bytes) => {
  expect(plainLoadBytes(assemble(bits, source).bytes, bits)).toBe(bytes);
});

test.each([
  [32, "mov [ebx], eax"],
  [32, "mov eax, ebx"],
  [32, "movzx eax, bl"],
  [32, "add eax, [ebx]"],
  [32, "lodsd"],
  [32, "movsb"],
  [32, "cmp byte [ebx], 1"],
  [64, "push qword [rbx]"],
] as const)("plainLoadBytes() in %d-bit code of %s is undefined", (bits, source) => {
  expect(plainLoadBytes(assemble(bits, source).bytes, bits)).toBeUndefined();
});

test("plainLoadBytes() of bytes that end early is undefined", () => {
  expect(plainLoadBytes(new Uint8Array(0), 32)).toBeUndefined();
  expect(plainLoadBytes(Uint8Array.of(0x66, 0x8b), 32)).toBeUndefined();
});
