; hlt-irq.asm: HLT ends with an interrupt that the host injects.
; Proves    KVM_EXIT_HLT, KVM_INTERRUPT through the real-mode vector table, IRET to behind the HLT
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; SS = 0, SP = 0x1000; the vector table is the guest's to change
; Host      no interrupt controller; at the first hlt injects vector 0x20
; Expects   hlt, pioOut port=0xe9 "I" from the handler, pioOut "W" from behind the hlt, hlt

        bits 16
        org 0x1000

        mov word [0x20 * 4], on_interrupt
        mov word [0x20 * 4 + 2], 0
        sti
        hlt
        mov al, "W"
        out 0xe9, al
        cli
        hlt

on_interrupt:
        mov al, "I"
        out 0xe9, al
        iret
