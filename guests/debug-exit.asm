; debug-exit.asm: the guest ends the machine with a status of its choice.
; Proves    QEMU's isa-debug-exit: the value v becomes the status (v << 1) | 1
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; no data, no stack
; Host      debug exit at 0xf4
; Expects   debug exit with 0x2a, status 85; never the hlt

        bits 16
        org 0x1000

        mov al, 0x2a
        out 0xf4, al
        hlt
