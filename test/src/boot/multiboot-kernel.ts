import { buildFile } from "./tools.ts";

/**
 * A Multiboot kernel that checks what it is handed and prints to port 0xe9: the command line and its module in angle
 * brackets, then "map" when the memory map begins as a PC's does; "?" for anything wrong. Then it halts.
 */
const MULTIBOOT = `
        bits 32
        section .multiboot align=4
        dd 0x1badb002, 3, -(0x1badb002 + 3)
        section .text
        global _start
_start: mov esp, stack
        cmp eax, 0x2badb002
        jne bad
        test dword [ebx], 1 << 2
        jz bad
        mov esi, [ebx + 16]     ; cmdline
        call print
        cmp dword [ebx + 20], 1 ; mods_count
        jne bad
        mov edi, [ebx + 24]     ; mods_addr
        mov esi, [edi]          ; mod_start: a string here
        call print
        test dword [ebx], 1 << 6
        jz bad
        mov esi, [ebx + 48]     ; mmap_addr: usable memory from 0 on comes first
        cmp dword [esi], 20
        jne bad
        cmp dword [esi + 4], 0
        jne bad
        cmp dword [esi + 12], 0x9fc00
        jne bad
        cmp dword [esi + 20], 1
        jne bad
        cmp dword [zero], 0     ; .bss was cleared
        jne bad
        mov al, 'm'
        out 0xe9, al
        mov al, 'a'
        out 0xe9, al
        mov al, 'p'
        out 0xe9, al
        hlt
bad:    mov al, '?'
        out 0xe9, al
        hlt
print:  mov al, '<'
        out 0xe9, al
.next:  lodsb
        test al, al
        jz .end
        out 0xe9, al
        jmp .next
.end:   mov al, '>'
        out 0xe9, al
        ret
        section .bss
zero:   resd 1
        resb 0x3000
stack:
`;
const SCRIPT = "SECTIONS { . = 0x100000; .text : { *(.multiboot) *(.text) } .bss : { *(.bss) } }";

/** Assembles and links it: needs nasm and ld. */
export function buildMultibootKernel(): Uint8Array {
  const assemble = ["nasm", "-f", "elf32", "k.asm", "-o", "k.o"];
  const link = ["ld", "-m", "elf_i386", "-T", "k.ld", "-e", "_start", "k.o", "-o", "k"];
  return buildFile({ "k.asm": MULTIBOOT, "k.ld": SCRIPT }, [assemble, link], "k");
}
