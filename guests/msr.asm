; msr.asm: model-specific registers that only the host knows.
; Proves    RDMSR and WRMSR exits: a value given, a value taken, and an error that becomes #GP(0)
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; SS = 0, SP = 0x1000; the vector table is the guest's to change
; Host      sends unknown MSRs to user space; answers RDMSR 0x12340 with 0x1122334455667788 and the rest with an error
; Expects   rdmsr 0x12340, wrmsr 0x12341 = 0x1122334455667789, rdmsr 0x12342 refused, pioOut port=0xe9 "G",
;           wrmsr 0x12343 = 0x1122334455667789 refused, pioOut "G", hlt

        bits 16
        org 0x1000

GP      equ 13

        mov word [GP * 4], on_gp
        mov word [GP * 4 + 2], 0

        mov ecx, 0x12340
        rdmsr
        inc eax
        mov ecx, 0x12341
        wrmsr
        mov ecx, 0x12342
        rdmsr
        mov ecx, 0x12343
        wrmsr
        hlt

; Tells that the fault came, and goes on behind the instruction: RDMSR and WRMSR are both two bytes long.
on_gp:
        push bp
        mov bp, sp
        add word [bp + 2], 2
        pop bp
        push ax
        mov al, "G"
        out 0xe9, al
        pop ax
        iret
