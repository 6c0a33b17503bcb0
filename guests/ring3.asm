; ring3.asm: checks that this is 64-bit mode in ring 3, with SSE, and says so.
; Proves    entry in user mode: CPL 3, 64-bit registers, XMM registers
; Entry     64-bit mode, ring 3, RIP = 0x1000, the first 4 GiB mapped to themselves for ring 3; RSP set
; Host      debug console at GPA 0xd0000000, debug exit at GPA 0xd0000004: not every KVM lets ring 3 use ports
; Expects   "ring3 ok" and a newline on the console, debug exit with 0x10; else "ring3 bad" and the number of the check.
;           Never the hlt, which ring 3 may not execute

        bits 64
        org 0x1000

CONSOLE equ 0xd0000000
EXIT    equ 0xd0000004

        mov bl, 1               ; ring 3
        mov eax, cs
        and eax, 3
        cmp eax, 3
        jne bad

        mov bl, 2               ; registers have 64 bits, and there are sixteen
        mov r8, 0x0fedcba987654321
        mov r9, r8
        shr r9, 32
        cmp r9d, 0x0fedcba9
        jne bad

        mov bl, 3               ; POPF in ring 3 leaves IOPL alone, and does not fault
        pushfq
        pop rax
        mov rcx, rax
        xor eax, 0x3000         ; IOPL
        push rax
        popfq
        pushfq
        pop rax
        xor eax, ecx
        test eax, 0x3000
        jnz bad

        mov bl, 4               ; a call and a stack of 8-byte slots
        mov rcx, rsp
        call called
        cmp rcx, rsp
        jne bad

        mov bl, 5               ; SSE2: four sums at once
        movdqu xmm0, [rel numbers]
        movdqu xmm15, [rel numbers + 16]
        paddd xmm0, xmm15
        movdqu [rel numbers], xmm0
        cmp dword [rel numbers + 12], 44
        jne bad

        lea rsi, [rel ok_text]
        mov bl, 0x10
        jmp print
bad:
        lea rsi, [rel bad_text]
print:
        mov edi, CONSOLE
.next:
        lodsb
        test al, al
        jz .done
        mov [rdi], al
        jmp .next
.done:
        mov edi, EXIT
        mov [rdi], bl
        hlt

called:
        mov rax, rcx
        sub rax, rsp
        cmp eax, 8
        jne bad
        ret

        align 16
numbers:        dd 1, 2, 3, 4, 10, 20, 30, 40
ok_text:        db "ring3 ok", 10, 0
bad_text:       db "ring3 bad", 10, 0
