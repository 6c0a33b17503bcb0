; cpuid.asm: prints the vendor that CPUID leaf 0 names.
; Proves    CPUID gives what the host decided, leaf and override
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; SS = 0, SP = 0x1000
; Host      debug console at 0xe9; sets leaf 0's EBX, EDX, ECX to "vmexit  vCPU"
; Expects   "vmexit  vCPU" and a newline on the console, hlt

        bits 16
        org 0x1000

        xor eax, eax
        cpuid
        push ecx
        push edx
        push ebx
        mov cx, 3
.register:
        pop eax
        mov bx, 4
.byte:
        out 0xe9, al
        shr eax, 8
        dec bx
        jnz .byte
        loop .register
        mov al, 10
        out 0xe9, al
        hlt
