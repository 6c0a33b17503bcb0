; long64.asm: checks that this is 64-bit mode in ring 0, and says so.
; Proves    entry in 64-bit mode: EFER.LMA set, CS.L in effect, 64-bit registers, CR3 leads to a PML4
; Entry     64-bit mode, ring 0, RIP = 0x1000, the first 2 MiB mapped to themselves
; Host      16550 UART at 0x3f8
; Expects   "long64 ok" and a newline on the UART, hlt; else "long64 bad" and the number of the check in BL

        bits 64
        org 0x1000

EFER    equ 0xc0000080
LME_LMA equ 0x500
ALIAS   equ 0x20000000          ; entry 0x100 of the first directory

        mov bl, 1
        mov ecx, EFER
        rdmsr
        and eax, LME_LMA
        cmp eax, LME_LMA
        jne bad

        mov bl, 2               ; ring 0
        mov eax, cs
        test al, 3
        jnz bad

        mov bl, 3               ; registers have 64 bits, and there are sixteen
        mov rax, 0x123456789abcdef0
        mov r15, rax
        shr r15, 32
        cmp r15d, 0x12345678
        jne bad

        mov bl, 4               ; 48 FF C0 is DEC EAX, INC EAX in 32-bit code; here it is INC RAX
        xor eax, eax
        inc rax
        cmp eax, 1
        jne bad

        mov bl, 5               ; a page mapped a second time, RIP-relative
        mov rdi, cr3
        and edi, 0xfffff000
        mov rdi, [rdi]          ; PML4 entry 0
        and edi, 0xfffff000
        mov rdi, [rdi]          ; page directory pointer 0
        and edi, 0xfffff000
        mov rax, [rdi]
        mov [rdi + (ALIAS >> 21) * 8], rax
        invlpg [ALIAS]
        mov dword [rel mark], 0x600df00d
        mov esi, ALIAS
        cmp dword [rsi + mark], 0x600df00d
        jne bad

        lea rsi, [rel ok_text]
        jmp print
bad:
        lea rsi, [rel bad_text]
print:
        mov edx, 0x3f8
.next:
        lodsb
        test al, al
        jz .done
        out dx, al
        jmp .next
.done:
        hlt

ok_text:        db "long64 ok", 10, 0
bad_text:       db "long64 bad", 10, 0
        align 4
mark:   dd 0
