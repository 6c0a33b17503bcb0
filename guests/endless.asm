; endless.asm: a guest that never exits.
; Proves    a run ends at its deadline, and the guest is where it was
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; no data, no stack
; Host      bounds the run
; Expects   interrupted by the timeout, IP = 0x1000

        bits 16
        org 0x1000

        jmp $
