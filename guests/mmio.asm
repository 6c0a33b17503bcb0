; mmio.asm: loads and stores of 1, 2, 4 and 8 bytes where no memory is.
; Proves    KVM_EXIT_MMIO with len 1, 2, 4 and 8; the host's answer to a load arrives in the register
; Entry     64-bit mode, ring 0, RIP = 0x1000, the first 4 GiB mapped to themselves; no stack
; Host      no memory at 0xd0000000; answers the load at offset n with bytes 0x10 + n, 0x11 + n, ...
; Expects   mmioWrite of 0x11, 0x2222, 0x33333333, 0x4444444444444444 at offsets 0, 2, 4, 8; for each of the same
;           offsets and sizes mmioRead and, at offset 0x100 more, mmioWrite of what was read; hlt

        bits 64
        org 0x1000

        mov ebx, 0xd0000000
        mov rax, 0x4444444444444444
        mov ecx, 0x33333333
        mov edx, 0x2222
        mov byte [rbx], 0x11
        mov [rbx + 2], dx
        mov [rbx + 4], ecx
        mov [rbx + 8], rax

        mov al, [rbx]
        mov [rbx + 0x100], al
        mov ax, [rbx + 2]
        mov [rbx + 0x102], ax
        mov eax, [rbx + 4]
        mov [rbx + 0x104], eax
        mov rax, [rbx + 8]
        mov [rbx + 0x108], rax
        hlt
